//! What the engine says of changes before they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mcr_engine::{Engine, Link, OutputTotals, Premise, Receivers, Refusal, RelayTotals, Totals, Wish};
use mcr_model::grant::GrantSpec;
use mcr_model::plan::WarningKind;
use mcr_model::relay::Relay;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::status::{Origin, SharedPairs};
use mcr_model::{Grant, Role};

fn relay(name: &str, from: &str, to: &[&str]) -> Relay {
    let spec = RelaySpec {
        name: name.into(),
        input: InputSpec::from_endpoint(from).unwrap(),
        output: to.iter().map(|to| OutputSpec::from_endpoint(to).unwrap()).collect(),
        ..RelaySpec::default()
    };
    spec.check().unwrap()
}

fn simple(name: &str, last: u8) -> Relay {
    relay(name, &format!("eth0:239.1.1.{last}:5001"), &[&format!("eth1:239.2.2.{last}:6001")])
}

/// A relay of the file `f`, and one of the API `a`.
fn engine() -> Engine {
    let mut engine = Engine::new("mcr.toml");
    engine.load_file(vec![simple("f", 1)]).unwrap();
    engine.create(simple("a", 2)).unwrap();
    engine
}

#[test]
fn a_rehearsal_says_what_would_be_and_changes_nothing() {
    let mut engine = engine();
    let name = |name: &str| name.parse().unwrap();
    let again = relay("again", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001"]);
    let wishes = [
        Wish::Create(simple("a", 9)),
        Wish::Create(again.clone()),
        Wish::Remove(name("a"), Premise::Anything),
        Wish::Create(again.clone()),
        Wish::Create(simple("again", 8)),
        Wish::Replace(simple("again", 2), Premise::Anything),
        Wish::Replace(simple("again", 7), Premise::Anything),
        Wish::Replace(simple("f", 1), Premise::Anything),
        Wish::Replace(simple("f", 5), Premise::Anything),
        Wish::Remove(name("f"), Premise::Anything),
        Wish::Remove(name("nobody"), Premise::Anything),
    ];
    let said: Vec<String> = engine
        .rehearse(&wishes.map(|wish| (wish, Grant::unlimited(Role::Operator))))
        .into_iter()
        .map(|result| result.map_or_else(|refusal| format!("{refusal}"), |origin| format!("{origin:?}")))
        .map(|text| text.chars().take(44).collect())
        .collect();
    assert_eq!(
        said,
        [
            "there is already a relay a; choose another n",
            "relay again sends eth0:239.1.1.2:5001 to eth",
            "Api",
            "Api",
            "there is already a relay again; choose anoth",
            "Api",
            "Api",
            "File",
            "relay f belongs to the configuration file mc",
            "relay f belongs to the configuration file mc",
            "there is no relay nobody; `mcr list` shows t",
        ]
    );
    // The rulebook is as before: what was refused is refused still, what fits fits, and so once more.
    assert!(engine.create(again).is_err());
    assert_eq!(engine.relay_count(), 2);
    engine.create(simple("z", 7)).unwrap();
    engine.remove(&name("a")).unwrap();
    engine.create(simple("b", 2)).unwrap();
}

/// Between the request and its turn a relay may become another one, under the same name: whose it is then counts.
#[test]
fn whose_a_relay_is_is_decided_when_its_turn_comes() {
    let mut engine = engine();
    let limited =
        GrantSpec { role: Role::Operator, interfaces: vec!["eth0".into(), "eth1".into()], groups: Vec::new() };
    let (limited, all) = (limited.check().unwrap(), Grant::unlimited(Role::Operator));
    let elsewhere = relay("a", "eth0:239.1.1.2:5001", &["eth9:239.2.2.2:6001"]);
    let said = engine.rehearse(&[
        (Wish::Replace(elsewhere, Premise::Anything), all),
        (Wish::Replace(simple("a", 5), Premise::Anything), limited.clone()),
        (Wish::Remove("a".parse().unwrap(), Premise::Anything), limited.clone()),
    ]);
    assert_eq!(said[0], Ok(Origin::Api));
    assert!(matches!(said[1], Err(Refusal::Foreign { .. })), "{said:?}");
    assert!(matches!(said[2], Err(Refusal::NotFound { .. })), "{said:?}");
    let said = engine.rehearse(&[(Wish::Remove("a".parse().unwrap(), Premise::Anything), limited)]);
    assert_eq!(said[0], Ok(Origin::Api), "a rehearsal changes nothing");
}

/// A more exact relay takes packets from a range: from one that is the caller's business, and from no other.
#[test]
fn who_is_limited_takes_no_packets_of_others() {
    let mut engine = Engine::new("mcr.toml");
    let limited = |groups: &str| {
        let spec = GrantSpec { role: Role::Operator, interfaces: Vec::new(), groups: vec![groups.into()] };
        spec.check().unwrap()
    };
    engine.create(relay("plant", "eth0:239.1.0.0/24:5000-5010", &["eth1:239.1.0.0/24:6000-6010"])).unwrap();
    let exact = |group: u8| relay("mine", &format!("eth0:239.1.{group}.7:5001"), &["eth1:239.1.0.8:7001"]);
    let create = |group: u8| Wish::Create(exact(group));
    let put = Wish::Replace(exact(0), Premise::Absent);
    let said = engine.rehearse(&[
        (create(0), limited("239.1.0.0/28")),
        (put.clone(), limited("239.1.0.0/28")),
        (create(0), limited("239.1.0.0/16")),
        (put, limited("239.1.0.0/16")),
    ]);
    assert!(matches!(said[0], Err(Refusal::TakesForeign { .. })), "{said:?}");
    assert!(matches!(said[1], Err(Refusal::TakesForeign { .. })), "{said:?}");
    assert_eq!(said[2], Ok(Origin::Api));
    assert!(matches!(said[3], Err(Refusal::Unexpected { .. })), "{said:?}");
}

/// Of two who looked at the same relay, the second one to change it is told.
#[test]
fn a_change_of_what_somebody_looked_at_is_made_of_that_only() {
    let mut engine = engine();
    let seen = || Premise::Is(Box::new(simple("a", 2)));
    let name = |name: &str| name.parse().unwrap();
    let said = engine.rehearse(
        &[
            Wish::Replace(simple("a", 5), seen()),
            Wish::Replace(simple("a", 6), seen()),
            Wish::Remove(name("a"), seen()),
            Wish::Remove(name("a"), Premise::Present),
            Wish::Replace(simple("a", 2), Premise::Present),
            Wish::Replace(simple("a", 2), seen()),
            Wish::Replace(simple("a", 2), Premise::Anything),
        ]
        .map(|wish| (wish, Grant::unlimited(Role::Operator))),
    );
    let superseded = || Err(Refusal::Superseded { name: name("a") });
    let made = || Ok(Origin::Api);
    assert_eq!(said, [made(), superseded(), superseded(), made(), superseded(), superseded(), made()]);
}

#[test]
fn a_start_leaves_out_what_no_longer_fits_beside_the_file() {
    let mut engine = Engine::new("mcr.toml");
    let left_out = engine.begin(vec![simple("a", 1)], vec![simple("a", 2), simple("b", 3)]).unwrap();
    assert_eq!(left_out.iter().map(|refusal| refusal.name().as_str()).collect::<Vec<_>>(), ["a"]);
    let origins: Vec<_> = engine.statuses(Duration::ZERO).into_iter().map(|relay| (relay.name, relay.origin)).collect();
    assert_eq!(origins, [("a".to_owned(), Origin::File), ("b".to_owned(), Origin::Api)]);
}

#[test]
fn a_plan_tells_what_is_added_changed_and_removed() {
    let mut engine = Engine::new("mcr.toml");
    engine.load_file(vec![simple("stays", 1), simple("changes", 2), simple("goes", 3)]).unwrap();
    engine.create(simple("of-the-api", 4)).unwrap();
    flow(&mut engine, "changes", 1_000, 100);
    let wanted = [
        simple("stays", 1),
        relay("changes", "eth0:239.1.1.2:5001", &["eth1:239.2.2.2:6001,ttl=9"]),
        relay("new", "eth0:239.1.1.9:5001", &["eth1:239.2.2.9:6001", "eth2:10.0.0.9:1"]),
    ];
    let plan = engine.preview(&wanted, &BTreeMap::new()).unwrap();
    assert_eq!(plan.unchanged, 1);
    assert_eq!(plan.added[0].to, ["eth1:239.2.2.9:6001", "eth2:10.0.0.9:1"]);
    assert_eq!(plan.changed[0].fields[0].field, "output[eth1:239.2.2.2:6001].ttl");
    assert_eq!(plan.changed[0].flow.as_ref().unwrap().received.packets_per_second, Some(1000.0));
    assert_eq!((plan.removed[0].name.as_str(), &plan.removed[0].flow), ("goes", &None));
    assert_eq!((plan.warnings, plan.outputs_with_unknown_receivers), (vec![], 4));
    assert!(!engine.has_relay(&"new".parse().unwrap()), "a plan changes nothing");
}

#[test]
fn a_plan_that_does_not_fit_says_everything_that_does_not() {
    let engine = engine();
    let refusals = engine
        .preview(&[simple("a", 7), relay("c", "eth1:239.2.2.2:6001", &["eth0:239.1.1.2:5001"])], &BTreeMap::new());
    let names: Vec<_> = refusals.unwrap_err().iter().map(|refusal| refusal.name().to_string()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn who_takes_pairs_of_whom_is_told_both_ways() {
    let mut engine = engine();
    engine.create(relay("range", "eth0:239.8.0.0/24:5000-5003", &["eth1:239.9.0.0/24:6000-6003"])).unwrap();
    engine.create(relay("within", "eth0:239.8.0.4/30:5003", &["eth2:239.9.0.4/30:6003"])).unwrap();
    let exact = relay("exact", "eth0:239.8.0.7:5001", &["eth1:239.9.9.9:6001"]);
    let plan = engine.preview(&[simple("f", 1), exact.clone()], &BTreeMap::new()).unwrap();
    let [warning] = &plan.warnings[..] else { panic!("{:?}", plan.warnings) };
    assert_eq!((warning.kind, warning.relays.join(" ").as_str()), (WarningKind::TakesPairs, "exact range"));
    assert!(warning.message.starts_with("exact takes 239.8.0.7:5001 of range"), "{}", warning.message);
    let broader = relay("broader", "eth0:239.8.0.0/23:5003", &["eth1:239.7.0.1:1"]);
    let plan = engine.preview(&[simple("f", 1), broader], &BTreeMap::new()).unwrap();
    let told: Vec<_> = plan.warnings.iter().map(|warning| warning.relays.join(" ")).collect();
    assert_eq!(told, ["range broader", "within broader"], "each pair goes to the most exact of the three");

    engine.create(exact).unwrap();
    let status = |name: &str| engine.status(&name.parse().unwrap(), Duration::ZERO).unwrap();
    let told = |shared: &[SharedPairs]| {
        let one = |shared: &SharedPairs| format!("{} {} {}", shared.relay, shared.what, shared.pairs);
        shared.iter().map(one).collect::<Vec<_>>()
    };
    let range = status("range");
    assert_eq!(told(&range.left_to), ["exact 239.8.0.7:5001 1", "within 239.8.0.4/30:5003 4"]);
    assert_eq!((told(&range.taken_from), told(&status("within").left_to)), (vec![], vec![]));
    assert_eq!(told(&status("within").taken_from), ["range 239.8.0.4/30:5003 4"]);
    assert_eq!(told(&status("exact").taken_from), ["range 239.8.0.7:5001 1"]);
}

/// The relay receives so many packets of so many bytes in each of two seconds.
fn flow(engine: &mut Engine, name: &str, packets: u64, bytes: u64) {
    let incarnation = engine.wanted().find(|wanted| wanted.name.as_str() == name).unwrap().incarnation;
    for second in 0..=2 {
        let received = Totals { packets: packets * second, bytes: packets * bytes * second };
        let totals = RelayTotals { received, outputs: vec![OutputTotals::default()], last_packet: None };
        engine.counted(Duration::from_secs(second), &name.parse().unwrap(), incarnation, totals);
    }
}

#[test]
fn what_may_not_be_meant_is_warned_of() {
    let mut engine = engine();
    flow(&mut engine, "f", 1_000, 1_000);
    let wanted = [
        simple("f", 1),
        relay("mac", "eth0:239.129.1.2:5001", &["eth1:239.9.9.9:1"]),
        relay("odd", "eth0:239.7.7.7:5001", &["eth2:224.5.5.5:1,ttl=1", "eth2:232.5.5.6:1"]),
    ];
    let joined = Receivers::Joined(BTreeSet::from(["239.2.2.1".parse().unwrap()]));
    let slow = Link { bits_per_second: Some(7_000_000), receivers: joined };
    let links = BTreeMap::from([("eth1".parse().unwrap(), slow)]);
    let plan = engine.preview(&wanted, &links).unwrap();
    let kinds: Vec<_> = plan.warnings.iter().map(|warning| (warning.kind, warning.relays.join(" "))).collect();
    assert_eq!(
        kinds,
        [
            (WarningKind::SharedMac, "a mac".to_owned()),
            (WarningKind::Oversubscribed, "f".to_owned()),
            (WarningKind::NoReceiver, "mac".to_owned()),
            (WarningKind::PublicGroup, "odd".to_owned()),
            (WarningKind::ShortTtl, "odd".to_owned()),
        ]
    );
    assert!(plan.warnings[1].message.contains("8 Mbit/s would leave on eth1, whose link carries 7 Mbit/s"));
    assert_eq!(plan.outputs_with_unknown_receivers, 2);
}
