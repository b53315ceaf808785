//! One line of each table: medians over the rounds.

use std::fmt;

use serde::Serialize;

use crate::families::Families;
use crate::generate::Ingress;
use crate::latency::{Pace, Percentiles};
use crate::measure::{Cost, Limit, Setup};
use crate::path::Path;
use crate::series::{LatencySeries, Series};
use crate::wire::Egress;

use super::{hundredths, is_on, median, spread};

/// One setup.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) path: Path,
    pub(super) families: Families,
    pub(super) ingress: Ingress,
    pub(super) coalesce: bool,
    pub(super) egress: Egress,
    pub(super) outputs: usize,
    pub(super) payload_bytes: usize,
    pub(super) relays: usize,
    /// The datapath that served the load, of MCR.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<String>,
    /// Packets per second offered, each of which arrived at every output.
    pub(super) lossfree_pps: f64,
    /// The core that sends was full in most rounds: of an in-kernel path, with its own work.
    core_limited: bool,
    /// At half of that rate: relay processes and soft interrupts.
    pub(super) cpu_ns_per_packet_output: f64,
    /// Of these, in the relay's own processes.
    process_ns_per_packet_output: f64,
    /// Under four times its loss-free rate, the share of that rate which still arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) under_overload: Option<f64>,
    /// At 50,000 packets per second in bursts.
    #[serde(skip_serializing_if = "Option::is_none")]
    added_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    added_p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    added_p999_us: Option<f64>,
    rounds: usize,
    /// (highest − lowest) / median of the loss-free rate.
    spread: f64,
}

impl Row {
    pub(super) fn new(series: &Series, latencies: &[LatencyRow]) -> Row {
        let Series { setup, rates, costs, under_overload, served_by, failure: _ } = series;
        let Setup { path, families, ingress, coalesce, egress, outputs, payload_bytes, relays } = *setup;
        let of_costs = |of: fn(&Cost) -> f64| median(&costs.iter().map(of).collect::<Vec<_>>()).round();
        let limited = rates.iter().filter(|rate| rate.limit == Limit::Core).count();
        let is_timed = Setup::plain(path, ingress, 1, 1_250) == *setup;
        let is_of_it = |row: &&LatencyRow| (row.path, row.ingress, row.pace) == (path, ingress, Pace::ALL[1]);
        let added = latencies.iter().find(is_of_it).filter(|_| is_timed).map(|row| row.added);
        Row {
            path,
            families,
            ingress,
            coalesce: is_on(coalesce),
            egress,
            outputs,
            payload_bytes,
            relays,
            served_by: served_by.clone(),
            lossfree_pps: series.median_rate().unwrap_or(0.0).round(),
            core_limited: limited * 2 > rates.len(),
            cpu_ns_per_packet_output: of_costs(|cost| cost.with_soft_interrupts),
            process_ns_per_packet_output: of_costs(|cost| cost.processes),
            under_overload: (!under_overload.is_empty()).then(|| hundredths(median(under_overload))),
            added_p50_us: added.map(|added| added.p50),
            added_p99_us: added.map(|added| added.p99),
            added_p999_us: added.map(|added| added.p999),
            rounds: rates.len(),
            spread: spread(&rates.iter().map(|rate| rate.packets_per_second).collect::<Vec<_>>()),
        }
    }
}

pub(super) const HEADER: &str = "\
| path | of | from | gathered | cut by | to | payload | relays | loss-free pps | CPU ns per packet and output | of it in processes | left under 4 × | spread |
|---|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.served_by.as_ref().filter(|by| *by != self.path.name());
        let path = by.map_or_else(|| self.path.name().to_owned(), |by| format!("{} ({by})", self.path.name()));
        let overload = self.under_overload.map_or_else(String::new, |share| format!("{share:.2}"));
        let full = if self.core_limited { "" } else { " (loss)" };
        write!(
            f,
            "| {path} | {} | {} | {} | {} | 1:{} | {} | {} | {:.0}{full} | {:.0} | {:.0} | {overload} | {:.2} |",
            self.families.name(),
            self.ingress.name(),
            if self.coalesce { "yes" } else { "no" },
            self.egress.name(),
            self.outputs,
            self.payload_bytes,
            self.relays,
            self.lossfree_pps,
            self.cpu_ns_per_packet_output,
            self.process_ns_per_packet_output,
            self.spread,
        )
    }
}

/// The latency of one path at one pace.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LatencyRow {
    pub(super) path: Path,
    pub(super) ingress: Ingress,
    pub(super) pace: Pace,
    /// On the bare wire, microseconds.
    bare: Percentiles,
    /// More than that through the path, microseconds.
    pub(super) added: Percentiles,
    rounds: usize,
}

impl LatencyRow {
    /// A row for each pace at which anything arrived.
    pub(super) fn of(series: &LatencySeries) -> Vec<LatencyRow> {
        let rows = Pace::ALL.into_iter().zip(&series.rounds).filter(|(_, rounds)| !rounds.is_empty());
        let row = |(pace, rounds): (Pace, &Vec<(Percentiles, Percentiles)>)| {
            let bare: Vec<Percentiles> = rounds.iter().map(|(bare, _)| *bare).collect();
            let added: Vec<Percentiles> = rounds.iter().map(|(bare, through)| through.less(*bare)).collect();
            LatencyRow {
                path: series.path,
                ingress: series.ingress,
                pace,
                bare: middle(&bare),
                added: middle(&added),
                rounds: rounds.len(),
            }
        };
        rows.map(row).collect()
    }
}

fn middle(values: &[Percentiles]) -> Percentiles {
    let of = |of: fn(&Percentiles) -> f64| hundredths(median(&values.iter().map(of).collect::<Vec<_>>()));
    Percentiles { p50: of(|values| values.p50), p99: of(|values| values.p99), p999: of(|values| values.p999) }
}

pub(super) const LATENCY_HEADER: &str = "\
| path | from | pps | at a time | bare wire p50 / p99 / p99.9 µs | added p50 | added p99 | added p99.9 |
|---|---|---:|---:|---:|---:|---:|---:|";

impl fmt::Display for LatencyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, ingress, pace, bare, added, rounds: _ } = self;
        write!(
            f,
            "| {} | {} | {} | {} | {:.1} / {:.1} / {:.1} | {:.1} | {:.1} | {:.1} |",
            path.name(),
            ingress.name(),
            pace.rate,
            pace.burst,
            bare.p50,
            bare.p99,
            bare.p999,
            added.p50,
            added.p99,
            added.p999,
        )
    }
}
