//! Facts in, answer out: what follows where the kernel could not be asked, where several things are wrong, or where nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mcr_diagnose::{
    Blind, Bridge, BridgeGroup, Direction, Facts, Firewall, Flow, Foreground, Hold, KernelDrop, Link, Mark, Membership,
    Owner, Port, Question, Relays, Report, Route, Settings, Socket, Subject, Verdict, Wire, judge,
};
use mcr_model::spec::InputSpec;

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
    assert_eq!(culprit(&below(Some(200))), Some("wrong_vlan"));
    assert_eq!(culprit(&below(None)), Some("wrong_vlan"));
    assert_eq!(culprit(&below(Some(100))), Some("silent"), "the right one comes, and yet not to the interface");
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
