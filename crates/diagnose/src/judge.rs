//! What follows from the facts: the steps of a packet's way in order, each with its mark. Pure; no step does IO.
//!
//! A fault is told only where it is proven by what was seen. What follows from an earlier fault is not told as one, so that the
//! first fault is the cause.

mod bridge;
mod firewall;
mod kernel;
mod link;
mod local;
mod membership;
mod nft;
mod output;
mod relay;
mod wire;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub(crate) use relay::{output as output_of, takers};

use mcr_model::VlanId;
use mcr_model::querier::QueryProtocol;
use mcr_model::spec::InputSpec;
use mcr_model::status::RelayStatus;

use crate::facts::{Direction, Facts, Flow, Foreground, Forwarded, Hold, KernelDrop, Link, Relays, Socket};
use crate::report::{Report, Step};
use crate::{Mark, Question, Subject};

/// Concludes. The same facts always give the same answer.
pub fn judge(question: &Question, facts: &Facts) -> Report {
    let case = Case::new(question, facts);
    let mut steps = Vec::new();
    steps.extend(link::step(&case));
    if case.link.is_some() {
        steps.extend(wire::steps(&case));
        steps.extend(bridge::step(&case));
        steps.extend(membership::steps(&case));
        steps.extend(local::steps(&case));
        steps.extend(kernel::forwarding(&case));
    }
    steps.extend(relay::steps(&case));
    steps.extend(output::steps(&case));
    relay::yield_to_causes(&mut steps);
    Report::new(question.input.to_string(), steps, facts.look.as_secs_f64())
}

/// What is asked beside what is known, and what the steps have in common.
struct Case<'a> {
    question: &'a Question,
    facts: &'a Facts,
    /// The interface in question.
    link: Option<&'a Link>,
    /// The relays that take exactly what is asked for.
    relays: Vec<&'a RelayStatus>,
    /// The sockets that want the packets.
    sockets: Vec<&'a Socket>,
    /// The kernel's own forwarding of the group from this interface.
    forwarded: Vec<&'a Forwarded>,
}

impl<'a> Case<'a> {
    fn new(question: &'a Question, facts: &'a Facts) -> Self {
        let link = facts.links.iter().find(|link| link.name == question.input.interface.as_str());
        let relays: Vec<&RelayStatus> = match &facts.relays {
            Relays::Known(relays) => takers(relays, question),
            Relays::NoDaemon | Relays::Unknown(_) => Vec::new(),
        };
        let index = link.map(|link| link.index);
        let is_ours = |f: &&Forwarded| f.group == question.group && f.from == index && index.is_some();
        let forwarded: Vec<&Forwarded> = facts.forwarded.iter().filter(is_ours).collect();
        let has_other_taker = !relays.is_empty() || !forwarded.is_empty();
        // Where a relay or router takes the packets, a socket of the same port may be there for other groups.
        let wants = |socket: &&Socket| match &question.subject {
            Subject::Relay(_) => false,
            Subject::Endpoint => !has_other_taker || is_of_group(socket, question.group),
        };
        let sockets = facts.sockets.iter().flatten().filter(wants).collect();
        Self { question, facts, link, relays, sockets, forwarded }
    }

    fn group(&self) -> IpAddr {
        self.question.group
    }

    fn is_ipv6(&self) -> bool {
        self.group().is_ipv6()
    }

    /// How memberships are asked and answered for.
    fn protocol(&self) -> QueryProtocol {
        QueryProtocol::of(self.group())
    }

    fn port(&self) -> u16 {
        self.question.input.port.get()
    }

    fn vlan(&self) -> Option<VlanId> {
        self.question.input.vlan
    }

    fn interface(&self) -> &str {
        self.question.input.interface.as_str()
    }

    /// The name of an interface, for a sentence.
    fn name(&self, index: u32) -> &str {
        self.facts.links.iter().find(|link| link.index == index).map_or("an interface that is gone", |link| &link.name)
    }

    fn names(&self, indexes: &[u32]) -> String {
        indexes.iter().map(|index| self.name(*index)).collect::<Vec<_>>().join(", ")
    }

    /// Everything that was seen to come in on the interface.
    fn arrivals(&self) -> impl Iterator<Item = &'a Flow> {
        let index = self.link.map(|link| link.index);
        let flows = self.facts.wire.iter().flat_map(|wire| &wire.flows);
        flows.filter(move |flow| Some(flow.interface) == index && flow.direction == Direction::In)
    }

    /// What was seen to come in of exactly what is asked for: whole in itself or not.
    fn wanted(&self) -> Vec<&'a Flow> {
        let (group, port, vlan) = (self.group(), self.port(), self.vlan());
        let is_wanted = |flow: &&Flow| {
            flow.destination == group && flow.port == Some(port) && flow.vlan == vlan && self.lists(flow.source)
        };
        self.arrivals().filter(is_wanted).collect()
    }

    /// Whether the question admits a source.
    fn lists(&self, source: IpAddr) -> bool {
        self.question.input.accepts(source)
    }

    /// Packets of exactly what is asked for.
    fn wanted_packets(&self) -> u64 {
        packets(&self.wanted())
    }

    /// Sources whose packets matter: those that were seen, or else those that were asked for.
    fn sources(&self) -> BTreeSet<IpAddr> {
        let seen: BTreeSet<IpAddr> = self.wanted().iter().map(|flow| flow.source).collect();
        if seen.is_empty() { self.question.input.single_sources().collect() } else { seen }
    }

    /// Drops by the kernel of what is asked for, with these reasons.
    fn drops(&self, reasons: &'a [&'a str]) -> impl Iterator<Item = &'a KernelDrop> {
        self.all_drops().filter(move |drop| reasons.contains(&drop.reason.as_str()))
    }

    /// All drops by the kernel of what is asked for. Those of fragments have no port.
    fn all_drops(&self) -> impl Iterator<Item = &'a KernelDrop> {
        let (group, port, index) = (self.group(), self.port(), self.link.map(|link| link.index));
        let drops = self.facts.drops.iter().flatten();
        drops.filter(move |drop| {
            drop.destination == group && drop.port.is_none_or(|p| p == port) && Some(drop.interface) == index
        })
    }

    /// Whether the host's own applications are to get the packets: a socket of the port is there.
    fn is_for_sockets(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// A socket that has joined the group on this interface, or hears what others have.
    fn holders(&self) -> impl Iterator<Item = (&'a Socket, &'a Hold)> {
        let held = self.sockets.iter().filter_map(|socket| Some((*socket, socket.membership.as_ref()?)));
        held.filter(|(_, hold)| **hold != Hold::No)
    }

    fn is_joined(&self) -> bool {
        let index = self.link.map(|link| link.index);
        self.facts.memberships.iter().any(|m| Some(m.interface) == index && m.group == self.group())
    }

    /// A relay in the foreground that takes what is asked for.
    fn foreground_relay(&self) -> Option<&'a Foreground> {
        let is_input = |argument: &String| {
            let spec = InputSpec::from_endpoint(argument).ok();
            spec.and_then(|spec| spec.check("").ok())
                .is_some_and(|input| input.place().holds(&self.question.input.place()))
        };
        // The outputs that follow it are endpoints, too.
        let input = |relay: &Foreground| relay.arguments.iter().find(|argument| argument.contains(':')).cloned();
        self.facts.foreground.iter().find(|relay| input(relay).as_ref().is_some_and(is_input))
    }

    /// Whether somebody on this host is there to take the packets.
    fn has_taker(&self) -> bool {
        self.is_for_sockets()
            || !self.relays.is_empty()
            || !self.forwarded.is_empty()
            || self.foreground_relay().is_some()
    }

    /// Packets enter a bridge by another port, and this one is where the receivers are.
    fn is_way_out(&self) -> bool {
        let Some(link) = self.link.filter(|link| link.port.is_some()) else { return false };
        self.wanted().is_empty() && self.entering(link.master).is_some()
    }

    /// The port of a bridge by which what is asked for comes in.
    fn entering(&self, bridge: Option<u32>) -> Option<&'a Flow> {
        let ports = self.facts.links.iter().filter(|link| bridge.is_some() && link.master == bridge);
        let ports: BTreeSet<u32> = ports.map(|link| link.index).collect();
        let flows = self.facts.wire.iter().flat_map(|wire| &wire.flows);
        let (group, port) = (self.group(), self.port());
        flows.into_iter().find(|flow| {
            flow.direction == Direction::In
                && ports.contains(&flow.interface)
                && flow.destination == group
                && flow.port == Some(port)
        })
    }
}

/// Whether a socket is there for the group itself.
fn is_of_group(socket: &Socket, group: IpAddr) -> bool {
    socket.address == group || socket.membership.as_ref().is_some_and(|hold| *hold != Hold::No)
}

fn packets(flows: &[&Flow]) -> u64 {
    flows.iter().map(|flow| flow.packets).sum()
}

/// Whether an address is in the network of another.
fn is_in_network(address: IpAddr, network: IpAddr, prefix_bits: u8) -> bool {
    let width = if address.is_ipv6() { 128 } else { 32 };
    let host_bits = width - u32::from(prefix_bits).min(width);
    let masked = |address| number(address).checked_shr(host_bits).unwrap_or(0);
    address.is_ipv6() == network.is_ipv6() && masked(address) == masked(network)
}

/// An address as a number, in the order of its family.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// `1 packet`, `2 packets`.
fn counted(number: u64) -> String {
    format!("{number} {}", if number == 1 { "packet" } else { "packets" })
}

/// What the kernel said of drops, one line for each.
fn told<'a>(drops: impl IntoIterator<Item = &'a KernelDrop>) -> Vec<String> {
    let line = |drop: &KernelDrop| {
        format!("kernel: {} from {} dropped, {} in {}", counted(drop.packets), drop.source, drop.reason, drop.location)
    };
    drops.into_iter().map(line).collect()
}

/// `a`, `a and b`, `a, b and c`; at most `most` of them.
pub(crate) fn listed(items: impl IntoIterator<Item = impl ToString>, most: usize) -> String {
    let all: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match &all[..] {
        [] => "none".to_owned(),
        [only] => only.clone(),
        some if some.len() <= most => format!("{} and {}", some[..some.len() - 1].join(", "), some[some.len() - 1]),
        many => format!("{} and {} more", many[..most].join(", "), many.len() - most),
    }
}

/// Who has a socket open, for a sentence.
fn owned(socket: &Socket) -> String {
    match &socket.owners[..] {
        [] => "a process that is not visible".to_owned(),
        owners => listed(owners.iter().map(|owner| format!("{} (pid {})", owner.name, owner.pid)), 3),
    }
}

/// Whether any step so far is a fault.
fn is_broken(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.mark == Mark::Fault)
}
