//! What the engine tells of time that passes: leases that end, flows that stop, rates that are wrong, drops that begin.
//! Every effect succeeds here; time is a number of milliseconds.

use std::net::IpAddr;
use std::time::Duration;

use mcr_engine::{
    Effect, Engine, HeardQuery, HeardReport, Ifindex, Interest, InterfaceFacts, Outcome, OutputTotals, Refusal,
    RelayTotals, Sample, Step, Totals,
};
use mcr_model::grant::GrantSpec;
use mcr_model::relay::Relay;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::watch::ExpectSpec;
use mcr_model::{DropReason, EventKind, Grant, RelayName, RelayState, Role};

fn spec(name: &str) -> RelaySpec {
    RelaySpec {
        name: name.into(),
        input: InputSpec::from_endpoint("eth0:239.1.1.1:5001").unwrap(),
        output: vec![OutputSpec::from_endpoint(&format!("eth1:239.2.2.2:{}", 6000 + name.len())).unwrap()],
        ..RelaySpec::default()
    }
}

fn relay(name: &str) -> Relay {
    spec(name).check().unwrap()
}

fn name(name: &str) -> RelayName {
    name.parse().unwrap()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn interface(index: u32, name: &str) -> InterfaceFacts {
    InterfaceFacts {
        index: Ifindex(index),
        name: name.parse().unwrap(),
        mac: [2, 0, 0, 0, 0, index as u8],
        mtu: 1500,
        up: true,
        carrier: true,
        multicast: true,
        ethernet: true,
        queueing: "noqueue".to_owned(),
        addresses: vec![(IpAddr::from([10, 0, index as u8, 1]), 24).into()],
    }
}

/// An engine, and what its only relay's datapath counts.
struct Bench {
    engine: Engine,
    packets: u64,
    dropped: u64,
    last_packet: Option<Duration>,
}

impl Bench {
    fn new() -> Self {
        let mut engine = Engine::new("mcr.toml");
        engine.interfaces_are(vec![interface(2, "eth0"), interface(3, "eth1")]);
        Self { engine, packets: 0, dropped: 0, last_packet: None }
    }

    fn with(relay: Relay) -> Self {
        let mut bench = Self::new();
        bench.engine.create(relay).unwrap();
        bench.settle();
        bench.look(0);
        bench.engine.take_events();
        bench
    }

    /// Carries out what is due; the groups that were joined and left.
    fn settle(&mut self) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        loop {
            let effects = self.engine.reconcile(Duration::ZERO);
            if effects.is_empty() {
                return (joined, left);
            }
            for effect in effects {
                match &effect {
                    Effect::Join(membership) => joined.push(membership.group),
                    Effect::Leave(membership) => left.push(membership.group),
                    _ => {}
                }
                self.engine.done(Duration::ZERO, effect, Ok(Outcome::Done));
            }
        }
    }

    /// Datagrams of 1,250 bytes arrive now.
    fn arrive(&mut self, now: u64, packets: u64) {
        self.packets += packets;
        self.last_packet = Some(ms(now));
    }

    /// Looks, and gives the kinds of what is told. As the daemon does, it reads between two whole looks only what is lively.
    fn look(&mut self, now: u64) -> Vec<EventKind> {
        let mut dropped = [0; DropReason::COUNT];
        dropped[DropReason::TooBig.index()] = self.dropped;
        let totals = |packets| Totals { packets, bytes: packets * 1250 };
        let outputs = vec![OutputTotals { sent: totals(self.packets - self.dropped), dropped }];
        let all = RelayTotals { received: totals(self.packets), outputs, last_packet: self.last_packet };
        let wanted: Vec<_> = self.engine.wanted().collect();
        let lively = self.last_packet.is_some_and(|last| ms(now).saturating_sub(last) < Duration::from_secs(3));
        let counts = lively || self.engine.is_whole_look_due(ms(now));
        for wanted in wanted.into_iter().filter(|_| counts) {
            self.engine.counted(ms(now), &wanted.name, wanted.incarnation, all.clone());
        }
        self.engine.look(ms(now));
        kinds(&mut self.engine)
    }

    fn state(&self, now: u64) -> RelayState {
        self.engine.statuses(ms(now))[0].state
    }
}

fn kinds(engine: &mut Engine) -> Vec<EventKind> {
    engine.take_events().into_iter().map(|event| event.kind).collect()
}

fn anything() -> Grant {
    Grant::unlimited(Role::Operator)
}

fn names(events: &[EventKind]) -> Vec<&'static str> {
    events.iter().map(EventKind::name).collect()
}

#[test]
fn a_lease_ends_at_its_time_and_not_before() {
    let mut bench = Bench::with(relay("a"));
    let a = name("a");
    bench.engine.lend(ms(0), &a, Some("2s".parse().unwrap()));
    assert_eq!(bench.engine.next_lease_end(), Some(ms(2000)));
    bench.engine.end_leases(ms(1999));
    assert_eq!(bench.engine.status(&a, ms(1500)).unwrap().lease.unwrap().seconds_left, 0.5);
    bench.engine.renew(ms(1999), &a, None, &anything()).unwrap();
    bench.engine.end_leases(ms(3998));
    assert!(bench.engine.has_relay(&a));
    bench.engine.renew(ms(3998), &a, Some("1s".parse().unwrap()), &anything()).unwrap();
    bench.engine.end_leases(ms(4998));
    assert!(!bench.engine.has_relay(&a));
    assert_eq!(names(&kinds(&mut bench.engine)), ["lease-expired", "relay-removed"]);
    assert_eq!(bench.engine.next_lease_end(), None);
    assert!(matches!(bench.engine.renew(ms(4998), &a, None, &anything()), Err(Refusal::NotFound { .. })));
}

#[test]
fn a_lease_goes_with_its_relay_and_with_a_put_that_names_none() {
    let mut bench = Bench::with(relay("a"));
    let a = name("a");
    let lease = Some("2s".parse().unwrap());
    bench.engine.lend(ms(0), &a, lease);
    bench.engine.remove(&a).unwrap();
    assert_eq!(bench.engine.next_lease_end(), None);
    bench.engine.create(relay("a")).unwrap();
    assert!(matches!(bench.engine.renew(ms(0), &a, None, &anything()), Err(Refusal::NoLease { .. })));
    bench.engine.lend(ms(0), &a, lease);
    bench.engine.lend(ms(0), &a, None);
    bench.engine.end_leases(ms(9999));
    assert!(bench.engine.has_relay(&a));
    bench.engine.load_file(vec![relay("of-file")]).unwrap();
    assert!(matches!(
        bench.engine.renew(ms(0), &name("of-file"), lease, &anything()),
        Err(Refusal::OwnedByFile { .. })
    ));
}

#[test]
fn a_flow_that_stops_is_told_with_its_state_and_so_is_its_return() {
    let mut bench = Bench::with(relay("a"));
    bench.arrive(100, 1);
    assert_eq!(names(&bench.look(140)), ["relay-state"]);
    assert_eq!(bench.engine.look(ms(150)), Some(ms(1100)), "the look that will find the silence");
    assert!(bench.look(1099).is_empty());
    let events = bench.look(1100);
    assert_eq!(names(&events), ["flow-silent", "relay-state"]);
    assert_eq!(events[0], EventKind::FlowSilent { relay: "a".into(), quiet_seconds: 1.0 });
    let EventKind::RelayState { from, to, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!((*from, *to), (Some(RelayState::Flowing), RelayState::Silent));
    assert_eq!(bench.engine.look(ms(1200)), None, "nothing is due for a flow that is silent already");
    bench.arrive(2600, 1);
    let events = bench.look(2620);
    assert_eq!(names(&events), ["flow-recovered", "relay-state"]);
    assert_eq!(events[0], EventKind::FlowRecovered { relay: "a".into(), gap_seconds: 2.5 });
}

#[test]
fn a_flow_that_stops_because_nobody_wants_it_is_not_silent() {
    let expect = ExpectSpec { min_bits_per_second: Some(9_000_000), max_bits_per_second: None };
    let spec = RelaySpec { on_demand: true, expect: Some(expect), ..spec("a") };
    let mut bench = Bench::with(spec.check().unwrap());
    let lan = Ifindex(3);
    bench.engine.hears([lan].into(), Default::default());
    let query = HeardQuery { interface: lan, querier: [10, 0, 3, 9].into(), ago: ms(0) };
    bench.engine.queries_are(ms(0), &[query]);
    let report = |bench: &mut Bench, now, interest| {
        bench.engine.reported(ms(now), HeardReport { interface: lan, group: [239, 2, 2, 2].into(), interest });
        bench.settle();
    };
    report(&mut bench, 0, Interest::Wanted);
    bench.look(1);
    bench.engine.take_events();
    let told = flow(&mut bench, 40..4000, 1);
    assert_eq!(told.len(), 1, "it flows: {told:?}");

    report(&mut bench, 4000, Interest::Left);
    bench.engine.tend_members(ms(6000));
    bench.settle();
    let told: Vec<_> = (4040..20_000).step_by(40).flat_map(|now| bench.look(now)).collect();
    assert_eq!(names(&told), ["relay-state"], "{told:?}");
    assert_eq!(bench.state(20_000), RelayState::Ready);
    assert!(bench.engine.flow(ms(20_000), &name("a")).unwrap().silent, "who waits for the end of the packets sees it");

    // It is wanted again, and nothing comes.
    report(&mut bench, 20_000, Interest::Wanted);
    let told: Vec<_> = (20_040..20_999).step_by(40).flat_map(|now| bench.look(now)).collect();
    assert_eq!((names(&told), bench.state(20_990)), (vec![], RelayState::Ready));
    assert_eq!(names(&bench.look(21_080)), ["flow-silent", "relay-state"]);
    // Nor is it a recovery that nobody wants it any more.
    report(&mut bench, 22_000, Interest::Left);
    bench.engine.tend_members(ms(24_000));
    bench.settle();
    assert_eq!(names(&bench.look(24_040)), ["relay-state"]);
    assert_eq!(bench.state(24_040), RelayState::Ready);
}

#[test]
fn of_a_range_what_is_seen_is_joined_until_it_was_not_seen_for_long() {
    let range = InputSpec::from_endpoint("eth0:239.1.0.0/30:5001").unwrap();
    let spec = RelaySpec { join: Some("seen".into()), input: range, ..spec("a") };
    let mut bench = Bench::with(spec.check().unwrap());
    let (wire, group) = (Ifindex(2), |last: u8| IpAddr::from([239, 1, 0, last]));
    assert_eq!(bench.engine.looking(), [(name("a"), wire)]);
    assert_eq!(bench.engine.sought_groups()[&wire].len(), 4, "reports of other hosts are heard, too");
    let reason = |bench: &Bench| bench.engine.statuses(ms(0))[0].reason.clone();
    assert!(reason(&bench).ends_with("; 0 of 4 groups seen and joined"), "{}", reason(&bench));

    bench.engine.saw(ms(1_000), wire, [group(2)]);
    assert_eq!(bench.settle(), (vec![group(2)], vec![]));
    let report = |group| HeardReport { interface: wire, group, interest: Interest::Wanted };
    bench.engine.reported(ms(2_000), report(group(0)));
    bench.engine.reported(ms(2_000), report(group(7)));
    assert_eq!(bench.settle(), (vec![group(0)], vec![]), "the other is not the relay's");
    assert_eq!(bench.engine.statuses(ms(0))[0].seen_groups, Some(vec![group(0), group(2)]));
    bench.engine.saw(ms(100_000), wire, [group(2)]);
    assert!(bench.engine.tend_members(ms(262_000)).is_empty(), "nobody is asked for groups of an input");
    assert_eq!(bench.settle(), (vec![], vec![group(0)]));
    bench.engine.tend_members(ms(360_000));
    assert_eq!(bench.settle(), (vec![], vec![group(2)]));

    // Where nobody can be heard the interface does not take what is not joined.
    bench.engine.hears(Default::default(), [(wire, "eth0 is closed".to_owned())].into());
    assert_eq!(bench.settle().0.len(), 4);
    let warnings = bench.engine.statuses(ms(0)).remove(0).warnings;
    assert!(warnings[0].message.starts_with("eth0 is closed: all groups of 239.1.0.0/30"), "{warnings:?}");
}

#[test]
fn silence_begins_when_the_relay_says_so() {
    let spec = RelaySpec { silent_after: Some("200ms".into()), ..spec("a") };
    let mut bench = Bench::with(spec.check().unwrap());
    bench.arrive(100, 1);
    bench.look(100);
    assert!(bench.look(299).is_empty());
    assert_eq!(names(&bench.look(300)), ["flow-silent", "relay-state"]);
}

/// 1,250 bytes each millisecond are 10 Mbit/s.
fn flow(bench: &mut Bench, milliseconds: std::ops::Range<u64>, per_millisecond: u64) -> Vec<(u64, EventKind)> {
    let mut told = Vec::new();
    for now in milliseconds {
        bench.arrive(now, per_millisecond);
        if now % 40 == 0 {
            told.extend(bench.look(now).into_iter().map(|event| (now, event)));
        }
    }
    told
}

#[test]
fn a_rate_that_is_not_as_expected_is_told_and_so_is_its_end() {
    let expect = ExpectSpec { min_bits_per_second: Some(9_000_000), max_bits_per_second: Some(21_000_000) };
    let mut bench = Bench::with(RelaySpec { expect: Some(expect), ..spec("a") }.check().unwrap());
    let told = flow(&mut bench, 0..3000, 1);
    assert_eq!(told.len(), 1, "a flow that begins gets a second to reach its rate: {told:?}");
    // Three times as much: over 21 Mbit/s within the last second after 550 ms.
    let told = flow(&mut bench, 3000..5000, 3);
    let (when, EventKind::RelayState { to, reason, .. }) = &told[0] else { panic!("{told:?}") };
    assert_eq!((*to, told.len()), (RelayState::Degraded, 1));
    assert!((3550..=3650).contains(when), "{when}");
    assert!(reason.contains("more than the expected 21.0 Mbit/s"), "{reason}");
    // As it should be again, a second after the last second with too much.
    let told = flow(&mut bench, 5000..8000, 1);
    let (when, EventKind::RelayState { to, .. }) = &told[0] else { panic!("{told:?}") };
    assert_eq!((*to, told.len()), (RelayState::Flowing, 1));
    assert!((6300..=6700).contains(when), "{when}");
}

#[test]
fn drops_are_told_when_they_begin_and_end_with_their_number() {
    let mut bench = Bench::with(relay("a"));
    bench.arrive(100, 100);
    bench.look(100);
    bench.dropped = 3;
    let events = bench.look(200);
    assert!(
        events.contains(&EventKind::DropsStarted {
            relay: "a".into(),
            output: "eth1:239.2.2.2:6001".into(),
            reason: "too_big".into(),
            packets: 3
        }),
        "{events:?}"
    );
    bench.dropped = 5;
    assert!(!names(&bench.look(300)).contains(&"drops-started"), "they go on");
    assert!(!names(&bench.look(1290)).contains(&"drops-ended"));
    let events = bench.look(1300);
    let ended = events.iter().find(|event| event.name() == "drops-ended");
    assert!(matches!(ended, Some(EventKind::DropsEnded { packets: 5, .. })), "{events:?}");
}

#[test]
fn other_expectations_leave_counters_and_table_alone() {
    let mut bench = Bench::with(relay("a"));
    bench.arrive(100, 7);
    bench.look(100);
    bench.engine.replace(RelaySpec { silent_after: Some("5s".into()), ..spec("a") }.check().unwrap()).unwrap();
    assert!(bench.engine.reconcile(ms(200)).is_empty());
    assert_eq!(bench.engine.status(&name("a"), ms(200)).unwrap().received.packets, 7);
    assert_eq!(bench.state(4000), RelayState::Flowing);
}

#[test]
fn a_history_goes_over_a_change_of_the_relay() {
    let mut bench = Bench::with(relay("a"));
    for second in 0..5 {
        bench.arrive(second * 1000 + 500, 10);
        bench.look(second * 1000 + 999);
        bench.look(second * 1000 + 1001);
    }
    let track = bench.engine.history(&name("a"), Step::Second).unwrap();
    assert_eq!(track.first, 0);
    assert_eq!(track.samples, [Sample { packets: 10, bytes: 12_500, dropped: 0 }; 5]);
    let changed = RelaySpec { output: vec![OutputSpec::from_endpoint("eth1:239.2.2.9:6001").unwrap()], ..spec("a") };
    bench.engine.replace(changed.check().unwrap()).unwrap();
    bench.settle();
    bench.packets = 4;
    bench.look(6001);
    let track = bench.engine.history(&name("a"), Step::Second).unwrap();
    assert_eq!(track.samples[5], Sample { packets: 4, bytes: 5_000, dropped: 0 });
}

#[test]
fn interfaces_are_told_as_they_come_and_go() {
    let mut bench = Bench::new();
    assert!(bench.engine.take_events().is_empty(), "what is there at the start is no news");
    let mut told = |interfaces: Vec<InterfaceFacts>| {
        bench.engine.interfaces_are(interfaces);
        names(&kinds(&mut bench.engine))
    };
    let (eth0, eth1) = (interface(2, "eth0"), interface(3, "eth1"));
    assert_eq!(told(vec![eth0.clone()]), ["interface-left"]);
    assert_eq!(told(vec![eth0.clone(), eth1]), ["interface-appeared", "interface-up", "interface-addresses"]);
    let down = InterfaceFacts { carrier: false, ..eth0.clone() };
    assert_eq!(told(vec![down]), ["interface-left", "interface-down"]);
    let other = InterfaceFacts { addresses: vec![], ..eth0 };
    assert_eq!(told(vec![other]), ["interface-up", "interface-addresses"]);
}

#[test]
fn what_is_done_to_relays_is_told() {
    let mut bench = Bench::new();
    bench.engine.create(relay("a")).unwrap();
    bench.engine.load_file(vec![relay("of-file")]).unwrap();
    bench.engine.remove(&name("a")).unwrap();
    bench.engine.load_file(vec![]).unwrap();
    assert_eq!(
        names(&kinds(&mut bench.engine)),
        [
            "relay-created",
            "relay-created",
            "configuration-loaded",
            "relay-removed",
            "relay-removed",
            "configuration-loaded"
        ]
    );
}

/// A caller whose access is limited hears of the relays within, as they were when it happened.
#[test]
fn an_event_is_the_business_of_who_may_see_its_relay() {
    let limited = GrantSpec { role: Role::Viewer, interfaces: vec!["eth0".into(), "eth1".into()], groups: Vec::new() };
    let limited = limited.check().unwrap();
    let elsewhere = |name: &str| {
        let to = format!("eth2:239.2.2.9:{}", 6000 + name.len());
        RelaySpec { output: vec![OutputSpec::from_endpoint(&to).unwrap()], ..spec(name) }.check().unwrap()
    };
    let mut bench = Bench::new();
    let mut heard = |act: &mut dyn FnMut(&mut Engine)| {
        act(&mut bench.engine);
        let events = bench.engine.take_events().into_iter();
        events.filter(|event| event.concerns(&limited)).map(|event| event.kind.name()).collect::<Vec<_>>()
    };
    assert_eq!(heard(&mut |engine| engine.create(relay("mine")).unwrap()), ["relay-created"]);
    assert!(heard(&mut |engine| engine.create(elsewhere("theirs")).unwrap()).is_empty());
    // It leaves what they may see: they hear that, and of what comes after it nothing.
    assert_eq!(heard(&mut |engine| _ = engine.replace(elsewhere("mine")).unwrap()), ["relay-changed"]);
    assert!(heard(&mut |engine| engine.remove(&name("mine")).unwrap()).is_empty());
    assert_eq!(heard(&mut |engine| engine.create(relay("mine")).unwrap()), ["relay-created"]);
    assert_eq!(heard(&mut |engine| engine.remove(&name("mine")).unwrap()), ["relay-removed"]);
    assert!(heard(&mut |engine| drop(engine.load_file(vec![elsewhere("f")]).unwrap())).is_empty());
    let all = ["eth0", "eth1", "eth2"].iter().zip(2..).map(|(name, index)| interface(index, name)).collect::<Vec<_>>();
    assert!(heard(&mut |engine| engine.interfaces_are(all.clone())).is_empty());
    assert_eq!(heard(&mut |engine| engine.interfaces_are(Vec::new())), ["interface-left", "interface-left"]);
}

/// The look at ten thousand relays that flow, with their counters: the daemon takes it more than ten times a second.
#[test]
fn ten_thousand_relays_are_looked_at_in_little_time() {
    let mut engine = Engine::new("mcr.toml");
    engine.interfaces_are(vec![interface(2, "eth0"), interface(3, "eth1")]);
    let relays = (0..10_000u32).map(|i| {
        let [_, _, high, low] = i.to_be_bytes();
        let endpoint = |at: &str| format!("{at}:239.1.{high}.{low}:5001");
        let spec = RelaySpec {
            name: format!("relay-{i}"),
            input: InputSpec::from_endpoint(&endpoint("eth0")).unwrap(),
            output: vec![OutputSpec::from_endpoint(&endpoint("eth1")).unwrap()],
            ..RelaySpec::default()
        };
        spec.check().unwrap()
    });
    engine.load_file(relays.collect()).unwrap();
    let wanted: Vec<_> = engine.wanted().collect();
    let mut looks = Vec::new();
    for look in 1..=30 {
        let now = ms(look * 90);
        let totals = Totals { packets: look * 100, bytes: look * 125_000 };
        let began = std::time::Instant::now();
        for wanted in &wanted {
            let outputs = vec![OutputTotals { sent: totals, ..OutputTotals::default() }];
            let totals = RelayTotals { received: totals, outputs, last_packet: Some(now) };
            engine.counted(now, &wanted.name, wanted.incarnation, totals);
        }
        engine.look(now);
        looks.push(began.elapsed());
        engine.take_events();
    }
    looks.sort();
    println!("a look at 10,000 relays: median {:?}, longest {:?}", looks[15], looks[29]);
    // Unoptimised, on a machine that does something else as well.
    assert!(looks[15] < ms(500), "{looks:?}");
}
