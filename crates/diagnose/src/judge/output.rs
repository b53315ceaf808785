//! The outputs of the relays that take the packets: can each copy leave, and can it arrive.

use std::net::IpAddr;

use mcr_model::status::{OutputStatus, RelayStatus};
use mcr_model::{DropReason, Output, Oversize, SourceRule, TtlRule};

use super::{Case, counted, is_in_network, listed, relay, told, wire};
use crate::facts::{Flow, KernelDrop, Link, Neighbour, Route};
use crate::report::Step;

const STEP: &str = "output";

pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for taker in &case.relays {
        for (place, status) in taker.outputs.iter().enumerate() {
            if let Some(spec) = relay::output(taker, place, case.question) {
                let exit = Exit { case, relay: taker, status, spec: &spec, place };
                steps.extend(exit.steps().into_iter().map(|step| step.of(format!("{} to {spec}", taker.name))));
            }
        }
    }
    steps
}

/// Whether a queue had no room (`include/net/dropreason-core.h`, `dropreason-qdisc.h`).
fn is_of_queue(drop: &KernelDrop) -> bool {
    drop.reason.starts_with("QDISC") || matches!(drop.reason.as_str(), "FULL_RING" | "CPU_BACKLOG")
}

/// Whether copies with this source can be for that destination: a link-local one of IPv6 stays on its link (RFC 4007 section 9).
fn reaches(source: IpAddr, destination: IpAddr) -> bool {
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) if source.is_unicast_link_local() => {
            // Scopes up to link-local (RFC 7346 section 2).
            destination.is_unicast_link_local() || destination.is_multicast() && destination.octets()[1] & 0x0f <= 2
        }
        _ => true,
    }
}

/// Bytes by which an IPv6 header is longer than one of IPv4 (RFC 8200 section 3).
const IPV6_GROWTH: u32 = 20;
/// Bytes that a fragment of IPv6 has more, besides.
const FRAGMENT_HEADER_BYTES: u32 = 8;

/// One output.
struct Exit<'a> {
    case: &'a Case<'a>,
    relay: &'a RelayStatus,
    status: &'a OutputStatus,
    spec: &'a Output,
    place: usize,
}

impl Exit<'_> {
    /// What is wrong, or that nothing is; then what can only be guessed of the receiving side.
    fn steps(&self) -> Vec<Step> {
        let name = self.spec.interface.as_str();
        let Some(link) = self.case.facts.links.iter().find(|link| link.name == name) else {
            let fact = format!("there is no interface {name}");
            return vec![Step::fault(
                STEP,
                "output_missing",
                fact,
                "create it or correct the name; the output starts by itself",
            )];
        };
        let checks = [
            Self::link,
            Self::source,
            Self::size,
            Self::hops,
            Self::neighbour,
            Self::fails,
            Self::kernel,
            Self::queue,
            Self::drops,
        ];
        let mut steps: Vec<Step> = match checks.iter().find_map(|check| check(self, link)) {
            Some(fault) => vec![fault],
            None => vec![self.leaves(link)],
        };
        steps.extend(self.receivers(link));
        steps.extend(self.way_back(link));
        steps
    }

    /// Where the copies go.
    fn address(&self) -> IpAddr {
        self.spec.target.ip()
    }

    fn link(&self, link: &Link) -> Option<Step> {
        let name = &link.name;
        if !link.up {
            let remedy = format!("ip link set {name} up");
            return Some(Step::fault(STEP, "output_down", format!("{name} is set down"), remedy));
        }
        let fact = format!("{name} has no link (no carrier)");
        (!link.carrier).then(|| Step::fault(STEP, "output_no_carrier", fact, "check its cable and the other end"))
    }

    fn source(&self, link: &Link) -> Option<Step> {
        let address = self.address();
        let (family, bits) = if address.is_ipv6() { ("IPv6", 64) } else { ("IPv4", 24) };
        let fact = format!("{} has no {family} address to send from", link.name);
        let remedy = format!("ip address add ADDRESS/{bits} dev {}, or set source on the output", link.name);
        let has_some =
            link.addresses.iter().any(|(own, _)| own.is_ipv6() == address.is_ipv6() && reaches(*own, address));
        let is_missing = self.spec.source == SourceRule::OfInterface && !has_some;
        is_missing.then(|| Step::fault(STEP, "output_no_address", fact, remedy))
    }

    fn size(&self, link: &Link) -> Option<Step> {
        if self.spec.oversize == Oversize::Fragment && self.dropped_meanwhile("too_big") == 0 {
            return None;
        }
        // What an XDP program takes is not seen, only counted.
        let flows = self.case.wanted();
        let came = flows.iter().map(|flow| flow.sizes.1).max().unwrap_or_default();
        let largest = flows.iter().map(|flow| self.copied(flow)).max().unwrap_or_default();
        let dropped = self.dropped_meanwhile("too_big");
        if largest <= link.mtu && dropped == 0 {
            return None;
        }
        let size = if came > 0 { format!("up to {came} bytes") } else { "more bytes than that".to_owned() };
        let family = if self.address().is_ipv6() { "IPv6" } else { "IPv4" };
        let copied = if largest == came { String::new() } else { format!(", {largest} as {family}") };
        let fact = format!(
            "{} takes packets of no more than {} bytes, and packets of {size} come{copied}",
            link.name, link.mtu
        );
        let remedy = format!(
            "ip link set {} mtu {}, on every switch and host behind it too, or have the sender use smaller datagrams, or set \
             fragment = true on the output",
            link.name,
            largest.max(link.mtu + 1)
        );
        Some(
            Step::fault(STEP, "output_mtu", fact, remedy)
                .because([format!("{} meanwhile as too_big", counted(dropped))]),
        )
    }

    /// How large the copy of a flow's largest packet is.
    fn copied(&self, flow: &Flow) -> u32 {
        let bytes = flow.sizes.1;
        let growth = IPV6_GROWTH + if flow.fragmented.0 > 0 { FRAGMENT_HEADER_BYTES } else { 0 };
        match (self.case.is_ipv6(), self.address().is_ipv6()) {
            (false, true) if bytes > 0 => bytes + growth,
            (true, false) => bytes.saturating_sub(growth),
            _ => bytes,
        }
    }

    fn hops(&self, _: &Link) -> Option<Step> {
        // Of one that is kept it depends on the sender.
        let TtlRule::Set(ttl) = self.spec.ttl else { return None };
        let (ttl, hops) = (ttl.get(), self.case.question.hops?);
        let fact =
            format!("the copies leave with ttl {ttl}, and {hops} routers are on the way: they end at number {ttl}");
        let remedy = format!("set ttl={} or more on the output", hops.saturating_add(1));
        (ttl <= hops).then(|| Step::fault(STEP, "output_ttl", fact, remedy))
    }

    fn neighbour(&self, link: &Link) -> Option<Step> {
        let host = Some(self.address()).filter(|_| !self.spec.target.is_group())?;
        let next = match self.case.facts.routes_out.get(&host) {
            Some(Route::Out { gateway, .. }) => gateway.unwrap_or(host),
            Some(Route::Local) => return None,
            Some(Route::None) | None => {
                let fact = format!("there is no route to {host} out of {}", link.name);
                let bits = if host.is_ipv6() { 128 } else { 32 };
                let remedy = format!("ip route add {host}/{bits} dev {} (or via a router)", link.name);
                return Some(Step::fault(STEP, "output_no_route", fact, remedy));
            }
        };
        let state = self.case.facts.neighbours.get(&(link.index, next));
        let is_dead = matches!(state, Some(Neighbour::Dead | Neighbour::Asked)) || (state.is_none() && !self.status.ok);
        let asked = if next.is_ipv6() { "neighbour discovery" } else { "ARP" };
        let fact = format!("{next} does not answer on {}: its link-layer address is not known ({asked})", link.name);
        let remedy = format!("check that {next} is up and on this network: ip neighbour show dev {}", link.name);
        is_dead.then(|| Step::fault(STEP, "output_neighbour", fact, remedy))
    }

    /// What the relay itself says of an output that can't send. Where only packets are dropped, the number tells more.
    fn fails(&self, _: &Link) -> Option<Step> {
        let OutputStatus { ok: false, reason: Some(reason), remedy, dropped, .. } = self.status else { return None };
        let lacks_source = self.dropped_meanwhile(DropReason::NoSourceAddress.name()) > 0;
        let dropped: u64 = dropped.keys().map(|reason| self.dropped_meanwhile(reason)).sum();
        let is_standing = dropped == 0 || lacks_source || self.sent_meanwhile() == 0 && self.cannot_open();
        let remedy = remedy.as_deref().unwrap_or("mcr show");
        is_standing.then(|| {
            let evidence = (dropped > 0).then(|| format!("relay: {} dropped meanwhile", counted(dropped)));
            Step::fault(STEP, "output_fails", reason.clone(), remedy).because(evidence)
        })
    }

    /// Whether copies were dropped for the interface itself, which is there.
    fn cannot_open(&self) -> bool {
        [DropReason::OutputMissing, DropReason::OutputDown].iter().any(|r| self.dropped_meanwhile(r.name()) > 0)
    }

    /// What the kernel dropped on its way out, other than in a queue: a firewall or filter at egress, a device that is not ready.
    fn kernel(&self, link: &Link) -> Option<Step> {
        let drops: Vec<&KernelDrop> = self.kernel_drops(link).filter(|drop| !is_of_queue(drop)).collect();
        let most = drops.iter().max_by_key(|drop| drop.packets)?;
        let dropped: u64 = drops.iter().map(|drop| drop.packets).sum();
        if dropped * 2 < self.case.wanted_packets().max(1) {
            return None;
        }
        let name = &link.name;
        let (code, what, remedy) = match most.reason.as_str() {
            "NETFILTER_DROP" => (
                "output_firewall",
                "the firewall drops the copies".to_owned(),
                "find the rule: nft list ruleset".to_owned(),
            ),
            "TC_EGRESS" => (
                "output_tc",
                "a traffic control filter or eBPF program drops the copies".to_owned(),
                format!("list it: tc filter show dev {name} egress"),
            ),
            other => (
                "output_kernel_drop",
                format!("the kernel drops the copies: {other}"),
                format!("see what {} does", most.location),
            ),
        };
        let fact = format!("{what} on their way out of {name} ({} meanwhile)", counted(dropped));
        Some(Step::fault(STEP, code, fact, remedy).because(told(drops.iter().copied())))
    }

    /// Drops by the kernel of what leaves here.
    fn kernel_drops(&self, link: &Link) -> impl Iterator<Item = &KernelDrop> {
        let (address, port, index) = (self.address(), self.spec.port.get(), link.index);
        let drops = self.case.facts.drops.iter().flatten();
        drops.filter(move |d| d.destination == address && d.port.is_none_or(|p| p == port) && d.interface == index)
    }

    fn queue(&self, link: &Link) -> Option<Step> {
        let by_relay = self.dropped_meanwhile("output_queue_full");
        let by_kernel: u64 = self.kernel_drops(link).filter(|drop| is_of_queue(drop)).map(|drop| drop.packets).sum();
        if by_relay + by_kernel == 0 {
            return None;
        }
        let fact =
            format!("the queue of {} ({}) is full: it sends more slowly than packets come", link.name, link.queue);
        let remedy = format!(
            "look at its limit (tc -s qdisc show dev {}): raise it, use a faster interface, or shape the source",
            link.name
        );
        let evidence = [
            format!("kernel: the queue dropped {} of all meanwhile", counted(link.queue_drops)),
            format!("relay: {} meanwhile as output_queue_full", counted(by_relay)),
        ];
        let of_queue = told(self.kernel_drops(link).filter(|drop| is_of_queue(drop)));
        Some(Step::fault(STEP, "output_queue", fact, remedy).because(evidence).because(of_queue))
    }

    fn received(&self) -> u64 {
        relay::received_meanwhile(self.case, self.relay)
    }

    /// What the relay itself dropped for another reason while we looked. What was wrong on the wire already is told there.
    fn drops(&self, _: &Link) -> Option<Step> {
        let reasons = self.status.dropped.keys().filter(|reason| !wire::accounts_for(self.case, reason));
        let (reason, number) =
            reasons.map(|reason| (reason, self.dropped_meanwhile(reason))).max_by_key(|(_, n)| *n)?;
        let known = DropReason::from_name(reason);
        let meaning = known.map_or(reason.as_str(), |reason| reason.meaning());
        let remedy = known.map_or("mcr show", |reason| reason.remedy());
        let fact = format!("the relay dropped {} meanwhile: {meaning}", counted(number));
        (number > 0 && (number * 2 >= self.received() || self.sent_meanwhile() == 0))
            .then(|| Step::fault(STEP, "output_drops", fact, remedy).because([format!("relay: {reason}")]))
    }

    fn dropped_meanwhile(&self, reason: &str) -> u64 {
        let of = |status: &OutputStatus| status.dropped.get(reason).copied().unwrap_or_default();
        let earlier = relay::earlier(self.case, self.relay).and_then(|relay| relay.outputs.get(self.place));
        of(self.status).saturating_sub(earlier.map_or(0, of))
    }

    fn sent_meanwhile(&self) -> u64 {
        let earlier = relay::earlier(self.case, self.relay).and_then(|relay| relay.outputs.get(self.place));
        self.status.sent.packets.saturating_sub(earlier.map_or(0, |earlier| earlier.sent.packets))
    }

    fn leaves(&self, link: &Link) -> Step {
        let sent = self.sent_meanwhile();
        let source = self.status.source.map_or(String::new(), |source| format!(" from {source}"));
        let fact = format!("{} sent meanwhile{source}, ttl {}, mtu {}", counted(sent), self.spec.ttl.spec(), link.mtu);
        Step::ok(STEP, "leaves", fact)
    }

    /// Whether anybody on that side has asked for the group.
    fn receivers(&self, link: &Link) -> Option<Step> {
        const STEP: &str = "receivers";
        let group = Some(self.address()).filter(|_| self.spec.target.is_group())?;
        let heard = self.case.facts.wire.iter().flat_map(|wire| &wire.reports);
        let heard: Vec<_> = heard.filter(|(index, of, _)| *index == link.index && *of == group).map(|r| r.2).collect();
        if !heard.is_empty() {
            return Some(Step::ok(
                STEP,
                "asked_for",
                format!("{} asks for {group} on {}", listed(heard, 3), link.name),
            ));
        }
        let ports = self.case.facts.bridge_groups.iter().filter(|e| e.bridge == link.index && e.group == group);
        let ports: Vec<&str> = ports.map(|entry| self.case.name(entry.port)).collect();
        if !ports.is_empty() {
            return Some(Step::ok(STEP, "asked_for", format!("{} sends {group} to {}", link.name, listed(ports, 4))));
        }
        if let Err(blind) = &self.case.facts.wire {
            return Some(Step::blind(STEP, blind));
        }
        let fact = format!(
            "nobody was heard to ask for {group} on {} in {:.1} s",
            link.name,
            self.case.facts.look.as_secs_f64()
        );
        let remedy = "receivers answer queries, which come every two minutes: look longer with --look 130s";
        Some(Step::unknown(STEP, "not_heard", fact).advise(remedy))
    }

    /// A receiver that checks reverse paths needs a route to the new source on the interface where the copies arrive.
    fn way_back(&self, link: &Link) -> Option<Step> {
        let source = self.spec.source.address()?;
        let is_near = |(address, prefix): &(IpAddr, u8)| is_in_network(source, *address, *prefix);
        let fact = format!(
            "the copies carry source {source}, which is in no network of {}: receivers that check reverse paths need a route to it",
            link.name
        );
        let remedy = "run `mcr explain` on the receiver, or use an address of the interface as the source";
        (!link.addresses.iter().any(is_near)).then(|| Step::unknown("receivers", "foreign_source", fact).advise(remedy))
    }
}
