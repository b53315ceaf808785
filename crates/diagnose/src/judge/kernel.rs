//! What the kernel says by itself: drop reasons that no other step explains, and its own multicast forwarding.

use super::{Case, counted, listed, told};
use crate::facts::KernelDrop;
use crate::report::Step;

const STEP: &str = "kernel";

/// What is known of the kernel's names (`include/net/dropreason-core.h`): code, what happened, what to do.
const KNOWN: [(&str, &str, &str, &str); 9] = [
    (
        "OTHERHOST",
        "other_host",
        "the frames are addressed to another host, or carry a VLAN tag that nothing here is set up for",
        "compare the destination MAC address and the VLAN of the frames",
    ),
    ("UDP_CSUM", "bad_udp_checksum", "the UDP checksum is wrong", "look for a faulty sender, switch or cable"),
    ("IP_CSUM", "bad_ip_checksum", "the IPv4 header checksum is wrong", "look for a faulty sender, switch or cable"),
    ("IP_INHDR", "bad_ip_header", "the IP header contradicts itself", "look for a faulty sender"),
    (
        "TC_INGRESS",
        "tc_ingress",
        "a traffic control filter or eBPF program at the interface's ingress drops them",
        "list it: tc filter show dev IF ingress; bpftool net",
    ),
    ("XDP", "xdp", "an XDP program drops them", "list it: ip link show; bpftool net"),
    (
        "CPU_BACKLOG",
        "backlog",
        "they come faster than the CPU takes them",
        "sysctl -w net.core.netdev_max_backlog=10000, and spread the load over CPUs (RPS)",
    ),
    (
        "UNICAST_IN_L2_MULTICAST",
        "unicast_in_multicast",
        "a unicast packet came in a multicast frame",
        "look for a faulty sender or switch",
    ),
    (
        "FRAG_REASM_TIMEOUT",
        "fragments_lost",
        "fragments of them are missing",
        "have the sender use datagrams that fit the MTU of every network on the way",
    ),
];

/// Drops that the other steps have not explained. Only what loses at least half of what was seen is called the fault: a frame can
/// have several copies in the kernel, and the drop of one is not that of all.
pub(super) fn drops(case: &Case<'_>) -> Option<Step> {
    let drops = match &case.facts.drops {
        Ok(_) => case.all_drops().collect::<Vec<_>>(),
        Err(blind) => return Some(Step::blind(STEP, blind)),
    };
    let dropped: u64 = drops.iter().map(|drop| drop.packets).sum();
    let Some(most) = drops.iter().max_by_key(|drop| drop.packets) else {
        return Some(Step::ok(STEP, "no_drops", "the kernel dropped none of them"));
    };
    let known = KNOWN.iter().find(|(reason, ..)| *reason == most.reason);
    let (code, what, remedy) = match known {
        Some((_, code, what, remedy)) => (*code, (*what).to_owned(), (*remedy).to_owned()),
        None => ("kernel_drop", format!("the kernel's reason is {}", most.reason), way(most)),
    };
    let fact = format!("the kernel dropped {}: {what}", counted(dropped));
    let evidence = told(drops.iter().copied());
    Some(if dropped * 2 >= case.wanted_packets().max(1) {
        Step::fault(STEP, code, fact, remedy).because(evidence)
    } else {
        Step::unknown(STEP, code, fact).because(evidence)
    })
}

/// Where in the kernel it happened, for who knows it.
fn way(drop: &KernelDrop) -> String {
    let functions = drop.way.iter().filter(|name| !name.starts_with("bpf_") && !name.contains("kfree_skb")).take(6);
    format!("see what {} does; it was reached through {}", drop.location, listed(functions, 6))
}

/// Groups that the kernel forwards itself need a time to live above the interface's threshold (`net/ipv4/ipmr.c`,
/// `ip_mr_forward`).
pub(super) fn forwarding(case: &Case<'_>) -> Option<Step> {
    const STEP: &str = "forwarding";
    let entry = case.forwarded.first()?;
    let outs = case.names(&entry.to.iter().map(|(index, _)| *index).collect::<Vec<_>>());
    let least = entry.to.iter().map(|(_, least)| *least).min()?;
    let highest = case.wanted().iter().map(|flow| flow.ttls.1).max();
    Some(match highest {
        Some(ttl) if ttl <= least => {
            let fact = format!(
                "the kernel forwards {} to {outs}, but the packets come with ttl {ttl}: a router lets them end here",
                case.group()
            );
            let remedy = format!(
                "have the sender use a ttl above {least}, or let MCR relay them: it sends with a ttl of its own"
            );
            Step::fault(STEP, "ttl", fact, remedy).because([format!("threshold of the interface: {least}")])
        }
        _ => Step::ok(STEP, "forwarded", format!("the kernel itself forwards {} to {outs}", case.group())),
    })
}
