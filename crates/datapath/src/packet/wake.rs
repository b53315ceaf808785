//! The event by which a worker is called: set by anybody, and cleared by the worker once it has woken up.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An eventfd (eventfd(2)).
#[derive(Debug)]
pub(super) struct Wake {
    event: OwnedFd,
    /// What the eventfd does, where every order of events is tried.
    #[cfg(loom)]
    model: model::Event,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: `fd` was just opened and nobody else has it.
            event: unsafe { OwnedFd::from_raw_fd(fd) },
            #[cfg(loom)]
            model: model::Event::default(),
        })
    }

    /// Calls the worker.
    pub(super) fn set(&self) {
        let one = 1_u64.to_ne_bytes();
        // A full counter is readable as well, so there is no error to handle.
        // SAFETY: the pointer and the length describe `one`, which outlives the call.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        #[cfg(loom)]
        self.model.set();
    }

    /// Readable when it is set.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Waits until it is set, and clears it.
    #[cfg(all(loom, test))]
    pub(super) fn wait(&self) {
        self.model.wait();
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::{Condvar, Mutex};

    #[derive(Debug, Default)]
    pub(super) struct Event {
        is_set: Mutex<bool>,
        changed: Condvar,
    }

    impl Event {
        pub(super) fn set(&self) {
            *self.is_set.lock().unwrap() = true;
            self.changed.notify_all();
        }

        #[cfg(test)]
        pub(super) fn wait(&self) {
            let mut is_set = self.is_set.lock().unwrap();
            while !*is_set {
                is_set = self.changed.wait(is_set).unwrap();
            }
            *is_set = false;
        }
    }
}
