//! Changes under traffic, by a writer without any privilege, and taking over from another writer.

mod stand;

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mcr_kernel_path::{
    Exit, InputTable, Maps, OutputAction, OutputEntry, RelayEntry, Sizes, TableWriter, WriteError, load,
};
use mcr_testbed::table::{destination, rewrite};
use mcr_testbed::{Receiver, Sender};
use mcr_wire::{CodePoint, Destination, DropReason, Listing, Prefix, RateCap, Rewrite, TimeToLive};
use stand::{Output, Relay, Stand};

fn entry(writer: &mut TableWriter, identity: u64, to: Destination, action: OutputAction) -> RelayEntry {
    let counters = writer.output_counters(identity).unwrap();
    RelayEntry {
        destination: to,
        sources: vec![],
        listing: Listing::Accepts,
        counters: writer.relay_counters(identity).unwrap(),
        outputs: vec![OutputEntry { counters, action, cap: RateCap::NONE }],
        exit: Exit::Tcx,
        cap: RateCap::NONE,
    }
}

fn group(number: u16) -> Destination {
    Destination { vlan: None, address: [239, 200, (number >> 8) as u8, number as u8].into(), port: 5001 }
}

/// Takes every capability from the calling thread.
fn drop_capabilities() {
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: the structures of capset(2), version 3: a version and a thread (0: this one), and two groups of three words.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn maps_again(maps: &Maps) -> Maps {
    Maps::from_fds(maps.fds().map(|fd| fd.try_clone_to_owned().unwrap()).into()).unwrap()
}

/// The states of the relay that is changed under traffic: nothing is the same in both.
fn states() -> [Rewrite; 2] {
    let state = |number: u8| Rewrite {
        source: Some([10, 0, 1, number].into()),
        ttl: TimeToLive::Set(number),
        dscp: CodePoint::Set(number),
        source_port: Some(number.into()),
        ..rewrite("239.2.2.2:6001")
    };
    [state(11), state(22)]
}

#[test]
fn changes_neither_lose_nor_tear_nor_double_a_packet() {
    let mut stand = Stand::new(1);
    let _link = stand.attach();
    let to = destination("239.1.1.1:5001", 0);
    let action = |state: usize| OutputAction::Send { port: 1, rewrite: states()[state], mtu: 1500 };
    let writer = &mut stand.writer;
    let mut changing = entry(writer, 1, to, action(0));
    let others: Vec<RelayEntry> = (0..100).map(|n| entry(writer, 0, group(n), action(0))).collect();
    writer.replace(stand.input, &to, vec![changing.clone()]).unwrap();
    let listener = Receiver::group(stand.net.lan(1).host_side(), "239.2.2.2:6001");

    let sending =
        Sender::new(stand.net.device(), "239.1.1.1:5001").payload_bytes(200).datagrams_per_second(50_000).start();
    let input = stand.input;
    let operations = std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            drop_capabilities();
            let begun = Instant::now();
            for round in 0..10_000_usize {
                let other = others[round % others.len()].clone();
                let destination = other.destination;
                let relays = if round % 200 < 100 { vec![other] } else { vec![] };
                writer.replace(input, &destination, relays).unwrap();
                changing.outputs[0].action = action(round % 2);
                writer.replace(input, &to, vec![changing.clone()]).unwrap();
            }
            begun.elapsed()
        });
        changes.join().unwrap()
    });
    let sent = sending.stop();
    println!("20,000 changes in {operations:?} during {} packets", sent.datagrams);
    let heard = listener.expect(&sent, Duration::from_secs(10));
    heard.assert_faultless();
    // Each packet by one state: an address with its own port.
    let pairs: Vec<(u8, u16)> = heard.sources.iter().map(|from| (from.ip().octets()[3], from.port())).collect();
    assert_eq!(pairs, [(11, 11), (22, 22)]);
    let received = changing.counters.snapshot().received_packets;
    assert_eq!((received, changing.outputs[0].counters.snapshot().sent_packets), (sent.datagrams, sent.datagrams));
}

#[test]
fn what_counts_together_at_two_destinations_does_so_for_the_next_writer_too() {
    let mut stand = Stand::new(1);
    let _link = stand.attach();
    let [one, other] = ["239.1.1.1:5001", "239.1.1.2:5001"].map(|to| destination(to, 0));
    let action = OutputAction::Send { port: 1, rewrite: states()[0], mtu: 1500 };
    let first = entry(&mut stand.writer, 77, one, action);
    let second = RelayEntry { destination: other, ..first.clone() };
    stand.writer.install(stand.input, InputTable { relays: vec![first, second], our_macs: vec![] }).unwrap();
    let listener = Receiver::group(stand.net.lan(1).host_side(), "239.2.2.2:6001");
    let send = |to: &str| listener.expect(&Sender::new(stand.net.device(), to).send(10), Duration::from_secs(5));
    send("239.1.1.1:5001");
    send("239.1.1.2:5001");

    let mut next = TableWriter::adopt(maps_again(stand.loaded.maps())).unwrap();
    let again = entry(&mut next, 77, one, action);
    let counted = || (again.counters.snapshot().received_packets, again.outputs[0].counters.snapshot().sent_packets);
    assert_eq!(counted(), (20, 20));
    next.replace(stand.input, &other, vec![]).unwrap();
    // More than there are counters: those of the destination that is gone are given back, were they not in use.
    for number in 0..300 {
        drop(next.relay_counters(0).unwrap_or_else(|error| panic!("{number}: {error}")));
    }
    send("239.1.1.1:5001");
    assert_eq!(counted(), (30, 30));
}

#[test]
fn what_packets_come_for_is_told_of_each_relay_that_wants_it_noted() {
    let mut stand = Stand::new(1);
    let _link = stand.attach();
    let action = OutputAction::Send { port: 1, rewrite: states()[0], mtu: 1500 };
    let [first, unasked, second] = [1, 2, 3].map(|identity| entry(&mut stand.writer, identity, group(0), action));
    [&first, &second].into_iter().for_each(|relay| relay.counters.note_arrivals());
    // Records of those who want it noted and of the one that does not, by turns; the first record is among them.
    for number in 0..12 {
        let relay = [&first, &first, &unasked, &second][usize::from(number % 4)].clone();
        let destination = group(number);
        stand.writer.replace(stand.input, &destination, vec![RelayEntry { destination, ..relay }]).unwrap();
    }
    let arrived = |relay: &RelayEntry, since| {
        let arrivals = stand.writer.arrivals(since).unwrap();
        let mut arrived = arrivals.of(&relay.counters).to_vec();
        arrived.sort_unstable_by_key(|destination| destination.address);
        arrived
    };
    assert_eq!(arrived(&first, 0), []);
    let listener = Receiver::group(stand.net.lan(1).host_side(), "239.2.2.2:6001");
    for number in [0, 5, 6, 7, 11] {
        let to = format!("{}:5001", group(number).address);
        listener.expect(&Sender::new(stand.net.device(), &to).send(1), Duration::from_secs(5));
    }
    assert_eq!(arrived(&first, 0), [group(0), group(5)]);
    assert_eq!((arrived(&second, 0), arrived(&unasked, 0)), (vec![group(7), group(11)], vec![]));
    assert_eq!(arrived(&first, u64::MAX), []);
}

#[test]
fn another_writer_takes_over_what_is_in_force() {
    let mut stand = Stand::new(1);
    let _link = stand.attach();
    let to = destination("239.1.1.1:5001", 0);
    let action = OutputAction::Send { port: 1, rewrite: states()[0], mtu: 1500 };
    let mut first = entry(&mut stand.writer, 77, to, action);
    first.sources = vec![IpAddr::from(mcr_testbed::DEVICE).into()];
    let gone = entry(&mut stand.writer, 78, group(1), action);
    let table = InputTable { relays: vec![first, gone], our_macs: vec![] };
    stand.writer.install(stand.input, table).unwrap();
    let listener = Receiver::group(stand.net.lan(1).host_side(), "239.2.2.2:6001");
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").send(100);
    listener.expect(&sent, Duration::from_secs(5));

    let mut second = TableWriter::adopt(maps_again(stand.loaded.maps())).unwrap();
    assert_eq!(second.inputs(), [stand.input]);
    let mut again = entry(&mut second, 77, to, action);
    again.sources = vec![IpAddr::from(mcr_testbed::DEVICE).into()];
    assert_eq!(again.counters.snapshot().received_packets, 100);
    assert_eq!(again.outputs[0].counters.snapshot().sent_packets, 100);
    second.install(stand.input, InputTable { relays: vec![again.clone()], our_macs: vec![] }).unwrap();
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").send(100);
    listener.expect(&sent, Duration::from_secs(5)).assert_faultless();
    assert_eq!(again.counters.snapshot().received_packets, 200);
    // The one that was not wanted any more is gone, and its numbers can be used again.
    let third = TableWriter::adopt(maps_again(stand.loaded.maps())).unwrap();
    assert!(!third.is_empty());
}

#[test]
fn a_full_table_says_so_and_leaves_what_was_there() {
    let sizes = Sizes { relays: 4, outputs: 4, sources: 2, inputs: 1, own_macs: 1, ports: 1, fan_outs: 1 };
    let loaded = load(&sizes).unwrap();
    let mut writer = TableWriter::adopt(maps_again(loaded.maps())).unwrap();
    let entries: Vec<RelayEntry> =
        (0..4).map(|n| entry(&mut writer, 0, group(n), OutputAction::Drop(DropReason::OutputDown))).collect();
    writer.install(1, InputTable { relays: entries.clone(), our_macs: vec![] }).unwrap();
    let error = writer.relay_counters(0).unwrap_err();
    assert!(matches!(error, WriteError::Full { what: "relays", limit: 4 }), "{error}");
    let mut outputs = entries[0].outputs.clone();
    outputs.resize_with(65, || entries[0].outputs[0].clone());
    let error = writer.replace(1, &group(0), vec![RelayEntry { outputs, ..entries[0].clone() }]).unwrap_err();
    assert!(matches!(error, WriteError::TooManyOutputs { outputs: 65, .. }), "{error}");
    // Counters of relays that left are used again, from zero.
    writer.install(1, InputTable::default()).unwrap();
    drop(entries);
    let again: Vec<_> =
        (0..4).map(|n| entry(&mut writer, 0, group(n), OutputAction::Drop(DropReason::OutputDown))).collect();
    assert!(again.iter().all(|entry| entry.counters.snapshot().received_packets == 0));
}

/// A descriptor that leads nowhere in place of one of a table, until it is dropped.
struct Broken {
    table: i32,
    whole: std::os::fd::OwnedFd,
}

impl Broken {
    fn new(table: i32) -> Self {
        // SAFETY: the descriptor is one of the writer's, open as long as it.
        let whole = unsafe { std::os::fd::BorrowedFd::borrow_raw(table) }.try_clone_to_owned().unwrap();
        let broken = Self { table, whole };
        broken.put(&std::fs::File::open("/dev/null").unwrap());
        broken
    }

    fn put(&self, file: &impl AsRawFd) {
        // SAFETY: no pointers; both are open, and the table's number stays its owner's.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), self.table) }, self.table);
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        self.put(&self.whole);
    }
}

#[test]
fn what_can_not_be_written_takes_nothing_away() {
    let sizes = Sizes { relays: 4, outputs: 8, sources: 8, inputs: 1, own_macs: 1, ports: 1, fan_outs: 1 };
    let loaded = load(&sizes).unwrap();
    let maps = maps_again(loaded.maps());
    let tables = maps.fds().map(|fd| fd.as_raw_fd());
    let mut writer = TableWriter::adopt(maps).unwrap();
    let action = OutputAction::Drop(DropReason::OutputDown);
    let mut relay = entry(&mut writer, 1, group(1), action);
    relay.outputs.push(OutputEntry { counters: writer.output_counters(2).unwrap(), ..relay.outputs[0].clone() });
    relay.sources = vec![IpAddr::from([10, 0, 0, 1]).into(), Prefix::around([10, 0, 1, 0].into(), 24)];
    for name in ["sources", "outputs", "relays", "destinations", "watched"] {
        let broken = Broken::new(tables[Maps::NAMES.iter().position(|known| *known == name).unwrap()]);
        // More than there are records, spare ones included.
        for _ in 0..300 {
            let error = writer.replace(1, &group(1), vec![relay.clone()]).unwrap_err();
            assert!(matches!(error, WriteError::Refused { .. }), "{name}: {error}");
        }
        drop(broken);
        writer.replace(1, &group(1), vec![relay.clone()]).unwrap_or_else(|error| panic!("after {name}: {error}"));
        writer.replace(1, &group(1), vec![]).unwrap();
    }
    assert!(writer.inputs().is_empty());
    let again = TableWriter::adopt(maps_again(loaded.maps())).unwrap();
    assert!(again.is_empty());
}

#[test]
fn ten_thousand_relays_are_installed_in_a_moment() {
    let sizes = Sizes { relays: 16_384, outputs: 16_384, ..Sizes::default() };
    let loaded = load(&sizes).unwrap();
    let mut writer = TableWriter::adopt(maps_again(loaded.maps())).unwrap();
    let relays: Vec<RelayEntry> =
        (0..10_000).map(|n| entry(&mut writer, 0, group(n), OutputAction::Drop(DropReason::OutputDown))).collect();
    let begun = Instant::now();
    writer.install(1, InputTable { relays: relays.clone(), our_macs: vec![] }).unwrap();
    let all = begun.elapsed();
    let begun = Instant::now();
    writer.replace(1, &group(5), vec![]).unwrap();
    writer.replace(1, &group(5), vec![relays[5].clone()]).unwrap();
    println!("10,000 relays in {all:?}, one removed and added in {:?}", begun.elapsed());
    let again = TableWriter::adopt(maps_again(loaded.maps())).unwrap();
    assert!(!again.is_empty());
}

#[test]
fn a_port_that_the_keeper_closed_is_not_sent_to() {
    let mut stand = Stand::new(2);
    let to = |lan| Output::Send { lan, rewrite: rewrite("239.2.2.2:6001"), mtu: 1500 };
    let outputs = vec![to(1), to(2), to(1)];
    stand.install(vec![Relay {
        destination: destination("239.1.1.1:5001", 0),
        sources: vec![],
        listing: Listing::Accepts,
        outputs,
    }]);
    let _link = stand.attach();
    stand.loaded.ports().clear(1).unwrap();
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").send(10).datagrams;
    let outputs = |stand: &Stand| {
        let outputs = stand.totals().outputs[0].clone();
        outputs.iter().map(|o| (o.sent_packets, o.dropped.get(DropReason::OutputMissing))).collect::<Vec<_>>()
    };
    (0..sent).for_each(|_| assert!(stand.heard(2, Duration::from_secs(1)).is_some()));
    stand.assert_silence();
    assert_eq!(outputs(&stand), [(0, sent), (sent, 0), (0, sent)]);
}

#[test]
fn sixty_four_outputs_on_one_interface() {
    let mut stand = Stand::new(1);
    let outputs: Vec<Output> =
        (1..=64).map(|n| Output::Send { lan: 1, rewrite: rewrite(&format!("239.2.2.{n}:6001")), mtu: 1500 }).collect();
    stand.install(vec![Relay {
        destination: destination("239.1.1.1:5001", 0),
        sources: vec![],
        listing: Listing::Accepts,
        outputs,
    }]);
    let _link = stand.attach();
    let sent = Sender::new(stand.net.device(), "239.1.1.1:5001").send(1);
    for n in 1..=64 {
        let frame = stand.heard(1, Duration::from_secs(1)).expect("64 copies");
        assert_eq!(frame[30..34], [239, 2, 2, n], "in the order of the outputs");
    }
    stand.assert_silence();
    assert!(stand.totals().outputs[0].iter().all(|output| output.sent_packets == sent.datagrams));
}
