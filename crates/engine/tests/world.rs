//! The engine against a small pretended machine: effects are carried out on a `Vec` of facts, time is a number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mcr_engine::{
    Action, Effect, EffectError, Engine, HostAddress, Ifindex, InputKey, InputPlan, InterfaceFacts, Inventory, Lasting,
    Membership, Neighbour, Outcome, OutputTotals, Refused, RelayPlan, RelayTotals, Standing, Totals, Until,
};
use mcr_model::relay::Relay;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::status::RelayWarningKind;
use mcr_model::{Datapath, DatapathChoice, DropReason, RelayState, TimeToLive};
use proptest::prelude::*;

/// What a kernel and a keeper would hold.
#[derive(Default)]
struct Machine {
    inputs: BTreeMap<InputKey, InputPlan>,
    outputs: BTreeSet<Ifindex>,
    groups: BTreeMap<(Ifindex, IpAddr), Vec<IpAddr>>,
    neighbours: BTreeSet<(Ifindex, IpAddr)>,
    /// Interfaces on which every effect fails.
    broken: BTreeSet<Ifindex>,
    /// Receiving sides that can not be opened.
    shut: BTreeSet<InputKey>,
    /// Outputs whose driver takes what is redirected to it.
    good_drivers: BTreeSet<Ifindex>,
    addresses: BTreeSet<(Ifindex, IpAddr)>,
    /// Addresses that were asked for once: whether another host has them is being checked.
    checks: BTreeSet<(Ifindex, IpAddr)>,
    /// How many relays fit the tables of the kernel.
    room: Option<usize>,
    /// Nothing can be copied at the driver.
    no_fan_outs: bool,
}

impl Machine {
    fn carry_out(&mut self, effect: &Effect) -> Result<Outcome, EffectError> {
        let interface = match effect {
            Effect::OpenInput { input, .. } | Effect::CloseInput { input } | Effect::Install { input, .. } => {
                &input.interface
            }
            Effect::OpenOutput { interface, .. }
            | Effect::CloseOutput { interface }
            | Effect::FindNextHop { interface, .. }
            | Effect::Prove { interface, .. }
            | Effect::Resolve { interface, .. }
            | Effect::Forget { interface, .. }
            | Effect::AddAddress { interface, .. }
            | Effect::RemoveAddress { interface, .. } => interface,
            Effect::Join(membership) | Effect::Leave(membership) => &membership.interface,
        };
        if self.broken.contains(interface) {
            return Err(EffectError { reason: "it is broken".into(), remedy: "mend it".into() });
        }
        match effect.clone() {
            Effect::OpenInput { input, .. } if self.shut.contains(&input) => {
                return Err(EffectError { reason: "there is no eBPF".into(), remedy: "get a kernel".into() });
            }
            Effect::OpenInput { input, .. } => drop(self.inputs.insert(input, InputPlan::default())),
            Effect::CloseInput { input } => drop(self.inputs.remove(&input)),
            Effect::OpenOutput { interface, .. } => drop(self.outputs.insert(interface)),
            Effect::CloseOutput { interface } => drop(self.outputs.remove(&interface)),
            Effect::Prove { interface, .. } if !self.good_drivers.contains(&interface) => {
                return Err(EffectError { reason: "its driver is deaf".into(), remedy: "get another".into() });
            }
            Effect::Prove { .. } => {}
            Effect::FindNextHop { .. } => return Ok(Outcome::NextHop([10, 0, 0, 254].into())),
            Effect::Resolve { interface, next_hop } => drop(self.neighbours.insert((interface, next_hop))),
            Effect::Forget { interface, next_hop } => drop(self.neighbours.remove(&(interface, next_hop))),
            Effect::AddAddress { interface, address } if self.checks.insert((interface, address)) => {
                return Ok(Outcome::Checking);
            }
            Effect::AddAddress { interface, address } => drop(self.addresses.insert((interface, address))),
            Effect::RemoveAddress { interface, address } => drop(self.addresses.remove(&(interface, address))),
            Effect::Install { input, mut plan } => {
                let room = self.room.filter(|_| input.datapath != Datapath::Packet).unwrap_or(usize::MAX);
                if self.no_fan_outs && input.datapath == Datapath::Xdp {
                    let (one, several) = plan.relays.into_iter().partition(|relay| relay.outputs.len() == 1);
                    plan.relays = one;
                    self.inputs.insert(input, plan);
                    let error = EffectError { reason: "no more lists".into(), remedy: "use fewer".into() };
                    return Ok(refused_by(&several, &error, Until::Pause));
                }
                let refused = plan.relays.split_off(room.min(plan.relays.len()));
                assert!(self.inputs.insert(input, plan).is_some(), "a table for an input that is not open");
                if !refused.is_empty() {
                    let full = EffectError { reason: "the table is full".into(), remedy: "make it larger".into() };
                    return Ok(refused_by(&refused, &full, Until::RelaysChange));
                }
            }
            Effect::Join(Membership { interface, group, sources }) => {
                drop(self.groups.insert((interface, group), sources));
            }
            Effect::Leave(Membership { interface, group, .. }) => drop(self.groups.remove(&(interface, group))),
        }
        Ok(Outcome::Done)
    }

    /// Carries out everything; what it was, in order.
    fn settle(&mut self, engine: &mut Engine, now: u64) -> Vec<Effect> {
        let now = Duration::from_millis(now);
        let mut all = Vec::new();
        for _ in 0..100 {
            let effects = engine.reconcile(now);
            if effects.is_empty() {
                return all;
            }
            for effect in effects {
                let result = self.carry_out(&effect);
                engine.done(now, effect.clone(), result);
                all.push(effect);
            }
        }
        panic!("the engine does not come to rest: {all:?}");
    }
}

fn refused_by(relays: &[Arc<RelayPlan>], error: &EffectError, until: Until) -> Outcome {
    let refused = |plan: &Arc<RelayPlan>| Refused { relay: plan.relay.clone(), error: error.clone(), until };
    Outcome::Refused(relays.iter().map(refused).collect())
}

/// What is tried again some time, but for drivers.
fn left_to_try(engine: &mut Engine) -> Vec<Effect> {
    let effects = engine.reconcile(Duration::from_secs(3600));
    effects.into_iter().filter(|effect| !matches!(effect, Effect::Prove { .. })).collect()
}

fn relay(name: &str, from: &str, to: &[&str]) -> Relay {
    let spec = RelaySpec {
        name: name.into(),
        input: InputSpec::from_endpoint(from).unwrap(),
        output: to.iter().map(|to| OutputSpec::from_endpoint(to).unwrap()).collect(),
        ..RelaySpec::default()
    };
    spec.check().unwrap()
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

fn tcx(index: u32) -> InputKey {
    InputKey { interface: Ifindex(index), datapath: Datapath::Tcx }
}

fn xdp(index: u32) -> InputKey {
    InputKey { interface: Ifindex(index), datapath: Datapath::Xdp }
}

fn packet(index: u32) -> InputKey {
    InputKey { interface: Ifindex(index), datapath: Datapath::Packet }
}

fn two() -> Vec<InterfaceFacts> {
    vec![interface(2, "eth0"), interface(3, "eth1")]
}

fn state(engine: &Engine, name: &str, now: u64) -> (RelayState, String) {
    let status = engine.status(&name.parse().unwrap(), Duration::from_millis(now)).unwrap();
    (status.state, status.reason)
}

const CAMERA: (&str, &str, &str) = ("camera", "eth0:239.1.1.1:5001", "eth1:239.2.2.2:6001");

fn camera() -> Relay {
    relay(CAMERA.0, CAMERA.1, &[CAMERA.2])
}

#[test]
fn a_relay_is_opened_installed_and_joined_in_that_order() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    let effects = machine.settle(&mut engine, 0);
    let kinds: Vec<&str> = effects
        .iter()
        .map(|effect| match effect {
            Effect::OpenInput { .. } => "input",
            Effect::OpenOutput { .. } => "output",
            Effect::Prove { .. } => "prove",
            Effect::Install { .. } => "install",
            Effect::Join(_) => "join",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["input", "output", "prove", "install", "join"]);
    assert_eq!(state(&engine, "camera", 0).0, RelayState::Ready);
    let Action::Send(send) = &machine.inputs[&tcx(2)].relays[0].outputs[0].action else { panic!("not sent") };
    assert_eq!(send.destination_mac, [0x01, 0x00, 0x5e, 2, 2, 2]);
    assert_eq!((send.source, send.ttl), (Some([10, 0, 3, 1].into()), TimeToLive::Set(16)));

    engine.remove(&"camera".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 1);
    assert!(machine.inputs.is_empty() && machine.outputs.is_empty() && machine.groups.is_empty());
}

#[test]
fn it_waits_for_interfaces_and_follows_their_return() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(state(&engine, "camera", 0), (RelayState::Pending, "input interface eth0 does not exist".into()));

    engine.interfaces_are(two());
    machine.settle(&mut engine, 1);
    assert_eq!(state(&engine, "camera", 1).0, RelayState::Ready);

    // Made again: another number. Everything moves there, nothing stays behind.
    engine.interfaces_are(vec![interface(9, "eth0"), interface(3, "eth1")]);
    machine.settle(&mut engine, 2);
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&tcx(9)]);
    assert_eq!(machine.groups.keys().collect::<Vec<_>>(), [&(Ifindex(9), [239, 1, 1, 1].into())]);

    let mut down = two();
    down[1].carrier = false;
    engine.interfaces_are(down);
    machine.settle(&mut engine, 3);
    let dropped = &machine.inputs[&tcx(2)].relays[0].outputs[0].action;
    assert_eq!(*dropped, Action::Drop(DropReason::OutputDown));
    assert_eq!(state(&engine, "camera", 3), (RelayState::Pending, "output interface eth1 has no link".into()));
}

#[test]
fn a_changed_address_changes_the_source() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    let mut moved = two();
    moved[1].addresses = vec![(IpAddr::from([172, 16, 0, 9]), 16).into()];
    engine.interfaces_are(moved);
    let effects = machine.settle(&mut engine, 1);
    let effects: Vec<_> = effects.into_iter().filter(|effect| !matches!(effect, Effect::Prove { .. })).collect();
    assert!(matches!(effects[..], [Effect::Install { .. }]), "nothing is opened or joined again: {effects:?}");
    let Action::Send(send) = &machine.inputs[&tcx(2)].relays[0].outputs[0].action else { panic!("not sent") };
    assert_eq!(send.source, Some([172, 16, 0, 9].into()));

    let mut bare = two();
    bare[1].addresses.clear();
    engine.interfaces_are(bare);
    machine.settle(&mut engine, 2);
    let (state, reason) = state(&engine, "camera", 2);
    assert_eq!(state, RelayState::Degraded);
    assert!(reason.contains("no IPv4 address"), "{reason}");
    assert_eq!(engine.is_ready(&"camera".parse().unwrap()), Some(false), "no output can send");
    engine
        .create(relay("both", "eth0:239.1.1.2:5001", &["eth1:239.2.2.3:6001", "eth1:239.2.2.4:6001,source=10.0.3.9"]))
        .unwrap();
    machine.settle(&mut engine, 3);
    assert_eq!(engine.is_ready(&"both".parse().unwrap()), Some(true), "one can");
}

#[test]
fn a_failure_is_told_and_tried_again() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    machine.broken.insert(Ifindex(2));
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(state(&engine, "camera", 0), (RelayState::Failed, "it is broken".into()));
    assert!(machine.settle(&mut engine, 100).is_empty(), "it waits before it tries again");
    machine.broken.clear();
    let retry = engine.next_retry().unwrap().as_millis() as u64;
    machine.settle(&mut engine, retry);
    assert_eq!(state(&engine, "camera", retry).0, RelayState::Ready);
    assert_eq!(left_to_try(&mut engine), []);
}

#[test]
fn two_relays_of_one_group_share_its_membership() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("a", "eth0:192.168.168.55@239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).unwrap();
    engine.create(relay("b", "eth0:192.168.168.56@239.1.1.1:5001", &["eth1:239.2.2.3:6001"])).unwrap();
    machine.settle(&mut engine, 0);
    let key = (Ifindex(2), IpAddr::from([239, 1, 1, 1]));
    assert_eq!(machine.groups[&key].len(), 2);
    engine.create(relay("c", "eth0:239.1.1.1:5009", &["eth1:239.2.2.4:6001"])).unwrap();
    machine.settle(&mut engine, 1);
    assert!(machine.groups[&key].is_empty(), "one that takes any source widens it");
    engine.remove(&"c".parse().unwrap()).unwrap();
    engine.remove(&"a".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 2);
    assert_eq!(machine.groups[&key], [IpAddr::from([192, 168, 168, 56])]);
}

#[test]
fn a_range_joins_each_group_and_cedes_what_another_names_more_exactly() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("range", "eth0:239.1.1.0/30:5000-5001", &["eth1:239.2.2.4/30:6001"])).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(machine.groups.len(), 4);
    let taken = |machine: &Machine| {
        let plan = &machine.inputs[&tcx(2)].relays;
        let range = plan.iter().find(|plan| plan.relay.as_str() == "range").expect("the range");
        let Action::Send(send) = &range.outputs[0].action else { panic!("not sent") };
        let to = |offset| (range.at(offset), send.at(offset));
        range
            .offsets()
            .map(to)
            .map(|(from, to)| (from, to.destination, to.destination_mac, to.port))
            .collect::<Vec<_>>()
    };
    let all = taken(&machine);
    assert_eq!(all.len(), 8);
    let last: IpAddr = [239, 2, 2, 7].into();
    assert_eq!(all[7], (([239, 1, 1, 3].into(), 5001), last, [1, 0, 0x5e, 2, 2, 7], 6001));
    engine.create(relay("exact", "eth0:239.1.1.2:5001", &["eth1:239.3.3.3:6001"])).unwrap();
    machine.settle(&mut engine, 1);
    let ceded: Vec<_> = all.iter().filter(|pair| !taken(&machine).contains(pair)).map(|(from, ..)| *from).collect();
    assert_eq!(ceded, [([239, 1, 1, 2].into(), 5001)]);
    engine.remove(&"exact".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 2);
    assert_eq!(taken(&machine), all);
    engine.remove(&"range".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 3);
    assert!(machine.groups.is_empty());
}

#[test]
fn groups_of_a_range_that_are_not_joined_are_counted() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("range", "eth0:239.1.1.0/30:5000", &["eth1:239.2.2.4/30:6001"])).unwrap();
    let is_odd = |group: IpAddr| matches!(group, IpAddr::V4(group) if group.to_bits() % 2 == 1);
    settle_failing(&mut engine, &mut machine, 0, |effect| matches!(effect, Effect::Join(join) if is_odd(join.group)));
    let degraded = (RelayState::Degraded, "2 of 4 groups are not joined: it fails".to_owned());
    assert_eq!(state(&engine, "range", 0), degraded);
    machine.settle(&mut engine, 60_000);
    assert_eq!(state(&engine, "range", 60_000).0, RelayState::Ready);
}

#[test]
fn unicast_outputs_wait_for_their_neighbour() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("near", "eth0:239.1.1.1:5001", &["eth1:10.0.3.7:6001"])).unwrap();
    engine.create(relay("far", "eth0:239.1.1.2:5001", &["eth1:172.30.0.1:6001"])).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(state(&engine, "near", 0).0, RelayState::Degraded);
    assert!(machine.neighbours.contains(&(Ifindex(3), [10, 0, 3, 7].into())));
    assert!(machine.neighbours.contains(&(Ifindex(3), [10, 0, 0, 254].into())), "a router for what is not on the link");
    let neighbour = |address: [u8; 4], mac| Neighbour { interface: Ifindex(3), address: address.into(), mac };
    engine.neighbour_is(neighbour([10, 0, 3, 7], Some([6; 6])));
    engine.neighbour_is(neighbour([10, 0, 0, 254], Some([7; 6])));
    machine.settle(&mut engine, 1);
    let macs: Vec<[u8; 6]> = machine.inputs[&tcx(2)]
        .relays
        .iter()
        .map(|relay| match &relay.outputs[0].action {
            Action::Send(send) => send.destination_mac,
            Action::Drop(reason) => panic!("{reason:?}"),
        })
        .collect();
    assert_eq!(macs, [[7; 6], [6; 6]]);
    engine.neighbour_is(neighbour([10, 0, 3, 7], None));
    machine.settle(&mut engine, 2);
    assert_eq!(state(&engine, "near", 2).0, RelayState::Degraded);
}

#[test]
fn what_a_keeper_still_held_is_taken_over_or_released() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    let kept = Membership { interface: Ifindex(2), group: [239, 1, 1, 1].into(), sources: vec![] };
    let stale = Membership { interface: Ifindex(2), group: [239, 9, 9, 9].into(), sources: vec![] };
    engine.adopt(Inventory {
        memberships: vec![kept, stale.clone()],
        inputs: vec![tcx(2), packet(2), tcx(5)],
        outputs: vec![],
        neighbours: vec![],
        addresses: vec![],
    });
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    let effects = machine.settle(&mut engine, 0);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Join(_))), "joined already: {effects:?}");
    assert!(effects.contains(&Effect::Leave(stale)));
    assert!(effects.contains(&Effect::CloseInput { input: tcx(5) }));
    assert!(!effects.contains(&Effect::CloseInput { input: tcx(2) }));
}

#[test]
fn flowing_silent_and_dropping_are_told_apart() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    let wanted = engine.wanted().next().unwrap();
    let count = |engine: &mut Engine, now: u64, received: u64, queue_full: u64| {
        let totals = |packets| Totals { packets, bytes: packets * 128 };
        let mut output = OutputTotals { sent: totals(received - queue_full), ..OutputTotals::default() };
        output.dropped[DropReason::OutputQueueFull.index()] = queue_full;
        let totals = RelayTotals { received: totals(received), outputs: vec![output], last_packet: None };
        engine.counted(Duration::from_millis(now), &wanted.name, wanted.incarnation, totals);
    };
    count(&mut engine, 0, 0, 0);
    count(&mut engine, 500, 10, 0);
    assert_eq!(state(&engine, "camera", 600).0, RelayState::Flowing);
    assert_eq!(state(&engine, "camera", 2000).0, RelayState::Silent);
    count(&mut engine, 2100, 20, 5);
    let (dropping, reason) = state(&engine, "camera", 2100);
    assert_eq!(dropping, RelayState::Degraded);
    assert!(reason.starts_with("5 packets were dropped in the last second: output_queue_full"), "{reason}");
    count(&mut engine, 3200, 30, 5);
    assert_eq!(state(&engine, "camera", 3200).0, RelayState::Flowing);
    let status = engine.status(&wanted.name, Duration::from_millis(3200)).unwrap();
    assert_eq!(status.outputs[0].dropped["output_queue_full"], 5);
}

#[test]
fn the_file_owns_its_relays_and_touches_no_others() {
    let mut engine = Engine::new("/etc/mcr/mcr.toml");
    let a = relay("a", "eth0:239.1.1.1:5001", &["eth1:239.2.2.1:6001"]);
    let b = relay("b", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001"]);
    let b2 = relay("b", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001,ttl=4"]);
    let c = relay("c", "eth0:239.1.1.3:5001", &["eth1:239.2.2.3:6001"]);
    engine.load_file(vec![a.clone(), b]).unwrap();
    engine.create(c.clone()).unwrap();
    let refused = engine.remove(a.name()).unwrap_err();
    assert!(refused.to_string().contains("/etc/mcr/mcr.toml"), "{refused}");
    assert!(engine.load_file(vec![a.clone(), c.clone()]).is_err(), "the file can't take a relay of the API");
    assert_eq!(engine.wanted().count(), 3, "a refused file changes nothing");
    let difference = engine.load_file(vec![b2]).unwrap();
    assert_eq!(difference.removed, [a.name().clone()]);
    assert_eq!(difference.changed.len(), 1);
    assert_eq!(engine.wanted().count(), 2);
    engine.remove(c.name()).unwrap();
}

#[derive(Debug, Clone)]
enum Happening {
    Create(u8, u8, u8),
    Remove(u8),
    Interface(u8, Option<(u32, bool)>),
    Break(u32),
    Mend,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..6u8, 0..3u8, 0..3u8).prop_map(|(name, from, to)| Happening::Create(name, from, to)),
        (0..6u8).prop_map(Happening::Remove),
        (0..3u8, proptest::option::of((2..9u32, any::<bool>()))).prop_map(|(i, f)| Happening::Interface(i, f)),
        (2..9u32).prop_map(Happening::Break),
        Just(Happening::Mend),
    ]
}

proptest! {
    /// Whatever happens, once everything works again exactly what is wanted is there, and nothing else.
    #[test]
    fn it_always_comes_to_rest_where_it_should(happenings in proptest::collection::vec(happening(), 0..60)) {
        let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
        let mut interfaces: BTreeMap<u8, InterfaceFacts> = BTreeMap::new();
        let mut now = 0;
        for happening in happenings {
            now += 1000;
            match happening {
                Happening::Create(name, from, to) => {
                    let from = format!("eth{from}:239.1.1.{from}:5001");
                    let to = format!("eth{to}:239.2.2.{name}:6001");
                    let _ = engine.create(relay(&format!("r{name}"), &from, &[&to]));
                }
                Happening::Remove(name) => drop(engine.remove(&format!("r{name}").parse().unwrap())),
                Happening::Interface(i, None) => drop(interfaces.remove(&i)),
                Happening::Interface(i, Some((index, up))) => {
                    interfaces.retain(|_, other| other.index.0 != index);
                    let mut facts = interface(index, &format!("eth{i}"));
                    facts.up = up;
                    interfaces.insert(i, facts);
                }
                Happening::Break(index) => drop(machine.broken.insert(Ifindex(index))),
                Happening::Mend => machine.broken.clear(),
            }
            engine.interfaces_are(interfaces.values().cloned().collect());
            machine.settle(&mut engine, now);
        }
        machine.broken.clear();
        machine.settle(&mut engine, now + 60_000);
        let here = |name: &str| interfaces.values().find(|facts| facts.name.as_str() == name).map(|facts| facts.index);
        let statuses = engine.statuses(Duration::from_millis(now + 60_000));
        let inputs: BTreeSet<InputKey> =
            statuses.iter().filter_map(|status| Some(tcx(here(&status.relay.input.interface)?.0))).collect();
        let outputs: BTreeSet<Ifindex> =
            statuses.iter().flat_map(|status| &status.relay.output).filter_map(|output| here(&output.interface)).collect();
        prop_assert_eq!(machine.inputs.keys().copied().collect::<BTreeSet<_>>(), inputs);
        prop_assert_eq!(&machine.outputs, &outputs);
        let relays: usize = machine.inputs.values().map(|plan| plan.relays.len()).sum();
        let listening = statuses.iter().filter(|status| here(&status.relay.input.interface).is_some()).count();
        prop_assert_eq!(relays, listening);
    }
}

/// Carries out everything, but nothing of which `fails` says so; what was tried, in order.
fn settle_failing(
    engine: &mut Engine,
    machine: &mut Machine,
    now: u64,
    fails: impl Fn(&Effect) -> bool,
) -> Vec<Effect> {
    let now = Duration::from_millis(now);
    let mut all = Vec::new();
    for _ in 0..100 {
        let effects = engine.reconcile(now);
        if effects.is_empty() {
            return all;
        }
        for effect in effects {
            let error = EffectError { reason: "it fails".into(), remedy: "mend it".into() };
            let result = if fails(&effect) { Err(error) } else { machine.carry_out(&effect) };
            engine.done(now, effect.clone(), result);
            all.push(effect);
        }
    }
    panic!("the engine does not come to rest: {all:?}");
}

#[test]
fn a_failed_leave_is_not_held_against_the_next_relay_of_the_group() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    engine.remove(&"camera".parse().unwrap()).unwrap();
    settle_failing(&mut engine, &mut machine, 1, |effect| matches!(effect, Effect::Leave(_)));
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 2);
    assert_eq!(state(&engine, "camera", 2).0, RelayState::Ready);
    assert_eq!(left_to_try(&mut engine), [], "nothing is left to be tried");
}

#[test]
fn a_failure_goes_with_the_last_relay_that_it_was_of() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    settle_failing(&mut engine, &mut machine, 0, |effect| matches!(effect, Effect::Join(_)));
    assert_eq!(state(&engine, "camera", 0).0, RelayState::Failed);
    engine.remove(&"camera".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(left_to_try(&mut engine), [], "what nobody wants is not tried again");
}

#[test]
fn what_could_not_be_closed_is_opened_before_it_is_used_again() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    engine.remove(&"camera".parse().unwrap()).unwrap();
    settle_failing(&mut engine, &mut machine, 1, |effect| {
        matches!(effect, Effect::CloseInput { .. } | Effect::CloseOutput { .. })
    });
    engine.create(camera()).unwrap();
    let effects = machine.settle(&mut engine, 1000);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::OpenInput { .. })), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::OpenOutput { .. })), "{effects:?}");
    assert_eq!(state(&engine, "camera", 1000).0, RelayState::Ready);
}

#[test]
fn an_interface_that_left_is_closed_and_gets_no_table() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    engine.interfaces_are(vec![interface(3, "eth1")]);
    let effects = machine.settle(&mut engine, 1);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Install { .. })), "{effects:?}");
    assert!(effects.contains(&Effect::CloseInput { input: tcx(2) }));
}

#[test]
fn an_interface_that_comes_back_under_its_index_is_opened_and_joined_again() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    engine.interface_left(Ifindex(2));
    machine.settle(&mut engine, 1);
    assert!(machine.inputs.is_empty() && machine.groups.is_empty());
    engine.interfaces_are(two());
    machine.settle(&mut engine, 2);
    assert_eq!(machine.groups.len(), 1);
    assert_eq!(state(&engine, "camera", 2).0, RelayState::Ready);
}

#[test]
fn a_route_that_was_missing_is_asked_for_again_as_soon_as_routes_change() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("far", "eth0:239.1.1.2:5001", &["eth1:172.30.0.1:6001"])).unwrap();
    settle_failing(&mut engine, &mut machine, 0, |effect| matches!(effect, Effect::FindNextHop { .. }));
    assert_eq!(state(&engine, "far", 0), (RelayState::Degraded, "it fails".into()));
    engine.routes_changed();
    let effects = machine.settle(&mut engine, 1);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::FindNextHop { .. })), "{effects:?}");
    assert!(machine.neighbours.contains(&(Ifindex(3), [10, 0, 0, 254].into())));
}

#[test]
fn a_neighbour_that_can_not_be_kept_is_told_with_the_reason() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("near", "eth0:239.1.1.1:5001", &["eth1:10.0.3.7:6001"])).unwrap();
    settle_failing(&mut engine, &mut machine, 0, |effect| matches!(effect, Effect::Resolve { .. }));
    assert_eq!(state(&engine, "near", 0), (RelayState::Degraded, "it fails".into()));
}

#[test]
fn a_whole_picture_of_neighbours_takes_away_what_is_not_in_it() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("near", "eth0:239.1.1.1:5001", &["eth1:10.0.3.7:6001"])).unwrap();
    machine.settle(&mut engine, 0);
    let neighbour = Neighbour { interface: Ifindex(3), address: [10, 0, 3, 7].into(), mac: Some([6; 6]) };
    engine.neighbours_are(vec![neighbour]);
    machine.settle(&mut engine, 1);
    assert_eq!(state(&engine, "near", 1).0, RelayState::Ready);
    engine.neighbours_are(vec![]);
    machine.settle(&mut engine, 2);
    assert_eq!(state(&engine, "near", 2).0, RelayState::Degraded);
}

fn camera_by(choice: DatapathChoice) -> Relay {
    camera().moved_by(Some(choice))
}

fn datapath(engine: &Engine, name: &str) -> (String, String) {
    let status = engine.status(&name.parse().unwrap(), Duration::ZERO).unwrap();
    (status.datapath, status.datapath_reason.unwrap_or_default())
}

#[test]
fn auto_falls_back_to_what_works_and_says_why() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    machine.shut.insert(tcx(2));
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&packet(2)]);
    assert_eq!(state(&engine, "camera", 0).0, RelayState::Ready);
    assert_eq!(datapath(&engine, "camera"), ("packet".into(), "not tcx: there is no eBPF".into()));

    // As soon as it works it is taken; what was in force is given up when the other is.
    machine.shut.clear();
    let retry = engine.next_retry().unwrap().as_millis() as u64;
    let effects = machine.settle(&mut engine, retry);
    let installs: Vec<(InputKey, usize)> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Install { input, plan } => Some((*input, plan.relays.len())),
            _ => None,
        })
        .collect();
    assert_eq!(installs, [(tcx(2), 1), (packet(2), 0)]);
    assert_eq!(effects.last(), Some(&Effect::CloseInput { input: packet(2) }));
    assert_eq!(datapath(&engine, "camera"), ("tcx".into(), "not xdp: its driver is deaf".into()));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Join(_) | Effect::Leave(_))), "{effects:?}");
}

#[test]
fn what_was_asked_for_by_name_is_not_replaced_by_another() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    machine.shut.insert(tcx(2));
    engine.interfaces_are(two());
    engine.create(camera_by(DatapathChoice::Only(Datapath::Tcx))).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(state(&engine, "camera", 0), (RelayState::Failed, "there is no eBPF".into()));
    assert!(machine.inputs.is_empty() && machine.groups.is_empty(), "nobody is there to take its packets");

    engine.replace(camera_by(DatapathChoice::Only(Datapath::Packet))).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(state(&engine, "camera", 1).0, RelayState::Ready);
    assert_eq!(datapath(&engine, "camera"), ("packet".into(), "packet is what was asked for".into()));
    assert_eq!(left_to_try(&mut engine), []);
}

#[test]
fn a_relay_that_moves_stays_the_same_relay() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    let before = machine.inputs[&tcx(2)].relays[0].clone();
    engine.replace(camera_by(DatapathChoice::Only(Datapath::Packet))).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&packet(2)]);
    assert_eq!(machine.inputs[&packet(2)].relays[0], before, "its counters go on");
}

#[test]
fn what_a_full_table_refuses_is_served_by_packet_until_there_is_room() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine { room: Some(1), ..Machine::default() });
    engine.interfaces_are(two());
    engine.create(relay("a", "eth0:239.1.1.1:5001", &["eth1:239.2.2.1:6001"])).unwrap();
    engine.create(relay("b", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001"])).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(datapath(&engine, "a").0, "tcx");
    assert_eq!(datapath(&engine, "b"), ("packet".into(), "not tcx: the table is full".into()));
    assert_eq!(state(&engine, "b", 0).0, RelayState::Ready);
    let by_tcx = relay("b", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001"]);
    engine.replace(by_tcx.moved_by(Some(DatapathChoice::Only(Datapath::Tcx)))).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(state(&engine, "b", 1), (RelayState::Failed, "the table is full".into()));
    engine.remove(&"a".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 2);
    assert_eq!(state(&engine, "b", 2).0, RelayState::Ready);
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&tcx(2)]);
}

#[test]
fn the_driver_is_taken_once_it_is_proven_for_every_output() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(vec![interface(2, "eth0"), interface(3, "eth1"), interface(4, "eth2")]);
    machine.good_drivers.insert(Ifindex(3));
    engine.create(relay("one", "eth0:239.1.1.1:5001", &["eth1:239.2.2.1:6001"])).unwrap();
    engine.create(relay("two", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001", "eth2:239.2.2.2:6001"])).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(datapath(&engine, "one"), ("xdp".into(), String::new()));
    assert_eq!(datapath(&engine, "two"), ("tcx".into(), "not xdp: its driver is deaf".into()));
    let names = |machine: &Machine, input| -> Vec<String> {
        machine.inputs[&input].relays.iter().map(|relay| relay.relay.to_string()).collect()
    };
    assert_eq!((names(&machine, xdp(2)), names(&machine, tcx(2))), (vec!["one".to_owned()], vec!["two".to_owned()]));

    // A second relay of the same packets: XDP has one list of copies, so both are served in tcx.
    engine.create(relay("other", "eth0:239.1.1.1:5001", &["eth1:239.2.2.3:6001"])).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(datapath(&engine, "one"), ("tcx".into(), "not xdp: another relay takes the same packets".into()));
    assert_eq!(machine.inputs[&xdp(2)].relays.len(), 0);
    engine.remove(&"other".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 2);
    assert_eq!(datapath(&engine, "one").0, "xdp");
}

fn opened_or_closed(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::OpenInput { .. } | Effect::CloseInput { .. })).count()
}

/// A relay in force between two interfaces, of which the driver of the second takes what XDP hands it.
fn with_a_driver(relay: Relay) -> (Engine, Machine) {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    machine.good_drivers.insert(Ifindex(3));
    engine.create(relay).unwrap();
    machine.settle(&mut engine, 0);
    (engine, machine)
}

#[test]
fn the_driver_keeps_its_program_as_long_as_a_relay_may_be_served_there() {
    let (mut engine, mut machine) = with_a_driver(camera());
    assert_eq!(datapath(&engine, "camera").0, "xdp");
    let other = relay("other", CAMERA.1, &["eth1:239.2.2.3:6001"]);
    for now in 1..4 {
        engine.create(other.clone()).unwrap();
        assert_eq!(opened_or_closed(&machine.settle(&mut engine, now)), 0);
        assert_eq!(datapath(&engine, "camera").0, "tcx");
        engine.remove(other.name()).unwrap();
        assert_eq!(opened_or_closed(&machine.settle(&mut engine, now)), 0);
        assert_eq!(datapath(&engine, "camera").0, "xdp");
    }
    // Nobody asks for it any more: the driver is free for other programs.
    engine.replace(camera_by(DatapathChoice::Only(Datapath::Tcx))).unwrap();
    machine.settle(&mut engine, 4);
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&tcx(2)]);
}

#[test]
fn a_relay_of_the_same_packets_does_not_end_one_that_was_asked_to_be_at_the_driver() {
    let (mut engine, mut machine) = with_a_driver(camera_by(DatapathChoice::Only(Datapath::Xdp)));
    engine.create(relay("other", CAMERA.1, &["eth1:239.2.2.3:6001"])).unwrap();
    machine.settle(&mut engine, 1);
    for name in ["camera", "other"] {
        assert_eq!(datapath(&engine, name), ("tcx".into(), "not xdp: another relay takes the same packets".into()));
        assert_eq!(state(&engine, name, 1).0, RelayState::Ready);
    }
}

/// A relay that the driver takes, and one whose list of outputs it is refused.
fn refused_at_the_driver() -> (Engine, Machine) {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine { no_fan_outs: true, ..Machine::default() });
    engine.interfaces_are(vec![interface(2, "eth0"), interface(3, "eth1"), interface(4, "eth2")]);
    machine.good_drivers = [Ifindex(3), Ifindex(4)].into();
    engine.create(relay("one", "eth0:239.1.1.1:5001", &["eth1:239.2.2.1:6001"])).unwrap();
    engine.create(relay("two", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001", "eth2:239.2.2.2:6001"])).unwrap();
    (engine, machine)
}

#[test]
fn what_the_driver_refuses_is_served_by_tcx_and_tried_again() {
    let (mut engine, mut machine) = refused_at_the_driver();
    machine.settle(&mut engine, 0);
    assert_eq!(datapath(&engine, "one").0, "xdp");
    assert_eq!(datapath(&engine, "two"), ("tcx".into(), "not xdp: no more lists".into()));
    assert_eq!(state(&engine, "two", 0).0, RelayState::Ready);
    // Again and again, with longer and longer pauses; it is served all the while.
    let mut tries = Vec::new();
    for _ in 0..9 {
        let now = engine.next_retry().unwrap().as_millis() as u64;
        assert_eq!(machine.settle(&mut engine, now - 1), [], "not before its time");
        assert!(!machine.settle(&mut engine, now).is_empty());
        assert_eq!(datapath(&engine, "two"), ("tcx".into(), "not xdp: no more lists".into()));
        tries.push(now);
    }
    assert_eq!(tries[..5], [200, 600, 1400, 3000, 6200]);
    assert_eq!(tries[8] - tries[7], 10_000);
    machine.no_fan_outs = false;
    let now = engine.next_retry().unwrap().as_millis() as u64;
    machine.settle(&mut engine, now);
    assert_eq!(datapath(&engine, "two"), ("xdp".into(), String::new()));
    assert_eq!(left_to_try(&mut engine), []);
}

#[test]
fn a_refusal_goes_with_its_relay() {
    let (mut engine, mut machine) = refused_at_the_driver();
    machine.settle(&mut engine, 0);
    engine.remove(&"two".parse().unwrap()).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(engine.next_retry(), None);
}

#[test]
fn a_table_at_the_driver_that_can_not_be_written_is_tried_again_while_tcx_serves() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    machine.good_drivers.insert(Ifindex(3));
    engine.create(camera()).unwrap();
    let fails = |effect: &Effect| matches!(effect, Effect::Install { input, plan } if *input == xdp(2) && !plan.relays.is_empty());
    settle_failing(&mut engine, &mut machine, 0, fails);
    assert_eq!(datapath(&engine, "camera"), ("tcx".into(), "not xdp: it fails".into()));
    assert_eq!(state(&engine, "camera", 0).0, RelayState::Ready);
    for expected in [200, 600, 1400] {
        let now = engine.next_retry().unwrap().as_millis() as u64;
        assert_eq!(now, expected);
        settle_failing(&mut engine, &mut machine, now, fails);
        assert_eq!(datapath(&engine, "camera"), ("tcx".into(), "not xdp: it fails".into()));
        assert_eq!(machine.inputs[&tcx(2)].relays.len(), 1, "it is served all the while");
    }
    let now = engine.next_retry().unwrap().as_millis() as u64;
    machine.settle(&mut engine, now);
    assert_eq!(datapath(&engine, "camera").0, "xdp");
}

#[test]
fn a_driver_that_takes_nothing_any_more_is_proven_again() {
    let (mut engine, mut machine) = with_a_driver(camera());
    assert_eq!(datapath(&engine, "camera").0, "xdp");
    let wanted = engine.wanted().next().unwrap();
    let count = |engine: &mut Engine, now: u64, received: u64, sent: u64, failed: u64| {
        let totals = |packets| Totals { packets, bytes: packets * 128 };
        let mut output = OutputTotals { sent: totals(sent), ..OutputTotals::default() };
        output.dropped[DropReason::SendFailed.index()] = failed;
        let totals = RelayTotals { received: totals(received), outputs: vec![output], last_packet: None };
        engine.counted(Duration::from_millis(now), &wanted.name, wanted.incarnation, totals);
    };
    count(&mut engine, 100, 10, 10, 0);
    machine.settle(&mut engine, 100);
    assert_eq!(datapath(&engine, "camera").0, "xdp");

    // The kernel leaves the output out, and says so to nobody.
    machine.good_drivers.clear();
    count(&mut engine, 200, 20, 10, 0);
    machine.settle(&mut engine, 200);
    assert_eq!(datapath(&engine, "camera"), ("tcx".into(), "not xdp: its driver is deaf".into()));
    machine.good_drivers.insert(Ifindex(3));
    let retry = engine.next_retry().unwrap().as_millis() as u64;
    machine.settle(&mut engine, retry);
    assert_eq!(datapath(&engine, "camera").0, "xdp");

    // The driver says so itself.
    machine.good_drivers.clear();
    count(&mut engine, retry + 100, 30, 19, 11);
    machine.settle(&mut engine, retry + 100);
    assert_eq!(datapath(&engine, "camera").0, "tcx");
}

#[test]
fn a_driver_that_was_asked_for_and_does_not_work_is_told() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera_by(DatapathChoice::Only(Datapath::Xdp))).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(state(&engine, "camera", 0), (RelayState::Failed, "its driver is deaf".into()));
    machine.good_drivers.insert(Ifindex(3));
    let retry = engine.next_retry().unwrap().as_millis() as u64;
    machine.settle(&mut engine, retry);
    assert_eq!(state(&engine, "camera", retry).0, RelayState::Ready);
    assert_eq!(datapath(&engine, "camera").0, "xdp");
}

#[test]
fn an_output_that_is_away_keeps_none_of_the_others_waiting_for_the_driver() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    machine.good_drivers = [Ifindex(3), Ifindex(4)].into();
    engine.interfaces_are(two());
    let outputs = ["eth1:239.2.2.1:6001", "eth2:239.2.2.1:6001"];
    let at_driver = relay("two", CAMERA.1, &outputs).moved_by(Some(DatapathChoice::Only(Datapath::Xdp)));
    engine.create(at_driver).unwrap();
    machine.settle(&mut engine, 0);
    let why = "not xdp: eth2 can not be tried at the driver before it is there and up";
    assert_eq!(datapath(&engine, "two"), ("tcx".into(), why.into()));
    assert_eq!(
        state(&engine, "two", 0),
        (RelayState::Degraded, format!("output {}: output interface eth2 does not exist", outputs[1]))
    );
    engine.interfaces_are(vec![interface(2, "eth0"), interface(3, "eth1"), interface(4, "eth2")]);
    machine.settle(&mut engine, 1);
    assert_eq!(datapath(&engine, "two"), ("xdp".into(), String::new()));
    assert_eq!(state(&engine, "two", 1).0, RelayState::Ready);
}

/// It is tried again and again, and told once.
#[test]
fn a_failure_is_news_once() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    let prove = Effect::Prove { interface: Ifindex(3), mac: interface(3, "eth1").mac };
    let error = |reason: &str| EffectError { reason: reason.to_owned(), remedy: "none".to_owned() };
    let retry = engine.next_retry().unwrap();
    for (reason, is_known) in [("one", false), ("one", true), ("another", false)] {
        assert_eq!(engine.is_known_failure(&prove, &error(reason)), is_known, "{reason}");
        engine.done(retry, prove.clone(), Err(error(reason)));
    }
}

#[test]
fn what_an_application_of_this_host_listens_to_is_left_to_it() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!(datapath(&engine, "camera").0, "tcx");
    engine.listeners_are([(Ipv4Addr::UNSPECIFIED.into(), 5001)].into());
    machine.settle(&mut engine, 1);
    let why = "not tcx: an application of this host listens to UDP port 5001 and would get nothing";
    assert_eq!(datapath(&engine, "camera"), ("packet".into(), why.into()));
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&packet(2)]);
    engine.listeners_are([(IpAddr::from([239, 9, 9, 9]), 5001)].into());
    machine.settle(&mut engine, 2);
    assert_eq!(datapath(&engine, "camera").0, "tcx");
}

#[test]
fn copies_in_fragments_are_left_to_packet_unless_the_kernel_is_asked_for() {
    let cutting = || relay(CAMERA.0, CAMERA.1, &["eth1:239.2.2.2:6001,fragment=true"]);
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    machine.good_drivers.insert(Ifindex(3));
    engine.create(cutting()).unwrap();
    machine.settle(&mut engine, 0);
    let why = "copies to eth1 may leave in fragments, and tcx cuts nothing whose checksum is left to a device";
    assert_eq!(datapath(&engine, "camera"), ("packet".into(), format!("not tcx: {why}")));
    assert_eq!(state(&engine, "camera", 0).0, RelayState::Ready);
    assert_eq!(machine.inputs.keys().collect::<Vec<_>>(), [&packet(2)]);
    let at_tcx = "not xdp: copies that are too large leave in fragments, which are made at tcx ingress";
    for (asked, why) in [(Datapath::Tcx, "tcx is what was asked for"), (Datapath::Xdp, at_tcx)] {
        engine.replace(cutting().moved_by(Some(DatapathChoice::Only(asked)))).unwrap();
        machine.settle(&mut engine, 1);
        assert_eq!(state(&engine, "camera", 1).0, RelayState::Ready, "{asked:?}");
        assert_eq!(datapath(&engine, "camera"), ("tcx".into(), why.into()));
        assert_eq!(machine.inputs[&tcx(2)].relays.len(), 1, "{asked:?}");
    }
    engine.replace(camera()).unwrap();
    machine.settle(&mut engine, 2);
    assert_eq!(state(&engine, "camera", 2).0, RelayState::Ready);
    assert_ne!(datapath(&engine, "camera").0, "packet");
}

#[test]
fn an_application_of_this_host_does_not_end_what_was_asked_for() {
    for asked in [Datapath::Xdp, Datapath::Tcx] {
        let (mut engine, mut machine) = with_a_driver(camera_by(DatapathChoice::Only(asked)));
        engine.listeners_are([(Ipv4Addr::UNSPECIFIED.into(), 5001)].into());
        machine.settle(&mut engine, 1);
        assert_eq!(state(&engine, "camera", 1).0, RelayState::Ready, "{asked:?}");
        assert_eq!(datapath(&engine, "camera").0, asked.name());
    }
}

#[test]
fn an_output_that_somebody_shaped_is_not_passed_by_unasked() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    let mut shaped = two();
    shaped[1].queueing = "tbf".to_owned();
    engine.interfaces_are(shaped);
    machine.good_drivers.insert(Ifindex(3));
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    let why = "not xdp: packets that leave eth1 are queued by tbf, which XDP passes by";
    assert_eq!(datapath(&engine, "camera"), ("tcx".into(), why.into()));
    engine.replace(camera_by(DatapathChoice::Only(Datapath::Xdp))).unwrap();
    machine.settle(&mut engine, 1);
    assert_eq!(state(&engine, "camera", 1).0, RelayState::Ready);
}

#[test]
fn a_source_of_the_host_is_there_before_it_is_sent_with_and_goes_last() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    let with = |addresses: &[&str]| {
        let mut eth1 = interface(3, "eth1");
        eth1.addresses.extend(addresses.iter().map(|address| HostAddress::from((address.parse().unwrap(), 32))));
        vec![interface(2, "eth0"), eth1]
    };
    let own = (Ifindex(3), IpAddr::from([10, 0, 3, 77]));
    let sends = |machine: &Machine| match &machine.inputs[&tcx(2)].relays[0].outputs[0].action {
        Action::Send(plan) => plan.source,
        Action::Drop(_) => None,
    };
    engine.interfaces_are(with(&[]));
    engine.create(relay("camera", CAMERA.1, &["eth1:239.2.2.2:6001,source=10.0.3.77,own-source=true"])).unwrap();
    machine.settle(&mut engine, 0);
    assert_eq!((machine.checks.len(), machine.addresses.len(), sends(&machine)), (1, 0, None));
    let (now, reason) = state(&engine, "camera", 0);
    assert_eq!((now, &*reason), (RelayState::Pending, "it is being checked whether another host has 10.0.3.77"));
    assert!(engine.next_retry().is_some_and(|at| at <= Duration::from_millis(200)), "it is asked for again soon");
    machine.settle(&mut engine, 200);
    assert_eq!(machine.addresses, BTreeSet::from([own]));

    engine.interfaces_are(with(&["10.0.3.77"]));
    machine.settle(&mut engine, 201);
    assert_eq!((state(&engine, "camera", 201).0, sends(&machine)), (RelayState::Ready, Some(own.1)));
    // Somebody took it away.
    engine.interfaces_are(with(&[]));
    let effects = machine.settle(&mut engine, 202);
    assert!(effects.contains(&Effect::AddAddress { interface: own.0, address: own.1 }), "{effects:?}");
    assert_eq!(sends(&machine), None);

    engine.interfaces_are(with(&["10.0.3.77"]));
    engine.remove(&"camera".parse().unwrap()).unwrap();
    let effects = machine.settle(&mut engine, 203);
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).unwrap_or_else(|| panic!("{effects:?}"));
    assert!(
        at(|effect| matches!(effect, Effect::Install { .. }))
            < at(|effect| matches!(effect, Effect::RemoveAddress { .. }))
    );
    assert_eq!(machine.addresses, BTreeSet::new());
}

#[test]
fn a_source_specific_group_without_sources_has_a_warning() {
    let mut engine = Engine::new("mcr.toml");
    engine.interfaces_are(two());
    for (name, from, warns) in [
        ("any", "eth0:232.1.1.1:5001", true),
        ("named", "eth0:192.168.168.55@232.1.1.2:5001", false),
        ("six", "eth0:[ff3e::1]:5001", true),
        ("other", "eth0:239.1.1.1:5001", false),
    ] {
        let to = if name == "six" { "eth1:[ff15::2]:6001" } else { "eth1:239.2.2.2:6001" };
        engine.create(relay(name, from, &[to])).unwrap();
        let status = engine.status(&name.parse().unwrap(), Duration::ZERO).unwrap();
        let kinds: Vec<_> = status.warnings.iter().map(|warning| warning.kind).collect();
        assert_eq!(kinds.contains(&RelayWarningKind::SourcesNeeded), warns, "{name}: {kinds:?}");
    }
}

#[test]
fn a_source_of_the_host_that_a_keeper_left_is_kept_or_removed() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    let [kept, stale] = [77, 78].map(|last| (Ifindex(3), IpAddr::from([10, 0, 3, last])));
    let mut eth1 = interface(3, "eth1");
    eth1.addresses.extend([kept, stale].map(|(_, ip)| HostAddress::from((ip, 32))));
    engine.adopt(Inventory { addresses: vec![kept, stale], ..Inventory::default() });
    engine.interfaces_are(vec![interface(2, "eth0"), eth1]);
    engine.create(relay("camera", CAMERA.1, &["eth1:239.2.2.2:6001,source=10.0.3.77,own-source=true"])).unwrap();
    let effects = machine.settle(&mut engine, 0);
    assert!(effects.contains(&Effect::RemoveAddress { interface: stale.0, address: stale.1 }), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::AddAddress { .. })), "{effects:?}");
    assert_eq!(state(&engine, "camera", 0).0, RelayState::Ready);
}

#[test]
fn an_address_that_another_host_has_is_asked_for_more_and_more_slowly_and_told_all_the_time() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(two());
    engine.create(relay("camera", CAMERA.1, &["eth1:239.2.2.2:6001,source=10.0.3.77,own-source=true"])).unwrap();
    machine.settle(&mut engine, 0);
    let add = Effect::AddAddress { interface: Ifindex(3), address: [10, 0, 3, 77].into() };
    let rival = || EffectError { reason: "another host has it".into(), remedy: "take it away".into() };
    let (mut tries, mut news) = (0, 0);
    for now in (0..30_000).step_by(50).map(Duration::from_millis) {
        for effect in engine.reconcile(now) {
            tries += u32::from(effect == add);
            let result = match effect == add {
                true if tries % 2 == 0 => Ok(Outcome::Checking),
                true => Err(rival()),
                false => machine.carry_out(&effect),
            };
            news += result.as_ref().map_or_else(|error| u32::from(!engine.is_known_failure(&effect, error)), |_| 0);
            engine.done(now, effect, result);
        }
        if tries > 0 {
            let (state, reason) = state(&engine, "camera", now.as_millis() as u64);
            assert_eq!((state, &*reason), (RelayState::Failed, "another host has it"));
            assert_eq!(engine.is_ready(&"camera".parse().unwrap()), Some(false));
        }
    }
    assert!((10..20).contains(&tries), "{tries} in half a minute");
    assert_eq!(news, 1, "it is warned of once");
    // It may have come there although that was told to have failed.
    engine.remove(&"camera".parse().unwrap()).unwrap();
    let effects = machine.settle(&mut engine, 60_000);
    assert!(effects.contains(&Effect::RemoveAddress { interface: Ifindex(3), address: [10, 0, 3, 77].into() }));
}

const OWN_SIX: (&str, &str) = ("eth0:[ff3e::1]:5001", "eth1:[ff3e::2]:6001,source=fd00::77,own-source=true");

/// The interfaces, the second with an address for the sake of a relay.
fn with_own(standing: Option<Standing>) -> Vec<InterfaceFacts> {
    let mut interfaces = two();
    let own =
        |standing| HostAddress { standing, lasting: Lasting::WithRelay, ..("fd00::77".parse().unwrap(), 128).into() };
    interfaces[1].addresses.extend(standing.map(own));
    interfaces
}

#[test]
fn an_address_that_comes_and_goes_for_a_relay_makes_nothing_else_be_tried_again() {
    let (mut engine, mut machine) = (Engine::new("mcr.toml"), Machine::default());
    engine.interfaces_are(with_own(None));
    engine.create(camera()).unwrap();
    machine.settle(&mut engine, 0);
    let prove = Effect::Prove { interface: Ifindex(3), mac: interface(3, "eth1").mac };
    let error = EffectError { reason: "its driver is deaf".into(), remedy: "get another".into() };
    engine.done(Duration::ZERO, prove.clone(), Err(error.clone()));
    for standing in [Some(Standing::Tentative), Some(Standing::Duplicate), None] {
        engine.interfaces_are(with_own(standing));
        assert!(engine.is_known_failure(&prove, &error), "{standing:?}");
    }
    let mut changed = with_own(None);
    changed[1].addresses.push(([10, 0, 3, 2].into(), 24).into());
    engine.interfaces_are(changed);
    assert!(!engine.is_known_failure(&prove, &error), "it may have been for want of an address");
}

#[test]
fn a_source_that_was_taken_over_and_is_another_hosts_is_tried_again_or_removed() {
    let own = (Ifindex(3), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x77]));
    let add = Effect::AddAddress { interface: own.0, address: own.1 };
    let remove = Effect::RemoveAddress { interface: own.0, address: own.1 };
    let found = || {
        let mut engine = Engine::new("mcr.toml");
        engine.adopt(Inventory { addresses: vec![own], ..Inventory::default() });
        engine.interfaces_are(with_own(Some(Standing::Tentative)));
        engine.create(relay("six", OWN_SIX.0, &[OWN_SIX.1])).unwrap();
        (engine, Machine::default())
    };
    let (mut engine, mut machine) = found();
    assert!(!machine.settle(&mut engine, 0).contains(&add), "it is being checked");
    engine.interfaces_are(with_own(Some(Standing::Duplicate)));
    assert!(machine.settle(&mut engine, 1).contains(&add));

    let (mut engine, mut machine) = found();
    machine.settle(&mut engine, 0);
    engine.interfaces_are(with_own(Some(Standing::Duplicate)));
    engine.remove(&"six".parse().unwrap()).unwrap();
    assert!(machine.settle(&mut engine, 1).contains(&remove));
}
