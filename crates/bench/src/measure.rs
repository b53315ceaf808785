//! The measurements of one path: the loss-free rate, the CPU time per packet, and what is left under too much load.

use std::fmt;
use std::time::{Duration, Instant};

use mcr_testbed::Switch;

use crate::cpu::SoftInterrupts;
use crate::families::Families;
use crate::generate::{Ingress, Load, Offered, Spacing, Stamp};
use crate::path::{Path, Running};
use crate::receive::Latencies;
use crate::wire::{Egress, Wire};

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) path: Path,
    pub(crate) families: Families,
    pub(crate) ingress: Ingress,
    /// Whether the relay's input gathers packets into super-frames.
    pub(crate) coalesce: Switch,
    pub(crate) egress: Egress,
    pub(crate) outputs: usize,
    pub(crate) payload_bytes: usize,
    /// Relays that are configured; one of them gets the load.
    pub(crate) relays: usize,
}

impl Setup {
    /// As it comes: IPv4, nothing is gathered, segments are cut in software, one relay.
    pub(crate) const fn plain(path: Path, ingress: Ingress, outputs: usize, payload_bytes: usize) -> Setup {
        Setup {
            path,
            families: Families::Ipv4,
            ingress,
            coalesce: Switch::Off,
            egress: Egress::Software,
            outputs,
            payload_bytes,
            relays: 1,
        }
    }
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
    /// Packets per second that were really offered, and arrived at every output. Of an in-kernel path that is limited by the core, it is the
    /// rate of the time that the generator really had the core: what other programs took of it is not the path's.
    pub(crate) packets_per_second: f64,
    /// The share of that core which the generator had, where it is the limit.
    pub(crate) share_of_core: Option<f64>,
    /// Who could not do more.
    pub(crate) limit: Limit,
}

impl Rate {
    fn of_path(packets_per_second: f64) -> Rate {
        Rate { packets_per_second, share_of_core: None, limit: Limit::Path }
    }
}

/// Who could not do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The path.
    Path,
    /// The generator's core, where the soft interrupts of the relay's input run too: of an in-kernel path, all of its work.
    Core,
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
    path: Path,
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
        all && self.offered.packets > 0 && (self.behind as f64) < self.rate * 0.05
    }

    /// A loss so small that something else on the machine may have caused it.
    fn is_nearly_free_of_loss(&self) -> bool {
        self.lost() * 200 < self.offered.packets
    }

    fn is_limited_by_core(&self) -> bool {
        self.offered_rate() < self.rate * 0.95
    }

    /// What was offered, if it passes.
    fn passed(&self) -> Option<Rate> {
        if !self.passes() {
            return None;
        }
        let offered = self.offered_rate();
        Some(if !self.is_limited_by_core() {
            Rate::of_path(offered)
        } else if self.path.is_in_kernel() {
            let undisturbed = 1e9 / self.offered.nanoseconds_each;
            let share_of_core = Some(offered / undisturbed);
            Rate { packets_per_second: undisturbed, share_of_core, limit: Limit::Core }
        } else {
            Rate { packets_per_second: offered, share_of_core: None, limit: Limit::Core }
        })
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Offered { packets, time, nanoseconds_each } = self.offered;
        let (relay, soft) = (self.relay_nanoseconds / packets.max(1), self.soft_nanoseconds / packets.max(1));
        write!(
            f,
            "{packets} packets in {:.2} s, lost at the worst output: {}; a packet takes {nanoseconds_each:.0} ns of the core that sends, \
             {relay} ns of the relay's processes, {soft} ns of soft interrupt threads",
            time.as_secs_f64(),
            self.lost(),
        )
    }
}

/// The highest rate that is tried: more than any core can send.
pub(crate) const FLAT_OUT: f64 = 30e6;

/// A started path with a receiver at each output.
pub(crate) struct Stand<'a> {
    wire: &'a mut Wire,
    setup: Setup,
    running: Running,
    soft_interrupts: SoftInterrupts,
}

impl<'a> Stand<'a> {
    /// Returns when a packet of the device has come out of every output.
    ///
    /// # Errors
    /// Why the path can't be measured here.
    pub(crate) fn start(wire: &'a mut Wire, setup: Setup) -> Result<Stand<'a>, String> {
        wire.set_egress(setup.egress);
        wire.set_coalesce(setup.coalesce);
        let before = wire.totals(setup.outputs);
        let running = setup.path.start(wire.net(), setup.families, setup.outputs, setup.relays)?;
        let mut stand = Stand { wire, setup, running, soft_interrupts: SoftInterrupts::find() };
        let deadline = Instant::now() + Duration::from_secs(10);
        while stand.totals().iter().zip(&before).any(|(now, before)| now == before) {
            if Instant::now() > deadline {
                return Err("it relays nothing for ten seconds".to_owned());
            }
            stand.generate(1_000.0, Duration::from_millis(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        stand.wire.wait_for(&vec![0; setup.outputs], u64::MAX);
        Ok(stand)
    }

    /// The datapath that serves the load, of MCR.
    pub(crate) fn served_by(&self) -> Option<&str> {
        self.running.served_by.as_deref()
    }

    /// Offers `rate` packets per second.
    pub(crate) fn trial(&mut self, rate: f64, time: Duration) -> Trial {
        let before = self.totals();
        let cpu_before = (self.running.cpu_nanoseconds(), self.soft_interrupts.nanoseconds());
        let offered = self.generate(rate, time);
        let at_end = self.totals();
        let after = self.wire.wait_for(&before, offered.packets);
        let got = |totals: &[u64]| before.iter().zip(totals).map(|(before, now)| now - before).collect::<Vec<_>>();
        let (at_end, after) = (got(&at_end), got(&after));
        Trial {
            path: self.setup.path,
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
    pub(crate) fn loss_free_rate(&mut self, guess: Option<f64>, times: Times) -> Rate {
        let (mut good, mut bad) = self.bracket(guess, times);
        for _ in 0..4 {
            if good.limit == Limit::Core || good.packets_per_second * 1.05 >= bad {
                break;
            }
            let middle = f64::midpoint(good.packets_per_second, bad);
            match self.passing(middle, times.search) {
                Some(rate) => good = rate,
                None => bad = middle,
            }
        }
        // Asked for more than it can send, a generator sends all it can.
        let mut asked = if good.limit == Limit::Core { FLAT_OUT } else { good.packets_per_second };
        for less in [0.95, 0.93, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5] {
            if let Some(rate) = self.passing(asked, times.confirm) {
                // It was the core's limit when the search ended there, not when it can do what was found.
                return Rate { limit: good.limit, ..rate };
            }
            good = Rate::of_path(good.packets_per_second * less);
            asked = good.packets_per_second;
        }
        Rate::of_path(0.0)
    }

    /// The highest rate known to pass (0 when none is), and the lowest known not to.
    fn bracket(&mut self, guess: Option<f64>, times: Times) -> (Rate, f64) {
        let in_kernel = self.setup.path.is_in_kernel();
        let (start, factor) = match guess {
            _ if in_kernel => (FLAT_OUT, 2.0),
            Some(guess) => (guess, 1.25),
            None => (20_000.0, 2.0),
        };
        let mut good = Rate::of_path(0.0);
        let (mut bad, mut rate): (Option<f64>, f64) = (None, start);
        for _ in 0..16 {
            let trial = self.better_of_two(rate, times.search);
            match (trial.passed(), bad) {
                (Some(passed), None) if passed.limit == Limit::Path => {
                    good = passed;
                    rate *= factor;
                }
                (Some(passed), Some(bad)) => return (passed, bad),
                (Some(passed), None) => return (passed, passed.packets_per_second),
                (None, _) if good.packets_per_second > 0.0 => return (good, rate),
                (None, _) => {
                    // What was not offered is not known to fail.
                    let failed = rate.min(trial.offered_rate());
                    bad = Some(failed);
                    rate = failed / factor.min(1.5);
                }
            }
        }
        (good, rate)
    }

    /// What was offered, if a trial at this rate passes.
    fn passing(&mut self, rate: f64, time: Duration) -> Option<Rate> {
        self.better_of_two(rate, time).passed()
    }

    /// Whatever else the machine does loses packets and holds up the generator too: after a small loss, or a rate that was
    /// not offered for no fault of the path, there is a second trial, and the better one counts.
    fn better_of_two(&mut self, rate: f64, time: Duration) -> Trial {
        let first = self.trial(rate, time);
        let is_doubtful = if first.passes() {
            first.is_limited_by_core() && !self.setup.path.is_in_kernel()
        } else {
            first.is_nearly_free_of_loss()
        };
        if !is_doubtful {
            return first;
        }
        let second = self.trial(rate, time);
        let is_better = second.passes() && second.offered_rate() > first.offered_rate();
        if !first.passes() || is_better { second } else { first }
    }

    /// The share of `rate`, which is loss-free, that still arrives when four times as much is offered.
    pub(crate) fn left_under_overload(&mut self, rate: f64, times: Times) -> f64 {
        let trial = self.trial(rate * 4.0, times.confirm);
        trial.least as f64 / trial.offered.time.as_secs_f64() / rate
    }

    /// CPU time at `rate`. Ends the path, to see what the load costs without it.
    pub(crate) fn into_cost(mut self, rate: f64, times: Times) -> Cost {
        let trial = self.trial(rate.max(1_000.0), times.cost);
        let Stand { wire, setup, running, .. } = self;
        drop(running);
        let bare = wire.bare_cost(load(setup, rate.max(1_000.0), times.cost / 2));
        let packets = trial.offered.packets.max(1) as f64;
        let of_input = (trial.offered.nanoseconds_each - bare).max(0.0);
        let processes = trial.relay_nanoseconds as f64 / packets;
        let outputs = setup.outputs as f64;
        Cost {
            processes: processes / outputs,
            with_soft_interrupts: (processes + trial.soft_nanoseconds as f64 / packets + of_input) / outputs,
        }
    }

    /// Offers stamped packets: their latencies at the first output, if it got nearly all.
    pub(crate) fn latencies(&mut self, load: Load) -> Option<Latencies> {
        let before = self.totals();
        self.wire.take_latencies();
        let offered = self.wire.generate(load);
        let after = self.wire.wait_for(&before, offered.packets);
        let is_carried = (after[0] - before[0]) * 100 >= offered.packets * 99;
        is_carried.then(|| self.wire.take_latencies())
    }

    fn generate(&mut self, rate: f64, time: Duration) -> Offered {
        self.wire.generate(load(self.setup, rate, time))
    }

    fn totals(&self) -> Vec<u64> {
        self.wire.totals(self.setup.outputs)
    }
}

fn load(setup: Setup, rate: f64, time: Duration) -> Load {
    let Setup { path, families, ingress, payload_bytes, .. } = setup;
    Load {
        ingress,
        source: families.source(path),
        group: families.group(),
        payload_bytes,
        rate: rate as u64,
        time,
        spacing: Spacing::Bursts,
        stamp: Stamp::Zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(path: Path, asked: f64, offered: u64, least: u64) -> Trial {
        Trial {
            path,
            rate: asked,
            offered: Offered { packets: offered, time: Duration::from_secs(1), nanoseconds_each: 500.0 },
            least,
            most: least,
            behind: 0,
            relay_nanoseconds: 0,
            soft_nanoseconds: 0,
        }
    }

    #[test]
    fn one_lost_packet_is_too_many_and_one_too_many_is_too() {
        assert!(trial(Path::Packet, 1e6, 1_000_000, 1_000_000).passed().is_some());
        assert!(trial(Path::Packet, 1e6, 1_000_000, 999_999).passed().is_none());
        assert!(trial(Path::Packet, 1e6, 1_000_000, 1_000_001).passed().is_none());
    }

    #[test]
    fn what_others_took_of_the_core_is_left_out_where_the_path_needs_that_core() {
        let rate = trial(Path::Xdp, FLAT_OUT, 1_000_000, 1_000_000).passed().expect("it passes");
        assert_eq!((rate.packets_per_second, rate.share_of_core, rate.limit), (2e6, Some(0.5), Limit::Core));
        let rate = trial(Path::Packet, FLAT_OUT, 1_000_000, 1_000_000).passed().expect("it passes");
        assert_eq!((rate.packets_per_second, rate.share_of_core, rate.limit), (1e6, None, Limit::Core));
    }
}
