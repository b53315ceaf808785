//! The table for people and the JSON for the docs.

use std::fmt;

use serde::Serialize;

use crate::generate::Ingress;
use crate::latency::Latency;
use crate::measure::{Cost, Egress, Limit, Rate, Setup, Trial};
use crate::path::Path;
use crate::scale::Scale;

/// One setup: medians over the rounds.
#[derive(Debug, Clone, Serialize)]
struct Row {
    path: Path,
    ingress: Ingress,
    coalesce: bool,
    egress: Egress,
    outputs: usize,
    payload_bytes: usize,
    relays: usize,
    /// Packets per second offered, each of which arrived at every output.
    lossfree_pps: f64,
    /// The generator could offer no more in most rounds; the path may be able to do more.
    generator_limited: bool,
    /// At half of that rate: relay processes and soft interrupts.
    cpu_ns_per_packet_output: f64,
    /// Of these, in the relay's own processes.
    process_ns_per_packet_output: f64,
    added_p50_us: Option<f64>,
    added_p99_us: Option<f64>,
    rounds: usize,
    /// (highest − lowest) / median of the loss-free rate.
    spread: f64,
}

impl Row {
    fn new(series: &Series) -> Row {
        let Series { setup, rates, costs, latencies } = series;
        let Setup { path, ingress, egress, outputs, payload_bytes, relays } = *setup;
        let added = |of: fn(&Latency) -> f64| {
            let values: Vec<f64> = latencies.iter().map(of).collect();
            (!values.is_empty()).then(|| tenths(median(&values)))
        };
        let of_costs = |of: fn(&Cost) -> f64| median(&costs.iter().map(of).collect::<Vec<_>>()).round();
        let limited = rates.iter().filter(|rate| rate.limit == Limit::Generator).count();
        Row {
            path,
            ingress,
            coalesce: false,
            egress,
            outputs,
            payload_bytes,
            relays,
            lossfree_pps: series.median_rate().unwrap_or(0.0).round(),
            generator_limited: limited * 2 > rates.len(),
            cpu_ns_per_packet_output: of_costs(|cost| cost.with_soft_interrupts),
            process_ns_per_packet_output: of_costs(|cost| cost.processes),
            added_p50_us: added(|latency| latency.p50),
            added_p99_us: added(|latency| latency.p99),
            rounds: rates.len(),
            spread: spread(&rates.iter().map(|rate| rate.packets_per_second).collect::<Vec<_>>()),
        }
    }
}

/// What was measured of one setup, round by round.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) setup: Setup,
    pub(crate) rates: Vec<Rate>,
    pub(crate) costs: Vec<Cost>,
    pub(crate) latencies: Vec<Latency>,
}

impl Series {
    pub(crate) fn new(setup: Setup) -> Series {
        Series { setup, rates: Vec::new(), costs: Vec::new(), latencies: Vec::new() }
    }

    /// The middle of the rates so far.
    pub(crate) fn median_rate(&self) -> Option<f64> {
        let rates: Vec<f64> = self.rates.iter().map(|rate| rate.packets_per_second).collect();
        (!rates.is_empty()).then(|| median(&rates))
    }
}

/// Four outputs at 0.3 of the rate that one takes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FanOut {
    outputs: usize,
    share_of_one_output: f64,
    trials: usize,
    trials_without_loss: usize,
    offered_pps: Vec<f64>,
    /// Packets that the worst output did not get, of each trial.
    lost: Vec<u64>,
}

impl FanOut {
    /// Four outputs at 0.3 of what one takes.
    pub(crate) const OUTPUTS: usize = 4;
    pub(crate) const SHARE: f64 = 0.3;

    pub(crate) fn push(&mut self, rate: f64, trial: &Trial) {
        (self.outputs, self.share_of_one_output) = (Self::OUTPUTS, Self::SHARE);
        self.trials += 1;
        self.trials_without_loss += usize::from(trial.lost() == 0);
        self.offered_pps.push(rate.round());
        self.lost.push(trial.lost());
    }
}

/// What is asked of MCR, and what came out, with 1,250 bytes to one output from the raw generator.
#[derive(Debug, Serialize)]
struct Targets {
    /// At least 3.
    lossfree_times_socat: f64,
    /// At most 0.5.
    cpu_of_socat: f64,
    /// In more than half of the trials.
    four_outputs_lossless_at_0_3: bool,
    /// 1,000 relays in under 40 MB.
    memory: bool,
    /// 1,000 relays within 1 s.
    ready: bool,
    /// One more, p99 under 5 ms.
    add: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    host: String,
    rounds: usize,
    seconds: u64,
    rows: Vec<Row>,
    fan_out: FanOut,
    scale: Scale,
    targets: Option<Targets>,
}

impl Report {
    pub(crate) fn new(rounds: usize, seconds: u64, series: &[Series], fan_out: FanOut, scale: Scale) -> Report {
        let rows = series.iter().filter(|series| !series.rates.is_empty()).map(Row::new).collect();
        let mut report = Report { host: host(), rounds, seconds, rows, fan_out, scale, targets: None };
        report.targets = report.judge();
        report
    }

    fn judge(&self) -> Option<Targets> {
        let packet = self.rows.iter().find(|row| {
            (row.path, row.ingress, row.egress) == (Path::Packet, Ingress::Raw, Egress::Software)
                && (row.outputs, row.payload_bytes, row.relays) == (1, 1_250, 1)
        })?;
        let socat = self.beside(packet, Path::Socat)?;
        Some(Targets {
            lossfree_times_socat: hundredths(packet.lossfree_pps / socat.lossfree_pps),
            cpu_of_socat: hundredths(packet.cpu_ns_per_packet_output / socat.cpu_ns_per_packet_output),
            four_outputs_lossless_at_0_3: self.fan_out.trials_without_loss * 2 > self.fan_out.trials,
            memory: self.scale.resident_mb < 40.0,
            ready: self.scale.ready_ms <= 1000.0,
            add: self.scale.add_p99_ms < 5.0,
        })
    }

    pub(crate) fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }

    /// The same setup with another path.
    fn beside(&self, row: &Row, path: Path) -> Option<&Row> {
        self.rows.iter().find(|other| {
            other.path == path
                && other.ingress == row.ingress
                && other.egress == row.egress
                && other.outputs == row.outputs
                && other.payload_bytes == row.payload_bytes
        })
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        let socat = self.beside(row, Path::Socat);
        let ratio = |of: fn(&Row) -> f64| socat.map_or_else(String::new, |socat| format!("{:.2}", of(row) / of(socat)));
        let added = match (row.added_p50_us, row.added_p99_us) {
            (Some(p50), Some(p99)) => format!("{p50:.0} / {p99:.0}"),
            _ => String::new(),
        };
        let at_least = if row.generator_limited { "≥ " } else { "" };
        writeln!(
            f,
            "| {:7} | {:6} | {:8} | 1:{} | {:7} | {:6} | {:>9} | {:>7} | {:>6.0} | {:>7.0} | {:>8} | {:>11} | {:>6.2} |",
            row.path.name(),
            row.ingress.name(),
            row.egress.name(),
            row.outputs,
            row.payload_bytes,
            row.relays,
            format!("{at_least}{:.0}", row.lossfree_pps),
            ratio(|row| row.lossfree_pps),
            row.cpu_ns_per_packet_output,
            row.process_ns_per_packet_output,
            ratio(|row| row.cpu_ns_per_packet_output),
            added,
            row.spread,
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; medians of {} rounds, {} s in all\n", self.host, self.rounds, self.seconds)?;
        writeln!(
            f,
            "| path    | from   | egress   | to  | payload | relays | loss-free | × socat | CPU ns | process | of socat | added µs    | spread |"
        )?;
        writeln!(f, "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        self.rows.iter().try_for_each(|row| self.write_row(f, row))?;
        let FanOut { outputs, share_of_one_output, trials, trials_without_loss, lost, .. } = &self.fan_out;
        writeln!(
            f,
            "\n{outputs} outputs at {share_of_one_output} of what one takes: nothing lost in {trials_without_loss} of {trials} trials (lost: {lost:?})"
        )?;
        let Scale { relays, ready_ms, add_p50_ms, add_p99_ms, added, resident_mb, rings_mb } = &self.scale;
        writeln!(f, "{relays} relays from a file are ready after {ready_ms:.0} ms")?;
        writeln!(f, "one more through the API ({added} of them): p50 {add_p50_ms:.2} ms, p99 {add_p99_ms:.2} ms")?;
        writeln!(
            f,
            "resident memory of daemon and keeper then: {resident_mb:.1} MB, and {rings_mb:.1} MB of packet rings"
        )?;
        if let Some(Targets { lossfree_times_socat, cpu_of_socat, .. }) = &self.targets {
            writeln!(
                f,
                "1:1, 1,250 bytes, beside socat: {lossfree_times_socat} times the loss-free rate, {cpu_of_socat} of the CPU time"
            )?;
        }
        Ok(())
    }
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

fn spread(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = values.iter().copied().fold(f64::MAX, f64::min);
    hundredths((highest - lowest) / median(values))
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {kernel}, {cores} cores, veth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_is_of_it() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
        assert!((spread(&[80.0, 100.0, 130.0]) - 0.5).abs() < f64::EPSILON);
    }
}
