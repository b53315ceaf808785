//! What follows from the facts about a host. Pure.

use mcr_model::RelayState;
use mcr_model::querier::QueryProtocol;
use mcr_model::trouble::Trouble;

use super::Finding;
use super::host::Host;
use crate::facts::{Link, Membership, Relays};
use crate::judge::listed;

/// Numbers of `include/uapi/linux/capability.h`.
const NEEDED_CAPABILITIES: [(u32, &str, &str); 4] = [
    (13, "CAP_NET_RAW", "packet sockets"),
    (12, "CAP_NET_ADMIN", "neighbours, attaching eBPF"),
    (39, "CAP_BPF", "loading eBPF"),
    (38, "CAP_PERFMON", "the kernel's drop reasons"),
];

/// Everything, in the order in which somebody sets up a host.
pub(super) fn findings(host: &Host) -> Vec<Finding> {
    let parts =
        [kernel, ebpf, privileges, limits, backlog, cards, placement, losses, reverse_path, queriers, others, relays];
    parts.iter().flat_map(|part| part(host)).collect()
}

fn kernel(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "kernel";
    let version = version(&host.kernel);
    let fact = format!("Linux {}", host.kernel);
    vec![match version {
        Some(version) if version < (5, 16) => Finding::fault(
            TOPIC,
            "kernel_old",
            format!("{fact} is too old"),
            "use Linux 5.16 or newer; 6.6 or newer for the in-kernel datapaths",
        ),
        Some(version) if version < (6, 6) => Finding::advice(
            TOPIC,
            "kernel_no_tcx",
            format!("{fact} has no tcx"),
            "use Linux 6.6 or newer for the in-kernel datapaths; the packet datapath works",
        ),
        _ => Finding::ok(TOPIC, "kernel_new", fact),
    }]
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn ebpf(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "ebpf";
    let mut found = vec![match &host.ebpf {
        Ok(()) => Finding::ok(TOPIC, "ebpf_works", "eBPF programs can be loaded"),
        Err(_) if !host.has_btf => Finding::advice(
            TOPIC,
            "no_btf",
            "the kernel has no BTF (/sys/kernel/btf/vmlinux): no in-kernel datapath, no drop reasons",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
        Err(blind) => Finding::advice(TOPIC, "ebpf_refused", blind.reason.clone(), blind.remedy.clone()),
    }];
    if !host.has_bpffs {
        let remedy = "mount it, so that in-kernel relays outlive a restart";
        found.push(
            Finding::advice(TOPIC, "no_bpffs", "no bpffs is mounted at /sys/fs/bpf", remedy)
                .by("mount -t bpf bpf /sys/fs/bpf"),
        );
    }
    if host.compiles == Some(false) {
        let remedy = "switch the compiler on";
        found.push(
            Finding::advice(TOPIC, "no_jit", "eBPF is interpreted, several times slower", remedy)
                .by("sysctl -w net.core.bpf_jit_enable=1"),
        );
    }
    found
}

fn privileges(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "privileges";
    let missing = NEEDED_CAPABILITIES.iter().filter(|(number, ..)| host.capabilities >> number & 1 == 0);
    let missing: Vec<String> = missing.map(|(_, name, what)| format!("{name} ({what})")).collect();
    vec![if missing.is_empty() {
        Finding::ok(TOPIC, "privileged", "this process may do all that the keeper and this look need")
    } else {
        let fact = format!("this process lacks {}", listed(&missing, 4));
        Finding::advice(
            TOPIC,
            "unprivileged",
            fact,
            "run as root to see everything; the daemon itself needs none of them, only its keeper",
        )
    }]
}

fn limits(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "limits";
    const LARGE_BUFFER_BYTES: u32 = 8 << 20;
    let (groups, sources) = (host.settings.most_memberships, host.most_sources);
    let receive = host.settings.most_receive_bytes;
    let mut found = Vec::new();
    found.push(if groups < 20 {
        let remedy = "MCR spreads groups over sockets, other applications often do not";
        Finding::advice(TOPIC, "memberships_few", format!("a socket may join only {groups} groups"), remedy)
            .by("sysctl -w net.ipv4.igmp_max_memberships=200")
    } else {
        Finding::ok(TOPIC, "memberships", format!("a socket may join {groups} groups (igmp_max_memberships)"))
    });
    found.push(if sources < 10 {
        Finding::advice(
            TOPIC,
            "sources_few",
            format!("a membership may list only {sources} sources"),
            "raise it for relays with many sources",
        )
        .by("sysctl -w net.ipv4.igmp_max_msf=64")
    } else {
        Finding::ok(TOPIC, "sources", format!("a membership may list {sources} sources (igmp_max_msf)"))
    });
    found.push(if receive < LARGE_BUFFER_BYTES {
        let fact = format!("applications may have receive buffers of {receive} bytes only (rmem_max): bursts get lost");
        Finding::advice(TOPIC, "receive_buffers_small", fact, "allow larger ones")
            .by("sysctl -w net.core.rmem_max=33554432")
    } else {
        Finding::ok(
            TOPIC,
            "receive_buffers",
            format!("applications may have receive buffers of {receive} bytes (rmem_max)"),
        )
    });
    found
}

fn backlog(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "backlog";
    vec![if host.backlog_drops > 0 {
        let fact = format!(
            "CPUs dropped {} packets since the start: their backlog of {} was full",
            host.backlog_drops, host.backlog
        );
        Finding::advice(TOPIC, "backlog_drops", fact, "allow a longer one, or spread the load over CPUs")
            .by("sysctl -w net.core.netdev_max_backlog=10000")
    } else {
        Finding::ok(TOPIC, "backlog", format!("no CPU had to drop packets (backlog of {})", host.backlog))
    }]
}

fn cards(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "offloads";
    let mut found = Vec::new();
    for (name, card) in &host.cards {
        if card.merges {
            let fact = format!("{name} merges packets by itself (LRO): relays can not take them apart");
            found.push(Finding::fault(TOPIC, "lro", fact, "switch it off").by(format!("ethtool -K {name} lro off")));
        }
        if let Some((slots, most)) = card.ring.filter(|(slots, most)| slots < most) {
            let fact = format!("the receive ring of {name} has {slots} slots and could have {most}");
            found.push(
                Finding::advice(TOPIC, "ring_small", fact, "enlarge it if the card loses packets")
                    .by(format!("ethtool -G {name} rx {most}")),
            );
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(
            TOPIC,
            "offloads",
            "no card merges packets, and receive rings are as large as they can be",
        ));
    }
    found
}

fn placement(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "placement";
    let one_cpu = |cpus: &str| !cpus.contains([',', '-']);
    let is_narrow = |queues: &super::host::Queues| {
        let by_one = queues.number == 1
            || (queues.interrupt_cpus.len() == 1 && queues.interrupt_cpus.iter().all(|c| one_cpu(c)));
        by_one && !queues.spread
    };
    let narrow = host.queues.iter().filter(|(_, queues)| host.cpus > 1 && is_narrow(queues));
    narrow
        .map(|(name, queues)| {
            let fact = format!("one CPU takes all packets of {name} ({} receive queues, RPS off)", queues.number);
            let mask = format!("{:x}", (1_u128 << host.cpus.min(32)) - 1);
            let command = format!("echo {mask} > /sys/class/net/{name}/queues/rx-0/rps_cpus");
            Finding::advice(TOPIC, "one_cpu", fact, "spread them, if that CPU is busy").by(command)
        })
        .collect()
}

fn losses(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "losses";
    let mut found = Vec::new();
    for link in &host.links {
        let (queue, device) = host.losses.get(&link.index).copied().unwrap_or_default();
        let name = &link.name;
        if device > 0 {
            let fact = format!("{name} lost {device} packets since it was made: its ring was full");
            found.push(
                Finding::advice(TOPIC, "ring_full", fact, "enlarge the ring, or spread its interrupts")
                    .by(format!("ethtool -S {name}")),
            );
        }
        if queue > 0 {
            let fact = format!("the queue of {name} ({}) dropped {queue} packets", link.queue);
            found.push(
                Finding::advice(TOPIC, "queue_full", fact, "look at its limit and its class")
                    .by(format!("tc -s qdisc show dev {name}")),
            );
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(TOPIC, "no_losses", "no interface lost packets in its ring or queue"));
    }
    found
}

/// The table of the check; a strict one is no fault: it is why relays are needed.
fn reverse_path(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "reverse_path";
    let word = |mode| match mode {
        0 => "off",
        1 => "strict",
        _ => "loose",
    };
    let of = |link: &&Link| format!("{} {}", link.name, word(host.settings.reverse_path_of(&link.name)));
    let fact = format!("reverse-path check: {}", listed(host.links.iter().map(|link| of(&link)), 12));
    let is_on = |link: &&Link| link.name != "lo" && host.settings.reverse_path_of(&link.name) != 0;
    vec![match host.links.iter().find(is_on) {
        Some(_) => Finding {
            remedy: Some("sockets do not hear sources that this host has no route back to; relays do".to_owned()),
            ..Finding::ok(TOPIC, "checked", fact)
        },
        None => Finding::ok(TOPIC, "unchecked", fact),
    }]
}

fn queriers(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "queriers";
    let name = |index: u32| host.links.iter().find(|link| link.index == index).map_or("?", |link| &link.name);
    let mut found = Vec::new();
    for link in &host.links {
        if let Some(bridge) = link.bridge.as_ref().filter(|b| b.snooping && !b.asks && b.heard_queriers.is_empty()) {
            let _ = bridge;
            let fact =
                format!("{} watches IGMP, and nobody sends queries: it floods, and forgets who asked", link.name);
            let command = format!("ip link set {} type bridge mcast_querier 1", link.name);
            found.push(
                Finding::advice(TOPIC, "bridge_without_querier", fact, "have one asked by this bridge, or by a router")
                    .by(command),
            );
        }
    }
    for Membership { interface, group, version } in &host.memberships {
        let (code, newest) = if group.is_ipv6() { ("mld_old", 2) } else { ("igmp_old", 3) };
        if *version >= newest {
            continue;
        }
        let protocol = QueryProtocol::of(*group);
        let fact = format!("{} speaks {protocol}v{version}: sources can not be asked for there", name(*interface));
        let remedy = format!("set the querier of that network to {protocol}v{newest}");
        let finding = Finding::advice(TOPIC, code, fact, remedy);
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    match &host.queriers {
        Ok(heard) if heard.is_empty() => {
            let fact = format!("no query was heard in {:.1} s; they come every two minutes", host.look.as_secs_f64());
            found.push(Finding::advice(TOPIC, "no_query", fact, "listen longer").by("mcr doctor --look 130s"));
        }
        Ok(heard) => found.extend(heard.iter().map(|((interface, address), version)| {
            let protocol = QueryProtocol::of(*address);
            Finding::ok(TOPIC, "querier", format!("{address} asks on {} with {protocol}v{version}", name(*interface)))
        })),
        Err(blind) => found.push(Finding::advice(TOPIC, "not_visible", blind.reason.clone(), blind.remedy.clone())),
    }
    found
}

/// Other software that wants the same packets.
fn others(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "others";
    let mut found = Vec::new();
    if let Some(owners) = &host.routing {
        let who = match &owners[..] {
            [] => "a process that is not visible".to_owned(),
            owners => listed(owners.iter().map(|owner| format!("{} (pid {})", owner.name, owner.pid)), 3),
        };
        let groups = listed(host.forwarded.iter().map(|entry| entry.group), 6);
        let fact = format!("{who} owns the kernel's multicast forwarding (groups: {groups})");
        let remedy =
            "a group that is both forwarded and relayed to one network arrives there twice: leave it to one of them";
        found.push(Finding::advice(TOPIC, "multicast_routing", fact, remedy).by("ip mroute show"));
    }
    for link in host.links.iter().filter(|link| link.xdp) {
        if is_ours(host, link) {
            let fact =
                format!("the XDP program on {} is MCR's own: relays with the xdp datapath take from there", link.name);
            found.push(Finding::ok(TOPIC, "own_xdp", fact));
            continue;
        }
        let fact = format!("an XDP program is on {}", link.name);
        let remedy = "unless it is MCR's own: the xdp datapath can not be used there, and frames that it takes are seen by nobody";
        found.push(Finding::advice(TOPIC, "xdp", fact, remedy).by(format!("ip link show dev {}", link.name)));
    }
    if found.is_empty() {
        found.push(Finding::ok(TOPIC, "alone", "no multicast routing daemon and no XDP program is here"));
    }
    found
}

/// An interface has room for one XDP program: where a relay is served by it, it is the relay's.
fn is_ours(host: &Host, link: &Link) -> bool {
    let Relays::Known(relays) = &host.relays else { return false };
    relays.iter().any(|relay| relay.datapath == "xdp" && relay.relay.input.interface == link.name)
}

fn relays(host: &Host) -> Vec<Finding> {
    const TOPIC: &str = "relays";
    let relays = match &host.relays {
        Relays::Known(relays) => relays,
        Relays::NoDaemon => return vec![Finding::ok(TOPIC, "no_daemon", "no relay daemon runs")],
        Relays::Unknown(blind) => {
            return vec![Finding::advice(TOPIC, "not_visible", blind.reason.clone(), blind.remedy.clone())];
        }
    };
    // Nobody has to send all the time: a relay that waits for packets is no fault of this host.
    let ill = relays.iter().filter(|relay| relay.state != RelayState::Silent).filter_map(|relay| {
        let remedy = relay.remedy.clone()?;
        let fact = format!("{} is {}: {}", relay.name, relay.state, relay.reason);
        Some(Finding::fault(TOPIC, "relay", fact, remedy).by(format!("mcr explain {}", relay.name)))
    });
    let mut found: Vec<Finding> = ill.collect();
    if found.is_empty() {
        found.push(Finding::ok(TOPIC, "relays", format!("all {} relays do what they should", relays.len())));
    }
    found
}

/// What is wrong with the daemon as a whole.
pub(super) fn trouble(trouble: &Trouble) -> Finding {
    Finding::fault("daemon", trouble.kind.name(), trouble.message.clone(), trouble.remedy.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::ethtool::Card;
    use super::super::host::Queues;
    use super::*;
    use crate::facts::{Blind, Bridge, Membership, Owner, Settings};
    use crate::report::Mark;

    fn membership(group: &str, version: u8) -> Membership {
        Membership { interface: 2, group: group.parse().expect("a group"), version }
    }

    fn healthy() -> Host {
        let link = Link { index: 2, name: "eth0".into(), up: true, carrier: true, multicast: true, ..Link::default() };
        Host {
            kernel: "6.18.1".into(),
            has_btf: true,
            ebpf: Ok(()),
            has_bpffs: true,
            compiles: Some(true),
            capabilities: u64::MAX,
            most_sources: 10,
            backlog: 1000,
            backlog_drops: 0,
            cpus: 4,
            cards: BTreeMap::from([("eth0".into(), Card { ring: Some((512, 512)), merges: false })]),
            queues: BTreeMap::from([("eth0".into(), Queues { number: 4, ..Queues::default() })]),
            losses: BTreeMap::new(),
            settings: Settings { most_memberships: 20, most_receive_bytes: 32 << 20, ..Settings::default() },
            memberships: vec![membership("239.1.1.1", 3), membership("ff3e::1", 2)],
            queriers: Ok(BTreeMap::from([((2, "10.0.0.9".parse().expect("an address")), 3)])),
            look: Duration::from_secs(1),
            routing: None,
            forwarded: Vec::new(),
            relays: Relays::NoDaemon,
            links: vec![link],
        }
    }

    #[test]
    fn a_healthy_host_has_nothing_to_mend() {
        let findings = findings(&healthy());
        assert!(findings.iter().all(|finding| finding.mark == Mark::Ok), "{findings:#?}");
    }

    fn relay(state: RelayState, datapath: &str) -> mcr_model::status::RelayStatus {
        let traffic = serde_json::json!({ "packets": 5, "bytes": 500 });
        serde_json::from_value(serde_json::json!({
            "name": "camera", "origin": "file", "state": state, "reason": "said so", "remedy": "look at its sender",
            "datapath": datapath, "from": "eth0:239.1.1.1:5001", "received": traffic, "outputs": [],
            "relay": {"name": "camera", "input": {"interface": "eth0", "group": "239.1.1.1", "port": 5001}, "output": []},
        }))
        .expect("a relay")
    }

    #[test]
    fn relays_that_wait_and_their_own_program_are_no_illness() {
        let ill = |state, datapath| {
            let mut host = healthy();
            host.links[0].xdp = true;
            host.relays = Relays::Known(vec![relay(state, datapath)]);
            findings(&host).into_iter().filter(|f| f.mark != Mark::Ok).map(|f| f.code).collect::<Vec<_>>()
        };
        assert_eq!(ill(RelayState::Silent, "xdp"), [""; 0]);
        assert_eq!(ill(RelayState::Silent, "packet"), ["xdp"]);
        assert_eq!(ill(RelayState::Failed, "xdp"), ["relay"]);
    }

    /// What makes a healthy host ill.
    type Hurt = fn(&mut Host);

    #[test]
    fn each_illness_has_its_name_and_a_remedy() {
        let bridge = Link {
            index: 3,
            name: "br0".into(),
            bridge: Some(Bridge { snooping: true, asks: false, heard_queriers: Vec::new() }),
            ..Link::default()
        };
        let owner = Owner { pid: 7, name: "smcrouted".into() };
        let table: [(&str, Mark, Hurt); 17] = [
            ("kernel_old", Mark::Fault, |host| host.kernel = "5.10.0-1".into()),
            ("kernel_no_tcx", Mark::Unknown, |host| host.kernel = "6.1.0".into()),
            ("no_btf", Mark::Unknown, |host| (host.has_btf, host.ebpf) = (false, Err(Blind::new("no", "do")))),
            ("ebpf_refused", Mark::Unknown, |host| host.ebpf = Err(Blind::new("refused", "run as root"))),
            ("no_bpffs", Mark::Unknown, |host| host.has_bpffs = false),
            ("no_jit", Mark::Unknown, |host| host.compiles = Some(false)),
            ("unprivileged", Mark::Unknown, |host| host.capabilities = 0),
            ("memberships_few", Mark::Unknown, |host| host.settings.most_memberships = 5),
            ("sources_few", Mark::Unknown, |host| host.most_sources = 2),
            ("receive_buffers_small", Mark::Unknown, |host| host.settings.most_receive_bytes = 212_992),
            ("backlog_drops", Mark::Unknown, |host| host.backlog_drops = 9),
            ("lro", Mark::Fault, |host| host.cards.values_mut().for_each(|card| card.merges = true)),
            ("ring_small", Mark::Unknown, |host| {
                host.cards.values_mut().for_each(|card| card.ring = Some((256, 4096)))
            }),
            ("one_cpu", Mark::Unknown, |host| host.queues.values_mut().for_each(|queues| queues.number = 1)),
            ("ring_full", Mark::Unknown, |host| host.losses = BTreeMap::from([(2, (0, 5))])),
            ("igmp_old", Mark::Unknown, |host| host.memberships = vec![membership("239.1.1.1", 2)]),
            ("mld_old", Mark::Unknown, |host| host.memberships = vec![membership("ff3e::1", 1)]),
        ];
        for (code, mark, hurt) in table {
            let mut host = healthy();
            hurt(&mut host);
            let findings = findings(&host);
            let ill: Vec<_> = findings.iter().filter(|finding| finding.mark != Mark::Ok).collect();
            assert_eq!(ill.iter().map(|finding| (finding.code, finding.mark)).collect::<Vec<_>>(), [(code, mark)]);
            assert!(ill[0].remedy.is_some(), "{code}");
        }
        let mut host = healthy();
        host.links.push(bridge);
        host.routing = Some(vec![owner]);
        let codes: Vec<_> = findings(&host).iter().filter(|f| f.mark != Mark::Ok).map(|f| f.code).collect();
        assert_eq!(codes, ["bridge_without_querier", "multicast_routing"]);
    }
}
