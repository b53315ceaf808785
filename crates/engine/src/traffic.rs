//! Totals as the datapath counts them, and the rates and silences that follow from two looks at them.

use std::time::Duration;

use mcr_model::status::Traffic;
use mcr_model::{DropReason, Watch};

use crate::watch::{RateWatch, WrongRate};

/// Packets and bytes that went one way since a relay was defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
}

/// The totals of one relay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayTotals {
    /// What arrived for it.
    pub received: Totals,
    /// What became of it on each output, in the relay's order.
    pub outputs: Vec<OutputTotals>,
    /// When the last of it arrived, on the caller's monotonic clock; `None`: the datapath does not say.
    pub last_packet: Option<Duration>,
}

impl RelayTotals {
    /// All drops on all outputs.
    pub fn dropped_packets(&self) -> u64 {
        self.outputs.iter().map(OutputTotals::dropped_packets).sum()
    }
}

/// The totals of one output. `received = sent + Σ dropped` holds at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTotals {
    /// What left.
    pub sent: Totals,
    /// What did not, by [`DropReason::index`].
    pub dropped: [u64; DropReason::COUNT],
}

/// Frames of one interface that no relay could be charged with, by [`DropReason::index`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceLedger {
    /// The drops.
    pub dropped: [u64; DropReason::COUNT],
}

impl Default for OutputTotals {
    fn default() -> Self {
        Self { sent: Totals::default(), dropped: [0; DropReason::COUNT] }
    }
}

impl OutputTotals {
    /// All drops.
    pub fn dropped_packets(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// Whether anybody wants what a relay sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Somebody, or it does not matter.
    Some,
    /// Nobody, and so its groups are not joined.
    None,
}

/// How long a look at the totals counts as the base of a rate.
const WINDOW: Duration = Duration::from_secs(1);

/// The looks at one relay's totals that rates, silence and recent drops are told from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    pub(crate) totals: RelayTotals,
    base: Option<(Duration, RelayTotals)>,
    window: Option<Window>,
    last_packet: Option<Duration>,
    /// The time without packets before the last ones.
    last_gap: Duration,
    /// When it was last seen that nobody wanted packets.
    unwanted: Option<Duration>,
    /// Where a rate is expected.
    rate: Option<Box<RateWatch>>,
}

/// The difference between two looks about a second apart.
#[derive(Debug, Clone)]
struct Window {
    span: Duration,
    from: RelayTotals,
    to: RelayTotals,
}

impl Meter {
    pub(crate) fn observe(&mut self, now: Duration, totals: RelayTotals) {
        if totals.received.packets > self.totals.received.packets {
            let seen = totals.last_packet.unwrap_or(now).min(now);
            self.last_gap = self.last_packet.map_or(Duration::ZERO, |last| seen.saturating_sub(last));
            self.last_packet = Some(self.last_packet.map_or(seen, |last| last.max(seen)));
        }
        self.totals = totals;
        match &self.base {
            None => self.base = Some((now, self.totals.clone())),
            Some((since, _)) if now.saturating_sub(*since) < WINDOW => {}
            Some((since, from)) => {
                self.window = Some(Window { span: now - *since, from: from.clone(), to: self.totals.clone() });
                self.base = Some((now, self.totals.clone()));
            }
        }
    }

    /// Notes what follows from the time that has passed, with packets or without.
    pub(crate) fn look(&mut self, now: Duration, watch: Watch, demand: Demand) {
        if demand == Demand::None {
            self.unwanted = Some(now);
        }
        let is_any_right = watch.expected().is_any() || demand == Demand::None;
        if is_any_right || self.has_stopped(now, watch) || self.last_packet.is_none() {
            // A flow that begins, or begins again, gets a second to reach its rate.
            self.rate = None;
            return;
        }
        self.rate.get_or_insert_default().look(now, self.totals.received.bytes, watch.expected());
    }

    /// The last bit rate that was not as expected, as long as it counts.
    pub(crate) fn wrong_rate(&self) -> Option<WrongRate> {
        self.rate.as_ref()?.wrong()
    }

    /// When the last packet arrived.
    pub(crate) fn last_packet(&self) -> Option<Duration> {
        self.last_packet
    }

    /// The time without packets before the last ones that came.
    pub(crate) fn last_gap(&self) -> Duration {
        self.last_gap
    }

    /// Whether packets came and have stopped.
    pub(crate) fn has_stopped(&self, now: Duration, watch: Watch) -> bool {
        self.quiet_for(now).is_some_and(|quiet| quiet >= watch.silent_after())
    }

    /// Whether packets came and have stopped although they are wanted.
    pub(crate) fn is_silent(&self, now: Duration, watch: Watch) -> bool {
        self.silent_at(watch).is_some_and(|at| at <= now)
    }

    /// When the flow is silent unless another packet comes.
    pub(crate) fn silent_at(&self, watch: Watch) -> Option<Duration> {
        self.last_packet.map(|last| self.unwanted.map_or(last, |unwanted| unwanted.max(last)) + watch.silent_after())
    }

    /// Time since the last packet; `None` before the first one.
    pub(crate) fn quiet_for(&self, now: Duration) -> Option<Duration> {
        self.last_packet.map(|last| now.saturating_sub(last))
    }

    pub(crate) fn received(&self) -> Traffic {
        let rates = self.window.as_ref().map(|window| window.rates(window.from.received, window.to.received));
        traffic(self.totals.received, rates)
    }

    pub(crate) fn sent(&self, output: usize) -> Traffic {
        let total = self.totals.outputs.get(output).map(|output| output.sent).unwrap_or_default();
        let rates = self.window.as_ref().and_then(|window| {
            let (from, to) = (window.from.outputs.get(output)?, window.to.outputs.get(output)?);
            Some(window.rates(from.sent, to.sent))
        });
        traffic(total, rates)
    }

    /// Whether anything was dropped in the last window.
    pub(crate) fn drops_in_window(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.from.dropped_packets() != window.to.dropped_packets())
    }

    /// The commonest drop of `output` in the last window, with its count.
    pub(crate) fn recent_drop(&self, output: usize) -> Option<(DropReason, u64)> {
        let window = self.window.as_ref()?;
        let (from, to) = (window.from.outputs.get(output)?, window.to.outputs.get(output)?);
        let fresh = DropReason::ALL.iter().map(|reason| {
            let i = reason.index();
            (*reason, to.dropped[i].saturating_sub(from.dropped[i]))
        });
        fresh.filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count)
    }
}

impl Window {
    fn rates(&self, from: Totals, to: Totals) -> (f64, f64) {
        let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / self.span.as_secs_f64();
        (per_second(from.packets, to.packets), 8.0 * per_second(from.bytes, to.bytes))
    }
}

fn traffic(total: Totals, rates: Option<(f64, f64)>) -> Traffic {
    Traffic {
        packets: total.packets,
        bytes: total.bytes,
        packets_per_second: rates.map(|(packets, _)| packets),
        bits_per_second: rates.map(|(_, bits)| bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(packets: u64) -> RelayTotals {
        RelayTotals { received: Totals { packets, bytes: packets * 100 }, ..RelayTotals::default() }
    }

    #[test]
    fn rates_come_from_two_looks_a_second_apart() {
        let mut meter = Meter::default();
        meter.observe(Duration::from_secs(10), totals(0));
        meter.observe(Duration::from_millis(10_500), totals(400));
        assert_eq!(meter.received().packets_per_second, None, "half a window is no rate");
        meter.observe(Duration::from_secs(12), totals(2000));
        assert_eq!(meter.received().packets_per_second, Some(1000.0));
        assert_eq!(meter.received().bits_per_second, Some(800_000.0));
        assert_eq!(meter.quiet_for(Duration::from_secs(15)), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_counter_that_went_back_is_no_negative_rate() {
        let mut meter = Meter::default();
        meter.observe(Duration::ZERO, totals(500));
        meter.observe(Duration::from_secs(2), totals(3));
        assert_eq!(meter.received().packets_per_second, Some(0.0));
    }
}
