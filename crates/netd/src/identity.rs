//! Which keeper this is, for what it leaves in the kernel when it is killed.
//!
//! A keeper that daemons find at a path goes on with what the one before it left there: both have the number of that path. A
//! private one is found by nobody, so others have to clean up behind it: it holds a name in the network namespace (unix(7),
//! abstract sockets), which the kernel gives up when it has ended. Its daemon holds the name, too, because that may have
//! descriptors which a rule is about.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::fd_store::fnv;

/// The bit that numbers of private keepers have.
const PRIVATE: u32 = 1 << 31;

/// A keeper's number, and what shows that it is alive.
#[derive(Debug)]
pub(crate) struct Identity {
    number: u32,
    /// `None`: it is found at its path, or the name is not to be had.
    life: Option<OwnedFd>,
}

impl Identity {
    /// That of the keeper at `path`, the same in every release; `None`: of one that a daemon has started for itself.
    pub(crate) fn new(path: Option<&Path>) -> Self {
        match path {
            Some(path) => {
                let number = fnv(path.as_os_str().as_bytes()) as u32 & !PRIVATE;
                Self { number: number.max(1), life: None }
            }
            None => {
                let number = RandomState::new().hash_one(()) as u32 | PRIVATE;
                Self { number, life: hold(number).ok() }
            }
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether a daemon has started it for itself.
    pub(crate) fn is_private(&self) -> bool {
        self.number & PRIVATE != 0
    }

    /// What the daemon of a private keeper holds as long as it lives.
    pub(crate) fn life(&self) -> Option<BorrowedFd<'_>> {
        self.life.as_ref().map(AsFd::as_fd)
    }
}

/// Whether what belongs to that number was left by a private keeper that is gone, and its daemon with it.
pub(crate) fn is_abandoned(number: u32) -> bool {
    // Any other error than that the name is held says nothing of its holder.
    number & PRIVATE != 0 && hold(number).is_ok()
}

fn hold(number: u32) -> io::Result<OwnedFd> {
    let name = SocketAddr::from_abstract_name(format!("mcr-netd-{number:08x}"))?;
    UnixDatagram::bind_addr(&name).map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_keeper_is_abandoned_when_nobody_holds_its_name() {
        let (one, other) = (Identity::new(None), Identity::new(None));
        assert_ne!(one.number(), other.number());
        assert!(!is_abandoned(one.number()));
        let of_the_daemon = one.life().unwrap().try_clone_to_owned().unwrap();
        let number = one.number();
        drop(one);
        assert!(!is_abandoned(number), "its daemon lives");
        drop(of_the_daemon);
        assert!(is_abandoned(number));
        assert!(!is_abandoned(other.number()));
    }

    #[test]
    fn keepers_at_a_path_share_their_number_and_are_never_abandoned() {
        let at = |path: &str| Identity::new(Some(Path::new(path))).number();
        assert_eq!(at("/run/mcr/netd.sock"), at("/run/mcr/netd.sock"));
        assert_ne!(at("/run/mcr/netd.sock"), at("/run/mcr-netd/netd.sock"));
        assert!(!is_abandoned(at("/run/mcr/netd.sock")));
    }
}
