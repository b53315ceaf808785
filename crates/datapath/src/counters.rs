//! What a datapath counts. Totals only: rates are for whoever reads them.
//!
//! A counter has one writer at a time (the worker of its input), so adding is a load and a store,
//! not a locked instruction. Readers on other threads see each value whole, and see it grow;
//! values read one after the other may be of different moments.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use mcr_wire::DropReason;

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

/// Packets by drop reason.
#[derive(Debug)]
struct Dropped([Total; DropReason::COUNT]);

impl Default for Dropped {
    fn default() -> Self {
        Self(array::from_fn(|_| Total::default()))
    }
}

impl Dropped {
    fn snapshot(&self) -> DroppedSnapshot {
        DroppedSnapshot(array::from_fn(|index| self.0[index].get()))
    }
}

/// Packets by drop reason, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedSnapshot([u64; DropReason::COUNT]);

impl Default for DroppedSnapshot {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl DroppedSnapshot {
    /// Packets that left by this door.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Packets that left by any of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The doors that packets left by, with their number.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.get(reason))).filter(|&(_, n)| n > 0)
    }
}

/// What arrived for a relay.
#[derive(Debug, Default)]
pub struct RelayCounters {
    packets: Total,
    bytes: Total,
    last_seen: Total,
}

/// [`RelayCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelaySnapshot {
    /// Datagrams that matched the relay; a super-frame counts as its segments.
    pub received_packets: u64,
    /// Sum of the lengths of their IP packets.
    pub received_bytes: u64,
    /// When the last one was taken from the ring, in nanoseconds of `CLOCK_MONOTONIC`, to the
    /// kernel's tick (some milliseconds); 0 when there was none.
    pub last_seen_nanoseconds: u64,
}

impl RelayCounters {
    /// Counts arrivals. Only for the one thread that moves this relay's packets.
    #[inline]
    pub fn count_received(&self, packets: u64, bytes: u64, now_nanoseconds: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
        self.last_seen.0.store(now_nanoseconds, Ordering::Relaxed);
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> RelaySnapshot {
        RelaySnapshot {
            received_packets: self.packets.get(),
            received_bytes: self.bytes.get(),
            last_seen_nanoseconds: self.last_seen.get(),
        }
    }
}

/// What left for one output of a relay, and what did not.
#[derive(Debug, Default)]
pub struct OutputCounters {
    packets: Total,
    bytes: Total,
    dropped: Dropped,
}

/// [`OutputCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputSnapshot {
    /// Datagrams that the kernel took.
    pub sent_packets: u64,
    /// Sum of the lengths of their IP packets.
    pub sent_bytes: u64,
    /// Datagrams of the relay that were not sent.
    pub dropped: DroppedSnapshot,
}

impl OutputCounters {
    /// Counts packets that were sent. Only for the one thread that moves this relay's packets.
    #[inline]
    pub fn count_sent(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }

    /// Counts packets that were not. Only for the one thread that moves this relay's packets.
    #[inline]
    pub fn count_dropped(&self, reason: DropReason, packets: u64) {
        self.dropped.0[reason.index()].add(packets);
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> OutputSnapshot {
        OutputSnapshot {
            sent_packets: self.packets.get(),
            sent_bytes: self.bytes.get(),
            dropped: self.dropped.snapshot(),
        }
    }
}

/// What an input saw, and what it could not give to any relay.
#[derive(Debug, Default)]
pub struct InputCounters {
    frames: Total,
    dropped: Dropped,
}

/// [`InputCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSnapshot {
    /// Frames that passed the filter and reached the worker; a super-frame is one.
    pub frames: u64,
    /// Packets that no relay was charged with; later fragments among them, since they carry no port.
    /// `ring_full` counts frames: nobody looked at them.
    pub dropped: DroppedSnapshot,
}

impl InputCounters {
    /// Counts a frame taken from the ring. Only for the input's own worker.
    #[inline]
    pub fn count_frame(&self) {
        self.frames.add(1);
    }

    /// Frames taken so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.get()
    }

    /// Counts packets that belong to no relay. Safe from several threads.
    pub fn count_dropped(&self, reason: DropReason, packets: u64) {
        self.dropped.0[reason.index()].add_shared(packets);
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> InputSnapshot {
        InputSnapshot { frames: self.frames(), dropped: self.dropped.snapshot() }
    }
}
