//! A rate over the last seconds, from totals.

use std::time::Duration;

/// So many whole seconds are remembered.
const SECONDS: usize = 3;
const BUCKETS: usize = SECONDS + 1;

/// Packets and bytes of the second that runs and of those before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    /// By the number of the second, modulo their number.
    buckets: [(u64, u64); BUCKETS],
    /// The second that runs.
    second: u64,
    /// When counting began.
    began: Duration,
}

impl Recent {
    pub(crate) fn starting_at(began: Duration) -> Self {
        Self { buckets: [(0, 0); BUCKETS], second: began.as_secs(), began }
    }

    pub(crate) fn count(&mut self, packets: u64, bytes: u64, at: Duration) {
        self.advance(at);
        let bucket = &mut self.buckets[self.second as usize % BUCKETS];
        bucket.0 += packets;
        bucket.1 += bytes;
    }

    /// Packets and bytes of the last seconds, and how long these are.
    pub(crate) fn sums(&self, now: Duration) -> (u64, u64, Duration) {
        let mut until_now = self.clone();
        until_now.advance(now);
        let sum = |of: fn(&(u64, u64)) -> u64| until_now.buckets.iter().map(of).sum();
        let from = Duration::from_secs(until_now.second.saturating_sub(SECONDS as u64)).max(self.began);
        (sum(|bucket| bucket.0), sum(|bucket| bucket.1), now.saturating_sub(from))
    }

    fn advance(&mut self, at: Duration) {
        let passed = at.as_secs().saturating_sub(self.second);
        for next in 1..=passed.min(BUCKETS as u64) {
            self.buckets[(self.second + next) as usize % BUCKETS] = (0, 0);
        }
        self.second += passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_the_last_seconds_does_not_count() {
        let at = Duration::from_millis;
        let mut recent = Recent::starting_at(at(500));
        for millisecond in 500..2_000 {
            recent.count(1, 100, at(millisecond));
        }
        assert_eq!(recent.sums(at(2_000)), (1_500, 150_000, at(1_500)));
        // The second that began at 1.0 and all after it.
        assert_eq!(recent.sums(at(4_500)), (1_000, 100_000, at(3_500)));
        assert_eq!(recent.sums(at(5_000)), (0, 0, at(3_000)));
        assert_eq!(recent.sums(at(60_000_000)).0, 0);
        recent.count(7, 70, at(60_000_000));
        assert_eq!(recent.sums(at(60_000_500)), (7, 70, at(3_500)));
    }
}
