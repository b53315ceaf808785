//! Traffic through a worker, from an unroutable sender to plain sockets.

mod harness;

use harness::{GROUP_IN, Input, Listener, Output, Relay, Traffic, send};
use mcr_datapath::RingGeometry;
use mcr_testbed::{Switch, Topology};

fn mixed_sizes(sequence: u64) -> usize {
    16 + (sequence as usize * 7_919) % 1_457
}

/// Relays `traffic` to `outputs` lans and expects all of it at each.
fn relay_all(topology: &Topology, geometry: RingGeometry, mtu: u32, traffic: Traffic) {
    let outputs: Vec<_> = topology.lans().iter().map(|lan| Output { mtu, ..Output::open(lan) }).collect();
    let relay = Relay::new(GROUP_IN, outputs);
    let input = Input::open(topology.relay_input(), geometry);
    input.install(&[&relay]);
    let listeners: Vec<_> = topology.lans().iter().map(Listener::join).collect();
    send(topology, traffic);
    for listener in &listeners {
        listener.expect_all(traffic.count);
    }
    relay.assert_balanced();
    assert_eq!(relay.received(), traffic.count);
}

const MIXED: Traffic = Traffic { count: 30_000, packets_per_second: 30_000, size: mixed_sizes, segments: 1 };

#[test]
fn mixed_sizes_with_checksums_left_to_offload() {
    relay_all(&Topology::device_relay_lan(3), RingGeometry::for_mtu(1500), 1500, MIXED);
}

#[test]
fn mixed_sizes_with_finished_checksums() {
    let topology = Topology::device_relay_lan(3);
    topology.input().offload_sending(Switch::Off);
    topology.lans().iter().for_each(|lan| lan.cable().offload_sending(Switch::Off));
    relay_all(&topology, RingGeometry::for_mtu(1500), 1500, MIXED);
}

#[test]
fn runs_of_equal_sizes() {
    let traffic = Traffic { count: 100_000, packets_per_second: 60_000, size: |_| 1_316, segments: 1 };
    relay_all(&Topology::device_relay_lan(2), RingGeometry::for_mtu(1500), 1500, traffic);
}

#[test]
fn super_frames_of_a_segmenting_sender() {
    let traffic = Traffic { count: 40_000, packets_per_second: 40_000, size: |_| 1_200, segments: 40 };
    relay_all(&Topology::device_relay_lan(2), RingGeometry::for_mtu(1500), 1500, traffic);
}

#[test]
fn super_frames_cut_by_the_senders_device() {
    let topology = Topology::device_relay_lan(1);
    topology.input().offload_sending(Switch::Off);
    let traffic = Traffic { count: 20_000, packets_per_second: 40_000, size: |_| 1_200, segments: 10 };
    relay_all(&topology, RingGeometry::for_mtu(1500), 1500, traffic);
}

#[test]
fn jumbo_frames_in_a_ring_with_small_slots() {
    let topology = Topology::device_relay_lan(2);
    topology.input().set_mtu(9_000);
    topology.lans().iter().for_each(|lan| lan.cable().set_mtu(9_000));
    let size = |sequence| 16 + (sequence as usize * 7_919) % 8_957;
    let traffic = Traffic { count: 10_000, packets_per_second: 10_000, size, segments: 1 };
    relay_all(&topology, RingGeometry::for_mtu(1500), 9_000, traffic);
}

#[test]
fn jumbo_frames_in_a_ring_made_for_them() {
    let topology = Topology::device_relay_lan(2);
    topology.input().set_mtu(9_000);
    topology.lans().iter().for_each(|lan| lan.cable().set_mtu(9_000));
    let traffic = Traffic { count: 10_000, packets_per_second: 10_000, size: |_| 8_972, segments: 1 };
    relay_all(&topology, RingGeometry::for_mtu(9_000), 9_000, traffic);
}

#[test]
fn an_mtu_that_grows_needs_no_new_ring() {
    let topology = Topology::device_relay_lan(1);
    let mut relay = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
    let input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    for (mtu, size) in [(1_500, (|_| 1_472) as fn(u64) -> usize), (9_000, |_| 8_972), (1_500, |_| 1_472)] {
        topology.input().set_mtu(mtu);
        topology.lan(1).cable().set_mtu(mtu);
        relay.outputs[0].mtu = mtu;
        input.install(&[&relay]);
        let listener = Listener::join(topology.lan(1));
        send(&topology, Traffic { count: 5_000, packets_per_second: 20_000, size, segments: 1 });
        listener.expect_all(5_000);
    }
    relay.assert_balanced();
    assert_eq!(relay.received(), 15_000);
}
