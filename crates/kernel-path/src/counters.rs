//! What the program counted, as totals: rates are for whoever reads them.
//!
//! Packets and bytes are counted by each CPU for itself and added up here. Values read one after the other may be of
//! different moments.

use std::array;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mcr_wire::{DropReason, DroppedSnapshot, OutputSnapshot, RelaySnapshot};

use crate::layout::{BUCKET_BYTES, DROPPED_BYTES, RECEIVED_BYTES, SENT_BYTES};
use crate::maps::{MappedMaps, Totals};

/// Counters of one kind: the maps that hold them, and the slots whose owners are gone.
#[derive(Debug)]
pub(crate) struct Pool {
    maps: MappedMaps,
    left: Mutex<Vec<u32>>,
}

impl Pool {
    pub(crate) fn new(maps: MappedMaps) -> Arc<Self> {
        Arc::new(Self { maps, left: Mutex::default() })
    }

    /// The slots that were left since the last call.
    pub(crate) fn take_left(&self) -> Vec<u32> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A slot that goes back to its pool with its owner.
#[derive(Debug)]
struct Slot {
    pool: Arc<Pool>,
    index: u32,
}

impl Slot {
    /// Words of an entry, one group for each CPU.
    fn per_cpu(&self, totals: Totals, entry_bytes: usize) -> impl Iterator<Item = usize> {
        (0..self.pool.maps.cpus() as usize).map(move |cpu| self.of_cpu(totals, entry_bytes, cpu))
    }

    fn of_cpu(&self, totals: Totals, entry_bytes: usize, cpu: usize) -> usize {
        (cpu * self.pool.maps.slots(totals) as usize + self.index as usize) * (entry_bytes / 8)
    }

    fn sum(&self, totals: Totals, entry_bytes: usize, word: usize) -> u64 {
        let mapped = self.pool.maps.totals(totals);
        self.per_cpu(totals, entry_bytes).map(|at| mapped.get(at + word)).fold(0, u64::wrapping_add)
    }

    fn dropped(&self, totals: Totals) -> DroppedSnapshot {
        let at = self.index as usize * DropReason::COUNT;
        let mapped = self.pool.maps.totals(totals);
        array::from_fn(|reason| mapped.get(at + reason)).into()
    }

    fn clear(&self, totals: Totals, entry_bytes: usize) {
        let mapped = self.pool.maps.totals(totals);
        for at in self.per_cpu(totals, entry_bytes) {
            (0..entry_bytes / 8).for_each(|word| mapped.word(at + word).store(0, Ordering::Relaxed));
        }
    }

    fn clear_dropped(&self, totals: Totals) {
        let at = self.index as usize * DROPPED_BYTES / 8;
        let mapped = self.pool.maps.totals(totals);
        (0..DropReason::COUNT).for_each(|reason| mapped.word(at + reason).store(0, Ordering::Relaxed));
    }

    /// The first bucket of its kind is at `first`.
    fn clear_bucket(&self, first: u32) {
        let at = (first + self.index) as usize * BUCKET_BYTES / 8;
        let mapped = self.pool.maps.totals(Totals::Buckets);
        (0..BUCKET_BYTES / 8).for_each(|word| mapped.word(at + word).store(0, Ordering::Relaxed));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.left.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}

/// What arrived for a relay.
#[derive(Debug)]
pub struct RelayCounters {
    slot: Slot,
    identity: u64,
    notes_arrivals: AtomicBool,
}

impl RelayCounters {
    pub(crate) fn adopt(pool: &Arc<Pool>, index: u32, identity: u64) -> Arc<Self> {
        let notes_arrivals = AtomicBool::new(false);
        Arc::new(Self { slot: Slot { pool: Arc::clone(pool), index }, identity, notes_arrivals })
    }

    pub(crate) fn new(pool: &Arc<Pool>, index: u32, identity: u64) -> Arc<Self> {
        let counters = Self::adopt(pool, index, identity);
        counters.slot.clear(Totals::Received, RECEIVED_BYTES);
        counters.slot.clear_bucket(0);
        counters
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot.index
    }

    /// The number that whoever made it gave it.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Datagrams that matched the relay so far.
    #[must_use]
    pub fn received_packets(&self) -> u64 {
        self.slot.sum(Totals::Received, RECEIVED_BYTES, 0)
    }

    /// Of each CPU, the number of the last frame that crossed to the outputs' drivers; 0: none did.
    pub(crate) fn crossed(&self) -> impl Iterator<Item = u32> {
        let mapped = self.slot.pool.maps.totals(Totals::Received);
        self.slot.per_cpu(Totals::Received, RECEIVED_BYTES).map(|at| mapped.get(at + 3) as u32)
    }

    /// From the next time on that a destination is written the programs note when packets came for it.
    pub fn note_arrivals(&self) {
        self.notes_arrivals.store(true, Ordering::Relaxed);
    }

    /// They note it no more.
    pub fn forget_arrivals(&self) {
        self.notes_arrivals.store(false, Ordering::Relaxed);
    }

    pub(crate) fn notes_arrivals(&self) -> bool {
        self.notes_arrivals.load(Ordering::Relaxed)
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> RelaySnapshot {
        let sum = |word| self.slot.sum(Totals::Received, RECEIVED_BYTES, word);
        let mapped = self.slot.pool.maps.totals(Totals::Received);
        let seen = self.slot.per_cpu(Totals::Received, RECEIVED_BYTES).map(|at| mapped.get(at + 2));
        RelaySnapshot {
            received_packets: sum(0),
            received_bytes: sum(1),
            at_driver_packets: sum(3),
            last_seen_nanoseconds: seen.max().unwrap_or(0),
        }
    }
}

/// What left for one output of a relay, and what did not.
#[derive(Debug)]
pub struct OutputCounters {
    slot: Slot,
    identity: u64,
    /// Whether no relay was written yet that they are of.
    is_new: AtomicBool,
}

impl OutputCounters {
    pub(crate) fn adopt(pool: &Arc<Pool>, index: u32, identity: u64) -> Arc<Self> {
        let is_new = AtomicBool::new(false);
        Arc::new(Self { slot: Slot { pool: Arc::clone(pool), index }, identity, is_new })
    }

    pub(crate) fn new(pool: &Arc<Pool>, index: u32, identity: u64) -> Arc<Self> {
        let counters = Self::adopt(pool, index, identity);
        counters.is_new.store(true, Ordering::Relaxed);
        counters.slot.clear(Totals::Sent, SENT_BYTES);
        counters.slot.clear_dropped(Totals::Dropped);
        counters.slot.clear_bucket(pool.maps.slots(Totals::Received));
        counters
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot.index
    }

    /// A new output of a relay that has been served at the driver before: what crossed until now was not for it. Once only:
    /// a CPU of which nothing came to an output since is one on which all its copies were lost.
    pub(crate) fn begin_with(&self, relay: &RelayCounters) {
        if !self.is_new.swap(false, Ordering::Relaxed) {
            return;
        }
        let ours = self.slot.pool.maps.totals(Totals::Sent);
        for (crossed, at) in relay.crossed().zip(self.slot.per_cpu(Totals::Sent, SENT_BYTES)) {
            ours.word(at + 2).store(crossed.into(), Ordering::Relaxed);
        }
    }

    /// The number of the last frame whose copy came to this output's driver on a CPU.
    pub(crate) fn arrived(&self, cpu: usize) -> u32 {
        let at = self.slot.of_cpu(Totals::Sent, SENT_BYTES, cpu);
        self.slot.pool.maps.totals(Totals::Sent).get(at + 2) as u32
    }

    /// The number that whoever made it gave it.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> OutputSnapshot {
        OutputSnapshot {
            sent_packets: self.slot.sum(Totals::Sent, SENT_BYTES, 0),
            sent_bytes: self.slot.sum(Totals::Sent, SENT_BYTES, 1),
            dropped: self.slot.dropped(Totals::Dropped),
        }
    }
}

/// What an input saw that could not be charged to any relay, though its address is one that a relay listens to.
#[derive(Debug)]
pub struct InputCounters {
    slot: Slot,
}

/// [`InputCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSnapshot {
    /// Packets that no relay was charged with, later fragments among them. They went on to the host untouched.
    pub dropped: DroppedSnapshot,
}

impl InputCounters {
    pub(crate) fn adopt(pool: &Arc<Pool>, index: u32) -> Arc<Self> {
        Arc::new(Self { slot: Slot { pool: Arc::clone(pool), index } })
    }

    pub(crate) fn new(pool: &Arc<Pool>, index: u32) -> Arc<Self> {
        let counters = Self::adopt(pool, index);
        counters.slot.clear_dropped(Totals::InputDropped);
        counters
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot.index
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> InputSnapshot {
        InputSnapshot { dropped: self.slot.dropped(Totals::InputDropped) }
    }
}
