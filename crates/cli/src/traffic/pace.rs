//! When the next packet is due.

use std::time::{Duration, Instant};

/// How fast to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// So many packets each second.
    PerSecond(f64),
    /// As fast as the socket takes them.
    Fastest,
}

impl Pace {
    /// Reads `50`, `0.5`, `10k`, `1.2M` or `max`.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub(crate) fn parse(given: &str) -> Result<Self, String> {
        if given == "max" {
            return Ok(Self::Fastest);
        }
        let (number, factor) = match given.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1e3),
            None => given.strip_suffix('M').map_or((given, 1.0), |number| (number, 1e6)),
        };
        match number.parse::<f64>().map(|number| number * factor) {
            Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err(format!("--rate {given:?} is not a rate; write packets per second as 50, 10k or max")),
        }
    }
}

/// A schedule that keeps its rate on average: a packet that was late does not delay the ones after it.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    due: Instant,
}

impl Schedule {
    /// More lateness than this is forgotten instead of made up by a burst that nobody asked for.
    const MOST_LATE: Duration = Duration::from_millis(100);

    /// A schedule whose first packet is due at `now`.
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        let interval = match pace {
            Pace::PerSecond(rate) => Duration::from_secs_f64(1.0 / rate),
            Pace::Fastest => Duration::ZERO,
        };
        Self { interval, due: now }
    }

    /// How long to wait for the next packet; nothing when it is due.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// How many packets are due, `most` at most; they are sent now.
    pub(crate) fn take(&mut self, now: Instant, most: u64) -> u64 {
        let mut taken = 0;
        while taken < most && self.wait(now).is_none() {
            self.sent(now);
            taken += 1;
        }
        taken
    }

    /// The packet that was due is sent.
    fn sent(&mut self, now: Instant) {
        self.due += self.interval;
        if now.saturating_duration_since(self.due) > Self::MOST_LATE {
            self.due = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (given, rate) in [("50", 50.0), ("0.5", 0.5), ("10k", 10_000.0), ("1.2M", 1_200_000.0)] {
            assert_eq!(Pace::parse(given), Ok(Pace::PerSecond(rate)));
        }
        assert_eq!(Pace::parse("max"), Ok(Pace::Fastest));
        for bad in ["", "0", "-1", "k", "fast", "inf", "NaN", "1e300"] {
            assert!(Pace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn late_packets_are_made_up_within_bounds() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut schedule = Schedule::new(Pace::PerSecond(100.0), start);
        assert_eq!(schedule.wait(at(0)), None);
        schedule.sent(at(0));
        assert_eq!(schedule.wait(at(4)), Some(Duration::from_millis(6)));
        schedule.sent(at(35));
        assert_eq!(schedule.wait(at(35)), None, "the packet of 20 ms is late");
        schedule.sent(at(35));
        schedule.sent(at(35));
        assert_eq!(schedule.wait(at(35)), Some(Duration::from_millis(5)));
        assert_eq!(schedule.take(at(5_000), 1_000), 2);
        assert!(schedule.wait(at(5_000)).is_some(), "five seconds are not made up");
    }
}
