//! Hearing of the keeper's end without asking it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Becomes ready when the keeper's process ends (`man 2 pidfd_open`); needs no privilege.
#[derive(Debug)]
pub struct KeeperWatch {
    process: OwnedFd,
}

impl KeeperWatch {
    pub(super) fn of(process: u32) -> io::Result<Self> {
        // SAFETY: a system call with plain numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self { process: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Whether the keeper has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut wanted = libc::pollfd { fd: self.process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure, alive through the call, which does not wait.
        unsafe { libc::poll(&raw mut wanted, 1, 0) > 0 }
    }

    /// Returns when the keeper has ended.
    ///
    /// # Errors
    /// What `poll` says, but for interruptions.
    pub fn wait(&self) -> io::Result<()> {
        let mut wanted = libc::pollfd { fd: self.process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: one valid structure, alive through the call.
            if unsafe { libc::poll(&raw mut wanted, 1, -1) } > 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}
