//! Every packet by a named door, where packets are lost on purpose.

mod harness;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{GROUP_IN, Heard, Input, Listener, Output, PATIENCE, Relay, Traffic, send};
use mcr_datapath::RingGeometry;
use mcr_testbed::{Frame, Lan, RawSender, Topology, payload, wait_for_state, wait_until};
use mcr_wire::DropReason;

/// A relay from the device to every lan, without the worker.
fn relay_to_all(topology: &Topology) -> Relay {
    Relay::new(GROUP_IN, topology.lans().iter().map(Output::open).collect())
}

/// Has the relay's side of a lan send at a rate, with a queue in front; sizes in the units of `tc`.
fn slow_down(topology: &Topology, lan: &Lan, rate: &str, queue: &str) {
    let name = lan.relay_side().name();
    // A burst takes the largest run whole: `tbf` would cut it and not say what it dropped of it.
    let shape = ["qdisc", "add", "dev", &name, "root", "tbf", "rate", rate, "burst", "128kb", "limit", queue];
    topology.relay().output("tc", &shape);
}

#[test]
fn what_a_full_ring_loses_is_counted_to_the_frame() {
    let topology = Topology::device_relay_lan(3);
    let relay = relay_to_all(&topology);
    let input = Input::open(topology.relay_input(), RingGeometry { slots: 78, ..RingGeometry::for_mtu(1500) });
    input.install(&[&relay]);
    let sender = RawSender::new(topology.device_interface());
    let frame = Frame::udp("192.168.168.55:40000", "239.1.1.1:5001", vec![7; 1_200]).bytes();
    let over = AtomicBool::new(false);
    let lost = || input.dropped(DropReason::RingFull);
    let sent = std::thread::scope(|scope| {
        // The kernel's count starts anew whenever it is read: by the worker, and here.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                input.worker().poll_statistics();
            }
        });
        let mut sent = 0;
        while sent < 1_000_000 && (sent < 20_000 || lost() < 1_000) {
            (0..1_000).for_each(|_| sender.send_bytes(&frame));
            sent += 1_000;
        }
        over.store(true, Ordering::Relaxed);
        sent
    });
    wait_for_state(PATIENCE, "every frame in the books", || (relay.received(), lost()), |(r, l)| r + l == sent);
    assert!(lost() >= 1_000, "{} of {sent}", lost());
    relay.assert_balanced();
}

/// Sends to two lans, the first of which is slow, and expects each to hear what was counted as sent.
fn relay_past_a_slow_lan(rate: &str, queue: &str) {
    let topology = Topology::device_relay_lan(2);
    slow_down(&topology, topology.lan(1), rate, queue);
    let relay = relay_to_all(&topology);
    let input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    let [slow, fast] = [1, 2].map(|number| Listener::join(topology.lan(number)));
    let traffic = Traffic { count: 20_000, packets_per_second: 50_000, size: |_| 1_316, segments: 1 };
    send(&topology, traffic);
    fast.expect_all(traffic.count);
    relay.assert_balanced();
    let output = relay.outputs[0].counters.snapshot();
    let dropped: Vec<_> = output.dropped.iter().map(|(reason, _)| reason).collect();
    assert_eq!(dropped, [DropReason::OutputQueueFull], "{:?}", output.dropped);
    let told = |heard: &Heard| (heard.intact, heard.corrupt, heard.out_of_order) == (output.sent_packets, 0, 0);
    wait_for_state(PATIENCE, "what was sent, once and in order", || slow.heard(), told);
}

#[test]
fn a_queue_that_is_full_drops_by_name_and_costs_its_own_output_only() {
    relay_past_a_slow_lan("100mbit", "400kb");
}

#[test]
fn a_queue_larger_than_the_sockets_memory_drops_by_the_same_name() {
    relay_past_a_slow_lan("100mbit", "64mb");
}

#[test]
fn a_cable_pulled_at_the_far_end_leaves_the_books_right() {
    let topology = Topology::device_relay_lan(2);
    let relay = relay_to_all(&topology);
    let input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    let [pulled, other] = [1, 2].map(|number| Listener::join(topology.lan(number)));
    let traffic = Traffic { count: 40_000, packets_per_second: 40_000, size: |_| 600, segments: 1 };
    std::thread::scope(|scope| {
        scope.spawn(|| send(&topology, traffic));
        for turn in 1..=3 {
            wait_until(PATIENCE, "traffic", || relay.received() > turn * 10_000);
            topology.lan(1).host_side().down();
            wait_until(PATIENCE, "more traffic", || relay.received() > turn * 10_000 + 3_000);
            topology.lan(1).host_side().up();
        }
    });
    other.expect_all(traffic.count);
    assert_eq!(relay.received(), traffic.count);
    relay.assert_balanced();
    // A device without carrier takes packets and says nothing: what was sent is what the kernel took.
    let heard = pulled.heard();
    assert!(heard.intact > 0 && heard.intact <= relay.outputs[0].counters.snapshot().sent_packets, "{heard:?}");
}

#[test]
fn a_copy_that_a_killed_reader_took_costs_its_own_frame_only() {
    let topology = Topology::device_relay_lan(1);
    topology.input().set_mtu(9_000);
    topology.lan(1).cable().set_mtu(9_000);
    let relay = Relay::new(GROUP_IN, vec![Output { mtu: 9_000, ..Output::open(topology.lan(1)) }]);
    let mut input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    input.worker = None;
    let listener = Listener::join(topology.lan(1));
    let sender = RawSender::new(topology.device_interface());
    // Large and small ones in turn: every large one has its copy in the socket's queue.
    let count = 40;
    for sequence in 0..count {
        let mut bytes = vec![0; if sequence % 2 == 0 { 8_000 } else { 100 }];
        payload::fill(&mut bytes, 1, sequence);
        sender.send(&Frame::udp("192.168.168.55:40000", "239.1.1.1:5001", bytes));
    }
    // As a worker does before it is killed.
    let mut start = [0; 64];
    // SAFETY: the pointer and the length describe `start`, which outlives the call.
    let taken =
        unsafe { libc::recv(input.rings[0].as_raw_fd(), start.as_mut_ptr().cast(), start.len(), libc::MSG_TRUNC) };
    assert!(taken > 8_000, "{taken}");
    input.start();
    input.install(&[&relay]);
    let rest = Heard { intact: count - 1, next: count, ..Heard::default() };
    wait_for_state(PATIENCE, "all but one, in order", || listener.heard(), |heard| *heard == rest);
    assert_eq!(relay.outputs[0].counters.snapshot().dropped.get(DropReason::RingFull), 1);
    assert_eq!(relay.received(), count);
    relay.assert_balanced();
}
