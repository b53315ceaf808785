//! Switches on the way: the bridges of this host, whose tables can be read, and the querier that any other switch needs.

use std::net::IpAddr;

use super::Case;
use crate::facts::{Bridge, Link, Port};
use crate::report::Step;

const SNOOPING: &str = "snooping";
const QUERIER: &str = "querier";

pub(super) fn step(case: &Case<'_>) -> Option<Step> {
    if !case.question.input.target.is_group() {
        return None;
    }
    let link = case.link?;
    if let (Some(port), true) = (&link.port, case.is_way_out()) {
        return Some(way_out(case, link, port));
    }
    Some(querier(case, link))
}

/// The receivers are behind this port of a bridge of this host.
fn way_out(case: &Case<'_>, link: &Link, port: &Port) -> Step {
    let (name, group) = (&link.name, case.group());
    let master = case.facts.links.iter().find(|bridge| Some(bridge.index) == link.master);
    let Some((bridge_name, bridge)) = master.and_then(|bridge| Some((&bridge.name, bridge.bridge.as_ref()?))) else {
        return Step::unknown(SNOOPING, "not_visible", format!("the bridge of {name} does not say what it does"));
    };
    let is_entry = |entry: &&crate::BridgeGroup| entry.port == link.index && entry.group == group;
    let is_listed = case.facts.bridge_groups.iter().any(|entry| is_entry(&entry));
    let has_querier = bridge.asks || bridge.heard_querier(group).is_some();
    let (protocol, evidence) = (case.protocol(), [table(case, bridge_name, bridge), flags(name, port)]);
    let step = match (bridge.snooping, has_querier) {
        (true, true) if is_listed || port.router => {
            Step::ok(SNOOPING, "listed", format!("{bridge_name} sends {group} to {name}"))
        }
        (true, true) => {
            let remedy = format!(
                "have the receiver join (its membership report must reach {bridge_name}), or `bridge mdb add dev \
                 {bridge_name} port {name} grp {group} permanent`"
            );
            let fact =
                format!("{bridge_name} watches {protocol}, and {name} is not among the ports that asked for {group}");
            Step::fault(SNOOPING, "not_listed", fact, remedy)
        }
        _ if port.floods => Step::ok(SNOOPING, "flooded", format!("{bridge_name} floods {group} to {name}")),
        (true, false) => {
            let remedy =
                format!("ip link set {bridge_name} type bridge mcast_querier 1, or switch a querier on elsewhere");
            let fact = format!(
                "{bridge_name} watches {protocol}, but nobody sends queries, so it does not use its table; and {name} is not flooded"
            );
            Step::fault(QUERIER, "no_querier", fact, remedy)
        }
        (false, _) => {
            let remedy = format!(
                "bridge link set dev {name} mcast_flood on, or ip link set {bridge_name} type bridge mcast_snooping 1"
            );
            let fact = format!("{bridge_name} does not watch {protocol}, and {name} is not flooded with multicast");
            Step::fault(SNOOPING, "flood_off", fact, remedy)
        }
    };
    step.because(evidence)
}

/// The table of a bridge for the group.
fn table(case: &Case<'_>, name: &str, bridge: &Bridge) -> String {
    let entries = case.facts.bridge_groups.iter().filter(|entry| entry.group == case.group());
    let ports = super::listed(entries.map(|entry| case.name(entry.port)), 8);
    let querier = match (bridge.asks, bridge.heard_querier(case.group())) {
        (true, _) => "itself".to_owned(),
        (false, Some(address)) => address.to_string(),
        (false, None) => "none".to_owned(),
    };
    let snooping = if bridge.snooping { "on" } else { "off" };
    format!("{name}: snooping {snooping}, querier {querier}, ports of {}: {ports}", case.group())
}

fn flags(name: &str, port: &Port) -> String {
    let on = |is: bool| if is { "on" } else { "off" };
    format!("{name}: flooding {}, router port {}", on(port.floods), on(port.router))
}

/// A switch that watches IGMP forgets groups when nobody asks for them again (RFC 4541 section 2.1.1).
fn querier(case: &Case<'_>, link: &Link) -> Step {
    let heard = case.facts.wire.iter().flat_map(|wire| &wire.queries);
    let is_its = |interface: u32, address: IpAddr| interface == link.index && address.is_ipv6() == case.is_ipv6();
    let heard = heard.into_iter().find(|((interface, address), _)| is_its(*interface, *address));
    if let Some(((_, address), version)) = heard {
        let fact = format!("{address} asks for memberships with {}v{version}", case.protocol());
        return Step::ok(QUERIER, "heard", fact);
    }
    if let Some(bridge) = &link.bridge
        && (bridge.asks || bridge.heard_querier(case.group()).is_some() || !bridge.snooping)
    {
        return Step::ok(QUERIER, "bridge", table(case, &link.name, bridge));
    }
    if let Err(blind) = &case.facts.wire {
        return Step::blind(QUERIER, blind);
    }
    let fact = format!("no membership query was heard on {} in {:.1} s", link.name, case.facts.look.as_secs_f64());
    let remedy = format!(
        "queries come every two minutes: look longer with --look 130s; a switch that watches {} forgets groups without them, so \
         switch its querier on",
        case.protocol()
    );
    Step::unknown(QUERIER, "not_heard", fact).advise(remedy)
}
