//! What a set of relays of the file would change, and what about it may not be meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_model::difference::differences;
use mcr_model::plan::{AddedRelay, ChangedRelay, Plan, RemovedRelay, TouchedFlow, Warning, WarningKind};
use mcr_model::relay::{Output, Relay};
use mcr_model::spec::RelaySpec;
use mcr_model::status::{Origin, SharedPairs};
use mcr_model::{InterfaceName, RelayName, TtlRule};

use crate::engine::{Engine, Entry};
use crate::rulebook::{Refusal, Rulebook};

/// What is known of the link behind an interface that relays send on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it carries, if the driver says.
    pub bits_per_second: Option<u64>,
    /// Who receives what.
    pub receivers: Receivers,
}

/// Who receives what leaves on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receivers {
    /// Nobody can tell.
    Unknown,
    /// A bridge that listens to IGMP: the IPv4 groups that somebody behind it has joined.
    Joined(BTreeSet<IpAddr>),
}

impl Engine {
    /// What [`Engine::load_file`] with these relays would change.
    ///
    /// # Errors
    /// Every [`Refusal`].
    pub fn preview(&self, relays: &[Relay], links: &BTreeMap<InterfaceName, Link>) -> Result<Plan, Vec<Refusal>> {
        let rulebook = self.rulebook_with_file(relays)?;
        let mut plan = Plan::default();
        let wanted: BTreeSet<&RelayName> = relays.iter().map(Relay::name).collect();
        for relay in relays {
            match self.relays.get(relay.name()) {
                None => plan.added.push(added(relay)),
                Some(entry) if *entry.relay == *relay => plan.unchanged += 1,
                Some(entry) => plan.changed.push(self.changed(entry, relay)),
            }
        }
        let gone = self.of_origin(Origin::File).filter(|entry| !wanted.contains(entry.relay.name()));
        plan.removed = gone.map(removed).collect();
        self.warn(relays, links, &mut plan);
        plan.warnings.extend(self.takings(relays, &rulebook));
        Ok(plan)
    }

    fn changed(&self, entry: &Entry, relay: &Relay) -> ChangedRelay {
        let fields = differences(&RelaySpec::from(entry.relay.as_ref()), &RelaySpec::from(relay));
        ChangedRelay { name: relay.name().to_string(), fields, flow: flow(entry) }
    }

    fn warn(&self, relays: &[Relay], links: &BTreeMap<InterfaceName, Link>, plan: &mut Plan) {
        let api: Vec<&Relay> = self.of_origin(Origin::Api).map(|entry| entry.relay.as_ref()).collect();
        let all: Vec<&Relay> = relays.iter().chain(api).collect();
        plan.warnings.extend(shared_macs(relays, &all));
        plan.warnings.extend(self.oversubscribed(&all, links));
        for (relay, output) in relays.iter().flat_map(|relay| relay.outputs().iter().map(move |output| (relay, output)))
        {
            plan.warnings.extend(public_group(relay, output));
            plan.warnings.extend(short_ttl(relay, output));
            match links.get(&output.interface).map(|link| &link.receivers) {
                Some(Receivers::Joined(groups)) if output.target.is_group() && output.target.ip().is_ipv4() => {
                    let mut own = output.span.addresses(output.target.ip());
                    let is_wanted = own.any(|group| groups.contains(&group));
                    plan.warnings.extend((!is_wanted).then(|| no_receiver(relay, output)));
                }
                Some(Receivers::Joined(_)) => {}
                Some(Receivers::Unknown) | None => plan.outputs_with_unknown_receivers += 1,
            }
        }
    }

    /// What relays that are new or changed take from others, or leave to others.
    fn takings(&self, relays: &[Relay], rulebook: &Rulebook) -> Vec<Warning> {
        let is_same = |relay: &Relay| self.relays.get(relay.name()).is_some_and(|entry| *entry.relay == *relay);
        let touched: BTreeMap<String, &Relay> =
            relays.iter().filter(|relay| !is_same(relay)).map(|relay| (relay.name().to_string(), relay)).collect();
        let of_one = |(name, relay): (&String, &&Relay)| {
            let (left_to, taken_from) = rulebook.shared(relay.input());
            let taken = taken_from.into_iter().map(|shared| taking(name, &shared.relay, &shared));
            // Of two that are touched the one that takes tells it.
            let left = left_to.into_iter().filter(|shared| !touched.contains_key(&shared.relay));
            let left = left.map(|shared| taking(&shared.relay, name, &shared));
            taken.chain(left).collect::<Vec<_>>()
        };
        touched.iter().flat_map(of_one).collect()
    }

    /// Interfaces on which more would leave than their links carry, at the rates at which their inputs arrive now.
    fn oversubscribed(&self, all: &[&Relay], links: &BTreeMap<InterfaceName, Link>) -> Vec<Warning> {
        let mut sums: BTreeMap<&InterfaceName, (f64, BTreeSet<&RelayName>)> = BTreeMap::new();
        for relay in all {
            let Some(rate) = self.rate_of_input(relay) else { continue };
            for output in relay.outputs() {
                let (sum, relays) = sums.entry(&output.interface).or_default();
                *sum += rate;
                relays.insert(relay.name());
            }
        }
        let over = sums.into_iter().filter_map(|(interface, (sum, relays))| {
            let capacity = links.get(interface)?.bits_per_second?;
            (sum > capacity as f64).then(|| Warning {
                kind: WarningKind::Oversubscribed,
                relays: relays.into_iter().map(RelayName::to_string).collect(),
                message: format!(
                    "at the rates of now {} would leave on {interface}, whose link carries {}",
                    megabits(sum),
                    megabits(capacity as f64)
                ),
                remedy: "send some of it on another interface, or expect drops".to_owned(),
            })
        });
        over.collect()
    }

    /// The bits per second that arrive at the place of its input now; `None`: no relay listens there.
    fn rate_of_input(&self, relay: &Relay) -> Option<f64> {
        let same = |entry: &&Entry| entry.relay.input() == relay.input();
        self.relays.values().find(same)?.meter.received().bits_per_second
    }
}

fn added(relay: &Relay) -> AddedRelay {
    let to = relay.outputs().iter().map(Output::to_string).collect();
    AddedRelay { name: relay.name().to_string(), from: relay.input().to_string(), to }
}

fn removed(entry: &Entry) -> RemovedRelay {
    let (name, from) = (entry.relay.name().to_string(), entry.relay.input().to_string());
    RemovedRelay { name, from, flow: flow(entry) }
}

/// What a relay carries, if it carries anything.
fn flow(entry: &Entry) -> Option<TouchedFlow> {
    let received = entry.meter.received();
    let flows = received.packets_per_second.is_some_and(|rate| rate > 0.0);
    flows.then_some(TouchedFlow { state: mcr_model::RelayState::Flowing, received })
}

/// Groups that switches and network cards can't tell apart on one interface, for only their last bits are in the link-layer
/// address (23 of IPv4, 32 of IPv6); at least one of
/// them is the file's.
fn shared_macs(file: &[Relay], all: &[&Relay]) -> Vec<Warning> {
    type Users<'a> = BTreeMap<IpAddr, BTreeSet<&'a RelayName>>;
    let mut by_mac: BTreeMap<(&InterfaceName, [u8; 6]), Users<'_>> = BTreeMap::new();
    for relay in all {
        let input = (&relay.input().interface, relay.input().target, relay.input().span);
        let outputs = relay.outputs().iter().map(|output| (&output.interface, output.target, output.span));
        for (interface, target, span) in
            std::iter::once(input).chain(outputs).filter(|(_, target, _)| target.is_group())
        {
            for group in span.addresses(target.ip()) {
                let users = by_mac.entry((interface, mcr_model::group_mac(group))).or_default();
                users.entry(group).or_default().insert(relay.name());
            }
        }
    }
    let files: BTreeSet<&RelayName> = file.iter().map(Relay::name).collect();
    let shared = by_mac
        .into_iter()
        .filter(|(_, users)| users.len() > 1 && users.values().flatten().any(|name| files.contains(*name)));
    shared
        .map(|((interface, mac), users)| {
            let groups: Vec<String> = users.keys().map(ToString::to_string).collect();
            let relays: BTreeSet<&RelayName> = users.values().flatten().copied().collect();
            Warning {
                kind: WarningKind::SharedMac,
                relays: relays.into_iter().map(RelayName::to_string).collect(),
                message: format!(
                    "{} have the same link-layer address {} on {interface}: switches and network cards deliver them \
                     together",
                    groups.join(" and "),
                    mac.map(|byte| format!("{byte:02x}")).join(":")
                ),
                remedy: format!("choose groups that differ in their last {} bits", if mac[0] == 1 { 23 } else { 32 }),
            }
        })
        .collect()
}

fn about(relay: &Relay, kind: WarningKind, message: String, remedy: &str) -> Warning {
    Warning { kind, relays: vec![relay.name().to_string()], message, remedy: remedy.to_owned() }
}

fn public_group(relay: &Relay, output: &Output) -> Option<Warning> {
    let about = |message, remedy| about(relay, WarningKind::PublicGroup, message, remedy);
    match output.target.ip() {
        _ if !output.target.is_group() => None,
        IpAddr::V4(group) => (!matches!(group.octets()[0], 232 | 239)).then(|| {
            about(
                format!("the group of output {output} is not in 239.0.0.0/8: it may be assigned to others (RFC 5771)"),
                "use a group in 239.0.0.0/8, or in 232.0.0.0/8 for receivers that join their source",
            )
        }),
        // Without the T flag a group is one that IANA has assigned.
        IpAddr::V6(group) => (group.octets()[1] & 0x10 == 0).then(|| {
            about(
                format!("the group of output {output} is a permanent one: it may be assigned to others (RFC 4291)"),
                "use a transient group, as ff15::1, or one in ff35::/32 for receivers that join their source",
            )
        }),
    }
}

fn short_ttl(relay: &Relay, output: &Output) -> Option<Warning> {
    let is_one = matches!(output.ttl, TtlRule::Set(ttl) if ttl.get() == 1);
    is_one.then(|| {
        about(
            relay,
            WarningKind::ShortTtl,
            format!("output {output} has ttl 1: no router forwards it"),
            "leave ttl out (16), unless it must not leave its network",
        )
    })
}

fn no_receiver(relay: &Relay, output: &Output) -> Warning {
    about(
        relay,
        WarningKind::NoReceiver,
        format!("nobody behind bridge {} has joined {}", output.interface, output.group()),
        "start the receiver, or check its group (`bridge mdb show`)",
    )
}

fn taking(by: &str, from: &str, shared: &SharedPairs) -> Warning {
    Warning {
        kind: WarningKind::TakesPairs,
        relays: vec![by.to_owned(), from.to_owned()],
        message: format!("{by} takes {} of {from}, which it names more exactly", shared.what),
        remedy: format!("nothing, if that is meant; else add its outputs to {from}, or choose other groups or ports"),
    }
}

fn megabits(bits_per_second: f64) -> String {
    format!("{:.0} Mbit/s", bits_per_second / 1e6)
}
