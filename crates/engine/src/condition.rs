//! The state of each relay and output, with the reason and remedy that a person reads.

use std::time::Duration;

use mcr_model::relay::{Output, Relay};
use mcr_model::{Condition, Datapath, DropReason, RelayState, SourceRule};

use crate::address::{LEAST_MTU_OF_IPV6, NoSource};
use crate::effect::{EffectError, Failure, InputKey, Subject};
use crate::engine::{Engine, Entry};
use crate::fact::InterfaceFacts;
use crate::plan::Action;
use crate::watch::WrongRate;

/// Whether an output can send, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputHealth {
    Sending,
    /// Its interface is missing or down: it will come by itself.
    Waiting {
        reason: String,
        remedy: String,
    },
    Failing {
        reason: String,
        remedy: String,
    },
    /// The keeper or the kernel does not open it, or another host has its own source: it can't work until somebody does something.
    Refused {
        reason: String,
        remedy: String,
    },
}

impl Engine {
    pub(crate) fn condition(&self, entry: &Entry, now: Duration) -> Condition {
        if let Err(trouble) = self.input_trouble(entry) {
            return trouble;
        }
        let health: Vec<OutputHealth> =
            (0..entry.relay.outputs().len()).map(|i| self.output_health(entry, i)).collect();
        outputs_trouble(&entry.relay, &health).unwrap_or_else(|| {
            let activity = Activity::of(entry, now);
            let condition = self.idle(entry, activity.state()).unwrap_or_else(|| activity.condition(entry));
            match self.seen_groups(entry) {
                Some(seen) => {
                    let (seen, all) = (seen.len(), entry.relay.input().span.groups());
                    Condition {
                        reason: format!("{}; {seen} of {all} groups seen and joined", condition.reason),
                        ..condition
                    }
                }
                None => condition,
            }
        })
    }

    /// The condition of a relay that nobody wants anything of, in place of the one that its traffic would have.
    fn idle(&self, entry: &Entry, traffic: RelayState) -> Option<Condition> {
        let reason = self.unwanted(entry).filter(|_| is_idle(traffic))?;
        Some(Condition::fine(RelayState::Ready, reason))
    }

    /// What stands in a relay's way whatever its counters say.
    pub(crate) fn standing_trouble(&self, entry: &Entry) -> Option<Condition> {
        if let Err(trouble) = self.input_trouble(entry) {
            return Some(trouble);
        }
        let health: Vec<OutputHealth> =
            (0..entry.relay.outputs().len()).map(|i| self.standing_health(entry, i)).collect();
        outputs_trouble(&entry.relay, &health)
    }

    fn input_trouble(&self, entry: &Entry) -> Result<(), Condition> {
        if let Some(broken) = entry.broken() {
            return Err(broken);
        }
        let input = entry.relay.input();
        let pending = |reason, remedy| Condition::trouble(RelayState::Pending, reason, remedy);
        let Some(facts) = self.facts.get(&input.interface) else {
            return Err(pending(
                format!("input interface {} does not exist", input.interface),
                "create it or correct the name; the relay starts by itself when it appears".to_owned(),
            ));
        };
        if !facts.ethernet {
            let (reason, remedy) = without_ethernet(facts, "input");
            return Err(Condition::trouble(RelayState::Failed, reason, remedy));
        }
        if input.target.is_group() && !facts.multicast {
            return Err(Condition::trouble(
                RelayState::Failed,
                format!("input interface {} can not receive multicast", facts.name),
                format!("switch it on with `ip link set {} multicast on`, or use another interface", facts.name),
            ));
        }
        if !facts.up || !facts.carrier {
            let (reason, remedy) = down(facts, "input");
            return Err(pending(reason, remedy));
        }
        self.input_failure(entry, facts)
    }

    fn input_failure(&self, entry: &Entry, facts: &InterfaceFacts) -> Result<(), Condition> {
        let relay = &entry.relay;
        let target = relay.input().target;
        let input = InputKey { interface: facts.index, datapath: entry.serving.datapath };
        let subjects =
            [Subject::Input(input), Subject::Table(input), Subject::Relay(relay.name().clone(), input.datapath)];
        if let Some(failure) = subjects.iter().find_map(|subject| self.failures.get(subject)) {
            let (reason, remedy) = (failure.error.reason.clone(), failure.error.remedy.clone());
            return Err(Condition::trouble(RelayState::Failed, reason, remedy));
        }
        if let (Datapath::Xdp, Some(hindrance)) = (input.datapath, self.view().trouble_at_driver(entry)) {
            return Err(Condition::trouble(RelayState::Failed, hindrance.reason, hindrance.remedy));
        }
        let installed = self.actual.serves(input, relay.name(), entry.incarnation);
        if target.is_group()
            && let Some(trouble) = self.membership_trouble(facts, relay)
        {
            return Err(trouble);
        }
        if installed {
            return Ok(());
        }
        Err(Condition::fine(RelayState::Pending, format!("input {} is being set up", relay.input())))
    }

    /// Groups of an input that are not joined: none of them is, or some.
    fn membership_trouble(&self, facts: &InterfaceFacts, relay: &Relay) -> Option<Condition> {
        let input = relay.input();
        let groups = || {
            let groups = input.span.addresses(input.target.ip()).zip(0..);
            groups.filter(|(_, offset)| self.view().joins(relay, *offset)).map(|(group, _)| group)
        };
        let failures = groups().filter_map(|group| self.failures.get(&Subject::Group(facts.index, group)));
        let failures: Vec<&Failure> = failures.collect();
        let Some(first) = failures.first() else {
            let is_joined = |group| self.actual.groups.contains_key(&(facts.index, group));
            return (!groups().all(is_joined))
                .then(|| Condition::fine(RelayState::Pending, format!("input {input} is being set up")));
        };
        let EffectError { reason, remedy } = first.error.clone();
        let (failed, all) = (failures.len() as u128, input.span.groups());
        let reason = match all {
            1 => reason,
            _ => format!("{failed} of {all} groups are not joined: {reason}"),
        };
        let state = if failed < all { RelayState::Degraded } else { RelayState::Failed };
        Some(Condition::trouble(state, reason, remedy))
    }

    /// Whether a copy can leave by some output.
    pub(crate) fn has_usable_output(&self, entry: &Entry) -> bool {
        (0..entry.relay.outputs().len()).any(|i| matches!(self.standing_health(entry, i), OutputHealth::Sending))
    }

    pub(crate) fn output_health(&self, entry: &Entry, index: usize) -> OutputHealth {
        match self.standing_health(entry, index) {
            OutputHealth::Sending => recent_drops(entry, index),
            trouble => trouble,
        }
    }

    fn standing_health(&self, entry: &Entry, index: usize) -> OutputHealth {
        let output = &entry.relay.outputs()[index];
        let Some(facts) = self.facts.get(&output.interface) else {
            return OutputHealth::Waiting {
                reason: format!("output interface {} does not exist", output.interface),
                remedy: "create it or correct the name; the output starts by itself when it appears".to_owned(),
            };
        };
        if !facts.ethernet {
            let (reason, remedy) = without_ethernet(facts, "output");
            return OutputHealth::Refused { reason, remedy };
        }
        if !facts.can_send() {
            let (reason, remedy) = down(facts, "output");
            return OutputHealth::Waiting { reason, remedy };
        }
        if let Some(health) = self.leads_back(facts, output) {
            return health;
        }
        if let Some(failure) = self.failures.get(&Subject::Output(facts.index)) {
            let (reason, remedy) = (failure.error.reason.clone(), failure.error.remedy.clone());
            return OutputHealth::Refused { reason, remedy };
        }
        match self.view().action(output) {
            Action::Drop(reason) => self.unsendable(facts, output, reason),
            Action::Send(_) => OutputHealth::Sending,
        }
    }

    /// An output to this host itself: what is sent there comes to no application.
    fn leads_back(&self, facts: &InterfaceFacts, output: &Output) -> Option<OutputHealth> {
        let target = output.target.ip();
        let is_own = self.facts.values().any(|facts| facts.addresses.iter().any(|own| own.ip == target));
        let reason = match (facts.is_loopback(), is_own) {
            (true, _) => format!("{} leads to no application: the kernel drops there what no socket sent", facts.name),
            (false, true) => format!("{target} is an address of this host, and what is sent to it does not leave"),
            (false, false) => return None,
        };
        let remedy =
            "send to one end of a veth pair, with a source that is not of this host, and have the application join at \
                      the other end"
                .to_owned();
        Some(OutputHealth::Failing { reason, remedy })
    }

    fn unsendable(&self, facts: &InterfaceFacts, output: &Output, reason: DropReason) -> OutputHealth {
        let target = output.target.ip();
        let next_hop = self.view().next_hop(facts, output);
        let subjects = [
            Some(Subject::NextHop(facts.index, target)),
            next_hop.map(|next_hop| Subject::Neighbour(facts.index, next_hop)),
        ];
        let failure = subjects.iter().flatten().find_map(|subject| self.failures.get(subject));
        let (reason, remedy) = match (reason, failure) {
            (DropReason::NoNeighbour, Some(failure)) => (failure.error.reason.clone(), failure.error.remedy.clone()),
            (DropReason::NoNeighbour, None) => (
                format!("the link-layer address of {target} is not known on {}: it has not answered yet", facts.name),
                format!(
                    "it is asked again and again; check that it is up and on this network (`ip neigh show dev {}`)",
                    facts.name
                ),
            ),
            (DropReason::NoSourceAddress, _) => match output.source {
                SourceRule::Own(source) => return self.own_source_trouble(facts, source),
                SourceRule::OfInterface | SourceRule::Set(_) | SourceRule::Keep => no_source(facts, output),
            },
            (other, _) => (other.meaning().to_owned(), other.remedy().to_owned()),
        };
        OutputHealth::Failing { reason, remedy }
    }
}

fn without_ethernet(facts: &InterfaceFacts, side: &str) -> (String, String) {
    let name = &facts.name;
    (
        format!("frames of {side} interface {name} have no Ethernet header: it is a tun device or a tunnel of IP"),
        "name the interface that it lies on, or use a kind with Ethernet in its place (tap, vxlan, gretap)".to_owned(),
    )
}

/// Why packets of `output` have no source address, and what to do.
fn no_source(facts: &InterfaceFacts, output: &Output) -> (String, String) {
    let name = &facts.name;
    let family = if output.target.ip().is_ipv4() { "IPv4" } else { "IPv6" };
    let add = format!("add one with `ip address add … dev {name}`, or set source on the output");
    match facts.source_for(output.target) {
        // It has one by now.
        Ok(_) => (DropReason::NoSourceAddress.meaning().to_owned(), "nothing; it is taken at once".to_owned()),
        Err(NoSource::None) => (format!("output interface {name} has no {family} address to send from"), add),
        Err(NoSource::MtuBelowIpv6) => (
            format!(
                "output interface {name} has no IPv6 address to send from: its MTU of {} is below {LEAST_MTU_OF_IPV6}, \
                 the least that IPv6 needs",
                facts.mtu
            ),
            format!("`ip link set {name} mtu {LEAST_MTU_OF_IPV6}` or more, then give it an address"),
        ),
        Err(NoSource::OnlyLinkLocal) => (
            format!(
                "output interface {name} has only link-local IPv6 addresses, with which nothing gets past a router"
            ),
            add,
        ),
        Err(NoSource::Tentative(address)) => (
            format!("{address}, the address of output interface {name}, is still being checked for a duplicate"),
            "nothing; it is used as soon as the check is over, about two seconds after the link came up".to_owned(),
        ),
        Err(NoSource::Duplicate(address)) => (
            format!("{address}, the address of output interface {name}, belongs to another host as well"),
            "give one of the two another address".to_owned(),
        ),
    }
}

fn recent_drops(entry: &Entry, index: usize) -> OutputHealth {
    match entry.meter.recent_drop(index) {
        None => OutputHealth::Sending,
        Some((reason, count)) => OutputHealth::Failing {
            reason: format!(
                "{count} packets were dropped in the last second: {} ({})",
                reason.name(),
                reason.meaning()
            ),
            remedy: reason.remedy().to_owned(),
        },
    }
}

/// All outputs wait: the relay is pending. All are refused: it has failed. Some can't send: it is degraded.
fn outputs_trouble(relay: &Relay, health: &[OutputHealth]) -> Option<Condition> {
    let all_wait = health.iter().all(|health| matches!(health, OutputHealth::Waiting { .. }));
    let all_refused = health.iter().all(|health| matches!(health, OutputHealth::Refused { .. }));
    let state = match (all_wait, all_refused) {
        (true, _) => RelayState::Pending,
        (_, true) => RelayState::Failed,
        _ => RelayState::Degraded,
    };
    let troubles = health.iter().zip(relay.outputs()).filter_map(|(health, output)| match health {
        OutputHealth::Sending => None,
        OutputHealth::Waiting { reason, remedy }
        | OutputHealth::Failing { reason, remedy }
        | OutputHealth::Refused { reason, remedy } => Some((output, reason, remedy)),
    });
    let mut troubles = troubles.collect::<Vec<_>>().into_iter();
    let (output, reason, remedy) = troubles.next()?;
    let more = match troubles.len() {
        0 => String::new(),
        1 => " (and 1 output more)".to_owned(),
        n => format!(" (and {n} outputs more)"),
    };
    let reason = if relay.outputs().len() == 1 { reason.clone() } else { format!("output {output}: {reason}{more}") };
    Some(Condition::trouble(state, reason, remedy.clone()))
}

/// Whether a relay in that state, as its traffic has it, is ready when nobody wants anything of it.
pub(crate) fn is_idle(traffic: RelayState) -> bool {
    matches!(traffic, RelayState::Ready | RelayState::Silent)
}

/// What the packets of a relay do, where nothing stands in their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    Unseen,
    /// They have stopped, and were not wanted until a moment ago.
    Awaited,
    Flowing,
    Silent(Duration),
    WrongRate(WrongRate),
}

impl Activity {
    pub(crate) fn of(entry: &Entry, now: Duration) -> Self {
        let Some(quiet) = entry.meter.quiet_for(now) else { return Self::Unseen };
        let watch = entry.relay.watch();
        match (entry.meter.has_stopped(now, watch), entry.meter.is_silent(now, watch)) {
            (true, true) => return Self::Silent(quiet),
            (true, false) => return Self::Awaited,
            (false, _) => {}
        }
        entry.meter.wrong_rate().map_or(Self::Flowing, Self::WrongRate)
    }

    pub(crate) fn state(self) -> RelayState {
        match self {
            Self::Unseen | Self::Awaited => RelayState::Ready,
            Self::Flowing => RelayState::Flowing,
            Self::Silent(_) => RelayState::Silent,
            Self::WrongRate(_) => RelayState::Degraded,
        }
    }

    fn condition(self, entry: &Entry) -> Condition {
        let input = entry.relay.input();
        match self {
            Self::Unseen => Condition::fine(self.state(), format!("no packet of {input} has been seen yet")),
            Self::Awaited => {
                Condition::fine(self.state(), format!("a receiver has just asked, and no packet of {input} came yet"))
            }
            Self::Flowing => Condition::fine(self.state(), "packets arrive and leave"),
            Self::Silent(quiet) => Condition::trouble(
                self.state(),
                format!("no packet of {input} for {}", seconds(quiet)),
                "check that the sender still sends, and that switches between still forward the group",
            ),
            Self::WrongRate(WrongRate::TooLow { is, least }) => Condition::trouble(
                self.state(),
                format!("{} of {input} arrive, less than the expected {}", megabits(is), megabits(least)),
                "check the sender, and what is lost on the way; or correct expect.min_bits_per_second",
            ),
            Self::WrongRate(WrongRate::TooHigh { is, most }) => Condition::trouble(
                self.state(),
                format!("{} of {input} arrive, more than the expected {}", megabits(is), megabits(most)),
                "check that nobody else sends to this group and port; or correct expect.max_bits_per_second",
            ),
        }
    }
}

fn seconds(length: Duration) -> String {
    match length.as_secs_f64() {
        short if short < 10.0 => format!("{short:.1} s"),
        long => format!("{long:.0} s"),
    }
}

fn megabits(bits_per_second: u64) -> String {
    match bits_per_second {
        few if few < 1_000_000 => format!("{:.1} kbit/s", few as f64 / 1e3),
        many => format!("{:.1} Mbit/s", many as f64 / 1e6),
    }
}

fn down(facts: &InterfaceFacts, side: &str) -> (String, String) {
    let name = &facts.name;
    if facts.up {
        (
            format!("{side} interface {name} has no link"),
            format!("check its cable or peer (`ip link show {name}`); the relay goes on by itself"),
        )
    } else {
        (format!("{side} interface {name} is down"), format!("`ip link set {name} up`; the relay goes on by itself"))
    }
}
