//! What the wire carries: whether the packets come at all, and whether they are what is asked for.

use std::net::{IpAddr, SocketAddr};

use mcr_model::{DropReason, VlanId};

use super::{Case, counted, listed, packets};
use crate::facts::{Direction, Flow};
use crate::report::Step;

const STEP: &str = "wire";
const INTEGRITY: &str = "integrity";
const FRAGMENTS_LOST: &str = "fragments_lost";

pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let wire = match &case.facts.wire {
        Ok(wire) => wire,
        Err(blind) => return vec![Step::blind(STEP, blind)],
    };
    let mut steps = vec![if case.wanted().is_empty() { absent(case) } else { present(case) }];
    if wire.missed > 0 {
        let last =
            steps.pop().map(|step| step.because([format!("{} more were too fast to look at", counted(wire.missed))]));
        steps.extend(last);
    }
    steps.extend(integrity(case));
    steps
}

/// They come.
fn present(case: &Case<'_>) -> Step {
    let flows = case.wanted();
    let seconds = case.facts.look.as_secs_f64();
    let rate = packets(&flows) as f64 / seconds.max(0.001);
    let sources = listed(flows.iter().map(|flow| flow.source), 3);
    let fact = format!("{} in {seconds:.1} s ({rate:.0} pps) from {sources}", counted(packets(&flows)));
    let one = |range: (u32, u32)| {
        if range.0 == range.1 { range.0.to_string() } else { format!("{} to {}", range.0, range.1) }
    };
    let describe = |flow: &&Flow| {
        let tag = flow.vlan.map_or("untagged".to_owned(), named);
        let ttl = one((flow.ttls.0.into(), flow.ttls.1.into()));
        format!("{}: ttl {ttl}, IP packets of {} bytes, {tag}", flow.source, one(flow.sizes))
    };
    Step::ok(STEP, "seen", fact).because(flows.iter().take(3).map(describe))
}

/// They do not come. The nearest thing that does says why.
fn absent(case: &Case<'_>) -> Step {
    if let Some(step) = elsewhere(case) {
        return step;
    }
    let nearest = [own, later_fragments, other_tag, other_tag_below, other_source, other_port, other_group];
    if let Some(step) = nearest.iter().find_map(|look| look(case)) {
        return step;
    }
    let what = format!("no packet to {}", SocketAddr::new(case.group(), case.port()));
    let look = format!("in {:.1} s", case.facts.look.as_secs_f64());
    let is_asked_for = case.is_joined() || !case.question.input.target.is_group();
    if case.link.is_none_or(|link| !link.up || !link.carrier) {
        return Step::unknown(STEP, "silent", format!("{what} can come over a link that is down"));
    }
    if is_seen_by_relay(case) {
        let fact = format!("{what} was seen {look}, yet a relay received some: an XDP program takes them first");
        return Step::ok(STEP, "taken_early", fact);
    }
    if case.link.is_some_and(|link| link.xdp) && case.relays.is_empty() {
        let fact = format!("{what} was seen {look}; the XDP program on {} may take them first", case.interface());
        return Step::unknown(STEP, "hidden_by_xdp", fact).advise("ask its owner, or look without it: ip link show");
    }
    if !is_asked_for {
        let fact = format!(
            "{what} came {look}, and nobody on this host has joined the group: a switch would not send it here"
        );
        return Step::unknown(STEP, "silent", fact)
            .advise("look again with --join, which joins for as long as it looks");
    }
    if let Some(step) = unheeded(case, &what) {
        return step;
    }
    let remedy = "start the sender, or follow the way towards it: `mcr explain` on the hosts before this one, the switch's \
                  multicast table and VLANs; for packets that come less often, look longer with --look 10s";
    Step::fault(STEP, "silent", format!("{what} came {look}, although this host asks for it"), remedy)
}

/// They come in by another port of the same bridge: [`super::bridge`] says what becomes of them.
fn elsewhere(case: &Case<'_>) -> Option<Step> {
    let link = case.link?;
    let bridge = link.bridge.as_ref().map(|_| link.index).or(link.master);
    let flow = case.entering(bridge)?;
    let fact = format!("{} enter {} by {}", counted(flow.packets), case.name(bridge?), case.name(flow.interface));
    Some(Step::ok(STEP, "seen_entering_bridge", fact))
}

/// This host sends them itself: its sockets get looped copies, which no packet socket sees; a relay takes nothing of its own host.
fn own(case: &Case<'_>) -> Option<Step> {
    let index = case.link?.index;
    let flows = case.facts.wire.iter().flat_map(|wire| &wire.flows);
    let flow = flows.into_iter().find(|flow| {
        flow.interface == index
            && flow.direction == Direction::Out
            && flow.destination == case.group()
            && flow.port == Some(case.port())
    })?;
    let fact = format!("this host itself sends {} from {}", counted(flow.packets), flow.source);
    Some(if case.relays.is_empty() {
        Step::ok(STEP, "sent_by_this_host", format!("{fact}; its sockets get copies"))
    } else {
        let remedy = "send from another host, or have the application send to the output itself";
        Step::unknown(STEP, "sent_by_this_host", format!("{fact}; a relay takes only what comes in")).advise(remedy)
    })
}

fn is_seen_by_relay(case: &Case<'_>) -> bool {
    case.relays.iter().any(|relay| super::relay::received_meanwhile(case, relay) > 0)
}

/// Requests of IGMP versions 1 and 2, and of MLD version 1, for the source-specific range are ignored by routers and switches (RFC 4604 section 2.2.1).
fn unheeded(case: &Case<'_>, what: &str) -> Option<Step> {
    let index = case.link?.index;
    let version = case.facts.memberships.iter().find(|m| m.interface == index && m.group == case.group())?.version;
    let (is_ssm, range, wanted) = match case.group() {
        IpAddr::V4(group) => (group.octets()[0] == 232, "232.0.0.0/8", 3),
        IpAddr::V6(group) => (group.segments()[0] & 0xfff0 == 0xff30, "ff3x::/32", 2),
    };
    if version >= wanted || !is_ssm {
        return None;
    }
    let (name, protocol, settings) = (case.interface(), case.protocol(), &case.facts.settings);
    let (setting, path, forced) = match case.is_ipv6() {
        true => ("force_mld_version", "ipv6", &settings.forced_mld_version),
        false => ("force_igmp_version", "ipv4", &settings.forced_version),
    };
    let (why, remedy) = match forced.get(name) {
        Some(_) => (setting, format!("sysctl -w net.{path}.conf.{name}.{setting}=0")),
        None => ("a querier of that version", format!("set the querier of this network to {protocol}v{wanted}")),
    };
    let fact = format!(
        "{what} comes: {name} asks with {protocol}v{version} because of {why}, and a source-specific group ({range}) is given \
         only to who asks with {protocol}v{wanted}"
    );
    Some(Step::fault("igmp_version", "igmp_version", fact, remedy))
}

/// Only fragments without a port: [`fragments`] says what is wrong with them.
fn later_fragments(case: &Case<'_>) -> Option<Step> {
    let flow = case.arrivals().find(|flow| flow.destination == case.group() && flow.fragmented.0 > 0)?;
    Some(Step::ok(STEP, "seen_in_pieces", format!("{} from {} come as fragments", counted(flow.packets), flow.source)))
}

/// `VLAN 100`, `VLAN 100 within 7`.
fn named(vlan: VlanId) -> String {
    match vlan.outer() {
        Some(outer) => format!("VLAN {} within {outer}", vlan.get()),
        None => format!("VLAN {vlan}"),
    }
}

fn tag(vlan: Option<VlanId>) -> String {
    vlan.map_or("without a VLAN tag".to_owned(), |vlan| format!("in {}", named(vlan)))
}

fn other_tag(case: &Case<'_>) -> Option<Step> {
    let is_it = |flow: &&Flow| flow.destination == case.group() && flow.port == Some(case.port());
    let flow = case.arrivals().find(|flow| is_it(flow) && flow.vlan != case.vlan())?;
    let fact = format!("the packets come {}, not {}", tag(flow.vlan), tag(case.vlan()));
    let (name, target) = (case.interface(), SocketAddr::new(case.group(), case.port()));
    let remedy = match flow.vlan.map(|vlan| (vlan.get(), vlan.outer())) {
        Some((inner, Some(outer))) => {
            format!(
                "for a relay write {name}:{target},vlan={inner},outer-vlan={outer}; or correct the VLANs of the switch port"
            )
        }
        Some((vlan, None)) => format!(
            "for a relay write {name}:{target},vlan={vlan}; for an application \
             `ip link add link {name} name {name}.{vlan} type vlan id {vlan}`, or correct the VLAN of the switch port"
        ),
        None => "leave the VLAN out, or tag the port of the switch".to_owned(),
    };
    Some(Step::fault(STEP, "wrong_vlan", fact, remedy).because([seen(flow)]))
}

/// On the interface that a VLAN interface is made on: the packets come there with another tag.
fn other_tag_below(case: &Case<'_>) -> Option<Step> {
    let link = case.link?;
    let below = link.parent?;
    let flows = case.facts.wire.iter().flat_map(|wire| &wire.flows);
    let flow = flows.into_iter().find(|flow| {
        flow.interface == below
            && flow.destination == case.group()
            && flow.port == Some(case.port())
            && flow.vlan != link.vlan.and_then(VlanId::new)
    })?;
    let (name, below, own) = (&link.name, case.name(below), link.vlan.unwrap_or_default());
    let fact = format!("the packets come to {below} {}, and {name} is VLAN {own}", tag(flow.vlan));
    let remedy = format!("use {below} or an interface of that VLAN, or correct the VLAN of the switch port");
    Some(Step::fault(STEP, "wrong_vlan", fact, remedy).because([seen(flow)]))
}

fn other_source(case: &Case<'_>) -> Option<Step> {
    let flow = case
        .arrivals()
        .find(|flow| flow.destination == case.group() && flow.port == Some(case.port()) && !case.lists(flow.source))?;
    let wanted = listed(&case.question.input.sources, 3);
    let fact = format!("the packets come from {}, not from {wanted}", flow.source);
    let remedy = format!("ask for {} as the source, or leave the source out", flow.source);
    Some(Step::fault(STEP, "wrong_source", fact, remedy).because([seen(flow)]))
}

fn other_port(case: &Case<'_>) -> Option<Step> {
    let of_group = |flow: &&Flow| flow.destination == case.group() && flow.vlan == case.vlan();
    let flow = case.arrivals().filter(of_group).find(|flow| flow.port.is_some())?;
    let port = flow.port?;
    let fact = format!("the packets to {} come to port {port}, not {}", case.group(), case.port());
    Some(
        Step::fault(STEP, "wrong_port", fact, format!("listen on port {port}, or have the sender use {}", case.port()))
            .because([seen(flow)]),
    )
}

fn other_group(case: &Case<'_>) -> Option<Step> {
    let flow = case.arrivals().find(|flow| flow.port == Some(case.port()) && flow.destination != case.group())?;
    let came = SocketAddr::new(flow.destination, case.port());
    let fact = format!("no packet to {} came, but some to {came}", case.group());
    Some(Step::unknown(STEP, "other_group", fact).because([seen(flow)]).advise("compare the groups: is one mistyped?"))
}

fn seen(flow: &Flow) -> String {
    let to = flow.port.map_or(flow.destination.to_string(), |port| SocketAddr::new(flow.destination, port).to_string());
    format!("wire: {} from {} to {to}", counted(flow.packets), flow.source)
}

/// Whether what comes is whole: nobody takes a packet that is wrong in itself.
fn integrity(case: &Case<'_>) -> Option<Step> {
    fragments(case).or_else(|| damage(case))
}

/// Whether what is wrong on the wire is why a relay drops for this reason, too.
pub(super) fn accounts_for(case: &Case<'_>, reason: &str) -> bool {
    let is_wrong = case.wanted().iter().any(|flow| flow.wrong.contains_key(reason));
    is_wrong || reason == DropReason::Fragment.name() && fragments(case).is_some_and(|step| step.code == FRAGMENTS_LOST)
}

fn damage(case: &Case<'_>) -> Option<Step> {
    let flows = case.wanted();
    let total = packets(&flows);
    // Options are carried to sockets, and not by relays.
    let is_refused = |name: &str| name != "ip_options" || !case.relays.is_empty();
    let wrong = flows.iter().flat_map(|flow| &flow.wrong).filter(|(name, _)| is_refused(name));
    let (name, number) = wrong.max_by_key(|(_, number)| **number)?;
    let reason = DropReason::from_name(name)?;
    let fact = format!("{number} of {total} packets are wrong: {}", reason.meaning());
    Some(if number * 2 >= total {
        Step::fault(INTEGRITY, reason.name(), fact, reason.remedy())
    } else {
        Step::unknown(INTEGRITY, reason.name(), fact).advise(reason.remedy())
    })
}

/// Datagrams in fragments: a lost fragment is a lost datagram.
fn fragments(case: &Case<'_>) -> Option<Step> {
    let is_its = |flow: &&Flow| flow.destination == case.group() && flow.port.is_none_or(|port| port == case.port());
    let (mut all, mut lost) = (0, 0);
    for flow in case.arrivals().filter(is_its) {
        all += flow.fragmented.0;
        lost += flow.fragmented.1;
    }
    let remedy = "have the sender use datagrams that fit the MTU of every network on the way";
    if all == 0 {
        return None;
    }
    Some(if lost * 2 >= all {
        let fact = format!(
            "{lost} of {all} fragmented datagrams come without all of their fragments: such a datagram is lost whole"
        );
        Step::fault(INTEGRITY, FRAGMENTS_LOST, fact, remedy)
    } else {
        let fact = format!("{all} datagrams come in fragments, {lost} of them not whole");
        if lost > 0 {
            Step::unknown(INTEGRITY, "fragments", fact).advise(remedy)
        } else {
            Step::ok(INTEGRITY, "fragments", fact)
        }
    })
}
