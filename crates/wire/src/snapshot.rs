//! What a datapath has counted, at one moment. The same for all of them.

use crate::DropReason;

/// Packets by drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedSnapshot([u64; DropReason::COUNT]);

impl DroppedSnapshot {
    /// Packets that left by this door.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Counts more of them.
    pub fn add(&mut self, reason: DropReason, packets: u64) {
        let total = &mut self.0[reason.index()];
        *total = total.wrapping_add(packets);
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

    /// By [`DropReason::index`].
    #[must_use]
    pub fn by_index(self) -> [u64; DropReason::COUNT] {
        self.0
    }
}

impl Default for DroppedSnapshot {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl From<[u64; DropReason::COUNT]> for DroppedSnapshot {
    fn from(by_index: [u64; DropReason::COUNT]) -> Self {
        Self(by_index)
    }
}

/// What arrived for a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelaySnapshot {
    /// Datagrams that matched the relay; a super-frame counts as its segments.
    pub received_packets: u64,
    /// Sum of the lengths of their IP packets.
    pub received_bytes: u64,
    /// Of the datagrams, those that a program at the driver served.
    pub at_driver_packets: u64,
    /// When the last one was taken up, in nanoseconds of `CLOCK_MONOTONIC`, to the kernel's tick (some milliseconds); 0 when
    /// there was none.
    pub last_seen_nanoseconds: u64,
}

/// What left for one output of a relay, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputSnapshot {
    /// Datagrams that the kernel took.
    pub sent_packets: u64,
    /// Sum of the lengths of their IP packets.
    pub sent_bytes: u64,
    /// Datagrams of the relay that were not sent.
    pub dropped: DroppedSnapshot,
}
