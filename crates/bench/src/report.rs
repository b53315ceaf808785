//! The table for people and the JSON for the docs.

use std::fmt;

use serde::Serialize;

use crate::generate::Ingress;
use crate::measure::Latency;
use crate::path::Path;
use crate::scale::Scale;

/// One path in one setup: medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    path: Path,
    ingress: Ingress,
    coalesce: bool,
    outputs: usize,
    payload_bytes: usize,
    relays: usize,
    /// Packets per second offered, each of which arrived at every output.
    lossfree_pps: f64,
    /// At half of that rate.
    cpu_ns_per_packet_output: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    added_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    added_p99_us: Option<f64>,
    rounds: usize,
    /// (highest − lowest) / median of the loss-free rate.
    spread: f64,
}

impl Row {
    pub(crate) fn new(
        path: Path,
        ingress: Ingress,
        outputs: usize,
        payload_bytes: usize,
        rates: Vec<f64>,
        costs: Vec<f64>,
    ) -> Row {
        let middle = median(&rates);
        let highest = rates.iter().copied().fold(f64::MIN, f64::max);
        let lowest = rates.iter().copied().fold(f64::MAX, f64::min);
        Row {
            path,
            ingress,
            coalesce: false,
            outputs,
            payload_bytes,
            relays: 1,
            lossfree_pps: middle.round(),
            cpu_ns_per_packet_output: median(&costs).round(),
            added_p50_us: None,
            added_p99_us: None,
            rounds: rates.len(),
            spread: ((highest - lowest) / middle * 100.0).round() / 100.0,
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    host: String,
    rounds: usize,
    rows: Vec<Row>,
    fan_out: Option<FanOut>,
    scale: Option<Scale>,
}

#[derive(Debug, Serialize)]
struct FanOut {
    one_output_pps: f64,
    four_outputs_lossless_at_0_3: bool,
}

impl Report {
    pub(crate) fn new(rounds: usize) -> Report {
        Report { host: host(), rounds, rows: Vec::new(), fan_out: None, scale: None }
    }

    pub(crate) fn push(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Adds the latency to the path's row of one output and large packets.
    pub(crate) fn latency(&mut self, path: Path, rounds: &[Latency]) {
        let added = |i: usize| {
            let values: Vec<f64> = rounds.iter().map(|round| round.relayed[i] - round.wire[i]).collect();
            Some((median(&values) * 10.0).round() / 10.0)
        };
        let row = self.rows.iter_mut().find(|row| row.path == path && row.outputs == 1 && row.payload_bytes == 1_250);
        if let Some(row) = row {
            (row.added_p50_us, row.added_p99_us) = (added(0), added(1));
        }
    }

    pub(crate) fn fan_out(&mut self, (one_output_pps, lossless): (f64, bool)) {
        self.fan_out = Some(FanOut { one_output_pps: one_output_pps.round(), four_outputs_lossless_at_0_3: lossless });
    }

    pub(crate) fn scale(&mut self, scale: Scale) {
        self.scale = Some(scale);
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
                && other.outputs == row.outputs
                && other.payload_bytes == row.payload_bytes
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {} rounds, medians\n", self.host, self.rounds)?;
        writeln!(
            f,
            "| path | ingress | outputs | payload | loss-free pps | × socat | CPU ns per packet and output | of socat | added p50 / p99 µs | spread |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let socat = self.beside(row, Path::Socat);
            let ratio =
                |of: fn(&Row) -> f64| socat.map_or_else(|| "-".into(), |socat| format!("{:.2}", of(row) / of(socat)));
            let added = match (row.added_p50_us, row.added_p99_us) {
                (Some(p50), Some(p99)) => format!("{p50:.1} / {p99:.1}"),
                _ => String::new(),
            };
            writeln!(
                f,
                "| {} | {} | {} | {} | {:.0} | {} | {:.0} | {} | {added} | {:.2} |",
                row.path.name(),
                format!("{:?}", row.ingress).to_lowercase(),
                row.outputs,
                row.payload_bytes,
                row.lossfree_pps,
                ratio(|row| row.lossfree_pps),
                row.cpu_ns_per_packet_output,
                ratio(|row| row.cpu_ns_per_packet_output),
                row.spread,
            )?;
        }
        if let Some(FanOut { one_output_pps, four_outputs_lossless_at_0_3 }) = &self.fan_out {
            let verdict = if *four_outputs_lossless_at_0_3 { "lose nothing" } else { "LOSE packets" };
            writeln!(
                f,
                "\nfour outputs {verdict} at 0.3 of the {one_output_pps:.0} pps that one output takes without loss"
            )?;
        }
        if let Some(Scale { relays, ready_ms, add_p50_ms, add_p99_ms, resident_mib, rings_mib }) = &self.scale {
            writeln!(
                f,
                "{relays} relays from a file ready after {ready_ms:.0} ms; one more through the API: p50 {add_p50_ms:.2} ms, p99 {add_p99_ms:.2} ms"
            )?;
            writeln!(
                f,
                "resident memory of daemon and keeper: {resident_mib:.1} MiB, and {rings_mib:.1} MiB of packet rings"
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

fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {kernel}, {cores} cores, veth, egress segmented in software")
}
