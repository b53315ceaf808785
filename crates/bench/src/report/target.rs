//! What is asked of MCR, and whether it holds in this run.

use std::fmt;

use serde::Serialize;

use crate::families::Families;
use crate::generate::Ingress;
use crate::latency::Pace;
use crate::path::Path;
use crate::scale::Scale;
use crate::series::FanOut;
use crate::wire::Egress;

use super::hundredths;
use super::row::{LatencyRow, Row};

/// Whether a target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Holds,
    Fails,
    /// What it takes was not measured.
    Unknown,
}

/// One target.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    what: String,
    measured: Option<f64>,
    bound: Bound,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Target {
    fn new(what: impl Into<String>, measured: Option<f64>, bound: Bound) -> Target {
        let measured = measured.filter(|value| value.is_finite()).map(hundredths);
        let verdict = match measured {
            Some(value) if bound.holds(value) => Verdict::Holds,
            Some(_) => Verdict::Fails,
            None => Verdict::Unknown,
        };
        Target { what: what.into(), measured, bound, verdict }
    }
}

pub(super) const HEADER: &str = "| target | measured | asked | verdict |\n|---|---:|---:|---|";

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = self.measured.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let bound = match self.bound {
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::AtMost(most) => format!("≤ {most}"),
        };
        let verdict = match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Fails => "DOES NOT HOLD",
            Verdict::Unknown => "not measured",
        };
        write!(f, "| {} | {measured} | {bound} | {verdict} |", self.what)
    }
}

/// All of them. Unless something else is said: IPv4, crafted frames with 1,250 bytes of payload, one relay, nothing gathered, segments cut in software.
pub(super) fn all(rows: &[Row], latencies: &[LatencyRow], fan_out: &FanOut, scale: Option<&Scale>) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    use Path::{Auto, Nftables, Packet, Redirect, Socat, Sockets, Tcx, Xdp};
    let measured = Measured { rows, latencies };
    let mut targets = Vec::new();
    for (rival, least) in [(Redirect, 0.85), (Nftables, 3.5), (Sockets, 10.0), (Socat, 20.0)] {
        let what = format!("xdp 1:1: loss-free rate, × {}", rival.name());
        targets.push(Target::new(what, measured.rates(Xdp, rival, 1, false), AtLeast(least)));
    }
    for (coalesce, most) in [(false, 0.4), (true, 0.9)] {
        for outputs in [4, 16] {
            let what = format!("auto 1:{outputs}{}: CPU, of nftables", gathered(coalesce));
            targets.push(Target::new(what, measured.costs(Auto, Nftables, outputs, coalesce), AtMost(most)));
        }
    }
    for coalesce in [false, true] {
        for outputs in [1, 4, 16] {
            let what = format!("tcx 1:{outputs}{}: loss-free rate, × nftables", gathered(coalesce));
            targets.push(Target::new(what, measured.rates(Tcx, Nftables, outputs, coalesce), AtLeast(1.2)));
        }
    }
    for outputs in [1, 16] {
        let what = format!("packet 1:{outputs}: loss-free rate, × sockets");
        targets.push(Target::new(what, measured.rates(Packet, Sockets, outputs, false), AtLeast(3.0)));
    }
    let left = measured.plain(Packet, 1, false).and_then(|row| row.under_overload);
    targets.push(Target::new("packet 1:1: of its loss-free rate, left under 4 times as much", left, AtLeast(0.7)));
    for (path, most) in [(Xdp, 0.4), (Tcx, 0.6), (Packet, 1.3)] {
        let what = format!("{}: p50 added at 50 kpps, of nftables", path.name());
        let ratio = measured.latency(path).zip(measured.latency(Nftables));
        targets.push(Target::new(what, ratio.map(|(ours, theirs)| ours.added.p50 / theirs.added.p50), AtMost(most)));
    }
    let p99 = measured.latency(Packet).map(|row| row.added.p99);
    targets.push(Target::new("packet: p99 added at 50 kpps, µs", p99, AtMost(200.0)));
    for path in [Xdp, Tcx, Packet] {
        let what = format!("{}: loss-free rate with 10,000 relays, of that with one", path.name());
        targets.push(Target::new(what, measured.many_relays(path), AtLeast(0.95)));
    }
    targets.extend(service(fan_out, scale));
    targets
}

/// What is asked of the service rather than of its datapaths.
fn service(fan_out: &FanOut, scale: Option<&Scale>) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let share = fan_out.trials_without_loss as f64 / fan_out.trials as f64;
    let of = |of: fn(&Scale) -> f64| scale.map(of);
    vec![
        Target::new("packet 1:4 at 0.3 of its rate at 1:1: share of trials without loss", Some(share), AtLeast(0.5)),
        Target::new("1,000 relays from a file: ready, ms", of(|scale| scale.ready_ms), AtMost(1000.0)),
        Target::new("one relay more through the API: p99, ms", of(|scale| scale.add_p99_ms), AtMost(5.0)),
        Target::new("1,000 leased relays by 50 clients: p99, ms", of(|scale| scale.lent_p99_ms), AtMost(20.0)),
        Target::new("1,000 relays for good by 50 clients: p99, ms", of(|scale| scale.stored_p99_ms), AtMost(20.0)),
        Target::new("1,000 relays: resident memory, MB", of(|scale| scale.resident_mb), AtMost(40.0)),
    ]
}

fn gathered(coalesce: bool) -> &'static str {
    if coalesce { ", both gathered" } else { "" }
}

/// Where ratios come from.
struct Measured<'a> {
    rows: &'a [Row],
    latencies: &'a [LatencyRow],
}

impl Measured<'_> {
    fn plain(&self, path: Path, outputs: usize, coalesce: bool) -> Option<&Row> {
        self.rows.iter().find(|row| {
            (row.path, row.outputs, row.coalesce, row.relays) == (path, outputs, coalesce, 1)
                && (row.families, row.ingress, row.egress, row.payload_bytes)
                    == (Families::Ipv4, Ingress::Raw, Egress::Software, 1_250)
        })
    }

    fn rates(&self, ours: Path, theirs: Path, outputs: usize, coalesce: bool) -> Option<f64> {
        let of = |path| self.plain(path, outputs, coalesce).map(|row| row.lossfree_pps);
        Some(of(ours)? / of(theirs)?)
    }

    fn costs(&self, ours: Path, theirs: Path, outputs: usize, coalesce: bool) -> Option<f64> {
        let of = |path| self.plain(path, outputs, coalesce).map(|row| row.cpu_ns_per_packet_output);
        Some(of(ours)? / of(theirs)?)
    }

    fn many_relays(&self, path: Path) -> Option<f64> {
        let many = self.rows.iter().find(|row| row.path == path && row.relays == 10_000)?;
        Some(many.lossfree_pps / self.plain(path, 1, false)?.lossfree_pps)
    }

    fn latency(&self, path: Path) -> Option<&LatencyRow> {
        self.latencies.iter().find(|row| (row.path, row.ingress, row.pace) == (path, Ingress::Raw, Pace::ALL[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_neither_holds_nor_fails() {
        let verdict = |measured| Target::new("a ratio", measured, Bound::AtLeast(2.0)).verdict;
        assert_eq!(verdict(Some(2.0)), Verdict::Holds);
        assert_eq!(verdict(Some(1.9)), Verdict::Fails);
        assert_eq!(verdict(Some(f64::NAN)), Verdict::Unknown);
        assert_eq!(verdict(None), Verdict::Unknown);
    }
}
