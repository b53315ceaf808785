//! The measurements of one path: the loss-free rate, the CPU time per packet, the latency that it adds.

use std::time::Duration;

use mcr_testbed::{Offload, Switch, Topology};

use crate::count::{Counter, Stamps};
use crate::generate::{Ingress, Load, generate, generate_stamped};
use crate::path::{GROUP, OUTPUT_PORT, Path, ROUTABLE, Running};

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) path: Path,
    pub(crate) ingress: Ingress,
    pub(crate) outputs: usize,
    pub(crate) payload_bytes: usize,
}

/// What one trial came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    sent: u64,
    /// The fewest that any output got.
    least: u64,
    /// Packets per second that were really offered.
    offered: f64,
    cpu_nanoseconds: u64,
}

impl Trial {
    fn is_loss_free(&self) -> bool {
        self.least == self.sent
    }
}

/// The network of a bench: the device has a routable address too, the relay's host checks no reverse path, and egress
/// is segmented in software, as for a NIC without UDP segmentation.
pub(crate) fn network(outputs: usize) -> Topology {
    let net = Topology::device_relay_lan(outputs);
    net.device().ip(&format!("address add {ROUTABLE}/24 dev eth0"));
    for path in ["all", "default", "dev0"] {
        net.relay().sysctl(&format!("net/ipv4/conf/{path}/rp_filter"), "0");
    }
    for lan in net.lans() {
        lan.relay_side().offload(Offload::SegmentUdp, Switch::Off);
    }
    net
}

/// A started path with a counter at each output.
pub(crate) struct Stand<'a> {
    net: &'a Topology,
    setup: Setup,
    running: Running,
    counters: Vec<Counter>,
    trial_time: Duration,
}

impl<'a> Stand<'a> {
    pub(crate) fn start(net: &'a Topology, setup: Setup, trial_time: Duration) -> Stand<'a> {
        let running = setup.path.start(net, setup.outputs);
        let counters = (1..=setup.outputs).map(|i| Counter::new(net.lan(i).host_side(), OUTPUT_PORT)).collect();
        Stand { net, setup, running, counters, trial_time }
    }

    /// Offers `rate` packets per second for the trial's time.
    pub(crate) fn trial(&self, rate: u64) -> Trial {
        self.drain();
        let Setup { path, ingress, payload_bytes, .. } = self.setup;
        let load = Load { ingress, source: path.source(), to: GROUP, payload_bytes, rate, time: self.trial_time };
        let before = self.running.cpu_nanoseconds();
        let start = std::time::Instant::now();
        let sent = generate(self.net, load);
        let offered = sent as f64 / start.elapsed().as_secs_f64();
        let least = self.drained_counts().into_iter().min().unwrap_or(0);
        Trial { sent, least, offered, cpu_nanoseconds: self.running.cpu_nanoseconds() - before }
    }

    /// The highest rate without loss: doubled until there is loss, then halved in between (RFC 2544 section 26.1).
    /// Noise loses packets too, so a rate fails when it fails twice.
    pub(crate) fn loss_free_rate(&self, steps: u32) -> f64 {
        let passes = |rate| {
            let first = self.trial(rate);
            let trial = if first.is_loss_free() { first } else { self.trial(rate) };
            // A generator that can't offer the rate has found its own limit.
            (trial.is_loss_free(), trial.offered)
        };
        let (mut good, mut bad) = (0.0, None);
        let mut rate = 5_000;
        while bad.is_none() && rate <= 2_560_000 {
            match passes(rate) {
                (true, offered) if offered < rate as f64 * 0.9 => return offered,
                (true, offered) => {
                    good = offered;
                    rate *= 2;
                }
                (false, _) => bad = Some(rate as f64),
            }
        }
        let mut bad = bad.unwrap_or(good);
        for _ in 0..steps {
            let middle = f64::midpoint(good, bad);
            match passes(middle as u64) {
                (true, offered) if offered < middle * 0.9 => return offered.max(good),
                (true, _) => good = middle,
                (false, _) => bad = middle,
            }
        }
        good
    }

    /// Whether nothing is lost at `rate`.
    pub(crate) fn is_loss_free_at(&self, rate: u64) -> bool {
        self.trial(rate).is_loss_free()
    }

    /// CPU nanoseconds per packet and output at `rate`.
    pub(crate) fn cpu_per_packet(&self, rate: u64) -> f64 {
        let trial = self.trial(rate.max(1_000));
        trial.cpu_nanoseconds as f64 / (trial.sent.max(1) * self.setup.outputs as u64) as f64
    }

    fn drain(&self) {
        self.drained_counts();
    }

    /// Waits until nothing comes any more; what came at each output.
    fn drained_counts(&self) -> Vec<u64> {
        let mut totals: Vec<u64> = self.counters.iter().map(Counter::take).collect();
        let mut quiet = 0;
        while quiet < 3 {
            std::thread::sleep(Duration::from_millis(20));
            let more: Vec<u64> = self.counters.iter().map(Counter::take).collect();
            quiet = if more.iter().all(|count| *count == 0) { quiet + 1 } else { 0 };
            totals.iter_mut().zip(more).for_each(|(total, more)| *total += more);
        }
        totals
    }
}

/// Latency percentiles in microseconds: at the relay's own interface, and behind the relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) wire: [f64; 2],
    pub(crate) relayed: [f64; 2],
}

/// One-way times at `rate`, at p50 and p99. Both ends share one clock.
pub(crate) fn latency(net: &Topology, path: Path, rate: u64, count: u64) -> Latency {
    let _running = path.start(net, 1);
    let wire = Stamps::new(net.relay_input(), GROUP.port());
    let behind = Stamps::new(net.lan(1).host_side(), OUTPUT_PORT);
    generate_stamped(net, GROUP, 1_250, rate, count);
    std::thread::sleep(Duration::from_millis(100));
    let percentiles = |times: Vec<u64>| {
        let at = |share: f64| {
            let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(index).map_or(f64::NAN, |time| *time as f64 / 1000.0)
        };
        [at(0.5), at(0.99)]
    };
    Latency { wire: percentiles(wire.take()), relayed: percentiles(behind.take()) }
}
