//! At the driver, on a wire: what is served there, what is proven first, and what becomes of copies that a driver leaves.

mod stand;

use std::time::Duration;

use mcr_kernel_path::{Exit, NotAtDriver, OutputAction, RelayEntry, Unproven, WriteError, not_at_driver};
use mcr_testbed::table::{destination, rewrite};
use mcr_testbed::{Frame, Offload, Receiver, Sender, Switch};
use mcr_wire::{CodePoint, DropReason, Listing, MacAddr, Rewrite, TimeToLive, VlanId};
use stand::{Output, Relay, Stand};

const LIMIT: Duration = Duration::from_secs(10);
const DATAGRAMS: u64 = 3_200;

/// A stand with one relay that has an output on each of these lans, the same several times perhaps; output `n` to 239.2.2.n.
fn relaying_to(lans: &[usize]) -> Stand {
    let mut stand = Stand::at_driver(lans.iter().copied().max().unwrap());
    let outputs = (1..).zip(lans).map(|(number, &lan)| {
        let rewrite = Rewrite {
            source_mac: MacAddr::new(stand.net.lan(lan).relay_side().mac().0),
            source: Some(stand.net.lan(lan).relay_address().into()),
            ttl: TimeToLive::Set(number),
            dscp: CodePoint::Set(34),
            ..rewrite(&format!("239.2.2.{number}:6001"))
        };
        Output::Send { lan, rewrite, mtu: 1500 }
    });
    let relay = Relay {
        destination: destination("239.1.1.1:5001", 0),
        sources: vec![],
        listing: Listing::Accepts,
        outputs: outputs.collect(),
    };
    stand.install(vec![relay]);
    stand
}

/// Everything is heard at every output, once, whole and in order, was served at the driver, and the books balance.
fn relays_all_to(lans: &[usize], offload: Switch) {
    let stand = relaying_to(lans);
    stand.net.input().offload_sending(offload);
    let _link = stand.attach_at_driver();
    let listener =
        |number: usize, lan: usize| Receiver::group(stand.net.lan(lan).host_side(), &format!("239.2.2.{number}:6001"));
    let listeners: Vec<Receiver> = (1..).zip(lans).map(|(number, &lan)| listener(number, lan)).collect();
    let sender = Sender::new(stand.net.device(), "239.1.1.1:5001").payload_sizes(&[100, 1400, 33, 34]);
    let sent = sender.datagrams_per_second(20_000).send(DATAGRAMS);
    for (number, listener) in (1..).zip(&listeners) {
        let heard = listener.expect(&sent, LIMIT);
        heard.assert_faultless();
        assert_eq!(heard.ttls.iter().copied().collect::<Vec<u8>>(), [number]);
        assert_eq!(heard.traffic_classes.iter().copied().collect::<Vec<u8>>(), [34 << 2]);
    }
    let totals = stand.totals();
    let bytes = sent.payload_bytes + 28 * sent.datagrams;
    let relay = totals.relays[0];
    assert_eq!((relay.received_packets, relay.received_bytes), (sent.datagrams, bytes));
    assert_eq!(relay.at_driver_packets, sent.datagrams);
    for output in &totals.outputs[0] {
        assert_eq!((output.sent_packets, output.sent_bytes, output.dropped.total()), (sent.datagrams, bytes, 0));
    }
}

#[test]
fn to_one_output() {
    relays_all_to(&[1], Switch::On);
    relays_all_to(&[1], Switch::Off);
}

/// Records, and the numbers of frames, of a relay that is gone are used again.
#[test]
fn a_new_relay_takes_no_turn_of_one_before() {
    let mut stand = relaying_to(&[1; 16]);
    let relays = stand.relays();
    let frame = Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", vec![7; 60]).bytes();
    let relay = stand.net.relay().clone();
    relay.run(|| {
        for round in 0..240 {
            stand.install(relays.clone());
            // Every other one: the last turn is of the relay whose records are the first to be free again.
            if round % 2 == 0 {
                stand.run_live(&frame);
                let outputs = &stand.totals().outputs[0];
                assert!(outputs.iter().all(|output| output.sent_packets == 1), "round {round}: {outputs:?}");
            }
        }
    });
}

#[test]
fn to_four_outputs() {
    relays_all_to(&[1, 2, 3, 4], Switch::On);
    relays_all_to(&[4, 3, 2, 1], Switch::Off);
}

#[test]
fn to_sixteen_outputs() {
    let lans: Vec<usize> = (1..=16).collect();
    relays_all_to(&lans, Switch::On);
}

#[test]
fn to_several_outputs_on_one_interface() {
    relays_all_to(&[1, 1], Switch::On);
    relays_all_to(&[2, 1, 1, 2, 1], Switch::Off);
}

#[test]
fn tags_are_pushed_and_priorities_kept() {
    let mut stand = Stand::at_driver(2);
    let tagged = Rewrite { vlan: VlanId::new(300), ..rewrite("239.2.2.2:6001") };
    let to = |lan, rewrite| Output::Send { lan, rewrite, mtu: 1500 };
    let outputs = vec![to(1, tagged), to(1, rewrite("239.2.2.3:6001")), to(2, tagged)];
    let relay = |vlan, outputs| Relay {
        destination: destination("239.1.1.1:5001", vlan),
        sources: vec![],
        listing: Listing::Accepts,
        outputs,
    };
    stand.install(vec![relay(0, vec![to(1, tagged)]), relay(100, outputs)]);
    let relay = stand.net.relay().clone();
    relay.run(|| {
        let untagged = mcr_testbed::Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", vec![9; 500]);
        for frame in [untagged.clone(), untagged.tag(mcr_testbed::Tag { protocol: 0x88a8, control: 0xe064 })] {
            stand.agree("through the stand", &frame.padding(7).bytes());
        }
    });
    assert_eq!(stand.served_at_driver(), 2);
}

/// Drivers allow for one tag beyond the MTU. What has no room at the driver is served at tcx ingress, and no other is lost.
#[test]
fn two_tags_are_pushed_up_to_the_mtu() {
    let mut stand = Stand::at_driver(1);
    let vlan = VlanId::new(300).and_then(|inner| inner.within(7));
    let rewrite = Rewrite { vlan, ..rewrite("239.2.2.2:6001") };
    let relay = Relay {
        destination: destination("239.1.1.1:5001", 0),
        sources: vec![],
        listing: Listing::Accepts,
        outputs: vec![Output::Send { lan: 1, rewrite, mtu: 1500 }],
    };
    stand.install(vec![relay]);
    let relay = stand.net.relay().clone();
    relay.run(|| {
        let served = [1468, 1469, 1472, 1473].map(|bytes| {
            let frame = Frame::udp("192.168.168.55:5000", "239.1.1.1:5001", vec![9; bytes]);
            stand.agree(&format!("{bytes} bytes of payload"), &frame.bytes());
            stand.served_at_driver()
        });
        assert_eq!(served, [1, 1, 1, 1], "the first at the driver");
    });
}

#[test]
fn a_relay_moves_between_the_programs_without_a_packet_lost_or_doubled() {
    let mut stand = relaying_to(&[1, 2]);
    let _link = stand.attach_at_driver();
    let listeners = [1, 2].map(|lan| Receiver::group(stand.net.lan(lan).host_side(), &format!("239.2.2.{lan}:6001")));
    let sending = Sender::new(stand.net.device(), "239.1.1.1:5001").datagrams_per_second(20_000).start();
    let begun = std::time::Instant::now();
    let mut moves = 0;
    while begun.elapsed() < Duration::from_millis(800) {
        let mut entry = stand.installed[0].clone();
        entry.exit = if moves % 2 == 0 { Exit::Tcx } else { entry.exit };
        stand.writer.replace(stand.input, &entry.destination.clone(), vec![entry]).unwrap();
        moves += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = sending.stop();
    for listener in &listeners {
        // In one batch, what the driver sends leaves after what tcx sends: a move may change the order, once.
        let heard = listener.expect(&sent, LIMIT);
        assert_eq!((heard.corrupt, heard.duplicated, heard.receiver_overruns), (0, 0, 0), "{heard:?}");
    }
    let totals = stand.totals();
    assert_eq!(totals.relays[0].received_packets, sent.datagrams);
    let at_driver = totals.relays[0].at_driver_packets;
    assert!(at_driver > 0 && at_driver < sent.datagrams, "{at_driver} of {} at the driver", sent.datagrams);
    assert!(
        totals.outputs[0].iter().all(|output| output.sent_packets == sent.datagrams && output.dropped.total() == 0)
    );
}

/// A veth takes nothing from a driver once its peer has no NAPI any more, and says so to nobody but the driver.
#[test]
fn what_a_driver_leaves_is_counted_on_its_output() {
    stay_on_one_cpu();
    let stand = relaying_to(&[1, 2]);
    let _link = stand.attach_at_driver();
    let second = Receiver::group(stand.net.lan(2).host_side(), "239.2.2.2:6001");
    let sender = || Sender::new(stand.net.device(), "239.1.1.1:5001").datagrams_per_second(20_000);
    let mac = stand.net.lan(1).relay_side().mac().0;
    let prove = || stand.net.relay().run(|| stand.loaded.xdp().unwrap().prove(1, mac));
    prove().unwrap();
    stand.net.lan(1).host_side().offload(Offload::Gather, Switch::Off);
    let sent = sender().send(1_000);
    second.expect(&sent, LIMIT).assert_faultless();
    let why = prove().unwrap_err();
    assert!(matches!(why, Unproven::NotDelivered), "{why}");
    stand.net.lan(1).host_side().offload(Offload::Gather, Switch::On);
    prove().unwrap();
    // What the kernel left out before its driver was asked is noticed with the next copy on the same CPU.
    let more = sender().send(10);
    second.expect(&more, LIMIT).assert_faultless();
    let totals = stand.totals();
    assert_eq!(totals.relays[0].at_driver_packets, 1_010);
    let [first, second] = totals.outputs[0][..] else { panic!("two outputs") };
    assert_eq!((first.sent_packets, first.dropped.get(DropReason::SendFailed)), (10, 1_000), "{first:?}");
    assert_eq!((second.sent_packets, second.dropped.total()), (1_010, 0));
}

/// The kernel drops in silence what is for an interface that is down. Here nothing came to the output's driver before, nothing
/// comes after, and the relay is written anew meanwhile, as it is when the daemon hears of it.
#[test]
fn copies_that_are_lost_before_any_came_are_counted() {
    stay_on_one_cpu();
    let mut stand = relaying_to(&[1]);
    let frame = Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", vec![7; 60]).bytes();
    let run = |stand: &Stand| stand.net.relay().run(|| stand.run_live(&frame));
    let output = stand.net.lan(1).relay_side().clone();
    output.down();
    (0..3).for_each(|_| run(&stand));
    let entry = stand.installed[0].clone();
    let mut down = RelayEntry { exit: Exit::Tcx, ..entry.clone() };
    down.outputs[0].action = OutputAction::Drop(DropReason::OutputDown);
    for entry in [down, entry.clone()] {
        stand.writer.replace(stand.input, &entry.destination, vec![entry.clone()]).unwrap();
    }
    assert_eq!(stand.totals().relays[0].at_driver_packets, 3);
    assert_eq!(stand.lost(0, 0), 3, "by whoever reads the counters");
    output.up();
    run(&stand);
    let seen = stand.totals().outputs[0][0];
    assert_eq!((seen.sent_packets, seen.dropped.get(DropReason::SendFailed)), (1, 3), "by the kernel");
    assert_eq!(stand.lost(0, 0), 0);
}

/// Keeps the calling thread, and those that it starts, where it is: veth receives on the CPU that sends.
fn stay_on_one_cpu() {
    // SAFETY: all zeros is an empty set; the set outlives the call.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut cpus);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus), 0);
    }
}

#[test]
fn an_interface_that_can_not_be_served_is_told_with_the_reason() {
    let stand = Stand::at_driver(2);
    let xdp = stand.loaded.xdp().unwrap();
    let occupying = stand.attach_at_driver();
    let refusal = || stand.net.relay().run(|| xdp.attach(stand.input)).unwrap_err();
    assert!(matches!(refusal(), Unproven::Occupied), "{}", refusal());
    drop(occupying);
    stand.net.input().set_mtu(9000);
    assert!(matches!(refusal(), Unproven::TooLargeMtu), "{}", refusal());
    let lan = stand.net.lan(1);
    lan.host_side().offload(Offload::Gather, Switch::Off);
    let open = || {
        let (ifindex, mac) = (lan.relay_side().index(), lan.relay_side().mac().0);
        stand.net.relay().run(|| xdp.open_port(1, ifindex, mac))
    };
    let why = open().unwrap_err();
    assert!(matches!(why, Unproven::NotDelivered), "{why}");
    lan.host_side().offload(Offload::Gather, Switch::On);
    open().unwrap();
    let loopback = stand.net.relay().run(|| xdp.attach(1)).unwrap_err();
    assert!(matches!(loopback, Unproven::NoNativeXdp), "{loopback}");
}

/// With the port closed the frame goes on to tcx ingress, whose program has the same ports.
#[test]
fn a_port_that_the_keeper_closed_is_not_sent_to() {
    let stand = relaying_to(&[1]);
    let _link = stand.attach_at_driver();
    stand.loaded.xdp().unwrap().close_port(1).unwrap();
    stand.loaded.ports().clear(1).unwrap();
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").send(10);
    let totals = stand.totals();
    assert_eq!(totals.outputs[0][0].dropped.get(DropReason::OutputMissing), sent.datagrams);
    assert_eq!((totals.relays[0].at_driver_packets, totals.outputs[0][0].sent_packets), (0, 0));
}

#[test]
fn what_the_driver_can_not_serve_is_refused_by_the_writer() {
    let mut stand = relaying_to(&[1]);
    let entry = stand.installed[0].clone();
    let mut dropping = entry.clone();
    dropping.outputs[0].action = OutputAction::Drop(DropReason::OutputDown);
    let mut unicast = entry.clone();
    unicast.destination.address = [10, 0, 0, 1].into();
    assert_eq!(not_at_driver(std::slice::from_ref(&entry)), None);
    assert_eq!(not_at_driver(&[dropping.clone()]), Some(NotAtDriver::OutputDown));
    assert_eq!(not_at_driver(&[unicast]), Some(NotAtDriver::NotAGroup));
    assert_eq!(not_at_driver(&[entry.clone(), entry.clone()]), Some(NotAtDriver::Shared));
    let refused = stand.writer.replace(stand.input, &entry.destination, vec![dropping]).unwrap_err();
    assert!(matches!(refused, WriteError::NotAtDriver { why: NotAtDriver::OutputDown, .. }), "{refused}");
}
