//! What the engine alone needs to put relays in force beside those that are there, without a kernel or a keeper:
//! `cargo run --release -p mcr-engine --example changes`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mcr_engine::{Effect, Engine, Ifindex, InterfaceFacts, Outcome};
use mcr_model::Relay;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

/// As many as wait one behind the other when fifty clients ask at once.
const TOGETHER: usize = 50;

fn main() {
    for present in [0, 200, 1_000, 10_000] {
        let mut engine = Engine::new("(none)");
        engine.interfaces_are(vec![interface(2, "dev0"), interface(3, "lan1")]);
        (0..present).for_each(|number| engine.create(relay(number)).expect("it fits"));
        settle(&mut engine);
        engine.look(Duration::from_secs(1));
        let times: Vec<[Duration; 4]> = (0..20).map(|round| change(&mut engine, present + round * TOGETHER)).collect();
        let median = |part: usize| {
            let mut times: Vec<Duration> = times.iter().map(|times| times[part]).collect();
            times.sort_unstable();
            times[times.len() / 2]
        };
        let [taken, in_force, told, looked] = [0, 1, 2, 3].map(median);
        println!(
            "{TOGETHER} beside {present}: taken {taken:?}, in force {in_force:?}, told {told:?}; a look {looked:?}"
        );
    }
}

/// Puts relays in force together and removes them again; how long the parts of the first took, and a look after it.
fn change(engine: &mut Engine, first: usize) -> [Duration; 4] {
    let relays: Vec<Relay> = (first..first + TOGETHER).map(relay).collect();
    let names: Vec<_> = relays.iter().map(|relay| relay.name().clone()).collect();
    let taken = time(|| relays.into_iter().for_each(|relay| engine.create(relay).expect("it fits")));
    let in_force = time(|| settle(engine));
    let told = time(|| {
        for name in &names {
            let status = engine.status(name, Duration::ZERO).expect("it is there");
            assert_eq!(status.state.name(), "ready", "{status:?}");
        }
    });
    let looked = time(|| {
        engine.look(Duration::from_secs(2));
    });
    names.iter().for_each(|name| engine.remove(name).expect("it is there"));
    settle(engine);
    engine.take_events();
    [taken, in_force, told, looked]
}

/// Says of every effect that it was carried out.
fn settle(engine: &mut Engine) {
    loop {
        let effects: Vec<Effect> = engine.reconcile(Duration::ZERO);
        if effects.is_empty() {
            return;
        }
        effects.into_iter().for_each(|effect| engine.done(Duration::ZERO, effect, Ok(Outcome::Done)));
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn relay(number: usize) -> Relay {
    let (high, low) = (number / 250, number % 250);
    let spec = RelaySpec {
        name: format!("r{number}"),
        input: InputSpec::from_endpoint(&format!("dev0:239.1.{high}.{low}:5001")).expect("an endpoint"),
        output: vec![OutputSpec::from_endpoint(&format!("lan1:239.2.{high}.{low}:6001")).expect("an endpoint")],
        ..RelaySpec::default()
    };
    spec.check().expect("a relay")
}

fn interface(index: u32, name: &str) -> InterfaceFacts {
    InterfaceFacts {
        index: Ifindex(index),
        name: name.parse().expect("a name"),
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
