//! One run: what is measured, in which order, and for how long.

use std::time::{Duration, Instant};

use mcr_testbed::Topology;

use crate::generate::{Clock, Ingress};
use crate::latency::latency;
use crate::measure::{Egress, Setup, Stand, Times, network};
use crate::path::Path;
use crate::report::{FanOut, Report, Series, median};
use crate::scale::{Scale, scale};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything, in under ten minutes.
    Full,
    /// The main comparison, in under two.
    Quick,
}

/// What a run is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    setups: Vec<Setup>,
    /// Where added latency is measured.
    latencies: Vec<Ingress>,
    rounds: usize,
    times: Times,
    /// No measurement begins later than that.
    limit: Duration,
}

const PATHS: [Path; 3] = [Path::Packet, Path::Sockets, Path::Socat];

impl Plan {
    /// With `only`, the other paths are left out.
    pub(crate) fn new(extent: Extent, rounds: usize, only: Option<Path>) -> Plan {
        let mut plan = Plan::of(extent, rounds);
        plan.setups.retain(|setup| only.is_none_or(|only| only == setup.path));
        plan
    }

    fn of(extent: Extent, rounds: usize) -> Plan {
        match extent {
            Extent::Full => Plan {
                setups: all_setups(),
                latencies: vec![Ingress::Raw, Ingress::Socket],
                rounds,
                times: Times {
                    search: Duration::from_millis(250),
                    confirm: Duration::from_secs(2),
                    cost: Duration::from_millis(600),
                },
                limit: Duration::from_secs(540).mul_f64((rounds as f64 / 3.0).max(1.0)),
            },
            Extent::Quick => Plan {
                setups: [1, 4].map(|outputs| PATHS.map(|path| setup(path, Ingress::Raw, outputs, 1_250))).concat(),
                latencies: vec![Ingress::Raw],
                rounds: rounds.min(2),
                times: Times {
                    search: Duration::from_millis(250),
                    confirm: Duration::from_secs(1),
                    cost: Duration::from_millis(500),
                },
                limit: Duration::from_secs(90),
            },
        }
    }
}

/// Each path from each kind of sender, then what only MCR does.
fn all_setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    for ingress in [Ingress::Raw, Ingress::Socket] {
        for (outputs, payload_bytes) in [(1, 1_250), (4, 1_250), (1, 64), (4, 64)] {
            setups.extend(PATHS.map(|path| setup(path, ingress, outputs, payload_bytes)));
        }
    }
    let packet = |outputs| setup(Path::Packet, Ingress::Raw, outputs, 1_250);
    setups.extend([1, 4].map(|outputs| Setup { egress: Egress::Offload, ..packet(outputs) }));
    setups.push(Setup { relays: 1_000, ..packet(1) });
    setups
}

fn setup(path: Path, ingress: Ingress, outputs: usize, payload_bytes: usize) -> Setup {
    Setup { path, ingress, egress: Egress::Software, outputs, payload_bytes, relays: 1 }
}

/// Carries the plan out. Everything is measured once before anything is measured again, so that whatever else the machine does
/// hits all of it.
pub(crate) fn run(plan: &Plan) -> Report {
    let start = Instant::now();
    let net = network(FanOut::OUTPUTS);
    let mut series: Vec<Series> = plan.setups.iter().copied().map(Series::new).collect();
    let mut fan_out = FanOut::default();
    let mut scales = Vec::new();
    for round in 1..=plan.rounds {
        for one in &mut series {
            if start.elapsed() > plan.limit {
                break;
            }
            measure(&net, one, plan);
            progress(round, one);
        }
        if start.elapsed() > plan.limit && round > 1 {
            eprintln!("round {round} was cut short: {} s are over", plan.limit.as_secs());
            break;
        }
        if let Some(one) = series.iter().find(|series| series.setup == setup(Path::Packet, Ingress::Raw, 1, 1_250)) {
            four_outputs(&net, one, plan.times, &mut fan_out);
        }
        scales.push(scale(&net));
    }
    Report::new(plan.rounds, start.elapsed().as_secs(), &series, fan_out, middle(&scales))
}

/// Rate and cost of one setup, and the added latency where it is asked for.
fn measure(net: &Topology, series: &mut Series, plan: &Plan) {
    let setup = series.setup;
    let stand = Stand::start(net, setup);
    let rate = stand.loss_free_rate(series.median_rate().filter(|rate| *rate > 0.0), plan.times);
    series.rates.push(rate);
    series.costs.push(stand.into_cost(rate.packets_per_second / 2.0, plan.times));
    let is_plain = Setup { ingress: setup.ingress, ..self::setup(setup.path, Ingress::Raw, 1, 1_250) } == setup;
    if is_plain && plan.latencies.contains(&setup.ingress) {
        series.latencies.extend(latency(net, setup.path, setup.ingress, Duration::from_secs(1)));
    }
}

fn progress(round: usize, series: &Series) {
    let Setup { path, ingress, egress, outputs, payload_bytes, relays } = series.setup;
    if let (Some(rate), Some(cost)) = (series.rates.last(), series.costs.last()) {
        eprintln!(
            "round {round}: {:7} {:6} {:8} 1:{outputs} {payload_bytes:5} bytes, {relays:4} relays: {:7.0} pps ({:?}), {:5.0} ns",
            path.name(),
            ingress.name(),
            egress.name(),
            rate.packets_per_second,
            rate.limit,
            cost.with_soft_interrupts
        );
    }
}

/// Whether four outputs lose nothing at 0.3 of the rate of this series, which has one.
fn four_outputs(net: &Topology, one: &Series, times: Times, fan_out: &mut FanOut) {
    let Some(rate) = one.median_rate() else { return };
    let stand = Stand::start(net, Setup { outputs: FanOut::OUTPUTS, ..one.setup });
    for _ in 0..2 {
        let trial = stand.trial(rate * FanOut::SHARE, times.confirm, Clock::Unread);
        fan_out.push(rate * FanOut::SHARE, &trial);
    }
}

/// The median of each figure.
fn middle(scales: &[Scale]) -> Scale {
    let of = |of: fn(&Scale) -> f64| (median(&scales.iter().map(of).collect::<Vec<_>>()) * 100.0).round() / 100.0;
    Scale {
        relays: scales[0].relays,
        ready_ms: of(|scale| scale.ready_ms),
        add_p50_ms: of(|scale| scale.add_p50_ms),
        add_p99_ms: of(|scale| scale.add_p99_ms),
        added: scales[0].added * scales.len(),
        resident_mb: of(|scale| scale.resident_mb),
        rings_mb: of(|scale| scale.rings_mb),
    }
}
