//! The breaker of each relay: more packets than it allows are a storm, most likely a loop through other relays. The relay
//! is taken out of force, its group is left, and after a while it is tried again.
//!
//! A loop that goes over another relay can not be told from its packets: they come from that relay's own address, and equal
//! packets are real packets. What tells it is that there are far more of them than there can be.

use std::time::Duration;

use mcr_model::status::BreakerStatus;
use mcr_model::{Breaker, Condition, EventKind, RelayState};

use crate::engine::{Engine, Entry};

/// What is received in a shorter time than this is a burst, not a rate.
const SHORTEST_SPAN: Duration = Duration::from_millis(35);

/// How the breaker of a relay stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fuse {
    /// When packets were counted last, and how many there were.
    last: Option<(Duration, u64)>,
    open: Option<Open>,
    trips: u64,
}

/// A breaker that keeps its relay out of force.
#[derive(Debug, Clone, Copy)]
struct Open {
    since: Duration,
    packets_per_second: u64,
}

/// What a look at the packets that came led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Stays,
    Trips { packets_per_second: u64 },
    Recovers,
}

impl Fuse {
    /// Whether it keeps its relay out of force.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The relay is another one, or has another breaker: it gets a new chance.
    pub(crate) fn close(&mut self) {
        (self.last, self.open) = (None, None);
    }

    pub(crate) fn status(&self) -> BreakerStatus {
        BreakerStatus { open: self.is_open(), trips: self.trips }
    }

    fn look(&mut self, now: Duration, packets: u64, breaker: Breaker) -> Turn {
        if let Some(open) = self.open {
            if now.saturating_sub(open.since) < breaker.recover_after() {
                return Turn::Stays;
            }
            self.close();
            return Turn::Recovers;
        }
        let (since, before) = *self.last.get_or_insert((now, packets));
        let span = now.saturating_sub(since);
        if span < SHORTEST_SPAN {
            return Turn::Stays;
        }
        self.last = Some((now, packets));
        let packets_per_second = (packets.saturating_sub(before) as f64 / span.as_secs_f64()) as u64;
        if packets_per_second <= breaker.max_packets_per_second() {
            return Turn::Stays;
        }
        self.open = Some(Open { since: now, packets_per_second });
        self.trips += 1;
        Turn::Trips { packets_per_second }
    }
}

impl Engine {
    /// Whether some relay has a breaker, so that rates have to be looked at often.
    pub fn has_breakers(&self) -> bool {
        self.has_breakers
    }

    pub(crate) fn look_at_breaker(&mut self, entry: &mut Entry, now: Duration) {
        let Some(breaker) = entry.relay.watch().breaker() else { return };
        let packets = entry.meter.totals.received.packets;
        let relay = entry.relay.name().to_string();
        match entry.fuse.look(now, packets, breaker) {
            Turn::Stays => return,
            Turn::Trips { packets_per_second } => self.happened(EventKind::BreakerTripped {
                relay,
                packets_per_second,
                max_packets_per_second: breaker.max_packets_per_second(),
            }),
            Turn::Recovers => self.happened(EventKind::BreakerRecovered { relay }),
        }
        self.wish_changed();
    }
}

impl Entry {
    /// Why its breaker keeps it out of force, if it does.
    pub(crate) fn broken(&self) -> Option<Condition> {
        let (open, breaker) = (self.fuse.open?, self.relay.watch().breaker()?);
        Some(Condition::trouble(
            RelayState::Failed,
            format!(
                "its breaker is open: {} packets per second came, more than {} (breaker.max_packets_per_second)",
                open.packets_per_second,
                breaker.max_packets_per_second()
            ),
            format!(
                "look for a loop through other relays, or for a second sender (list the sources); it is tried again after {}",
                mcr_model::duration::text(breaker.recover_after())
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use mcr_model::BreakerSpec;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn it_trips_above_its_rate_and_recovers_in_time() {
        let breaker = BreakerSpec { max_packets_per_second: 1_000, recover_after: Some("2s".to_owned()) };
        let breaker = breaker.check().unwrap();
        let mut fuse = Fuse::default();
        let looks = [
            (0, 5_000, Turn::Stays),  // what came before it was there is no rate
            (10, 5_030, Turn::Stays), // a burst
            (50, 5_050, Turn::Stays), // exactly 1,000 in a second
            (100, 5_101, Turn::Trips { packets_per_second: 1_020 }),
            (2_099, 9_000, Turn::Stays),
            (2_100, 9_000, Turn::Recovers),
            (2_110, 9_000, Turn::Stays),
            (2_160, 9_060, Turn::Trips { packets_per_second: 1_200 }),
        ];
        for (at, packets, expected) in looks {
            assert_eq!(fuse.look(ms(at), packets, breaker), expected, "at {at} ms");
        }
        assert_eq!(fuse.status(), BreakerStatus { open: true, trips: 2 });
        fuse.close();
        assert_eq!(fuse.status(), BreakerStatus { open: false, trips: 2 });
    }
}
