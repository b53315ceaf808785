//! What a datapath counts. Totals only: rates are for whoever reads them.
//!
//! Every worker of an input has a share of its own in each counter, so that a total has one writer
//! at a time, and adding is a load and a store, not a locked instruction. Readers on other threads
//! see each value whole, and see it grow; values read one after the other may be of different
//! moments.

use std::array;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use mcr_wire::{Bucket, Destination, DropReason, RateCap};
pub use mcr_wire::{DroppedSnapshot, OutputSnapshot, RelaySnapshot};

/// A total with one writer.
#[derive(Debug, Default)]
struct Total(AtomicU64);

impl Total {
    #[inline]
    fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// As `add`, where several threads may add.
    fn add_shared(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The shares of the workers, by the worker's number. They are made when a worker asks for its own, and stay.
#[derive(Debug)]
struct Shares<T>(RwLock<Vec<Arc<T>>>);

impl<T> Default for Shares<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Default> Shares<T> {
    fn of(&self, worker: usize) -> Arc<T> {
        let mut shares = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if shares.len() <= worker {
            shares.resize_with(worker + 1, Arc::default);
        }
        Arc::clone(&shares[worker])
    }

    /// All of them together.
    fn sum<S: Default>(&self, add: impl FnMut(S, &Arc<T>) -> S) -> S {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().fold(S::default(), add)
    }
}

/// Packets by drop reason.
#[derive(Debug)]
struct Dropped([Total; DropReason::COUNT]);

impl Default for Dropped {
    fn default() -> Self {
        Self(array::from_fn(|_| Total::default()))
    }
}

impl Dropped {
    fn add_to(&self, snapshot: &mut DroppedSnapshot) {
        DropReason::ALL.iter().zip(&self.0).for_each(|(reason, total)| snapshot.add(*reason, total.get()));
    }
}

/// What was admitted under a cap, by all workers together.
#[derive(Debug, Clone)]
pub(crate) struct Limiter {
    cap: RateCap,
    bucket: Arc<Bucket>,
}

impl Limiter {
    fn new(cap: RateCap, bucket: &Arc<Bucket>) -> Option<Self> {
        (!cap.is_none()).then(|| Self { cap, bucket: Arc::clone(bucket) })
    }

    pub(crate) fn admits(&self, now_nanoseconds: u64, packets: u64, bytes: u64) -> bool {
        self.bucket.admits(&self.cap, now_nanoseconds, packets, bytes)
    }
}

/// What arrived for a relay.
#[derive(Debug, Default)]
pub struct RelayCounters {
    shares: Shares<RelayShare>,
    bucket: Arc<Bucket>,
    arrivals: Arrivals,
}

/// Whether packets came for each destination since that was asked last; only where somebody asks.
#[derive(Debug, Default)]
struct Arrivals(Mutex<Option<BTreeMap<Destination, Arc<Arrival>>>>);

/// Whether packets came for one destination.
#[derive(Debug, Default)]
pub(crate) struct Arrival(AtomicBool);

impl Arrival {
    #[inline]
    pub(crate) fn note(&self) {
        // Mostly it is noted already, and workers that only read do not disturb each other.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Arrivals {
    fn all(&self) -> MutexGuard<'_, Option<BTreeMap<Destination, Arc<Arrival>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one worker took of it.
#[derive(Debug, Default)]
pub(crate) struct RelayShare {
    packets: Total,
    bytes: Total,
    last_seen: Total,
}

impl RelayCounters {
    /// The share of an input's worker.
    pub(crate) fn share(&self, worker: usize) -> Arc<RelayShare> {
        self.shares.of(worker)
    }

    /// Who keeps to a cap, if there is one.
    pub(crate) fn limiter(&self, cap: RateCap) -> Option<Limiter> {
        Limiter::new(cap, &self.bucket)
    }

    /// From the next table on that counts here it is noted for which destinations packets come.
    pub fn note_arrivals(&self) {
        self.arrivals.all().get_or_insert_default();
    }

    /// It is noted no more.
    pub fn forget_arrivals(&self) {
        *self.arrivals.all() = None;
    }

    /// Where arrivals at a destination are noted, if they are.
    pub(crate) fn arrival(&self, destination: Destination) -> Option<Arc<Arrival>> {
        self.arrivals.all().as_mut().map(|all| Arc::clone(all.entry(destination).or_default()))
    }

    /// The destinations that packets have come for since this was asked last.
    #[must_use]
    pub fn take_arrivals(&self) -> Vec<Destination> {
        let all = self.arrivals.all();
        let arrived = all.iter().flatten().filter(|(_, arrival)| arrival.0.swap(false, Ordering::Relaxed));
        arrived.map(|(destination, _)| *destination).collect()
    }

    /// Datagrams that matched the relay so far.
    #[must_use]
    pub fn received_packets(&self) -> u64 {
        self.shares.sum(|sum: u64, share| sum.wrapping_add(share.packets.get()))
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> RelaySnapshot {
        self.shares.sum(|sum: RelaySnapshot, share| RelaySnapshot {
            received_packets: sum.received_packets + share.packets.get(),
            received_bytes: sum.received_bytes + share.bytes.get(),
            at_driver_packets: 0,
            last_seen_nanoseconds: sum.last_seen_nanoseconds.max(share.last_seen.get()),
        })
    }
}

impl RelayShare {
    /// Counts arrivals.
    #[inline]
    pub(crate) fn count_received(&self, packets: u64, bytes: u64, now_nanoseconds: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
        self.last_seen.0.store(now_nanoseconds, Ordering::Relaxed);
    }
}

/// What left for one output of a relay, and what did not.
#[derive(Debug, Default)]
pub struct OutputCounters {
    shares: Shares<OutputShare>,
    bucket: Arc<Bucket>,
}

/// What one worker did of it.
#[derive(Debug, Default)]
pub(crate) struct OutputShare {
    packets: Total,
    bytes: Total,
    dropped: Dropped,
}

impl OutputCounters {
    /// The share of an input's worker.
    pub(crate) fn share(&self, worker: usize) -> Arc<OutputShare> {
        self.shares.of(worker)
    }

    /// Who keeps to a cap, if there is one.
    pub(crate) fn limiter(&self, cap: RateCap) -> Option<Limiter> {
        Limiter::new(cap, &self.bucket)
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> OutputSnapshot {
        self.shares.sum(|mut sum: OutputSnapshot, share| {
            sum.sent_packets += share.packets.get();
            sum.sent_bytes += share.bytes.get();
            share.dropped.add_to(&mut sum.dropped);
            sum
        })
    }
}

impl OutputShare {
    /// Counts packets that were sent.
    #[inline]
    pub(crate) fn count_sent(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }

    /// Counts packets that were not.
    #[inline]
    pub(crate) fn count_dropped(&self, reason: DropReason, packets: u64) {
        self.dropped.0[reason.index()].add(packets);
    }
}

/// What an input saw, and what it could not give to any relay.
#[derive(Debug, Default)]
pub struct InputCounters(Shares<InputShare>);

/// What one worker saw, in its ring.
#[derive(Debug, Default)]
pub(crate) struct InputShare {
    frames: Total,
    dropped: Dropped,
}

/// [`InputCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSnapshot {
    /// Frames that passed the filter and reached a worker; a super-frame is one.
    pub frames: u64,
    /// Packets that no relay was charged with; later fragments among them, since they carry no port.
    /// `ring_full` counts frames: nobody looked at them.
    pub dropped: DroppedSnapshot,
}

impl InputCounters {
    /// The share of an input's worker.
    pub(crate) fn share(&self, worker: usize) -> Arc<InputShare> {
        self.0.of(worker)
    }

    /// Frames that each worker took, by its number.
    #[must_use]
    pub fn frames_by_worker(&self) -> Vec<u64> {
        self.0.sum(|mut all: Vec<u64>, share| {
            all.push(share.frames());
            all
        })
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> InputSnapshot {
        self.0.sum(|mut sum: InputSnapshot, share| {
            sum.frames += share.frames();
            share.dropped.add_to(&mut sum.dropped);
            sum
        })
    }
}

impl InputShare {
    /// Counts a frame taken from the ring. Only for the ring's own worker.
    #[inline]
    pub(crate) fn count_frame(&self) {
        self.frames.add(1);
    }

    /// Frames taken so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.get()
    }

    /// Counts packets that belong to no relay. Safe from several threads.
    pub(crate) fn count_dropped(&self, reason: DropReason, packets: u64) {
        self.dropped.0[reason.index()].add_shared(packets);
    }
}
