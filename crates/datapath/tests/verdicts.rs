//! Frames made by hand, for what the table of frames that all datapaths share does not tell: runs, and interfaces that come and go.

mod harness;

use std::time::Duration;

use harness::{GROUP_IN, GROUP_OUT, Input, Output, PATIENCE, Relay, TTL, to};
use mcr_datapath::RingGeometry;
use mcr_testbed::{Frame, RawReceiver, RawSender, Switch, Tag, Topology, wait_for_state, wait_until};
use mcr_wire::{DropReason, VlanId};

const FROM: &str = "192.168.168.55:40000";
const TO: &str = "239.1.1.1:5001";

/// One relay with one output on a wire of its own.
struct Stand {
    topology: Topology,
    input: Input,
    relay: Relay,
    sender: RawSender,
    receiver: RawReceiver,
}

impl Stand {
    fn new() -> Stand {
        Stand::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Relay)) -> Stand {
        let topology = Topology::device_relay_lan(1);
        // As on a real wire: one frame per datagram, checksums finished.
        topology.lan(1).cable().offload_sending(Switch::Off);
        let mut relay = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
        change(&mut relay);
        let input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
        input.install(&[&relay]);
        let sender = RawSender::new(topology.device_interface());
        let receiver = RawReceiver::new(topology.lan(1).host_side());
        Stand { topology, input, relay, sender, receiver }
    }

    /// Sends a frame that must end at this door of the input.
    #[track_caller]
    fn expect_unattributed(&self, reason: DropReason, frame: &Frame) {
        let before = self.input.dropped(reason);
        self.sender.send(frame);
        wait_until(PATIENCE, reason.name(), || self.input.dropped(reason) == before + 1);
        self.relay.assert_balanced();
    }

    fn charged(&self, reason: DropReason) -> u64 {
        self.relay.outputs[0].counters.snapshot().dropped.get(reason)
    }
}

fn plain() -> Frame {
    Frame::udp(FROM, TO, b"0123456789".to_vec())
}

#[test]
fn a_datagram_leaves_with_every_field_as_configured() {
    let stand = Stand::new();
    stand.sender.send(&plain().traffic_class(0x03).identification(77).ttl(1));
    let seen = stand.receiver.next_udp(PATIENCE);
    let rewrite = &stand.relay.outputs[0].rewrite;
    assert_eq!(seen.source_mac.0, rewrite.source_mac.octets());
    assert_eq!(seen.destination_mac.0, [1, 0, 0x5e, 2, 2, 2]);
    assert_eq!(seen.tags, []);
    assert_eq!(seen.source, std::net::SocketAddr::new(rewrite.source.expect("one that is set"), 40_000));
    assert_eq!(seen.destination, GROUP_OUT.into());
    assert_eq!((seen.ttl, seen.identification, seen.traffic_class), (TTL, 77, 34 << 2 | 3));
    assert_eq!(seen.flags_and_offset, 0x4000);
    assert!(seen.ip_checksum_is_right && seen.udp_checksum_is_right);
    assert_eq!(seen.payload, b"0123456789");
    let output = stand.relay.outputs[0].counters.snapshot();
    assert_eq!((output.sent_packets, output.sent_bytes), (1, 38));
    assert!(stand.relay.counters.snapshot().last_seen_nanoseconds > 0);
}

#[test]
fn tagged_frames_match_their_vlan_only_and_keep_their_priority() {
    let stand = Stand::with(|relay| {
        relay.destination = to(GROUP_IN, VlanId::new(100));
        relay.outputs[0].rewrite.vlan = VlanId::new(200);
    });
    stand.expect_unattributed(DropReason::NoRelay, &plain());
    let tag = Tag { protocol: 0x8100, control: 0xa000 | 100 };
    for _ in 0..4 {
        stand.sender.send(&plain().tag(tag));
    }
    for _ in 0..4 {
        let seen = stand.receiver.next_udp(PATIENCE);
        assert_eq!(seen.tags, [Tag { protocol: 0x8100, control: 0xa000 | 200 }]);
        assert_eq!(seen.payload, b"0123456789");
        assert!(seen.ip_checksum_is_right && seen.udp_checksum_is_right);
    }
    // A second tag is nobody's.
    stand.sender.send(&plain().tag(tag).tag(tag));
    stand.sender.send(&plain().tag(tag));
    assert_eq!(stand.receiver.next_udp(PATIENCE).payload.len(), 10);
    assert_eq!(stand.relay.received(), 5);
}

#[test]
fn too_large_for_an_output_is_dropped_there_and_only_there() {
    let stand = Stand::with(|relay| {
        let small = Output { mtu: 100, counters: Default::default(), ..relay.outputs[0].clone() };
        relay.outputs.push(small);
    });
    stand.sender.send(&Frame::udp(FROM, TO, vec![7; 72]));
    stand.sender.send(&Frame::udp(FROM, TO, vec![7; 73]));
    let lengths: Vec<_> = (0..3).map(|_| stand.receiver.next_udp(PATIENCE).payload.len()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 72 + 72 + 73);
    wait_for_state(
        PATIENCE,
        "one too big",
        || stand.relay.outputs[1].counters.snapshot(),
        |output| output.sent_packets == 1 && output.dropped.get(DropReason::TooBig) == 1,
    );
    stand.relay.assert_balanced();
}

#[test]
fn a_run_whose_last_datagram_alone_fits_sends_that_one() {
    let stand = Stand::with(|relay| relay.outputs[0].mtu = 100);
    // The worker is asleep in between, so the three need not be one run; the verdicts are the same.
    for length in [80, 80, 50] {
        stand.sender.send(&Frame::udp(FROM, TO, vec![7; length]));
    }
    assert_eq!(stand.receiver.next_udp(PATIENCE).payload.len(), 50);
    assert_eq!(stand.charged(DropReason::TooBig), 2);
    stand.relay.assert_balanced();
}

#[test]
fn an_interface_that_is_down_costs_its_own_output_only() {
    let topology = Topology::device_relay_lan(2);
    let outputs: Vec<_> = topology.lans().iter().map(Output::open).collect();
    let relay = Relay::new(GROUP_IN, outputs);
    let input = Input::open(topology.relay_input(), RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    topology.lan(1).relay_side().down();
    let sender = RawSender::new(topology.device_interface());
    let receiver = RawReceiver::new(topology.lan(2).host_side());
    for _ in 0..10 {
        sender.send(&plain());
        receiver.next_udp(PATIENCE);
    }
    wait_for_state(
        PATIENCE,
        "ten refused",
        || relay.outputs[0].counters.snapshot(),
        |output| output.dropped.get(DropReason::OutputDown) == 10,
    );
    topology.lan(1).relay_side().up();
    wait_until(PATIENCE, "the output goes on by itself", || {
        sender.send(&plain());
        relay.outputs[0].counters.snapshot().sent_packets > 0
    });
    topology.lan(1).cable().clone().delete();
    wait_until(PATIENCE, "the output is missing", || {
        sender.send(&plain());
        relay.outputs[0].counters.snapshot().dropped.get(DropReason::OutputMissing) > 0
    });
    let sent = relay.outputs[1].counters.snapshot();
    assert_eq!((sent.sent_packets, sent.dropped.total()), (relay.received(), 0));
    relay.assert_balanced();
}

#[test]
fn an_input_that_goes_down_comes_back_and_one_that_is_removed_rests() {
    let stand = Stand::new();
    let input = stand.topology.relay_input();
    for _ in 0..5 {
        input.down();
        input.up();
        wait_until(PATIENCE, "frames come again", || {
            stand.sender.send(&plain());
            std::thread::sleep(Duration::from_millis(1));
            stand.relay.received() > 0
        });
        let before = stand.relay.received();
        wait_until(PATIENCE, "more of them", || {
            stand.sender.send(&plain());
            stand.relay.received() > before
        });
    }
    input.down();
    assert_rests("mcr-test", "with its interface down");
    stand.topology.input().clone().delete();
    assert_rests("mcr-test", "with its interface gone");
    stand.input.install(&[]);
    assert!(stand.input.worker().are_running());
}

/// Threads of this name use no processor time worth mentioning.
fn assert_rests(name: &str, when: &str) {
    let ticks = || -> u64 {
        let threads = std::fs::read_dir("/proc/self/task").expect("own threads");
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok())
            .filter(|stat| stat.contains(&format!("({name})")))
            .filter_map(|stat| {
                let fields: Vec<u64> =
                    stat.rsplit(") ").next()?.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
                Some(fields[11] + fields[12])
            })
            .sum()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(300));
    // A hundredth of a second each; spinning would be thirty.
    assert!(ticks() - before < 8, "the worker spins {when}");
}
