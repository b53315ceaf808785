//! Who asks for memberships on a relay's input: nobody, another host, or MCR in the place of a router.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mcr_testbed::{RawReceiver, RawSender, Topology, wait_until};

use crate::service::{SOON, Service};

/// All systems, and the link-layer address of that group.
const EVERYBODY: ([u8; 4], [u8; 6]) = ([224, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]);

fn config(querier: &str) -> String {
    format!(
        "[[relay]]\nname = \"camera\"\nquerier = {querier}\n\
         input = {{ interface = \"dev0\", group = \"239.1.1.1\", port = 5001 }}\n\
         output = [{{ interface = \"lan1\", group = \"239.2.2.1\", port = 6001 }}]\n"
    )
}

/// Adds the one's complement sum of `bytes[from..to]` at `at` (RFC 1071).
fn sum_up(bytes: &mut [u8], from: usize, to: usize, at: usize) {
    let sum: u32 = bytes[from..to].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [high, low] = (!((folded & 0xffff) as u16 + (folded >> 16) as u16)).to_be_bytes();
    (bytes[at], bytes[at + 1]) = (high, low);
}

/// A general query of version 3 as a router sends it.
fn query(from: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&EVERYBODY.1[..], &[2, 0, 0, 0, 0, 9], &[8, 0]].concat();
    frame.extend([0x46, 0xc0, 0, 36, 0, 0, 0, 0, 1, 2, 0, 0]);
    frame.extend([&from.octets()[..], &EVERYBODY.0, &[0x94, 4, 0, 0]].concat());
    frame.extend([0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]);
    sum_up(&mut frame, 14, 38, 24);
    sum_up(&mut frame, 38, 50, 40);
    frame
}

/// Queries among the frames that have come, by who sent them.
fn queries(wire: &RawReceiver, limit: Duration) -> Vec<Ipv4Addr> {
    let (begun, mut found) = (Instant::now(), Vec::new());
    while let Some(frame) = wire.next_frame(limit.saturating_sub(begun.elapsed())) {
        let bytes = frame.bytes;
        if bytes.len() >= 50 && bytes[14] == 0x46 && bytes[23] == 2 && bytes[38] == 0x11 {
            found.push(Ipv4Addr::new(bytes[26], bytes[27], bytes[28], bytes[29]));
        }
        if begun.elapsed() >= limit {
            break;
        }
    }
    found
}

#[test]
fn a_missing_querier_is_warned_of_until_one_is_heard() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), &config("{ timeout = \"1s\" }"));
    service.ok(&["wait", "camera"]);
    wait_until(SOON, "it is warned of", || service.relay("camera")["warnings"][0]["kind"] == "no-querier");
    let shown = service.ok(&["show", "camera"]);
    assert!(shown.contains("no membership query was heard on dev0 for 1s"), "{shown}");
    assert_eq!(service.relay("camera")["state"], "ready", "a warning is no trouble");
    let sender = RawSender::new(net.device_interface());
    wait_until(SOON, "it is heard", || {
        sender.send_bytes(&query(Ipv4Addr::new(10, 0, 0, 77)));
        service.relay("camera")["warnings"].is_null()
    });
    wait_until(SOON, "it is missed again", || service.relay("camera")["warnings"][0]["kind"] == "no-querier");
    let events = service.ok(&["events"]);
    assert!(events.contains("dev0: 10.0.0.77 asks for memberships"), "{events}");
    assert!(events.matches("querier-missing").count() >= 2, "{events}");
}

#[test]
fn we_ask_where_nobody_does_and_yield_to_a_lower_address() {
    let net = Topology::device_relay_lan(1);
    net.relay_input().remove_address("10.0.0.1/24");
    net.relay_input().add_address("10.0.0.9/24");
    let wire = RawReceiver::new(net.device_interface());
    let service = Service::start(net.relay(), &config("{ timeout = \"4s\", own = true }"));
    service.ok(&["wait", "camera"]);
    let own = Ipv4Addr::new(10, 0, 0, 9);
    wait_until(SOON, "we ask", || queries(&wire, Duration::from_millis(200)).contains(&own));
    assert!(service.relay("camera")["warnings"].is_null(), "nobody is missed where we ask");
    let sender = RawSender::new(net.device_interface());
    // One with a higher address is to yield to us.
    sender.send_bytes(&query(Ipv4Addr::new(10, 0, 0, 77)));
    wait_until(SOON, "we go on asking", || queries(&wire, Duration::from_millis(200)).contains(&own));
    sender.send_bytes(&query(Ipv4Addr::new(10, 0, 0, 2)));
    wait_until(SOON, "we yield", || service.ok(&["events"]).contains("dev0: 10.0.0.2 asks for memberships"));
    queries(&wire, Duration::from_millis(50));
    assert_eq!(queries(&wire, Duration::from_millis(2_200)), Vec::<Ipv4Addr>::new(), "not one more");
    wait_until(SOON, "we ask again when it is gone", || queries(&wire, Duration::from_millis(200)).contains(&own));
    assert_eq!(service.ok(&["events"]).matches("querier-ours").count(), 2);
}
