//! The measurements of one path: the loss-free rate and the CPU time per packet.

use std::time::{Duration, Instant};

use mcr_testbed::{Offload, Switch, Topology};

use crate::count::Counter;
use crate::cpu::SoftInterrupts;
use crate::generate::{Clock, Ingress, Load, Offered, generate};
use crate::path::{GROUP, OUTPUT_PORT, Path, ROUTABLE, Running};

/// Who cuts the super-frames that a relay may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Egress {
    /// The kernel, before the interface: as for a NIC without UDP segmentation.
    Software,
    /// The interface: as for a NIC with `tx-udp-segmentation`. A veth does not cut at all, it hands over the whole.
    Offload,
}

impl Egress {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Offload => "offload",
        }
    }
}

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) path: Path,
    pub(crate) ingress: Ingress,
    pub(crate) egress: Egress,
    pub(crate) outputs: usize,
    pub(crate) payload_bytes: usize,
    /// Relays that are configured; one of them gets the load.
    pub(crate) relays: usize,
}

/// How long trials take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// A trial of the search.
    pub(crate) search: Duration,
    /// The trial that has to confirm the rate that was found.
    pub(crate) confirm: Duration,
    /// A trial for CPU time.
    pub(crate) cost: Duration,
}

/// The loss-free rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Packets per second that were really offered, and arrived at every output.
    pub(crate) packets_per_second: f64,
    /// Who could not do more.
    pub(crate) limit: Limit,
}

/// Who could not do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The path.
    Path,
    /// The generator, with the soft interrupts of the relay's input that run within it.
    Generator,
}

/// CPU time for each packet and output, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// The relay's processes, with the soft interrupts that run within them: sending, and the receiving interface's work.
    pub(crate) processes: f64,
    /// The same, the soft interrupt threads, and what the generator's sends cost more than when nobody relays: the soft
    /// interrupts of the relay's input.
    pub(crate) with_soft_interrupts: f64,
}

/// What one trial came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    rate: f64,
    offered: Offered,
    /// The fewest that any output got.
    least: u64,
    /// The most that any output got.
    most: u64,
    /// What the slowest output had still to get when the last packet was sent.
    behind: u64,
    relay_nanoseconds: u64,
    soft_nanoseconds: u64,
}

impl Trial {
    /// Packets that the worst output did not get.
    pub(crate) fn lost(&self) -> u64 {
        self.offered.packets.saturating_sub(self.least)
    }

    fn offered_rate(&self) -> f64 {
        self.offered.packets as f64 / self.offered.time.as_secs_f64()
    }

    /// Nothing lost, nothing doubled, and no more than 50 ms behind: a large buffer must not hide that a path is too slow.
    fn passes(&self) -> bool {
        let all = self.least == self.offered.packets && self.most == self.offered.packets;
        all && (self.behind as f64) < self.rate * 0.05
    }

    /// A loss so small that something else on the machine may have caused it.
    fn is_nearly_free_of_loss(&self) -> bool {
        self.lost() * 200 < self.offered.packets
    }

    fn is_limited_by_generator(&self) -> bool {
        self.offered_rate() < self.rate * 0.95
    }
}

/// The network of a bench: the device has a routable address too, for the rivals.
pub(crate) fn network(outputs: usize) -> Topology {
    let net = Topology::device_relay_lan(outputs);
    net.device().ip(&format!("address add {ROUTABLE}/24 dev eth0"));
    net
}

/// A started path with a counter at each output.
pub(crate) struct Stand<'a> {
    net: &'a Topology,
    setup: Setup,
    running: Running,
    counters: Vec<Counter>,
    soft_interrupts: SoftInterrupts,
}

impl<'a> Stand<'a> {
    /// Returns when a packet of the device has come out of every output.
    pub(crate) fn start(net: &'a Topology, setup: Setup) -> Stand<'a> {
        let segmentation = match setup.egress {
            Egress::Software => Switch::Off,
            Egress::Offload => Switch::On,
        };
        for lan in &net.lans()[..setup.outputs] {
            lan.relay_side().offload(Offload::SegmentUdp, segmentation);
        }
        let counters = (1..=setup.outputs).map(|i| Counter::new(net.lan(i).host_side(), OUTPUT_PORT)).collect();
        let running = setup.path.start(net, setup.outputs, setup.relays);
        let stand = Stand { net, setup, running, counters, soft_interrupts: SoftInterrupts::find() };
        let deadline = Instant::now() + Duration::from_secs(10);
        while stand.totals().contains(&0) {
            assert!(Instant::now() < deadline, "{} relays nothing after 10 s: {setup:?}", setup.path.name());
            stand.generate(1_000, Duration::from_millis(10), Clock::Unread);
            std::thread::sleep(Duration::from_millis(5));
        }
        stand.wait_for(&vec![0; setup.outputs], u64::MAX);
        stand
    }

    /// Offers `rate` packets per second.
    pub(crate) fn trial(&self, rate: f64, time: Duration, clock: Clock) -> Trial {
        let before = self.totals();
        let cpu_before = (self.running.cpu_nanoseconds(), self.soft_interrupts.nanoseconds());
        let offered = self.generate(rate as u64, time, clock);
        let at_end = self.totals();
        let after = self.wait_for(&before, offered.packets);
        let got = |totals: &[u64]| before.iter().zip(totals).map(|(before, now)| now - before).collect::<Vec<_>>();
        let (at_end, after) = (got(&at_end), got(&after));
        Trial {
            rate,
            offered,
            least: after.iter().copied().min().unwrap_or(0),
            most: after.iter().copied().max().unwrap_or(0),
            behind: offered.packets.saturating_sub(at_end.into_iter().min().unwrap_or(0)),
            relay_nanoseconds: self.running.cpu_nanoseconds() - cpu_before.0,
            soft_nanoseconds: self.soft_interrupts.nanoseconds() - cpu_before.1,
        }
    }

    /// The highest rate without loss (RFC 2544 section 26.1), searched with short trials from `guess` on, to 5 %, and
    /// confirmed by a longer one.
    pub(crate) fn loss_free_rate(&self, guess: Option<f64>, times: Times) -> Rate {
        let (mut good, mut bad) = self.bracket(guess, times);
        for _ in 0..4 {
            if good.packets_per_second * 1.05 >= bad {
                break;
            }
            let middle = f64::midpoint(good.packets_per_second, bad);
            match self.passing(middle, times.search) {
                Some(rate) => good = rate,
                None => bad = middle,
            }
        }
        for less in [0.95, 0.93, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5] {
            if let Some(rate) = self.passing(good.packets_per_second, times.confirm) {
                // It was the generator's limit when the search ended there, not when it can do what was found.
                return Rate { limit: good.limit, ..rate };
            }
            good = Rate { packets_per_second: good.packets_per_second * less, limit: Limit::Path };
        }
        Rate { packets_per_second: 0.0, limit: Limit::Path }
    }

    /// The highest rate known to pass (0 when none is), and the lowest known not to.
    fn bracket(&self, guess: Option<f64>, times: Times) -> (Rate, f64) {
        let (start, factor) = guess.map_or((20_000.0, 2.0), |guess| (guess, 1.25));
        let mut good = Rate { packets_per_second: 0.0, limit: Limit::Path };
        let (mut bad, mut rate): (Option<f64>, f64) = (None, start);
        for _ in 0..16 {
            match (self.passing(rate, times.search), bad) {
                (Some(passed), None) if passed.limit == Limit::Path => {
                    good = passed;
                    rate *= factor;
                }
                (Some(passed), Some(bad)) => return (passed, bad),
                (Some(passed), None) => return (passed, passed.packets_per_second),
                (None, _) if good.packets_per_second > 0.0 => return (good, rate),
                (None, _) => {
                    bad = Some(rate);
                    rate /= factor;
                }
            }
        }
        (good, rate)
    }

    /// What was offered, if a trial at this rate passes. Whatever else the machine does loses packets and holds up the
    /// generator too: after a small loss, or a rate that was not offered, there is a second trial, and the better one counts.
    fn passing(&self, rate: f64, time: Duration) -> Option<Rate> {
        let mut trial = self.trial(rate, time, Clock::Unread);
        let is_doubtful = if trial.passes() { trial.is_limited_by_generator() } else { trial.is_nearly_free_of_loss() };
        if is_doubtful {
            let second = self.trial(rate, time, Clock::Unread);
            if !trial.passes() || second.passes() && second.offered_rate() > trial.offered_rate() {
                trial = second;
            }
        }
        let limit = if trial.is_limited_by_generator() { Limit::Generator } else { Limit::Path };
        trial.passes().then(|| Rate { packets_per_second: trial.offered_rate(), limit })
    }

    /// CPU time at `rate`. Ends the path, to see what the load costs without it.
    pub(crate) fn into_cost(self, rate: f64, times: Times) -> Cost {
        let trial = self.trial(rate.max(1_000.0), times.cost, Clock::EachBurst);
        let Stand { net, setup, running, .. } = self;
        drop(running);
        let bare = generate(net, load(setup, rate.max(1_000.0) as u64, times.cost / 2, Clock::EachBurst));
        let per_send = |offered: Offered| offered.send_nanoseconds as f64 / offered.packets.max(1) as f64;
        let packets = trial.offered.packets.max(1) as f64;
        let of_input = (per_send(trial.offered) - per_send(bare)).max(0.0);
        let processes = trial.relay_nanoseconds as f64 / packets;
        let outputs = setup.outputs as f64;
        Cost {
            processes: processes / outputs,
            with_soft_interrupts: (processes + trial.soft_nanoseconds as f64 / packets + of_input) / outputs,
        }
    }

    fn generate(&self, rate: u64, time: Duration, clock: Clock) -> Offered {
        generate(self.net, load(self.setup, rate, time, clock))
    }

    fn totals(&self) -> Vec<u64> {
        self.counters.iter().map(Counter::total).collect()
    }

    /// Waits until every output got `packets` more than `before`, or nothing comes any more; the totals.
    fn wait_for(&self, before: &[u64], packets: u64) -> Vec<u64> {
        let mut totals = self.totals();
        let mut last_change = Instant::now();
        let is_complete = |totals: &[u64]| totals.iter().zip(before).all(|(total, before)| total - before >= packets);
        while !is_complete(&totals) && last_change.elapsed() < Duration::from_millis(60) {
            std::thread::sleep(Duration::from_millis(2));
            let now = self.totals();
            if now != totals {
                (totals, last_change) = (now, Instant::now());
            }
        }
        totals
    }
}

fn load(setup: Setup, rate: u64, time: Duration, clock: Clock) -> Load {
    let Setup { path, ingress, payload_bytes, .. } = setup;
    Load { ingress, source: path.source(), to: GROUP, payload_bytes, rate, time, clock }
}
