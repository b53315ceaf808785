//! How the keeper starts: what takes more than its privileges comes first, and is given up then.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use mcr_confine::{Confinement, Reach, calls, files};

use super::{Door, ServeError, ServeOptions, Service, failed};
use crate::channel::{Channel, Patience, check};
use crate::fd_store::FdStore;
use crate::guard::Guard;
use crate::holdings::Holdings;
use crate::identity::Identity;
use crate::kernel_path::{KernelPath, Pinning};
use crate::listener::Listener;
use crate::log::{self, Log, Severity, SystemLog};
use crate::own_address::OwnAddresses;
use crate::pins;
use crate::policy::{DEFAULT_POLICY_PATH, PolicyChoice};
use crate::privileges::{self, PrivilegesError};
use crate::protocol::{Failure, FailureKind, Reply};
use crate::signals::Signals;

/// Descriptors that the keeper wants to be able to have: one per 20 groups, two per interface.
const WANTED_FILES: libc::rlim_t = 65_536;

impl Service {
    /// What needs more than the two capabilities comes first: the socket's file and its owner.
    pub(super) fn start(options: ServeOptions) -> Result<Self, ServeError> {
        let ServeOptions { door, policy, user, when_released, bpffs, confinement } = options;
        // Asked first, so that this is what a user without privileges hears, not what fails for want of them.
        if !privileges::may_open_packet_sockets() {
            return Err(PrivilegesError::NotPrivileged.into());
        }
        let in_force = policy.load()?;
        let user = user.as_deref().map(privileges::user_id).transpose()?;
        let signals = Signals::take().map_err(failed("waiting for signals"))?;
        let (path, log) = match door {
            Door::Inherited(_) => (None, Log::Nowhere),
            Door::Listening(path) => (Some(path), Log::StandardError),
            Door::ListeningWithFirst(path, _) => {
                (Some(path), Log::System(SystemLog::open().map_err(failed("opening the system's log"))?))
            }
        };
        let identity = Identity::new(path.as_deref());
        let guard = Guard::new(&identity, user);
        let paths = still_needed(&policy, path.as_deref(), &bpffs);
        let listener = path.map(|path| Listener::bind(&path, user)).transpose()?;
        raise_file_limit();
        // A keeper that nobody can find again leaves nothing behind.
        let pinning = if listener.is_some() { Pinning::In(bpffs) } else { Pinning::Off };
        if pinning == Pinning::In(PathBuf::from(pins::BPFFS)) {
            // Whether it is there is asked when it is needed.
            let _ = pins::mount_bpffs();
        }
        privileges::keep_what_is_needed()?;
        let (kernel_path, pinned) = KernelPath::new(in_force.table_sizes(), pinning);
        if let Err(error) = pinned {
            log.say(Severity::Warning, format_args!("the in-kernel datapath will end with this keeper: {error}"));
        }
        let own_addresses = OwnAddresses::open(identity.number()).map_err(failed("looking for addresses"))?;
        let holdings =
            Holdings::new(in_force, kernel_path, guard, own_addresses).map_err(failed("opening rtnetlink"))?;
        if let Some(Failure { reason, remedy, .. }) = holdings.trouble() {
            log.say(Severity::Error, format_args!("{reason}; {remedy}"));
        }
        if matches!(log, Log::System(_)) {
            log::detach_standard_streams().map_err(failed("letting go of the standard streams"))?;
        }
        let store = FdStore::open();
        if confinement == Confinement::Full {
            files::give_up(&paths, Reach::Host)?;
            calls::give_up(calls::Program::Keeper)?;
        }
        let visitors = Vec::new();
        let mut service = Self {
            signals,
            identity,
            listener,
            visitors,
            had_daemon: false,
            policy,
            holdings,
            user,
            when_released,
            log,
            deaf_until: None,
            mend_at: None,
            store: None,
            store_at: None,
            store_fails: false,
        };
        service.go_on_with(store);
        Ok(service)
    }
}

/// What is read and written once the keeper has started: the policy, again; pins; the kernel's own word; its socket, which it
/// removes at the end.
fn still_needed(policy: &PolicyChoice, socket: Option<&Path>, bpffs: &Path) -> files::Paths {
    let policy = policy.file.as_deref().unwrap_or(Path::new(DEFAULT_POLICY_PATH));
    let system = ["/etc", "/nix/store", "/proc", "/sys"].map(PathBuf::from);
    files::Paths {
        read: system.into_iter().chain(files::folders_of(policy)).collect(),
        write: std::iter::once(bpffs.to_owned()).chain(socket.into_iter().flat_map(files::folders_of)).collect(),
    }
}

/// Takes over an inherited descriptor, if it is a connection of the right kind.
pub(super) fn adopt(fd: RawFd) -> Result<Channel, ServeError> {
    let refused = |error| ServeError::Descriptor { fd, error };
    if fd <= libc::STDERR_FILENO {
        return Err(refused(io::Error::from_raw_os_error(libc::EBADF)));
    }
    let mut kind: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers describe `kind` and `length`, which outlive the call; a descriptor that is
    // not open or not a socket is an error of the call.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut length) })
        .map_err(refused)?;
    if kind != libc::SOCK_SEQPACKET {
        return Err(refused(io::Error::from_raw_os_error(libc::EPROTOTYPE)));
    }
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map_err(refused)?;
    // SAFETY: the descriptor is open, and the caller started this program to hand it over.
    Ok(Channel::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The soft limit on open files is 1,024 by tradition, for select(2), which is not used here. A
/// limit that can not be raised shows when it is reached.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_cur.max(limit.rlim_max.min(WANTED_FILES));
        // SAFETY: `limit` outlives the call.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Tells the daemon on an inherited connection why there is no keeper.
pub(super) fn tell(first: &Channel, error: &ServeError) {
    let text = error.to_string();
    let (reason, remedy) = text.split_once("; ").unwrap_or((&text, "see the log of mcr-netd"));
    let failure =
        Failure { kind: FailureKind::Startup, errno: None, reason: reason.to_owned(), remedy: remedy.to_owned() };
    let _ = first.send(&Reply::Failed(failure).encode(0), &[], Patience::Now);
}
