//! Why something was not done, and what to do about it.

use std::io;

use crate::protocol::{Failure, FailureKind};

pub(super) fn system(what: String, error: &io::Error, remedy: &str) -> Failure {
    Failure {
        kind: FailureKind::System,
        errno: error.raw_os_error(),
        reason: format!("{what}: {error}"),
        remedy: remedy.to_owned(),
    }
}

pub(super) fn not_heard() -> Failure {
    let remedy =
        "use a kernel with IGMP (CONFIG_IP_MULTICAST); under systemd let it through (contrib/systemd/queriers.conf)";
    full("can not hear and send IGMP".to_owned(), remedy)
}

/// A bound of the keeper's own is reached.
pub(super) fn full(what: String, remedy: &str) -> Failure {
    Failure { kind: FailureKind::System, errno: None, reason: what, remedy: remedy.to_owned() }
}

pub(super) fn invalid(what: &str) -> Failure {
    Failure {
        kind: FailureKind::Invalid,
        errno: Some(libc::EINVAL),
        reason: format!("the keeper was asked for {what}"),
        remedy: "report this with the log of the daemon".to_owned(),
    }
}

pub(super) fn open_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "start mcr-netd with CAP_NET_RAW and CAP_NET_ADMIN",
        Some(libc::ENOMEM | libc::ENOBUFS) => "free memory, or lower the MTU of the interface",
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        Some(libc::EAFNOSUPPORT) => "use a kernel with packet sockets (CONFIG_PACKET; modprobe af_packet)",
        Some(libc::ENODEV | libc::ENXIO) => "nothing: it is opened again when the interface comes back",
        _ => "check the interface (ip link show)",
    }
}

pub(super) fn join_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "raise net.ipv4.igmp_max_memberships and net.ipv4.igmp_max_msf above 0, and net.core.optmem_max"
        }
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        Some(libc::ENODEV) => "set an IP address on the interface, and an MTU of at least 68 bytes",
        _ => "check the interface (ip address show)",
    }
}

const TOO_MANY_FILES: &str = "raise the limit on open files of mcr-netd (LimitNOFILE)";
