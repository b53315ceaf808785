//! Who has joined the group, and which sources they let through.

use std::collections::BTreeSet;

use super::{Case, listed, owned};
use crate::facts::{Hold, Socket};
use crate::report::Step;

const STEP: &str = "membership";
const FILTER: &str = "nic_filter";

pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    if !case.question.input.target.is_group() || case.is_way_out() {
        return Vec::new();
    }
    [nic_filter(case), Some(membership(case)), source_filter(case)].into_iter().flatten().collect()
}

/// The card lets a group's link-layer address through when somebody has joined; promiscuity lets all through.
fn nic_filter(case: &Case<'_>) -> Option<Step> {
    let link = case.link?;
    let mac = mcr_model::group_mac(case.group());
    let shown = mac.map(|byte| format!("{byte:02x}")).join(":");
    let is_let_through = case.facts.link_filters.contains(&(link.name.clone(), mac));
    if is_let_through {
        return Some(Step::ok(FILTER, "listed", format!("{} lets {shown} through", link.name)));
    }
    if link.takes_all {
        return Some(Step::ok(FILTER, "takes_all", format!("{} lets every multicast frame through", link.name)));
    }
    // What follows from a missing membership is told there.
    case.wanted().is_empty().then(|| {
        Step::unknown(FILTER, "not_listed", format!("{} may hold {shown} back: no one asked for it", link.name))
    })
}

fn membership(case: &Case<'_>) -> Step {
    let (name, group) = (case.interface(), case.group());
    let holders: Vec<&Socket> = case.holders().map(|(socket, _)| socket).collect();
    let index = case.link.map(|link| link.index);
    let version = case.facts.memberships.iter().find(|m| Some(m.interface) == index && m.group == group);
    let newest = if case.is_ipv6() { 2 } else { 3 };
    let version = format!("{}v{}", case.protocol(), version.map_or(newest, |membership| membership.version));
    if !holders.is_empty() {
        let who = listed(holders.iter().map(|socket| owned(socket)), 3);
        return Step::ok(STEP, "joined", format!("{group} is joined on {name} ({version}) by {who}"));
    }
    if case.is_joined() && !is_deaf(case) {
        return Step::ok(STEP, "joined", format!("{group} is joined on {name} ({version})"));
    }
    if !case.forwarded.is_empty() && !case.is_for_sockets() && case.relays.is_empty() {
        return Step::ok(
            STEP,
            "not_needed",
            format!("nobody has joined {group} on {name}; forwarding by the kernel needs no membership"),
        );
    }
    if !case.is_for_sockets() && case.relays.is_empty() {
        let fact = format!("nobody has joined {group} on {name}");
        return Step::unknown(STEP, "nobody", fact);
    }
    missing(case)
}

/// The sockets of the port hear only what they joined themselves, and have not joined.
fn is_deaf(case: &Case<'_>) -> bool {
    let is_deaf = |socket: &Socket| socket.membership == Some(Hold::No) && socket.hears_all == Some(false);
    case.relays.is_empty() && case.is_for_sockets() && case.sockets.iter().all(|socket| is_deaf(socket))
}

/// Somebody is there to take the packets, and has not joined.
fn missing(case: &Case<'_>) -> Step {
    let (name, group) = (case.interface(), case.group());
    if !case.relays.is_empty() {
        // The relay says itself why it has not.
        return Step::unknown(STEP, "not_joined", format!("no relay has joined {group} on {name}"));
    }
    let who = listed(case.sockets.iter().map(|socket| owned(socket)), 3);
    let limit = case.facts.settings.most_memberships as usize;
    // IPv6 has no such limit.
    if !case.is_ipv6() && case.sockets.iter().any(|socket| socket.groups_held >= limit) {
        let fact =
            format!("{who} has not joined {group} on {name}: it holds all the {limit} groups that one socket may");
        let remedy = "sysctl -w net.ipv4.igmp_max_memberships=200 and start it again, or have it use more sockets";
        return Step::fault(STEP, "membership_limit", fact, remedy)
            .because([format!("net.ipv4.igmp_max_memberships = {limit}")]);
    }
    let elsewhere: BTreeSet<u32> =
        case.facts.memberships.iter().filter(|m| m.group == group).map(|m| m.interface).collect();
    if !elsewhere.is_empty() && !case.is_joined() {
        let others = case.names(&elsewhere.into_iter().collect::<Vec<_>>());
        // The kernel's own routes to groups of IPv6 are in the table `local`.
        let (bits, table) = if case.is_ipv6() { (128, " table local") } else { (32, "") };
        let remedy = format!(
            "name the interface when joining (the address or index of {name}); without it the kernel takes the one \
             that its route to {group} leads to: ip route add {group}/{bits} dev {name}{table}"
        );
        return Step::fault(STEP, "joined_elsewhere", format!("{group} is joined on {others}, not on {name}"), remedy);
    }
    let option = if case.is_ipv6() { "IPV6_JOIN_GROUP" } else { "IP_ADD_MEMBERSHIP" };
    let fact = format!("{who} listens on port {} and has not joined {group} on {name}", case.port());
    Step::fault(STEP, "not_joined", fact, format!("have it join {group} on {name} ({option})"))
}

/// A source-specific membership without the source that sends.
fn source_filter(case: &Case<'_>) -> Option<Step> {
    let sources = case.sources();
    if sources.is_empty() || !case.is_for_sockets() || case.holders().next().is_none() {
        return None;
    }
    let passes = |hold: &Hold| {
        sources.iter().any(|source| match hold {
            Hold::No => false,
            Hold::AllBut(excluded) => !excluded.contains(source),
            Hold::Only(included) => included.contains(source),
        })
    };
    if case.holders().any(|(_, hold)| passes(hold)) {
        return None;
    }
    let (socket, hold) = case.holders().next()?;
    let sends = listed(&sources, 3);
    let wants = match hold {
        Hold::Only(included) => format!("takes only {}", listed(included, 3)),
        Hold::No | Hold::AllBut(_) => "excludes that source".to_owned(),
    };
    let fact = format!("{sends} sends, and {} {wants}", owned(socket));
    Some(Step::fault(
        "source_filter",
        "source_excluded",
        fact,
        format!("have it join with source {sends}, or without a source"),
    ))
}
