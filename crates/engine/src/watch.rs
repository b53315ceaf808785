//! The look that is taken again and again: what changed by itself since the last one is told, and history is written.
//!
//! It goes over every relay ten times a second or more, so it builds no text unless something has changed, and takes
//! the part of a state that does not come from counters as it was while nothing else has changed.

use std::collections::VecDeque;
use std::time::Duration;

use mcr_model::watch::BitRates;
use mcr_model::{DropReason, EventKind, RelayState};

use crate::condition::{Activity, is_idle};
use crate::engine::{Engine, Entry};
use crate::history::{Recorder, Sample};
use crate::traffic::{Demand, RelayTotals};

/// What was told of a relay last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    state: Option<RelayState>,
    silent: bool,
    /// Whether anybody wanted it at the last look.
    demand: Option<Demand>,
    drops: Drops,
    /// The state that does not come from counters, and the generation of the engine that it was told from.
    standing: Option<(u64, Option<RelayState>)>,
    /// Nothing was counted for it since the last look, and what was told then changes only with that.
    rests: bool,
}

impl Told {
    /// Something was counted.
    pub(crate) fn stir(&mut self) {
        self.rests = false;
    }

    /// The relay has another definition: what it was is still what was told, what it counted is no longer its own.
    pub(crate) fn restart(&mut self) {
        *self = Self { state: self.state, ..Self::default() };
    }
}

/// The outputs that drop packets.
#[derive(Debug, Clone, Default)]
struct Drops {
    /// All drops when they were last looked at in detail.
    total: u64,
    /// The same by output and reason; empty: none.
    seen: Vec<[u64; DropReason::COUNT]>,
    running: Vec<Dropping>,
}

/// Drops of one reason on one output that have not ended.
#[derive(Debug, Clone)]
struct Dropping {
    output: usize,
    reason: DropReason,
    packets: u64,
    last: Duration,
}

/// After this long without another one, drops have ended.
const DROPS_END_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    /// Whether the next look is at every relay: once a second, when history is written.
    pub fn is_whole_look_due(&self, now: Duration) -> bool {
        self.recorded < now.as_secs()
    }

    /// Looks at every relay, or between two whole looks at those that do not rest. When the next look is due at the latest
    /// for a silence to be told in time; `None`: whenever it suits.
    pub fn look(&mut self, now: Duration) -> Option<Duration> {
        let second = now.as_secs();
        let records = self.is_whole_look_due(now);
        self.recorded = second;
        // Taken out meanwhile: what an entry is looked at with is the rest of the engine.
        let mut relays = std::mem::take(&mut self.relays);
        let mut due: Option<Duration> = None;
        for entry in relays.values_mut() {
            if !records && entry.told.rests && matches!(entry.told.standing, Some((at, _)) if at == self.generation) {
                continue;
            }
            let demand = self.demand(entry);
            // What begins to be wanted was not until now: between two looks nobody looked.
            let since = if entry.told.demand.replace(demand) == Some(Demand::None) { Demand::None } else { demand };
            entry.meter.look(now, entry.relay.watch(), since);
            self.look_at_breaker(entry, now);
            self.look_at_flow(entry, now, demand);
            self.look_at_drops(entry, now);
            self.look_at_state(entry, now, demand);
            if records {
                record(entry, second);
            }
            let is_still = entry.told.silent || entry.meter.last_packet().is_none() || demand == Demand::None;
            entry.told.rests = entry.told.drops.running.is_empty() && is_still;
            due = match (due, entry.meter.silent_at(entry.relay.watch()).filter(|_| !is_still)) {
                (Some(due), Some(at)) => Some(due.min(at)),
                (due, at) => due.or(at),
            };
        }
        self.relays = relays;
        due
    }

    fn look_at_flow(&mut self, entry: &mut Entry, now: Duration, demand: Demand) {
        let silent = entry.meter.is_silent(now, entry.relay.watch());
        // What ends because nobody wants the flow any more is no recovery.
        if silent == std::mem::replace(&mut entry.told.silent, silent) || demand == Demand::None {
            return;
        }
        let relay = entry.relay.name().to_string();
        self.happened(if silent {
            let quiet = entry.meter.quiet_for(now).unwrap_or_default();
            EventKind::FlowSilent { relay, quiet_seconds: quiet.as_secs_f64() }
        } else {
            EventKind::FlowRecovered { relay, gap_seconds: entry.meter.last_gap().as_secs_f64() }
        });
    }

    fn look_at_drops(&mut self, entry: &mut Entry, now: Duration) {
        let total = entry.meter.totals.dropped_packets();
        if total != entry.told.drops.total {
            for (output, reason, packets) in entry.told.drops.fresh(&entry.meter.totals, now) {
                let (relay, output) = (entry.relay.name().to_string(), entry.relay.outputs()[output].to_string());
                self.happened(EventKind::DropsStarted { relay, output, reason: reason.name().to_owned(), packets });
            }
        }
        for Dropping { output, reason, packets, .. } in entry.told.drops.ended(now) {
            let (relay, output) = (entry.relay.name().to_string(), entry.relay.outputs()[output].to_string());
            self.happened(EventKind::DropsEnded { relay, output, reason: reason.name().to_owned(), packets });
        }
    }

    fn look_at_state(&mut self, entry: &mut Entry, now: Duration, demand: Demand) {
        let standing = self.standing_state(entry);
        entry.told.standing = Some((self.generation, standing));
        let state = standing.unwrap_or_else(|| match (entry.traffic_state(now), demand) {
            (traffic, Demand::None) if is_idle(traffic) => RelayState::Ready,
            (traffic, Demand::Some | Demand::None) => traffic,
        });
        let from = entry.told.state.replace(state);
        if from == Some(state) {
            return;
        }
        let condition = self.condition(entry, now);
        self.happened(EventKind::RelayState {
            relay: entry.relay.name().to_string(),
            from,
            to: condition.state,
            reason: condition.reason,
            remedy: condition.remedy,
        });
    }

    /// The state that does not come from counters: as it was told last, when nothing has changed since.
    pub(crate) fn standing_state(&self, entry: &Entry) -> Option<RelayState> {
        match entry.told.standing {
            Some((generation, standing)) if generation == self.generation => standing,
            _ => self.standing_trouble(entry).map(|condition| condition.state),
        }
    }
}

impl Drops {
    /// Takes over what is new in `totals`; what began with it, with its count.
    fn fresh(&mut self, totals: &RelayTotals, now: Duration) -> Vec<(usize, DropReason, u64)> {
        self.total = totals.dropped_packets();
        self.seen.resize(totals.outputs.len(), [0; DropReason::COUNT]);
        let mut began = Vec::new();
        for (output, (totals, seen)) in totals.outputs.iter().zip(&mut self.seen).enumerate() {
            for reason in DropReason::ALL {
                let packets = totals.dropped[reason.index()].saturating_sub(seen[reason.index()]);
                if packets == 0 {
                    continue;
                }
                match self.running.iter_mut().find(|drops| (drops.output, drops.reason) == (output, reason)) {
                    Some(running) => {
                        running.packets += packets;
                        running.last = now;
                    }
                    None => {
                        self.running.push(Dropping { output, reason, packets, last: now });
                        began.push((output, reason, packets));
                    }
                }
            }
            *seen = totals.dropped;
        }
        began
    }

    fn ended(&mut self, now: Duration) -> Vec<Dropping> {
        // Says no without a list: this is asked of every relay at every look.
        if self.running.is_empty() {
            return Vec::new();
        }
        self.running.extract_if(.., |drops| now.saturating_sub(drops.last) >= DROPS_END_AFTER).collect()
    }
}

/// Writes the second that is over into the relay's history, once there is something to write.
fn record(entry: &mut Entry, second: u64) {
    let totals = &entry.meter.totals;
    let dropped = totals.dropped_packets();
    let sample = Sample { packets: totals.received.packets, bytes: totals.received.bytes, dropped };
    match &mut entry.recorder {
        Some(recorder) => recorder.record(second, sample),
        None if sample == Sample::default() => {}
        // What came before the second that is over belongs to no second that is known.
        none => none.insert(Box::new(Recorder::new(second - 1, Sample::default()))).record(second, sample),
    }
}

/// The bit rate over the last second, looked at again and again, where one is expected.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateWatch {
    /// Looks of the last second and the one before it: when, and the bytes so far.
    looks: VecDeque<(Duration, u64)>,
    wrong: Option<Wrong>,
}

/// A rate that is not as expected, and when that was seen last.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    rate: WrongRate,
    last: Duration,
}

/// A rate that is not as expected, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrongRate {
    TooLow { is: u64, least: u64 },
    TooHigh { is: u64, most: u64 },
}

impl RateWatch {
    const SPAN: Duration = Duration::from_secs(1);
    /// Looks closer together than this are one.
    const STEP: Duration = Duration::from_millis(20);

    pub(crate) fn look(&mut self, now: Duration, bytes: u64, expected: BitRates) {
        if self.looks.back().is_some_and(|(last, _)| now.saturating_sub(*last) < Self::STEP) {
            return;
        }
        self.looks.push_back((now, bytes));
        while self.looks.get(1).is_some_and(|(next, _)| now.saturating_sub(*next) >= Self::SPAN) {
            self.looks.pop_front();
        }
        match self.rate(now, bytes).and_then(|rate| wrong(rate, expected)) {
            Some(rate) => self.wrong = Some(Wrong { rate, last: now }),
            // A rate at the edge of what is expected would be right and wrong at every other look.
            None if self.wrong.is_some_and(|wrong| now.saturating_sub(wrong.last) >= Self::SPAN) => self.wrong = None,
            None => {}
        }
    }

    /// Over the last second; `None` until it is that long that anything came.
    fn rate(&self, now: Duration, bytes: u64) -> Option<u64> {
        let (since, before) = self.looks.front()?;
        let span = now.saturating_sub(*since);
        (span >= Self::SPAN).then(|| (8.0 * bytes.saturating_sub(*before) as f64 / span.as_secs_f64()) as u64)
    }

    pub(crate) fn wrong(&self) -> Option<WrongRate> {
        self.wrong.map(|wrong| wrong.rate)
    }
}

fn wrong(is: u64, expected: BitRates) -> Option<WrongRate> {
    match (expected.least, expected.most) {
        (Some(least), _) if is < least => Some(WrongRate::TooLow { is, least }),
        (_, Some(most)) if is > most => Some(WrongRate::TooHigh { is, most }),
        _ => None,
    }
}

impl Entry {
    /// The state that follows from what is counted, where nothing else stands in the way.
    fn traffic_state(&self, now: Duration) -> RelayState {
        if self.drops_recently() { RelayState::Degraded } else { Activity::of(self, now).state() }
    }

    fn drops_recently(&self) -> bool {
        self.meter.drops_in_window() && (0..self.relay.outputs().len()).any(|i| self.meter.recent_drop(i).is_some())
    }
}
