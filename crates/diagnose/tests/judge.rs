//! Facts in, answer out: what follows where the kernel could not be asked, where several things are wrong, or where nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mcr_diagnose::{
    Blind, Bridge, BridgeGroup, Chain, Direction, Facts, Firewall, Flow, Foreground, Hold, Hook, KernelDrop, Link,
    Mark, Membership, Owner, Port, Question, Relays, Report, Route, Settings, Socket, Subject, Verdict, Wire, judge,
};
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::status::{Origin, OutputStatus, RelayStatus, Traffic};
use mcr_model::{RelayState, VlanId};

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 1, 1));
const DEVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 168, 55));

fn question() -> Question {
    let input = InputSpec::from_endpoint("eth0:239.1.1.1:5001").expect("an endpoint").check("").expect("an input");
    Question::new(Subject::Endpoint, input, Duration::from_secs(1)).unwrap()
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), up: true, carrier: true, multicast: true, mtu: 1500, ..Link::default() }
}

fn flow(interface: u32) -> Flow {
    Flow {
        interface,
        direction: Direction::In,
        vlan: None,
        source: DEVICE,
        destination: GROUP,
        port: Some(5001),
        packets: 100,
        sizes: (428, 1344),
        ttls: (1, 1),
        wrong: BTreeMap::new(),
        fragmented: (0, 0),
    }
}

fn socket() -> Socket {
    Socket {
        address: Ipv4Addr::UNSPECIFIED.into(),
        port: 5001,
        peer: None,
        interface: None,
        buffer_bytes: 212_992,
        waiting_bytes: 0,
        drops: 0,
        new_drops: 0,
        owners: vec![Owner { pid: 7, name: "player".into() }],
        membership: Some(Hold::AllBut(BTreeSet::new())),
        hears_all: Some(true),
        groups_held: 1,
    }
}

/// An application that hears a device through a host that has a route back.
fn facts() -> Facts {
    Facts {
        look: Duration::from_secs(1),
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        bridge_groups: Vec::new(),
        wire: Ok(Wire { flows: vec![flow(2)], ..Wire::default() }),
        drops: Ok(Vec::new()),
        counters: BTreeMap::new(),
        memberships: vec![Membership { interface: 2, group: GROUP, version: 3 }],
        link_filters: BTreeSet::from([("eth0".to_owned(), [1, 0, 0x5e, 1, 1, 1])]),
        sockets: Ok(vec![socket()]),
        packet_sockets: Vec::new(),
        foreground: Vec::new(),
        settings: Settings { most_memberships: 20, ..Settings::default() },
        routes_back: BTreeMap::from([(DEVICE, Route::Out { interfaces: vec![2], gateway: None })]),
        firewall: Ok(Firewall::default()),
        forwarded: Vec::new(),
        relays: Relays::NoDaemon,
        earlier_relays: Relays::NoDaemon,
        routes_out: BTreeMap::new(),
        neighbours: BTreeMap::new(),
    }
}

/// A relay that received 100 packets while we looked, and what its only output did with them.
fn relay(name: &str, from: &str, to: &str, sent: u64, dropped: &[(&str, u64)]) -> RelayStatus {
    let of = |packets| Traffic { packets, ..Traffic::default() };
    let dropped: BTreeMap<String, u64> = dropped.iter().map(|(reason, packets)| ((*reason).into(), *packets)).collect();
    let output = OutputStatus {
        to: to.into(),
        ok: true,
        reason: None,
        remedy: None,
        source: None,
        sent: of(sent),
        dropped_packets: dropped.values().sum(),
        dropped,
    };
    RelayStatus {
        name: name.into(),
        origin: Origin::Api,
        state: RelayState::Flowing,
        reason: "packets arrive and leave".into(),
        remedy: None,
        datapath: "tcx".into(),
        datapath_reason: None,
        from: from.into(),
        lease: None,
        warnings: Vec::new(),
        seen_groups: None,
        left_to: Vec::new(),
        taken_from: Vec::new(),
        breaker: None,
        received: of(100),
        last_packet_seconds: None,
        outputs: vec![output],
        relay: RelaySpec {
            name: name.into(),
            input: InputSpec::from_endpoint(from).expect("an endpoint"),
            output: vec![OutputSpec::from_endpoint(to).expect("an endpoint")],
            ..RelaySpec::default()
        },
    }
}

/// What is told where these relays are, and no socket.
fn told_of(relays: Vec<RelayStatus>, change: impl FnOnce(&mut Facts)) -> Report {
    told(|facts| {
        let earlier = relays.iter().cloned().map(|mut relay| {
            (relay.received, relay.outputs[0].sent) = (Traffic::default(), Traffic::default());
            relay.outputs[0].dropped.clear();
            relay
        });
        facts.earlier_relays = Relays::Known(earlier.collect());
        facts.relays = Relays::Known(relays);
        facts.sockets = Ok(Vec::new());
        facts.links[2].addresses = vec![(IpAddr::from([10, 0, 1, 1]), 24), ("fd00:1::1".parse().unwrap(), 64)];
        change(facts);
    })
}

fn told(change: impl FnOnce(&mut Facts)) -> Report {
    let mut facts = facts();
    change(&mut facts);
    judge(&question(), &facts)
}

fn culprit(report: &Report) -> Option<&str> {
    report.culprit.as_ref().map(|step| &*step.code)
}

fn mark<'r>(report: &'r Report, step: &str) -> Option<(Mark, &'r str)> {
    report.steps.iter().find(|s| s.step == step).map(|s| (s.mark, &*s.code))
}

fn wire(facts: &mut Facts) -> &mut Wire {
    facts.wire.as_mut().expect("a wire")
}

fn blind() -> Blind {
    Blind::new("not allowed", "run as root")
}

fn drop(reason: &str, packets: u64) -> KernelDrop {
    KernelDrop {
        reason: reason.into(),
        location: "somewhere".into(),
        way: vec!["ip_rcv".into()],
        interface: 2,
        source: DEVICE,
        destination: GROUP,
        port: Some(5001),
        packets,
    }
}

#[test]
fn nothing_is_wrong() {
    let report = told(|_| {});
    assert_eq!((report.verdict, culprit(&report)), (Verdict::Passes, None), "{report:#?}");
}

#[test]
fn the_reverse_path_is_blamed_only_when_it_was_seen_to_drop() {
    let strict = |facts: &mut Facts| {
        facts.settings.reverse_path_all = 1;
        facts.routes_back = BTreeMap::from([(DEVICE, Route::None)]);
    };
    let predicted = told(strict);
    assert_eq!(mark(&predicted, "reverse_path"), Some((Mark::Unknown, "rp_filter_strict")));
    let by_reason = told(|facts| {
        strict(facts);
        facts.drops = Ok(vec![drop("IP_RPFILTER", 100)]);
    });
    assert_eq!(culprit(&by_reason), Some("rp_filter_strict"));
    let by_counter = told(|facts| {
        strict(facts);
        facts.drops = Err(blind());
        facts.counters = BTreeMap::from([("TcpExt.IPReversePathFilter".to_owned(), 100)]);
    });
    assert_eq!(culprit(&by_counter), Some("rp_filter_strict"));
    let of_others = told(|facts| {
        facts.drops = Err(blind());
        facts.counters = BTreeMap::from([("TcpExt.IPReversePathFilter".to_owned(), 100)]);
    });
    assert_eq!(culprit(&of_others), None, "the counter is that of all packets");
}

#[test]
fn a_drop_of_the_kernel_that_no_step_explains_is_told_by_its_name() {
    let report = told(|facts| facts.drops = Ok(vec![drop("SOMETHING_NEW", 100)]));
    assert_eq!(culprit(&report), Some("kernel_drop"));
    assert!(report.culprit.is_some_and(|step| step.fact.contains("SOMETHING_NEW")));
    let few = told(|facts| facts.drops = Ok(vec![drop("SOMETHING_NEW", 3)]));
    assert_eq!(culprit(&few), None, "a few of many may be copies for somebody else");
    assert_eq!(mark(&few, "kernel"), Some((Mark::Unknown, "kernel_drop")));
    let elsewhere = told(|facts| facts.drops = Ok(vec![KernelDrop { interface: 3, ..drop("SOMETHING_NEW", 100) }]));
    assert_eq!(culprit(&elsewhere), None);
    let known = told(|facts| facts.drops = Ok(vec![drop("TC_INGRESS", 100)]));
    assert_eq!(culprit(&known), Some("tc_ingress"));
}

#[test]
fn the_firewall_is_named_by_hook_even_where_its_rules_are_not_visible() {
    let at = |function: &str| {
        told(|facts| {
            let way = vec!["nf_hook_slow".to_owned(), function.to_owned()];
            facts.drops = Ok(vec![KernelDrop { way, ..drop("NETFILTER_DROP", 100) }]);
            facts.firewall = Err(blind());
        })
    };
    assert_eq!(culprit(&at("__netif_receive_skb_core.constprop.0")), Some("firewall_ingress"));
    assert_eq!(culprit(&at("ip_rcv")), Some("firewall_prerouting"));
    assert_eq!(culprit(&at("ip_local_deliver")), Some("firewall_input"));
    assert_eq!(culprit(&at("something_else")), Some("firewall"));
}

#[test]
fn only_a_chain_that_packets_for_a_socket_meet_is_blamed() {
    let with_policy = |family: &str, hook: &str| {
        told(|facts| {
            let name = hook.to_owned();
            let hook = Hook { name: hook.into(), priority: 0, devices: Vec::new(), drops_by_default: true };
            let chain =
                Chain { family: family.into(), table: "filter".into(), name, hook: Some(hook), rules: Vec::new() };
            facts.firewall = Ok(Firewall { chains: vec![chain], ..Firewall::default() });
            facts.drops = Err(blind());
        })
    };
    for (family, hook, expected) in [
        ("inet", "forward", None),
        ("inet", "output", None),
        ("netdev", "egress", None),
        ("ip", "forward", None),
        ("ip6", "input", None),
        ("inet", "input", Some("firewall_input")),
        ("ip", "input", Some("firewall_input")),
        ("netdev", "ingress", Some("firewall_ingress")),
    ] {
        assert_eq!(culprit(&with_policy(family, hook)), expected, "{family} {hook}");
    }
}

#[test]
fn a_silent_wire_is_a_fault_only_for_who_asked() {
    let silent = |facts: &mut Facts| wire(facts).flows.clear();
    assert_eq!(culprit(&told(silent)), Some("silent"));
    let nobody_asked = told(|facts| {
        silent(facts);
        facts.memberships.clear();
        facts.sockets = Ok(vec![Socket { membership: Some(Hold::No), ..socket() }]);
    });
    assert_eq!(culprit(&nobody_asked), Some("not_joined"), "a switch would not send it here");
    assert_eq!(mark(&nobody_asked, "wire"), Some((Mark::Unknown, "silent")));
}

#[test]
fn what_this_host_sends_itself_is_not_missing() {
    let report = told(|facts| wire(facts).flows[0].direction = Direction::Out);
    assert_eq!((report.verdict, mark(&report, "wire")), (Verdict::Passes, Some((Mark::Ok, "sent_by_this_host"))));
}

#[test]
fn some_damage_is_no_loss_of_all() {
    let damage =
        |packets| told(move |facts| wire(facts).flows[0].wrong = BTreeMap::from([("bad_udp_checksum", packets)]));
    assert_eq!(culprit(&damage(100)), Some("bad_udp_checksum"));
    assert_eq!(mark(&damage(3), "integrity"), Some((Mark::Unknown, "bad_udp_checksum")));
    let options = told(|facts| wire(facts).flows[0].wrong = BTreeMap::from([("ip_options", 100)]));
    assert_eq!(culprit(&options), None, "sockets take packets with options");
}

#[test]
fn a_querier_that_is_heard_is_told() {
    let report = told(|facts| {
        wire(facts).queries = BTreeMap::from([((2, IpAddr::from([10, 0, 0, 9])), 3)]);
    });
    assert_eq!(mark(&report, "querier"), Some((Mark::Ok, "heard")));
    assert_eq!(mark(&told(|_| {}), "querier"), Some((Mark::Unknown, "not_heard")));
    let deaf = told(|facts| facts.wire = Err(blind()));
    assert_eq!(mark(&deaf, "querier"), Some((Mark::Unknown, "not_visible")));
}

/// Frames enter br0 by eth1, and the receiver is behind eth0.
fn bridged(bridge: Bridge, port: Port, groups: Vec<BridgeGroup>) -> Report {
    told(|facts| {
        facts.links.push(Link { bridge: Some(bridge), ..link(4, "br0") });
        for link in &mut facts.links[1..=2] {
            (link.master, link.port) = (Some(4), Some(port.clone()));
        }
        wire(facts).flows = vec![flow(3)];
        facts.bridge_groups = groups;
        facts.sockets = Ok(Vec::new());
    })
}

#[test]
fn what_a_bridge_does_with_a_group() {
    let table = [
        ((true, true, true, true), None),
        ((true, true, true, false), Some("not_listed")),
        ((true, false, true, false), None),
        ((true, false, false, true), Some("no_querier")),
        ((false, false, true, false), None),
        ((false, false, false, false), Some("flood_off")),
    ];
    for ((snooping, asks, floods, listed), expected) in table {
        let entry = BridgeGroup { bridge: 4, port: 2, group: GROUP };
        let groups = if listed { vec![entry] } else { Vec::new() };
        let report =
            bridged(Bridge { snooping, asks, heard_queriers: Vec::new() }, Port { floods, router: false }, groups);
        assert_eq!(culprit(&report), expected, "{snooping} {asks} {floods} {listed}");
    }
}

#[test]
fn another_vlan_is_seen_below_a_vlan_interface() {
    let below = |vlan| {
        told(move |facts| {
            (facts.links[1].parent, facts.links[1].vlan) = (Some(3), Some(100));
            wire(facts).flows = vec![Flow { vlan, ..flow(3) }];
        })
    };
    assert_eq!(culprit(&below(VlanId::new(200))), Some("wrong_vlan"));
    assert_eq!(culprit(&below(None)), Some("wrong_vlan"));
    assert_eq!(culprit(&below(VlanId::new(100))), Some("silent"), "the right one comes, and yet not to the interface");
}

#[test]
fn a_relay_in_the_foreground_is_no_absence_of_one() {
    let with = |from: &str| {
        let arguments = vec![from.to_owned(), "eth1:239.2.2.2:6001".to_owned()];
        told(move |facts| {
            facts.sockets = Ok(Vec::new());
            facts.foreground = vec![Foreground { owner: Owner { pid: 9, name: "mcr".into() }, arguments }];
        })
    };
    let report = with("eth0:239.1.1.1:5001");
    assert_eq!((report.verdict, mark(&report, "relay")), (Verdict::Passes, Some((Mark::Unknown, "foreground"))));
    assert_eq!(mark(&with("eth0:239.1.1.0/24:5000-5003"), "relay"), Some((Mark::Unknown, "foreground")));
    assert_eq!(culprit(&with("eth0:239.1.1.2:5001")), Some("nobody_listens"));
    let nobody = told(|facts| facts.sockets = Ok(Vec::new()));
    assert_eq!(culprit(&nobody), Some("nobody_listens"));
}

#[test]
fn nothing_visible_is_nothing_wrong() {
    let report = told(|facts| {
        (facts.wire, facts.drops, facts.firewall) = (Err(blind()), Err(blind()), Err(blind()));
        facts.sockets = Ok(vec![Socket { membership: None, hears_all: None, owners: Vec::new(), ..socket() }]);
    });
    assert_eq!(report.verdict, Verdict::Passes, "{report:#?}");
    for step in ["wire", "firewall", "kernel"] {
        assert_eq!(mark(&report, step), Some((Mark::Unknown, "not_visible")), "{step}");
    }
}

#[test]
fn the_first_fault_on_the_way_is_the_culprit() {
    let report = told(|facts| {
        facts.links[1].carrier = false;
        wire(facts).flows.clear();
        facts.sockets = Ok(vec![Socket { interface: Some(3), ..socket() }]);
    });
    assert_eq!(culprit(&report), Some("no_carrier"));
    assert_eq!(mark(&report, "wire"), Some((Mark::Unknown, "silent")));
}

const TARGET: &str = "eth0:239.1.1.1:5001";
const OUT: &str = "eth1:239.2.2.2:6001";
const OUT_IPV6: &str = "eth1:[ff3e::1]:6001";

#[test]
fn an_output_that_drops_all_is_the_culprit() {
    let drops = |reasons: &[(&str, u64)]| {
        let sent = 100 - reasons.iter().map(|(_, packets)| packets).sum::<u64>();
        told_of(vec![relay("camera", TARGET, OUT_IPV6, sent, reasons)], |facts| {
            let flow = &mut wire(facts).flows[0];
            (flow.fragmented, flow.sizes) = ((50, 0), (1400, 1400));
        })
    };
    let report = drops(&[("fragment", 100)]);
    let step = report.culprit.as_ref().expect("a culprit");
    assert_eq!((&*step.code, &step.evidence[..]), ("output_drops", &["relay: fragment".to_owned()][..]), "{step:?}");
    let of_many = [("fragment", 40), ("rate_limited", 35), ("send_failed", 25)];
    assert_eq!(culprit(&drops(&of_many)), Some("output_drops"), "none of them is half of all, and nothing is sent");
    assert_eq!(culprit(&drops(&[("fragment", 3)])), None, "a few of many");
}

#[test]
fn an_output_that_can_not_send_is_told_as_the_relay_tells_it() {
    let denied = |received, dropped: &[(&str, u64)]| {
        let mut relay = relay("camera", TARGET, "eth1:239.2.2.2:6001,source=10.0.1.9,own-source=true", 0, dropped);
        relay.received.packets = received;
        let output = &mut relay.outputs[0];
        (output.ok, output.reason) = (false, Some("the policy does not allow 10.0.1.9".into()));
        output.remedy = Some("allow it".into());
        told_of(vec![relay], |_| {})
    };
    for report in [denied(0, &[]), denied(100, &[("no_source_address", 100)])] {
        let step =
            report.steps.iter().find(|step| step.code == "output_fails").unwrap_or_else(|| panic!("{report:#?}"));
        let told = (&*step.fact, step.remedy.as_deref());
        assert_eq!(told, ("the policy does not allow 10.0.1.9", Some("allow it")), "{step:?}");
    }
}

#[test]
fn what_is_wrong_on_the_wire_is_no_fault_of_the_output() {
    let lost = told_of(vec![relay("camera", TARGET, OUT, 0, &[("fragment", 100)])], |facts| {
        wire(facts).flows[0].fragmented = (50, 50);
    });
    let damaged = told_of(vec![relay("camera", TARGET, OUT, 0, &[("bad_udp_checksum", 100)])], |facts| {
        wire(facts).flows[0].wrong = BTreeMap::from([("bad_udp_checksum", 100)]);
    });
    for (report, code) in [(lost, "fragments_lost"), (damaged, "bad_udp_checksum")] {
        let faults: Vec<_> = report.steps.iter().filter(|step| step.mark == Mark::Fault).map(|s| &*s.code).collect();
        assert_eq!(faults, [code], "{report:#?}");
    }
}

#[test]
fn a_copy_of_the_other_family_has_another_size() {
    let with = |to: &str, bytes: u32| {
        told_of(vec![relay("camera", TARGET, to, 100, &[])], |facts| wire(facts).flows[0].sizes = (bytes, bytes))
    };
    assert_eq!(culprit(&with(OUT_IPV6, 1480)), None);
    assert_eq!(culprit(&with(OUT, 1500)), None);
    let step = with(OUT_IPV6, 1500).culprit.expect("a culprit");
    assert_eq!(step.code, "output_mtu");
    assert!(step.fact.ends_with("packets of up to 1500 bytes come, 1520 as IPv6"), "{}", step.fact);
    assert!(step.remedy.is_some_and(|remedy| remedy.starts_with("ip link set eth1 mtu 1520,")));
}

/// The relays, the name of the nearest, and whether it may be the one that is meant.
#[test]
fn the_nearest_relay_differs_in_what_matters_least() {
    let named = ["eth0:239.1.1.2:5001", "eth0:239.1.1.1:5002", "eth0:239.1.1.1:5001,vlan=100", "eth0:[ff3e::1]:5001"];
    for (inputs, nearest, is_to_correct) in [
        (&named[..], Some(named[2]), true),
        (&named[..2], Some(named[1]), true),
        (&[named[3], named[0]], Some(named[0]), true),
        (&[named[0], "eth0:239.1.1.1:5002,vlan=100"], Some("eth0:239.1.1.1:5002,vlan=100"), false),
        (&[named[3]], None, false),
        (&["eth0:239.1.1.2:5002,vlan=100"], None, false),
    ] {
        let relays = (0..).zip(inputs).map(|(number, from)| relay(&format!("r{number}"), from, OUT, 0, &[]));
        let report = told_of(relays.collect(), |_| {});
        let step = report.steps.iter().find(|step| step.code == "no_relay").expect("no relay");
        let told = step.evidence.first().and_then(|line| line.split_once(" takes ")).map(|(_, from)| from);
        assert_eq!(told, nearest, "{inputs:?}: {step:?}");
        let remedy = step.remedy.as_deref().expect("a remedy");
        assert_eq!(remedy.starts_with("correct relay "), is_to_correct, "{inputs:?}: {remedy}");
        assert!(remedy.ends_with("mcr add NAME --from eth0:239.1.1.1:5001 --to OUTPUT"), "{remedy}");
    }
}

#[test]
fn two_tags_are_another_vlan_than_one() {
    let both = VlanId::new(100).and_then(|id| id.within(7));
    let report = told(|facts| wire(facts).flows[0].vlan = both);
    let step = report.culprit.expect("a culprit");
    assert_eq!(
        (&*step.code, &*step.fact),
        ("wrong_vlan", "the packets come in VLAN 100 within 7, not without a VLAN tag")
    );
    assert!(step.remedy.is_some_and(|remedy| remedy.contains("eth0:239.1.1.1:5001,vlan=100,outer-vlan=7;")));
    let input = InputSpec::from_endpoint("eth0:239.1.1.1:5001,vlan=100").unwrap().check("").unwrap();
    let mut facts = facts();
    wire(&mut facts).flows[0].vlan = both;
    let report = judge(&Question::new(Subject::Endpoint, input, Duration::from_secs(1)).unwrap(), &facts);
    assert_eq!(culprit(&report), Some("wrong_vlan"));
}

#[test]
fn of_a_range_the_pair_in_question_is_told() {
    let range = relay("range", "eth0:239.1.1.0/24:5000-5003", "eth1:239.2.0.0/24:6000-6003", 100, &[]);
    let report = told_of(vec![range], |_| {});
    let output = report.steps.iter().find(|step| step.step == "output").and_then(|step| step.about.as_deref());
    assert_eq!(output, Some("range to eth1:239.2.0.1:6001"));
    let input = InputSpec::from_endpoint("eth0:239.1.1.0/24:5000-5003").unwrap().check("").unwrap();
    let error = Question::new(Subject::Endpoint, input, Duration::from_secs(1)).expect_err("several");
    assert_eq!(error.remedy, "ask for one of them, as `mcr explain eth0:239.1.1.0:5000`");
}
