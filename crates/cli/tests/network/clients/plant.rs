//! What plants and substations multicast, byte by byte as its standard says: EtherNet/IP class 1 connections that are listened
//! to only, and routable GOOSE.

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Frame, Topology};

use crate::service::{MCR, Service, text};
use crate::traffic::{Payloads, Receiver, Report, send_payloads};

for_each_datapath!(an_ethernet_ip_connection_is_listened_to, routable_goose_of_one_publisher_is_replayed);

fn end(text: &str) -> std::net::SocketAddr {
    text.parse().expect("an address and port")
}

fn receiver(net: &Topology, on: &str) -> Receiver {
    let lan = net.lan(1);
    Receiver::start(lan.namespace(), lan.host_address(), end(on), Payloads::Keep)
}

/// The common packet format of class 1 (CIP volume 2, chapter 2-6): the sequenced address item with the connection and its
/// running number, the connected data item with a count of its own; all little endian. 32 bytes of assembly data.
fn class_1(connection: u32, number: u32) -> Vec<u8> {
    let mut packet = vec![2, 0];
    packet.extend([0x02, 0x80, 8, 0]);
    packet.extend(connection.to_le_bytes());
    packet.extend(number.to_le_bytes());
    packet.extend([0xb1, 0x00, 34, 0]);
    // It counts new data, which every fourth packet here brings.
    packet.extend(((number / 4) as u16).to_le_bytes());
    packet.extend([(number / 4) as u8; 32]);
    packet
}

/// The connection and the number of a packet of class 1, read by its items.
fn read_class_1(packet: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(packet[..6], [2, 0, 0x02, 0x80, 8, 0], "two items, the first a sequenced address");
    assert_eq!(packet[14..18], [0xb1, 0x00, 34, 0], "the second connected data");
    (word(6), word(10))
}

fn an_ethernet_ip_connection_is_listened_to(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    // The group is the adapter's choice (CIP volume 2, 3-5.3), the port the standard's.
    service.add("plc", "dev0:192.168.168.55@239.192.21.64:2222", &["lan1:239.192.99.1:2222,dscp=47"]);
    let receiver = receiver(&net, "239.192.99.1:2222");
    // A requested packet interval of 2 ms, and numbers that run over.
    let first = u32::MAX - 200;
    let sent: Vec<Vec<u8>> = (0..400).map(|number| class_1(0x00a1_b2c3, first.wrapping_add(number))).collect();
    send_payloads(net.device(), DEVICE, end("239.192.21.64:2222"), &sent, std::time::Duration::from_millis(2));
    let Report { headers, payloads, .. } = receiver.finish(400);
    let numbers: Vec<_> = payloads.iter().map(|packet| read_class_1(packet)).collect();
    assert_eq!(numbers, (0..400).map(|number| (0x00a1_b2c3, first.wrapping_add(number))).collect::<Vec<_>>());
    assert_eq!(payloads, sent);
    assert!(matches!(headers[..], [(from, 16, 188)] if from.ip() == net.lan(1).relay_address()), "{headers:?}");
    assert_eq!(service.assert_balance()["plc"], 400);
}

/// A session packet of IEC 61850-90-5 in UDP to port 102 with one GOOSE of IEC 61850-8-1, unsigned; `state` and `repetition`
/// are what a subscriber follows.
fn goose(number: u32, state: u32, repetition: u32) -> Vec<u8> {
    let field = |tag: u8, value: &[u8]| [&[tag, value.len() as u8], value].concat();
    let data = [field(0x83, &[(state % 2) as u8]), field(0x86, &repetition.to_be_bytes())].concat();
    let fields = [
        field(0x80, b"IED1LD0/LLN0$GO$gcb1"),
        field(0x81, &2000_u16.to_be_bytes()),
        field(0x82, b"IED1LD0/LLN0$trip"),
        field(0x84, &[0; 8]),
        field(0x85, &state.to_be_bytes()),
        field(0x86, &repetition.to_be_bytes()),
        field(0x87, &[0]),
        field(0x88, &[1]),
        field(0x89, &[0]),
        field(0x8a, &[2]),
        field(0xab, &data),
    ]
    .concat();
    // Payload type GOOSE, not simulated, the application's id, and its length with what stands before.
    let unit = [&[0x81, 0, 0x00, 0x01][..], &(fields.len() as u16 + 4).to_be_bytes(), &field(0x61, &fields)].concat();
    let unit_bytes = (unit.len() as u32).to_be_bytes();
    // Session header: how much follows, the packet's number, version 1; times and name of a key and the length of an
    // initialization vector, of which there are none.
    let follows = (unit.len() as u32 + 23).to_be_bytes();
    let header = [&follows[..], &number.to_be_bytes(), &[0, 1], &[0; 11]].concat();
    // The connectionless transport's header (ISO 8602), the session's identifier of GOOSE, and at the end no signature.
    let begin = [0x01, 0x40, 0xa1, header.len() as u8 + 2, 0x80, header.len() as u8];
    [&begin[..], &header, &unit_bytes, &unit, &[0x85, 0]].concat()
}

/// An event and its repetitions, as GOOSE sends them: soon again, then less and less often.
fn events() -> Vec<Vec<u8>> {
    (0..60_u32).map(|number| goose(number, 1 + number / 6, number % 6)).collect()
}

/// The publisher's packets in a capture as a switch sees them, between those of somebody else who sends to the same group.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    let numbers = |file: &mut Vec<u8>, numbers: &[u32]| numbers.iter().for_each(|n| file.extend(n.to_le_bytes()));
    numbers(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    for (number, packet) in packets.iter().enumerate() {
        let mut forged = packet.clone();
        *forged.last_mut().expect("not empty") = 1;
        for (from, payload) in [("192.168.168.55:102", packet), ("192.168.168.66:102", &forged)] {
            let frame = Frame::udp(from, "232.5.5.5:102", payload.clone()).ttl(1).traffic_class(46 << 2).bytes();
            let length = frame.len() as u32;
            numbers(&mut file, &[0, 2_000 * number as u32, length, length]);
            file.extend(frame);
        }
    }
    file
}

fn routable_goose_of_one_publisher_is_replayed(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("trip", "dev0:192.168.168.55@232.5.5.5:102", &["lan1:239.2.2.1:102"]);
    let sources = net.relay().output("cat", &["/proc/net/mcfilter"]).to_lowercase();
    assert!(
        sources.lines().any(|line| line.contains("0xe8050505") && line.contains("0xc0a8a837")),
        "source-specific: {sources}"
    );
    let (receiver, sent) = (receiver(&net, "239.2.2.1:102"), events());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("goose.pcap");
    std::fs::write(&file, capture(&sent)).expect("write the capture");
    let replay = ["send", "eth0", "--raw", "--pcap", file.to_str().expect("a path")];
    let replayed = net.device().command(MCR).args(replay).output().expect("run mcr");
    assert!(replayed.status.success(), "{}", text(&replayed.stderr));
    let Report { headers, payloads, .. } = receiver.finish(60);
    assert_eq!(payloads, sent, "the publisher's, in order, and nobody else's");
    assert!(matches!(headers[..], [(from, 16, 184)] if from == end("10.0.1.1:102")), "{headers:?}");
    assert_eq!(service.assert_balance()["trip"], 60);
}
