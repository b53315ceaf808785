//! What was measured of one thing, round by round.

use std::fmt;

use mcr_testbed::Switch;
use serde::Serialize;

use crate::generate::Ingress;
use crate::latency::{Pace, Percentiles};
use crate::measure::{Cost, Limit, Rate, Setup};
use crate::path::Path;
use crate::report::median;

/// One setup.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) setup: Setup,
    pub(crate) rates: Vec<Rate>,
    pub(crate) costs: Vec<Cost>,
    /// Shares of the loss-free rate that arrived when four times as much was offered.
    pub(crate) under_overload: Vec<f64>,
    /// The datapath that served the load, of MCR.
    pub(crate) served_by: Option<String>,
    /// Why it can't be measured here.
    pub(crate) failure: Option<String>,
}

impl Series {
    pub(crate) fn new(setup: Setup) -> Series {
        Series {
            setup,
            rates: Vec::new(),
            costs: Vec::new(),
            under_overload: Vec::new(),
            served_by: None,
            failure: None,
        }
    }

    /// The middle of the rates so far.
    pub(crate) fn median_rate(&self) -> Option<f64> {
        let rates: Vec<f64> = self.rates.iter().map(|rate| rate.packets_per_second).collect();
        (!rates.is_empty()).then(|| median(&rates))
    }
}

/// The middle share of its core that the generator had, where that was the limit: how quiet the machine was.
pub(crate) fn share_of_core(series: &[Series]) -> Option<f64> {
    let shares: Vec<f64> =
        series.iter().flat_map(|series| &series.rates).filter_map(|rate| rate.share_of_core).collect();
    (!shares.is_empty()).then(|| median(&shares))
}

/// What came of the last round.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { path, families, ingress, coalesce, egress, outputs, payload_bytes, relays } = self.setup;
        let coalesce = if coalesce == Switch::On { " coalesced" } else { "" };
        write!(
            f,
            "{:8} {:12} {:6} 1:{outputs:<2} {payload_bytes:4} bytes, {relays:5} relays, {}{coalesce}: ",
            path.name(),
            families.name(),
            ingress.name(),
            egress.name(),
        )?;
        if let Some(why) = &self.failure {
            return write!(f, "not measured: {why}");
        }
        if let (Some(rate), Some(cost)) = (self.rates.last(), self.costs.last()) {
            let at_least = if rate.limit == Limit::Core { " (the core is full)" } else { "" };
            write!(f, "{:.0} pps{at_least}, {:.0} ns", rate.packets_per_second, cost.with_soft_interrupts)?;
        }
        match self.under_overload.last() {
            Some(share) => write!(f, ", {share:.2} under overload"),
            None => Ok(()),
        }
    }
}

/// The latencies of one path.
#[derive(Debug)]
pub(crate) struct LatencySeries {
    pub(crate) path: Path,
    pub(crate) ingress: Ingress,
    /// Of each pace: on the bare wire, and through the path.
    pub(crate) rounds: [Vec<(Percentiles, Percentiles)>; 2],
}

impl LatencySeries {
    pub(crate) fn new(path: Path, ingress: Ingress) -> LatencySeries {
        LatencySeries { path, ingress, rounds: Pace::ALL.map(|_| Vec::new()) }
    }

    pub(crate) fn push(&mut self, bare: [Option<Percentiles>; 2], through: [Option<Percentiles>; 2]) {
        for ((rounds, bare), through) in self.rounds.iter_mut().zip(bare).zip(through) {
            rounds.extend(bare.zip(through));
        }
    }
}

/// Four outputs at 0.3 of the rate that one takes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FanOut {
    outputs: usize,
    share_of_one_output: f64,
    pub(crate) trials: usize,
    pub(crate) trials_without_loss: usize,
    offered_pps: Vec<f64>,
    /// Packets that the worst output did not get, of each trial.
    pub(crate) lost: Vec<u64>,
}

impl FanOut {
    pub(crate) const OUTPUTS: usize = 4;
    pub(crate) const SHARE: f64 = 0.3;

    pub(crate) fn push(&mut self, rate: f64, lost: u64) {
        (self.outputs, self.share_of_one_output) = (Self::OUTPUTS, Self::SHARE);
        self.trials += 1;
        self.trials_without_loss += usize::from(lost == 0);
        self.offered_pps.push(rate.round());
        self.lost.push(lost);
    }
}
