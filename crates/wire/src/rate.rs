//! Caps on rates: the generic cell rate algorithm (ITU-T I.371 annex A).
//!
//! Each packet that is admitted costs an amount of time. A bucket holds the time until which all that it admitted is paid;
//! a packet is admitted unless that is more than [`RateCap::TOLERANCE_NANOSECONDS`] ahead. So in any `t` seconds at
//! most `rate × (t + 0.1)` is admitted, and one packet (or run of them) more. `bpf/rate.h` is the twin.

use core::sync::atomic::{AtomicU64, Ordering};

/// Of a cost, in one nanosecond.
const TICKS: u64 = 64;
/// Costs of a byte are kept finer than ticks by this many bits.
const FINER: u32 = 14;

/// What packets cost; nothing where there is no cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateCap {
    packet_cost: u64,
    byte_cost: u64,
}

impl RateCap {
    /// No cap.
    pub const NONE: RateCap = RateCap { packet_cost: 0, byte_cost: 0 };
    /// How far a bucket may be ahead: what so much time allows may come at once.
    pub const TOLERANCE_NANOSECONDS: u64 = 100_000_000;

    /// A cap on packets, on bits (of IP packets), or on both, each for a second. Zero counts as one.
    pub fn new(packets: Option<u64>, bits: Option<u64>) -> Self {
        let packet_cost = packets.map_or(0, |packets| rounded(TICKS * 1_000_000_000, packets));
        let byte_cost = bits.map_or(0, |bits| rounded((TICKS * 8_000_000_000) << FINER, bits));
        Self { packet_cost, byte_cost }
    }

    /// Whether there is no cap.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.packet_cost | self.byte_cost == 0
    }

    /// Of one packet, in 1/64 ns; 0: packets are free.
    pub const fn packet_cost(&self) -> u64 {
        self.packet_cost
    }

    /// Of one byte, in 2^-20 ns; 0: bytes are free.
    pub const fn byte_cost(&self) -> u64 {
        self.byte_cost
    }
}

fn rounded(amount: u64, by: u64) -> u64 {
    let by = by.max(1);
    ((amount + by / 2) / by).max(1)
}

/// What was admitted so far, as the time until which it is paid. Shared by all that admit.
#[derive(Debug, Default)]
pub struct Bucket {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Bucket {
    /// Whether so many packets of so many bytes in all may pass at a time in nanoseconds; if so they are charged.
    ///
    /// Nobody waits for anybody: two that ask at the same moment may both pass, and what is too much is paid off.
    pub fn admits(&self, cap: &RateCap, now: u64, packets: u64, bytes: u64) -> bool {
        let now = now * TICKS;
        let latest = now + RateCap::TOLERANCE_NANOSECONDS * TICKS;
        let is_paid = |until: &AtomicU64, cost: u64| cost == 0 || until.load(Ordering::Relaxed) <= latest;
        if !is_paid(&self.packets, cap.packet_cost) || !is_paid(&self.bytes, cap.byte_cost) {
            return false;
        }
        charge(&self.packets, now, cap.packet_cost * packets);
        charge(&self.bytes, now, (cap.byte_cost * bytes) >> FINER);
        true
    }
}

fn charge(until: &AtomicU64, now: u64, cost: u64) {
    let before = until.load(Ordering::Relaxed);
    if before < now {
        // If it fails, another has done it.
        let _ = until.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
    }
    until.fetch_add(cost, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of equal packets are admitted that come at a steady rate for so many seconds.
    fn admitted(cap: &RateCap, per_second: u64, seconds: u64, bytes: u64) -> u64 {
        let bucket = Bucket::default();
        let start = 1_000 * SECOND;
        let times = (0..per_second * seconds).map(|number| start + number * SECOND / per_second);
        times.filter(|now| bucket.admits(cap, *now, 1, bytes)).count() as u64
    }

    #[test]
    #[cfg_attr(miri, ignore = "eight million packets")]
    fn a_cap_is_kept_to_a_thousandth_and_a_tenth_of_a_second() {
        for (packets, bits, per_second, bytes) in [
            (Some(1_000), None, 10_000, 100),
            (Some(333_333), None, 500_000, 100),
            (None, Some(10_000_000), 20_000, 1_000),
            (None, Some(999_999_937), 200_000, 1_400),
            (Some(2_000), Some(1_000_000_000), 10_000, 1_400),
            (Some(1_000_000), Some(8_000_000), 10_000, 500),
            (Some(1), None, 100, 1_400),
            (None, Some(1_000), 10, 1_400),
        ] {
            let cap = RateCap::new(packets, bits);
            let by_bits = bits.map(|bits| bits as f64 / 8.0 / bytes as f64);
            let rate = by_bits.unwrap_or(f64::MAX).min(packets.map_or(f64::MAX, |packets| packets as f64));
            let seconds = 10;
            let most = rate * (seconds as f64 + 0.1) * 1.001 + 1.0;
            let got = admitted(&cap, per_second, seconds, bytes) as f64;
            assert!(got <= most && got >= rate * seconds as f64 * 0.999, "{cap:?}: {got} of {rate} a second");
        }
    }

    #[test]
    fn what_comes_slower_than_the_cap_passes_whole() {
        let cap = RateCap::new(Some(1_000), Some(8_000_000));
        assert_eq!(admitted(&cap, 990, 10, 1_000), 9_900);
        assert!(RateCap::new(None, None).is_none() && !cap.is_none());
    }

    #[test]
    fn a_run_passes_whole_and_is_paid_off() {
        let (cap, bucket) = (RateCap::new(Some(100), None), Bucket::default());
        assert!(bucket.admits(&cap, SECOND, 64, 1));
        assert!(!bucket.admits(&cap, SECOND + SECOND / 2, 1, 1));
        assert!(bucket.admits(&cap, SECOND + SECOND * 54 / 100, 1, 1));
    }

    #[test]
    fn the_largest_of_everything_does_not_overflow() {
        let (cap, bucket) = (RateCap::new(Some(1), Some(1_000)), Bucket::default());
        assert!(bucket.admits(&cap, 300_000_000 * SECOND / 10, 64, 70_000));
    }
}
