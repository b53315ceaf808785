//! The tables for people, and the JSON and the charts for the docs.

mod chart;
mod row;
mod target;

use std::fmt;
use std::path::Path as FilePath;
use std::time::Duration;

use mcr_testbed::Switch;
use serde::Serialize;

use crate::scale::Scale;
use crate::series::{self, FanOut, LatencySeries, Series};

use row::{LatencyRow, Row};
use target::{Target, Verdict};

/// The share of its core that a generator has on a quiet machine.
const QUIET: f64 = 0.9;

/// What could not be measured here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Missing {
    path: &'static str,
    why: String,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    host: String,
    rounds: usize,
    seconds: u64,
    /// The share of its core that the generator had: near 1 on a machine that is quiet.
    share_of_core: Option<f64>,
    rows: Vec<Row>,
    latencies: Vec<LatencyRow>,
    fan_out: FanOut,
    scale: Option<Scale>,
    missing: Vec<Missing>,
    targets: Vec<Target>,
}

impl Report {
    pub(crate) fn new(
        rounds: usize,
        time: Duration,
        series: &[Series],
        latencies: &[LatencySeries],
        fan_out: FanOut,
        scale: Option<Scale>,
    ) -> Report {
        let latencies: Vec<LatencyRow> = latencies.iter().flat_map(LatencyRow::of).collect();
        let measured = series.iter().filter(|series| !series.rates.is_empty());
        let rows: Vec<Row> = measured.map(|series| Row::new(series, &latencies)).collect();
        let mut missing: Vec<Missing> = Vec::new();
        for series in series {
            let path = series.setup.path.name();
            missing.extend(series.failure.clone().map(|why| Missing { path, why }));
        }
        missing.dedup();
        let targets = target::all(&rows, &latencies, &fan_out, scale.as_ref());
        let share_of_core = series::share_of_core(series).map(hundredths);
        let (host, seconds) = (host(), time.as_secs());
        Report { host, rounds, seconds, share_of_core, rows, latencies, fan_out, scale, missing, targets }
    }

    /// Writes what the docs show: `latest.json`, `latest.md` and the charts.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write_docs(&self, folder: &FilePath) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("latest.json"), self.json())?;
        std::fs::write(folder.join("latest.md"), format!("# The last run\n\n{self}"))?;
        std::fs::write(folder.join("loss-free.svg"), chart::loss_free(&self.rows))?;
        std::fs::write(folder.join("cpu.svg"), chart::cpu(&self.rows))
    }

    pub(crate) fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }

    fn write_scale(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FanOut { trials, trials_without_loss, lost, .. } = &self.fan_out;
        writeln!(
            f,
            "- {} outputs at {} of what one takes: nothing lost in {trials_without_loss} of {trials} trials (lost: {lost:?})",
            FanOut::OUTPUTS,
            FanOut::SHARE
        )?;
        let Some(scale) = &self.scale else { return Ok(()) };
        let Scale { relays, ready_ms, add_p50_ms, add_p99_ms, added, disk_p99_ms, .. } = scale;
        let Scale { lent_p99_ms, stored_p99_ms, resident_mb, rings_mb, .. } = scale;
        writeln!(f, "- {relays} relays from a file are ready after {ready_ms:.0} ms")?;
        writeln!(
            f,
            "- one more through the API ({added} of them): p50 {add_p50_ms:.2} ms, p99 {add_p99_ms:.2} ms; it waits for one \
             write to the disk, whose p99 alone is {disk_p99_ms:.2} ms"
        )?;
        writeln!(
            f,
            "- a thousand by fifty clients at once: p99 {lent_p99_ms:.1} ms with a lease, {stored_p99_ms:.1} ms for good"
        )?;
        writeln!(
            f,
            "- resident memory of daemon and keeper then: {resident_mb:.1} MB, and {rings_mb:.1} MB of packet rings"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; medians of {} round(s), {} s in all", self.host, self.rounds, self.seconds)?;
        if let Some(share) = self.share_of_core {
            let judgement = if share < QUIET { ": other programs ran, so do not trust these figures" } else { "" };
            writeln!(f, "The generator had its core for {:.0} % of the time{judgement}.", share * 100.0)?;
        }
        writeln!(f, "\n## Rate and cost\n\n{}", row::HEADER)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f, "\n## Latency\n\n{}", row::LATENCY_HEADER)?;
        self.latencies.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f, "\n## Scale\n")?;
        self.write_scale(f)?;
        if !self.missing.is_empty() {
            writeln!(f, "\n## Not measured\n")?;
            self.missing.iter().try_for_each(|missing| writeln!(f, "- {}: {}", missing.path, missing.why))?;
        }
        writeln!(f, "\n## Targets\n\n{}", target::HEADER)?;
        self.targets.iter().try_for_each(|target| writeln!(f, "{target}"))?;
        let of = |verdict| self.targets.iter().filter(|target| target.verdict == verdict).count();
        let (holds, fails, unknown) = (of(Verdict::Holds), of(Verdict::Fails), of(Verdict::Unknown));
        writeln!(f, "\n{holds} hold, {fails} do not, {unknown} could not be measured")
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

/// (highest − lowest) / median; none where nothing was carried.
fn spread(values: &[f64]) -> f64 {
    if values.iter().all(|value| *value == 0.0) {
        return 0.0;
    }
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = values.iter().copied().fold(f64::MAX, f64::min);
    hundredths((highest - lowest) / median(values))
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn is_on(switch: Switch) -> bool {
    switch == Switch::On
}

fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    // SAFETY: a plain call. Not `available_parallelism`: this thread keeps off the generator's core.
    let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
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
