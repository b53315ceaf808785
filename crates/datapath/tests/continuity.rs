//! What must not cost a packet: other tables, other workers, other relays.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};

use harness::{GROUP_IN, Input, Listener, Output, Relay, Traffic, send};
use mcr_datapath::RingGeometry;
use mcr_testbed::Topology;

const STEADY: Traffic = Traffic { count: 40_000, packets_per_second: 20_000, size: |_| 600, segments: 1 };

/// Runs `meddle` again and again while traffic flows, and expects all of it.
fn undisturbed(meddle: impl Fn(&mut Input, &Relay, u32)) {
    let topology = Topology::device_relay_lan(1);
    let relay = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
    let mut input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    let listener = Listener::join(topology.lan(1));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send(&topology, STEADY);
            done.store(true, Ordering::Relaxed);
        });
        let mut turn = 0;
        while !done.load(Ordering::Relaxed) {
            meddle(&mut input, &relay, turn);
            turn += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(turn > 10, "there was time to meddle");
    });
    listener.expect_all(STEADY.count);
    assert_eq!(relay.received(), STEADY.count);
    relay.assert_balanced();
}

#[test]
fn replacing_the_table_loses_nothing() {
    undisturbed(|input, relay, turn| {
        let mut others: Vec<_> = (0..turn % 50)
            .map(|n| Relay::new(std::net::SocketAddrV4::new(*GROUP_IN.ip(), 7_000 + n as u16), Vec::new()))
            .collect();
        others.push(relay.clone());
        let relays: Vec<_> = others.iter().collect();
        input.install(&relays);
    });
}

#[test]
fn the_next_worker_goes_on_where_the_last_one_stopped() {
    undisturbed(|input, relay, _| {
        input.worker = None;
        input.start();
        input.install(&[relay]);
    });
}

#[test]
fn relays_of_one_destination_each_get_their_copy() {
    let topology = Topology::device_relay_lan(2);
    let first = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
    let second = Relay::new(GROUP_IN, vec![Output::open(topology.lan(2))]);
    let input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&first, &second]);
    let listeners: Vec<_> = topology.lans().iter().map(Listener::join).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&topology, STEADY));
        mcr_testbed::wait_until(harness::PATIENCE, "half of it", || first.received() > STEADY.count / 2);
        input.install(&[&first]);
    });
    listeners[0].expect_all(STEADY.count);
    assert_eq!(first.received(), STEADY.count);
    assert!(second.received() < STEADY.count);
    listeners[1].expect_all(second.received());
    first.assert_balanced();
    second.assert_balanced();
}

#[test]
fn a_ring_that_filled_up_meanwhile_is_read_from_its_oldest_frame() {
    let topology = Topology::device_relay_lan(1);
    let relay = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
    let geometry = RingGeometry { slots: 390, ..RingGeometry::for_mtu(1500) };
    let slots = u64::from(geometry.slots);
    let mut input = Input::open(topology.relay_input(), geometry);
    input.install(&[&relay]);
    // So that the oldest frame is not in the first slot.
    let warm_up = Traffic { count: 1_000, ..STEADY };
    send(&topology, warm_up);
    mcr_testbed::wait_until(harness::PATIENCE, "the first thousand", || relay.received() == warm_up.count);
    input.worker = None;
    let listener = Listener::join(topology.lan(1));
    send(&topology, warm_up);
    input.start();
    input.install(&[&relay]);
    listener.expect_all(slots);
    assert_eq!(relay.received(), warm_up.count + slots);
    assert_eq!(input.dropped(mcr_wire::DropReason::RingFull), warm_up.count - slots);
    relay.assert_balanced();
}

#[test]
fn what_waits_in_the_ring_when_a_relay_leaves_is_relayed() {
    let topology = Topology::device_relay_lan(1);
    let relay = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
    let mut input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    let listener = Listener::join(topology.lan(1));
    // A ring that fills while nobody reads it.
    input.worker = None;
    let backlog = Traffic { count: 5_000, ..STEADY };
    send(&topology, backlog);
    input.start();
    input.install(&[&relay]);
    input.install(&[]);
    assert_eq!(relay.received(), backlog.count);
    listener.expect_all(backlog.count);
    relay.assert_balanced();
}
