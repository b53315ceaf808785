//! What the administrator tells a running keeper (signalfd(2)).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::channel::{check, retry};

/// A descriptor that is readable when this process was told something.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// SIGTERM or SIGINT: end, and give everything up.
    End,
    /// SIGUSR1: end, and leave everything to the next keeper.
    HandOver,
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// Takes the signals in from now on, instead of ending by them.
    pub(crate) fn take() -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid sigset_t, and the calls only write to it.
        let set = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
                libc::sigaddset(&raw mut set, signal);
            }
            set
        };
        // SAFETY: `set` outlives the call; the old mask is not wanted.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
        // SAFETY: `set` outlives the call.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        check(fd)?;
        // SAFETY: `fd` was just opened and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// What this process was told and has not looked at yet.
    pub(crate) fn next(&self) -> io::Result<Option<Told>> {
        // SAFETY: all-zero bytes are a valid signalfd_siginfo.
        let mut signal: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let bytes = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `signal` has the bytes that the call may write, and outlives it.
        match retry(|| unsafe { libc::read(self.0.as_raw_fd(), (&raw mut signal).cast(), bytes) }) {
            Ok(_) if signal.ssi_signo == libc::SIGHUP.cast_unsigned() => Ok(Some(Told::Reload)),
            Ok(_) if signal.ssi_signo == libc::SIGUSR1.cast_unsigned() => Ok(Some(Told::HandOver)),
            Ok(_) => Ok(Some(Told::End)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
