//! What can go wrong between the daemon and the keeper.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::protocol::{Failure, FailureKind, MAX_FILTER_INSTRUCTIONS, MAX_SOURCES, Reply, VERSION};

/// Why the keeper did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct KeeperError {
    kind: KeeperErrorKind,
    errno: Option<i32>,
    reason: String,
    remedy: String,
}

/// The classes of errors that a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeeperErrorKind {
    /// No keeper listens at that path.
    NobodyThere,
    /// The connection could not be made or has ended.
    Lost,
    /// The keeper did not answer in time.
    TimedOut,
    /// The keeper's program could not be started.
    NotStarted,
    /// The keeper said something that makes no sense here.
    Protocol,
    /// The keeper said no.
    Refused(FailureKind),
}

const RESTART: &str = "restart mcr-netd and the daemon, and see the log of mcr-netd";
const SAME_RELEASE: &str = "install mcr and mcr-netd of one release, and restart mcr-netd";

impl KeeperError {
    /// Whether no keeper listens where one was looked for, so that one may be started.
    #[must_use]
    pub fn is_nobody_there(&self) -> bool {
        self.kind == KeeperErrorKind::NobodyThere
    }

    /// Whether a keeper that was there has ended meanwhile: it may have been killed, and another one may be there soon.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.kind == KeeperErrorKind::Lost && matches!(self.errno, None | Some(libc::EPIPE | libc::ECONNRESET))
    }

    /// The class of the error.
    #[must_use]
    pub fn kind(&self) -> KeeperErrorKind {
        self.kind
    }

    /// What the kernel said, if it was asked.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// What went wrong, without a final stop.
    #[must_use]
    pub fn reason(&self) -> String {
        self.reason.clone()
    }

    /// What to do about it, without a final stop.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.remedy.clone()
    }

    /// Something of this process that the keeper's answer needs is not to be had.
    #[must_use]
    pub fn local(what: &str, error: &io::Error) -> Self {
        let reason = format!("{what}: {error}");
        let mut failed =
            Self::new(KeeperErrorKind::Protocol, reason, "see the limits of the daemon (TasksMax, LimitNPROC)");
        failed.errno = error.raw_os_error();
        failed
    }

    fn new(kind: KeeperErrorKind, reason: String, remedy: &str) -> Self {
        Self { kind, errno: None, reason, remedy: remedy.to_owned() }
    }

    fn with_errno(mut self, error: &io::Error) -> Self {
        self.errno = error.raw_os_error();
        self
    }

    pub(super) fn not_connected(path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        let (kind, reason, remedy) = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ECONNREFUSED) => (
                KeeperErrorKind::NobodyThere,
                format!("no keeper listens on {path}"),
                "start it (systemctl start mcr-netd)",
            ),
            Some(libc::EACCES | libc::EPERM) => (
                KeeperErrorKind::Lost,
                format!("this user may not use the keeper on {path}: {error}"),
                "run this as root, or start mcr-netd with `--user` and this user",
            ),
            Some(libc::EPROTOTYPE) => (
                KeeperErrorKind::Lost,
                format!("what listens on {path} is not a keeper"),
                "name the socket of mcr-netd, or stop what uses its path",
            ),
            Some(libc::EAGAIN) => {
                (KeeperErrorKind::TimedOut, format!("the keeper on {path} takes no connections"), RESTART)
            }
            _ => (
                KeeperErrorKind::Lost,
                format!("can not connect to the keeper on {path}: {error}"),
                "check the path and the log of mcr-netd",
            ),
        };
        Self::new(kind, reason, remedy).with_errno(error)
    }

    pub(super) fn lost(what: &str, error: &io::Error) -> Self {
        let gone = match error.kind() {
            io::ErrorKind::WouldBlock => {
                let reason = format!("{what}: the keeper does not answer");
                return Self::new(KeeperErrorKind::TimedOut, reason, RESTART).with_errno(error);
            }
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Self::ended(what).with_errno(error),
            _ => format!("{what}: the connection to the keeper failed: {error}"),
        };
        Self::new(KeeperErrorKind::Lost, gone, RESTART).with_errno(error)
    }

    pub(super) fn ended(what: &str) -> Self {
        Self::new(KeeperErrorKind::Lost, format!("{what}: the keeper ended the connection"), RESTART)
    }

    pub(super) fn not_started(program: &Path, error: &io::Error) -> Self {
        let reason = format!("can not start the keeper {}: {error}", program.display());
        let remedy = "install mcr-netd beside mcr, or name it with the environment variable MCR_NETD";
        Self::new(KeeperErrorKind::NotStarted, reason, remedy).with_errno(error)
    }

    pub(super) fn malformed(why: &str) -> Self {
        let reason = format!("the keeper answered something that makes no sense: {why}");
        Self::new(KeeperErrorKind::Protocol, reason, SAME_RELEASE)
    }

    pub(super) fn unexpected(reply: &Reply) -> Self {
        let reply = match reply {
            Reply::Done => "done",
            Reply::Welcome { .. } => "welcome",
            Reply::Opened { .. } => "opened",
            Reply::Held { .. } => "held",
            Reply::Sending { .. } => "sending",
            Reply::Fanned { .. } => "fanned",
            Reply::Checking => "checking",
            Reply::Failed(_) => "failed",
        };
        Self::malformed(&format!("`{reply}` to another request"))
    }

    pub(super) fn no_descriptor() -> Self {
        let reason = "the descriptor that the keeper sent did not arrive".to_owned();
        Self::new(KeeperErrorKind::Protocol, reason, "raise the limit on open files of the daemon (LimitNOFILE)")
    }

    pub(super) fn other_version(version: u16) -> Self {
        let reason =
            format!("the keeper speaks version {version} of its protocol, this program speaks version {VERSION}");
        Self::new(KeeperErrorKind::Protocol, reason, SAME_RELEASE)
    }

    pub(super) fn too_many_sources(group: IpAddr, count: usize) -> Self {
        let reason = format!("can not join {group} for {count} sources: {MAX_SOURCES} is the most");
        let remedy = "list fewer sources, or none to take any";
        Self::new(KeeperErrorKind::Refused(FailureKind::Invalid), reason, remedy)
    }

    pub(super) fn filter_too_long(count: usize) -> Self {
        let reason = format!("can not set a filter of {count} instructions: {MAX_FILTER_INSTRUCTIONS} is the most");
        let remedy = "report this with the log of the daemon";
        Self::new(KeeperErrorKind::Refused(FailureKind::Invalid), reason, remedy)
    }
}

impl From<Failure> for KeeperError {
    fn from(failure: Failure) -> Self {
        let Failure { kind, errno, reason, remedy } = failure;
        Self { kind: KeeperErrorKind::Refused(kind), errno, reason, remedy }
    }
}
