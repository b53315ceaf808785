//! The firewall: what the kernel says that it dropped, and which rule does.

use super::nft::{self, Fate, Packet};
use super::{Case, listed, told};
use crate::facts::{Firewall, KernelDrop};
use crate::report::Step;

const STEP: &str = "firewall";

/// The hooks that an incoming packet for a socket passes, in order.
const HOOKS: [&str; 3] = ["ingress", "prerouting", "input"];

pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let dropped: Vec<&KernelDrop> = case.drops(&["NETFILTER_DROP"]).collect();
    let packets = samples(case);
    let firewall = case.facts.firewall.as_ref();
    let suspects: Vec<Suspect> = firewall.map(|firewall| suspects(firewall, &packets)).unwrap_or_default();
    if let Some(first) = dropped.first() {
        return vec![proven(case, first, &suspects).because(told(dropped.iter().copied()))];
    }
    let certain = suspects.iter().find(|suspect| suspect.is_certain);
    match (certain, &case.facts.firewall) {
        // The kernel would have said so.
        (Some(_), _) if case.facts.drops.is_ok() && case.wanted_packets() > 0 => vec![passes()],
        (Some(suspect), _) => {
            let fact = format!("a rule of the firewall drops such packets: {}", suspect.rule);
            vec![Step::fault(STEP, suspect.code(), fact, suspect.remedy.clone())]
        }
        (None, Err(blind)) if case.facts.drops.is_err() => vec![Step::blind(STEP, blind)],
        (None, Ok(firewall)) if !firewall.legacy_tables.is_empty() && case.facts.drops.is_err() => {
            let fact =
                format!("iptables-legacy has rules in {}, which are not looked at", listed(&firewall.legacy_tables, 4));
            vec![Step::unknown(STEP, "legacy", fact).advise("iptables-legacy -vnL")]
        }
        (None, _) => vec![passes()],
    }
}

fn passes() -> Step {
    Step::ok(STEP, "passes", "the firewall drops none of them")
}

/// A rule that drops, or may drop, such packets.
struct Suspect {
    hook: String,
    rule: String,
    remedy: String,
    is_certain: bool,
}

impl Suspect {
    fn code(&self) -> &'static str {
        code(&self.hook)
    }
}

fn code(hook: &str) -> &'static str {
    match hook {
        "ingress" => "firewall_ingress",
        "prerouting" => "firewall_prerouting",
        "input" => "firewall_input",
        _ => "firewall",
    }
}

/// The kernel dropped them in the firewall: the hook is that whose function led there; the rule, the one that fits.
fn proven(case: &Case<'_>, drop: &KernelDrop, suspects: &[Suspect]) -> Step {
    let hook = hook(drop);
    let fits = |suspect: &&Suspect| hook.is_none_or(|hook| hook == suspect.hook);
    let suspect = suspects.iter().filter(fits).max_by_key(|suspect| suspect.is_certain);
    let at = hook.map(|hook| format!(" at {hook}")).unwrap_or_default();
    match suspect {
        Some(suspect) => {
            let sure = if suspect.is_certain { "by" } else { "probably by" };
            let fact = format!("the firewall drops the packets{at}, {sure} {}", suspect.rule);
            Step::fault(STEP, suspect.code(), fact, suspect.remedy.clone())
        }
        None => {
            let legacy = case.facts.firewall.iter().flat_map(|firewall| &firewall.legacy_tables).next();
            let tool = if legacy.is_some() { "iptables-legacy -vnL" } else { "nft list ruleset, iptables -vnL" };
            let fact = format!("the firewall drops the packets{at}");
            Step::fault(
                STEP,
                code(hook.unwrap_or_default()),
                fact,
                format!("find the rule ({tool}) and let {} pass", case.group()),
            )
        }
    }
}

/// The hook, from the functions that called it.
fn hook(drop: &KernelDrop) -> Option<&'static str> {
    drop.way.iter().find_map(|function| match function.split('.').next().unwrap_or(function) {
        "nf_ingress" | "nf_hook_ingress" | "__netif_receive_skb_core" => Some("ingress"),
        "ip_rcv" | "ip_sabotage_in" | "ip_list_rcv" | "ip_sublist_rcv" => Some("prerouting"),
        "ipv6_rcv" | "ipv6_list_rcv" | "ip6_sublist_rcv" => Some("prerouting"),
        "ip_local_deliver" | "ip6_input" | "ip6_mc_input" => Some("input"),
        "ip_forward" | "ipmr_queue_xmit" | "ip6_forward" => Some("forward"),
        _ => None,
    })
}

/// What the rules are asked about: one packet of each flow, or one of which only the destination is known.
fn samples(case: &Case<'_>) -> Vec<Packet> {
    let of = |source, ttl, bytes| Packet {
        interface: case.interface().to_owned(),
        source,
        destination: case.group(),
        port: case.port(),
        ttl,
        bytes,
    };
    let seen: Vec<Packet> =
        case.wanted().iter().map(|flow| of(Some(flow.source), Some(flow.ttls.0), Some(flow.sizes.0))).collect();
    if seen.is_empty() { vec![of(case.question.input.single_sources().next(), None, None)] } else { seen }
}

/// The rules that would end a sample, in the order in which it meets them.
fn suspects(firewall: &Firewall, packets: &[Packet]) -> Vec<Suspect> {
    let mut found = Vec::new();
    let is_ipv6 = packets.iter().any(|packet| packet.destination.is_ipv6());
    let family = if is_ipv6 { "ip6" } else { "ip" };
    for hook in HOOKS {
        let mut chains: Vec<_> = firewall.chains.iter().filter_map(|c| Some((c.hook.as_ref()?, c))).collect();
        chains.retain(|(at, chain)| {
            at.name == hook && (chain.family == family || matches!(chain.family.as_str(), "inet" | "netdev"))
        });
        chains.sort_by_key(|(at, _)| at.priority);
        for (at, chain) in chains {
            for packet in packets.iter().filter(|p| at.devices.is_empty() || at.devices.contains(&p.interface)) {
                let (rule, handle, is_certain) = match nft::fate(firewall, chain, packet) {
                    Fate::Passes => continue,
                    Fate::Dropped { rule, handle } => (rule, handle, true),
                    Fate::PerhapsDropped { rule, handle } => (rule, handle, false),
                };
                let remedy = match handle {
                    Some((place, handle)) => {
                        format!("let {} pass before it, or nft delete rule {place} handle {handle}", packet.destination)
                    }
                    None => format!(
                        "nft add rule {} {} {} {family} daddr {} accept",
                        chain.family, chain.table, chain.name, packet.destination
                    ),
                };
                found.push(Suspect { hook: hook.to_owned(), rule, remedy, is_certain });
            }
        }
    }
    found
}
