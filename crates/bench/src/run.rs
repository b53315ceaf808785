//! One run: what is measured, in which order, and for how long.

use std::time::{Duration, Instant};

use mcr_testbed::Switch;

use crate::families::Families;
use crate::generate::Ingress;
use crate::latency;
use crate::measure::{Setup, Stand, Times};
use crate::path::Path;
use crate::report::{Report, median};
use crate::scale::{self, Scale};
use crate::series::{FanOut, LatencySeries, Series};
use crate::wire::{Egress, Wire};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything, in about half an hour.
    Full,
    /// The main comparison, in about three minutes.
    Quick,
}

/// What a run is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    setups: Vec<Setup>,
    /// Where added latency is measured.
    latencies: Vec<(Path, Ingress)>,
    rounds: usize,
    times: Times,
    /// No measurement begins later than that, once there is one of each.
    limit: Duration,
}

/// How many LANs are relayed to.
const OUTPUTS: [usize; 3] = [1, 4, 16];
/// What gets super-frames when the input gathers: `xdp` comes before that, and sockets take them apart again.
const COALESCING: [Path; 4] = [Path::Tcx, Path::Packet, Path::Auto, Path::Nftables];
/// What can be told of many relays.
const MANY_RELAYS: [Path; 4] = [Path::Xdp, Path::Tcx, Path::Packet, Path::Nftables];

impl Plan {
    /// With `only`, the other paths are left out.
    pub(crate) fn new(extent: Extent, rounds: usize, only: &[Path]) -> Plan {
        let mut plan = match extent {
            Extent::Full => Plan::full(rounds),
            Extent::Quick => Plan::quick(),
        };
        let is_wanted = |path: Path| only.is_empty() || only.contains(&path);
        plan.setups.retain(|setup| is_wanted(setup.path));
        plan.latencies.retain(|(path, _)| is_wanted(*path));
        plan
    }

    fn full(rounds: usize) -> Plan {
        let ingresses = [Ingress::Raw, Ingress::Socket];
        Plan {
            setups: all_setups(),
            latencies: ingresses.map(|ingress| Path::ALL.map(|path| (path, ingress))).concat(),
            rounds,
            times: Times {
                search: Duration::from_millis(200),
                confirm: Duration::from_secs(1),
                cost: Duration::from_millis(400),
            },
            limit: Duration::from_secs(2_400).mul_f64((rounds as f64 / 3.0).max(1.0)),
        }
    }

    fn quick() -> Plan {
        let of = |outputs| Path::ALL.map(|path| Setup::plain(path, Ingress::Raw, outputs, 1_250));
        let mut setups = OUTPUTS.map(of).concat();
        setups.extend(of_other_families(&OUTPUTS[..1]));
        Plan {
            setups,
            latencies: Path::ALL.map(|path| (path, Ingress::Raw)).into(),
            rounds: 1,
            times: Times {
                search: Duration::from_millis(150),
                confirm: Duration::from_millis(500),
                cost: Duration::from_millis(300),
            },
            limit: Duration::from_secs(150),
        }
    }
}

/// What is compared stands together, so that it is measured close together.
fn all_setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    let sizes = [(Ingress::Raw, 1_250, &OUTPUTS[..]), (Ingress::Raw, 64, &OUTPUTS), (Ingress::Socket, 1_250, &OUTPUTS)];
    for (ingress, payload_bytes, outputs) in sizes.into_iter().chain([(Ingress::Socket, 64, &OUTPUTS[..1])]) {
        for &outputs in outputs {
            setups.extend(Path::ALL.map(|path| Setup::plain(path, ingress, outputs, payload_bytes)));
        }
    }
    for path in MANY_RELAYS {
        let one = Setup::plain(path, Ingress::Raw, 1, 1_250);
        let at = setups.iter().position(|setup| *setup == one).map_or(setups.len(), |at| at + 1);
        setups.splice(at..at, [100, 10_000].map(|relays| Setup { relays, ..one }));
    }
    setups.extend(of_other_families(&OUTPUTS[..2]));
    for egress in [Egress::Software, Egress::Offload] {
        for outputs in OUTPUTS {
            setups.extend(COALESCING.map(|path| Setup {
                coalesce: Switch::On,
                egress,
                ..Setup::plain(path, Ingress::Raw, outputs, 1_250)
            }));
        }
    }
    setups
}

/// IPv6, and from IPv4 to IPv6, by those that can.
fn of_other_families(outputs: &[usize]) -> Vec<Setup> {
    let mut setups = Vec::new();
    for families in [Families::Ipv6, Families::Ipv4ToIpv6] {
        for &outputs in outputs {
            let paths = Path::ALL.into_iter().filter(|path| families.can_go_by(*path));
            setups.extend(paths.map(|path| Setup { families, ..Setup::plain(path, Ingress::Raw, outputs, 1_250) }));
        }
    }
    setups
}

/// Carries the plan out. Everything is measured once before anything is measured again, so that whatever else the machine does
/// hits all of it.
pub(crate) fn run(plan: &Plan) -> Report {
    let start = Instant::now();
    let mut wire = Wire::new(OUTPUTS[2]);
    let mut series: Vec<Series> = plan.setups.iter().copied().map(Series::new).collect();
    let mut latencies: Vec<LatencySeries> =
        plan.latencies.iter().map(|(path, ingress)| LatencySeries::new(*path, *ingress)).collect();
    let mut fan_out = FanOut::default();
    let mut scales = Vec::new();
    for round in 1..=plan.rounds {
        let is_over = || round > 1 && start.elapsed() > plan.limit;
        for one in &mut series {
            if !is_over() && one.failure.is_none() {
                measure(&mut wire, one, plan.times);
                eprintln!("round {round}, {:4} s: {one}", start.elapsed().as_secs());
            }
        }
        if !is_over() {
            latency_round(&mut wire, &mut latencies);
            four_outputs(&mut wire, &series, plan.times, &mut fan_out);
            scales.extend(scale::scale(wire.net()));
        }
    }
    Report::new(plan.rounds, start.elapsed(), &series, &latencies, fan_out, middle(&scales))
}

/// Rate and cost of one setup, and what overload leaves of it.
fn measure(wire: &mut Wire, series: &mut Series, times: Times) {
    let setup = series.setup;
    let mut stand = match Stand::start(wire, setup) {
        Ok(stand) => stand,
        Err(why) => {
            series.failure = Some(why);
            return;
        }
    };
    series.served_by = stand.served_by().map(str::to_owned);
    let rate = stand.loss_free_rate(series.median_rate().filter(|rate| *rate > 0.0), times);
    let is_plain = Setup::plain(setup.path, Ingress::Raw, setup.outputs, 1_250) == setup;
    if is_plain && !setup.path.is_in_kernel() && rate.packets_per_second > 0.0 {
        series.under_overload.push(stand.left_under_overload(rate.packets_per_second, times));
    }
    series.rates.push(rate);
    series.costs.push(stand.into_cost(rate.packets_per_second / 2.0, times));
}

/// The latency of the bare wire, then of each path.
fn latency_round(wire: &mut Wire, latencies: &mut [LatencySeries]) {
    let time = Duration::from_millis(700);
    for ingress in [Ingress::Raw, Ingress::Socket] {
        let mut of_ingress = latencies.iter_mut().filter(|series| series.ingress == ingress).peekable();
        if of_ingress.peek().is_none() {
            continue;
        }
        let bare = latency::of_the_bare_wire(wire, ingress, time);
        for series in of_ingress {
            match latency::of_a_path(wire, series.path, ingress, time) {
                Ok(percentiles) => series.push(bare, percentiles),
                Err(why) => eprintln!("latency of {}: {why}", series.path.name()),
            }
        }
    }
}

/// Whether four outputs of MCR's `packet` lose nothing at 0.3 of the rate that it has with one.
fn four_outputs(wire: &mut Wire, series: &[Series], times: Times, fan_out: &mut FanOut) {
    let one = Setup::plain(Path::Packet, Ingress::Raw, 1, 1_250);
    let Some(rate) = series.iter().find(|series| series.setup == one).and_then(Series::median_rate) else { return };
    let Ok(mut stand) = Stand::start(wire, Setup { outputs: FanOut::OUTPUTS, ..one }) else { return };
    for _ in 0..2 {
        let trial = stand.trial(rate * FanOut::SHARE, times.confirm);
        fan_out.push(rate * FanOut::SHARE, trial.lost());
    }
}

/// The median of each figure.
fn middle(scales: &[Scale]) -> Option<Scale> {
    let first = scales.first()?;
    let of = |of: fn(&Scale) -> f64| (median(&scales.iter().map(of).collect::<Vec<_>>()) * 100.0).round() / 100.0;
    Some(Scale {
        relays: first.relays,
        ready_ms: of(|scale| scale.ready_ms),
        add_p50_ms: of(|scale| scale.add_p50_ms),
        add_p99_ms: of(|scale| scale.add_p99_ms),
        added: first.added * scales.len(),
        disk_p99_ms: of(|scale| scale.disk_p99_ms),
        lent_p99_ms: of(|scale| scale.lent_p99_ms),
        stored_p99_ms: of(|scale| scale.stored_p99_ms),
        resident_mb: of(|scale| scale.resident_mb),
        rings_mb: of(|scale| scale.rings_mb),
    })
}
