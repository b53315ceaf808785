//! How a worker is told: tables in, old tables out, and the word to stop.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::table::CompiledTable;

/// The worker's thread has ended, and with it the relays of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerGone;

impl fmt::Display for WorkerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread that moves this input's packets has ended; start a new one")
    }
}

impl std::error::Error for WorkerGone {}

/// More frames than there ever are.
const NO_SUSPICION: u64 = u64::MAX;

/// Shared between a worker and those who direct it.
#[derive(Debug)]
pub(super) struct Mailbox {
    slot: Mutex<Slot>,
    changed: Condvar,
    /// One exchange at a time.
    exchanging: Mutex<()>,
    /// Whether a table waits in the slot: what the worker looks at between rounds.
    pending: AtomicBool,
    stopped: AtomicBool,
    /// See [`Mailbox::suspect`].
    suspected: AtomicU64,
    /// An eventfd that ends the worker's wait.
    wake: OwnedFd,
}

#[derive(Debug)]
enum Slot {
    Empty,
    /// For the worker.
    New(Box<CompiledTable>),
    /// From the worker.
    Old(Box<CompiledTable>),
    /// There is no worker any more.
    Gone,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            slot: Mutex::new(Slot::Empty),
            changed: Condvar::new(),
            exchanging: Mutex::new(()),
            pending: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            suspected: AtomicU64::new(NO_SUSPICION),
            // SAFETY: `fd` was just opened and nobody else has it.
            wake: unsafe { OwnedFd::from_raw_fd(fd) },
        })
    }

    /// Gives the worker a table and waits until it uses it; returns the one that it used before.
    pub(super) fn exchange(&self, table: Box<CompiledTable>) -> Result<Box<CompiledTable>, WorkerGone> {
        let _one = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slot = self.slot();
        if matches!(*slot, Slot::Gone) {
            return Err(WorkerGone);
        }
        *slot = Slot::New(table);
        self.pending.store(true, Ordering::Release);
        self.wake();
        loop {
            match std::mem::replace(&mut *slot, Slot::Empty) {
                Slot::Old(table) => return Ok(table),
                Slot::Gone => {
                    *slot = Slot::Gone;
                    return Err(WorkerGone);
                }
                other @ (Slot::New(_) | Slot::Empty) => *slot = other,
            }
            slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the worker after its round.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Has the worker look whether the kernel is stuck: it dropped frames while this many were taken.
    pub(super) fn suspect(&self, frames: u64) {
        self.suspected.store(frames, Ordering::Release);
        self.wake();
    }

    /// The worker's side: what [`Mailbox::suspect`] was told, once.
    #[inline]
    pub(super) fn take_suspicion(&self) -> Option<u64> {
        if self.suspected.load(Ordering::Relaxed) == NO_SUSPICION {
            return None;
        }
        Some(self.suspected.swap(NO_SUSPICION, Ordering::AcqRel))
    }

    /// The worker's side: whether it is to end.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The worker's side: whether a table waits.
    #[inline]
    pub(super) fn has_table(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// The worker's side: takes a table that waits, after `prepare` has seen it; whether there was
    /// one.
    #[inline]
    pub(super) fn collect(&self, table: &mut Box<CompiledTable>, prepare: impl FnOnce(&CompiledTable)) -> bool {
        self.has_table() && self.collect_pending(table, prepare)
    }

    #[cold]
    fn collect_pending(&self, table: &mut Box<CompiledTable>, prepare: impl FnOnce(&CompiledTable)) -> bool {
        let mut slot = self.slot();
        self.pending.store(false, Ordering::Release);
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::New(new) => {
                prepare(&new);
                *slot = Slot::Old(std::mem::replace(table, new));
                self.changed.notify_all();
                true
            }
            other => {
                *slot = other;
                false
            }
        }
    }

    /// The worker's side: readable when there is something to collect or to stop.
    pub(super) fn wake_up(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The worker's side: when this is dropped, also by a panic, nobody waits for it any more.
    pub(super) fn farewell(&self) -> Farewell<'_> {
        Farewell(self)
    }

    fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // A full counter is readable as well, so there is no error to handle.
        // SAFETY: the pointer and the length describe `one`, which outlives the call.
        unsafe { libc::write(self.wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Mailbox::farewell`].
pub(super) struct Farewell<'a>(&'a Mailbox);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        *self.0.slot() = Slot::Gone;
        self.0.changed.notify_all();
    }
}
