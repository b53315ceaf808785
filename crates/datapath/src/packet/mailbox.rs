//! How a worker is told: tables in, old tables out, and the word to stop.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::PoisonError;

#[cfg(loom)]
use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::wake::Wake;
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
pub(super) struct Mailbox<T = CompiledTable> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
    /// One exchange at a time.
    exchanging: Mutex<()>,
    /// Whether a table waits in the slot: what the worker looks at between rounds.
    pending: AtomicBool,
    stopped: AtomicBool,
    /// See [`Mailbox::suspect`].
    suspected: AtomicU64,
    /// Ends the worker's wait.
    wake: Wake,
}

#[derive(Debug)]
enum Slot<T> {
    Empty,
    /// For the worker.
    New(Box<T>),
    /// From the worker.
    Old(Box<T>),
    /// There is no worker any more.
    Gone,
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            slot: Mutex::new(Slot::Empty),
            changed: Condvar::new(),
            exchanging: Mutex::new(()),
            pending: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            suspected: AtomicU64::new(NO_SUSPICION),
            wake: Wake::new()?,
        })
    }

    /// Gives the worker a table and waits until it uses it; returns the one that it used before.
    pub(super) fn exchange(&self, table: Box<T>) -> Result<Box<T>, WorkerGone> {
        let _one = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slot = self.slot();
        if matches!(*slot, Slot::Gone) {
            return Err(WorkerGone);
        }
        *slot = Slot::New(table);
        self.pending.store(true, Ordering::Release);
        self.wake.set();
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
        self.wake.set();
    }

    /// Has the worker look whether the kernel is stuck: it dropped frames while this many were taken.
    pub(super) fn suspect(&self, frames: u64) {
        self.suspected.store(frames, Ordering::Release);
        self.wake.set();
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
    pub(super) fn collect(&self, table: &mut Box<T>, prepare: impl FnOnce(&T)) -> bool {
        self.has_table() && self.collect_pending(table, prepare)
    }

    #[cold]
    fn collect_pending(&self, table: &mut Box<T>, prepare: impl FnOnce(&T)) -> bool {
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
        self.wake.event()
    }

    /// The worker's side: when this is dropped, also by a panic, nobody waits for it any more.
    pub(super) fn farewell(&self) -> Farewell<'_, T> {
        Farewell(self)
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Mailbox::farewell`].
pub(super) struct Farewell<'a, T>(&'a Mailbox<T>);

impl<T> Drop for Farewell<'_, T> {
    fn drop(&mut self) {
        *self.0.slot() = Slot::Gone;
        self.0.changed.notify_all();
    }
}

/// Every order in which two or three threads can get in each other's way (`make loom`).
#[cfg(all(loom, test))]
mod orders {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A worker that uses tables as the real one does, until it is stopped or has taken `most`; the one that it has at the end.
    fn work(mailbox: &Mailbox<u32>, most: usize) -> u32 {
        let _farewell = mailbox.farewell();
        let mut table = Box::new(0);
        let mut taken = 0;
        while !mailbox.is_stopped() && taken < most {
            if mailbox.has_table() && mailbox.collect(&mut table, |_| {}) {
                taken += 1;
            } else {
                mailbox.wake.wait();
            }
        }
        *table
    }

    fn with_worker(most: usize) -> (Arc<Mailbox<u32>>, thread::JoinHandle<u32>) {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let at_work = Arc::clone(&mailbox);
        (mailbox, thread::spawn(move || work(&at_work, most)))
    }

    #[test]
    fn an_exchange_ends_with_the_table_before() {
        loom::model(|| {
            let (mailbox, worker) = with_worker(usize::MAX);
            assert_eq!(mailbox.exchange(Box::new(1)), Ok(Box::new(0)));
            assert_eq!(mailbox.exchange(Box::new(2)), Ok(Box::new(1)));
            mailbox.stop();
            assert_eq!(worker.join().unwrap(), 2);
        });
    }

    #[test]
    fn two_that_exchange_get_what_the_other_gave_or_the_first() {
        // All orders with up to three switches where nobody has to wait: those without a bound take minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let (mailbox, worker) = with_worker(usize::MAX);
            let other = thread::spawn({
                let mailbox = Arc::clone(&mailbox);
                move || *mailbox.exchange(Box::new(1)).unwrap()
            });
            let got = *mailbox.exchange(Box::new(2)).unwrap();
            let others = other.join().unwrap();
            mailbox.stop();
            let mut all = [got, others, worker.join().unwrap()];
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2], "no table is lost or given out twice");
        });
    }

    /// A worker that ends at any moment leaves nobody waiting; who is told that it is gone may have been heard before.
    #[test]
    fn nobody_waits_for_a_worker_that_ends() {
        loom::model(|| {
            let (mailbox, worker) = with_worker(1);
            let first = mailbox.exchange(Box::new(1));
            assert!(first == Ok(Box::new(0)) || first == Err(WorkerGone), "{first:?}");
            assert_eq!(mailbox.exchange(Box::new(2)), Err(WorkerGone));
            assert_eq!(worker.join().unwrap(), 1);
        });
    }

    #[test]
    fn the_word_to_stop_is_heard() {
        loom::model(|| {
            let (mailbox, worker) = with_worker(usize::MAX);
            let told = thread::spawn({
                let mailbox = Arc::clone(&mailbox);
                move || mailbox.exchange(Box::new(1))
            });
            mailbox.stop();
            let table = worker.join().unwrap();
            if let Ok(before) = told.join().unwrap() {
                assert_eq!((*before, table), (0, 1));
            }
        });
    }

    #[test]
    fn a_suspicion_is_heard_once() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::<u32>::new().unwrap());
            let worker = thread::spawn({
                let mailbox = Arc::clone(&mailbox);
                move || {
                    loop {
                        if let Some(frames) = mailbox.take_suspicion() {
                            return frames;
                        }
                        mailbox.wake.wait();
                    }
                }
            });
            mailbox.suspect(7);
            assert_eq!(worker.join().unwrap(), 7);
            assert_eq!(mailbox.take_suspicion(), None);
        });
    }
}
