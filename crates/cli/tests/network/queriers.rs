//! Who asks for memberships on a relay's input: nobody, another host, or MCR in the place of a router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use mcr_testbed::{RawReceiver, RawSender, Topology, wait_until};

use crate::reports;
use crate::service::{SOON, Service};

/// All systems, and the link-layer address of that group.
const EVERYBODY: ([u8; 4], [u8; 6]) = ([224, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]);

/// All nodes, the group of a relay, and the groups that hosts report to, of IPv6.
const EVERYBODY6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GROUP6_OCTETS: [u8; 16] = [0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const GROUP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1));

fn config(querier: &str) -> String {
    config_of("239.1.1.1", querier)
}

fn config_of(group: &str, querier: &str) -> String {
    format!(
        "[[relay]]\nname = \"camera\"\nquerier = {querier}\n\
         input = {{ interface = \"dev0\", group = \"{group}\", port = 5001 }}\n\
         output = [{{ interface = \"lan1\", group = \"239.2.2.1\", port = 6001 }}]\n"
    )
}

/// Adds the one's complement sum of `bytes[from..to]` at `at` (RFC 1071).
pub(crate) fn sum_up(bytes: &mut [u8], from: usize, to: usize, at: usize) {
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

/// A general query of MLD, version 2, as a router sends it.
fn query6(from: Ipv6Addr) -> Vec<u8> {
    query6_of(from, 2)
}

/// The same, of that version; one of the first leaves hosts no time.
fn query6_of(from: Ipv6Addr, version: u8) -> Vec<u8> {
    let message = match version {
        1 => [&[130, 0, 0, 0, 0, 1, 0, 0][..], &[0; 16]].concat(),
        _ => [&[130, 0, 0, 0, 0x27, 0x10, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat(),
    };
    let length = message.len() as u8;
    let mut frame =
        [&[0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd][..], &[0x60, 0, 0, 0, 0, 8 + length, 0, 1]].concat();
    frame.extend([&from.octets()[..], &EVERYBODY6.octets(), &[58, 0, 5, 2, 0, 0, 1, 0], &message].concat());
    // Summed up behind a header of its own (RFC 8200 section 8.1).
    let pseudo = [&from.octets()[..], &EVERYBODY6.octets(), &[0, 0, 0, length, 0, 0, 0, 58]].concat();
    let mut summed = [pseudo, message].concat();
    let length = summed.len();
    sum_up(&mut summed, 0, length, 42);
    frame[64..66].copy_from_slice(&summed[42..44]);
    frame
}

/// Queries among the frames that have come, by who sent them.
fn queries(wire: &RawReceiver, limit: Duration) -> Vec<IpAddr> {
    let (begun, mut found) = (Instant::now(), Vec::new());
    while let Some(frame) = wire.next_frame(limit.saturating_sub(begun.elapsed())) {
        found.extend(querier(&frame.bytes));
        if begun.elapsed() >= limit {
            break;
        }
    }
    found
}

/// Who sent this query, if it is one.
fn querier(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.get(12..15)? {
        [8, 0, 0x46] if bytes[23] == 2 && *bytes.get(38)? == 0x11 => {
            Some(<[u8; 4]>::try_from(&bytes[26..30]).ok()?.into())
        }
        // Behind a header of hop by hop.
        [0x86, 0xdd, _] if bytes[20] == 0 && *bytes.get(62)? == 130 => {
            Some(<[u8; 16]>::try_from(&bytes[22..38]).ok()?.into())
        }
        _ => None,
    }
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
    let own = IpAddr::from([10, 0, 0, 9]);
    wait_until(SOON, "we ask", || queries(&wire, Duration::from_millis(200)).contains(&own));
    assert!(service.relay("camera")["warnings"].is_null(), "nobody is missed where we ask");
    let sender = RawSender::new(net.device_interface());
    // One with a higher address is to yield to us.
    sender.send_bytes(&query(Ipv4Addr::new(10, 0, 0, 77)));
    wait_until(SOON, "we go on asking", || queries(&wire, Duration::from_millis(200)).contains(&own));
    sender.send_bytes(&query(Ipv4Addr::new(10, 0, 0, 2)));
    wait_until(SOON, "we yield", || service.ok(&["events"]).contains("dev0: 10.0.0.2 asks for memberships"));
    queries(&wire, Duration::from_millis(50));
    assert_eq!(queries(&wire, Duration::from_millis(2_200)), [] as [IpAddr; 0], "not one more");
    wait_until(SOON, "we ask again when it is gone", || queries(&wire, Duration::from_millis(200)).contains(&own));
    assert_eq!(service.ok(&["events"]).matches("querier-ours").count(), 2);
}

/// The address by which the relay's host asks in MLD.
fn link_local(net: &Topology) -> Ipv6Addr {
    let shown = net.relay().output("ip", &["-6", "-oneline", "address", "show", "dev", "dev0", "scope", "link"]);
    let address = shown.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next());
    address.unwrap_or_else(|| panic!("no link-local address: {shown}")).parse().expect("an address")
}

#[test]
fn mld_is_watched_and_asked_as_igmp_is() {
    let net = Topology::device_relay_lan(1).with_ipv6();
    let wire = RawReceiver::new(net.device_interface());
    let sender = RawSender::new(net.device_interface());
    let service = Service::start(net.relay(), &config_of("ff0e::1", "{ timeout = \"1s\" }"));
    wait_until(SOON, "it is warned of", || service.relay("camera")["warnings"][0]["kind"] == "no-querier");
    let shown = service.ok(&["show", "camera"]);
    assert!(shown.contains("a switch that watches MLD stops forwarding ff0e::1"), "{shown}");
    let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    // One that hosts do not answer is none, whatever it asks.
    sender.send_bytes(&query6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7)));
    wait_until(SOON, "one is heard", || {
        sender.send_bytes(&query6(other));
        service.relay("camera")["warnings"].is_null()
    });
    let events = service.ok(&["events"]);
    assert!(events.contains("dev0: fe80::1 asks for memberships (MLD)"), "{events}");
    assert!(!events.contains("fd00::7"), "{events}");

    service.reload(&config_of("ff0e::1", "{ timeout = \"4s\", own = true }"));
    let own = IpAddr::from(link_local(&net));
    wait_until(SOON * 2, "we ask when it is gone", || queries(&wire, Duration::from_millis(200)).contains(&own));
    let highest = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff);
    sender.send_bytes(&query6(highest));
    wait_until(SOON, "we go on asking", || queries(&wire, Duration::from_millis(200)).contains(&own));
    sender.send_bytes(&query6(other));
    let heard = || service.ok(&["events"]).matches("dev0: fe80::1 asks for memberships (MLD)").count();
    wait_until(SOON, "we yield", || heard() == 2);
    queries(&wire, Duration::from_millis(50));
    assert_eq!(queries(&wire, Duration::from_millis(2_200)), [] as [IpAddr; 0], "not one more");
}

#[test]
fn memberships_are_reported_again_when_it_is_asked_for() {
    let net = Topology::device_relay_lan(1).with_ipv6();
    let service = Service::start(net.relay(), "");
    service.add("four", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    service.add("listed", "dev0:192.168.168.55@232.1.1.1:5001", &["lan1:239.2.2.2:6001"]);
    service.add("six", "dev0:[ff0e::1]:5001", &["lan1:239.2.2.3:6001"]);
    let [four, listed]: [IpAddr; 2] = [[239, 1, 1, 1].into(), [232, 1, 1, 1].into()];
    let wire = RawReceiver::new(net.device_interface());
    // The kernel says everything twice, within a second or so.
    let reported = || {
        let records = reports::all(&wire, Duration::from_millis(300));
        assert!(!records.iter().any(reports::Record::is_leave), "{records:?}");
        let groups = records.iter().map(|record| record.group).filter(|group| [four, listed, GROUP6].contains(group));
        let groups: std::collections::BTreeSet<IpAddr> = groups.collect();
        groups.into_iter().collect::<Vec<_>>()
    };
    wait_until(SOON * 2, "nobody says anything", || reported().is_empty());

    let all = [listed, four, GROUP6];
    assert_eq!(service.ok(&["rejoin"]), "dev0: reported 232.1.1.1, 239.1.1.1, ff0e::1\n");
    assert_eq!(reported(), all);
    service.ok(&["rejoin", "dev0"]);
    assert_eq!(reported(), all);
    assert_eq!(service.ok(&["rejoin", "six"]), "dev0: reported ff0e::1\n");
    assert_eq!(reported(), [GROUP6]);
    let report: serde_json::Value = serde_json::from_str(&service.ok(&["rejoin", "listed", "-o", "json"])).unwrap();
    assert_eq!(report["interfaces"][0]["groups"], serde_json::json!(["232.1.1.1"]));
    assert_eq!(reported(), [listed]);
    // Every group of a range; on the loopback interface there is no switch.
    service.add("range", "dev0:239.1.4.0/29:5000-5001", &["lan1:239.2.4.0/29:6000-6001"]);
    service.add("own", "lo:239.9.9.9:5001", &["lan1:239.2.2.9:6001"]);
    let told = |groups: &str| format!("dev0: reported {groups}\n");
    assert_eq!(service.ok(&["rejoin", "range"]), told("239.1.4.0/29 (8 groups)"));
    let of_range: std::collections::BTreeSet<IpAddr> =
        reports::all(&wire, Duration::from_millis(300)).iter().map(|record| record.group).collect();
    assert!((0..8).all(|last| of_range.contains(&[239, 1, 4, last].into())), "{of_range:?}");
    assert_eq!(service.ok(&["rejoin"]), told("232.1.1.1, 239.1.1.1, 239.1.4.0/29 (8 groups), ff0e::1"));
    let refused = service.refused(&["rejoin", "nobody"]);
    assert!(refused.contains("there is no relay nobody, and none that listens on an interface nobody"), "{refused}");

    // Where there are routers of version 2 only, hosts speak that, each group for itself.
    net.relay().sysctl("net/ipv4/conf/dev0/force_igmp_version", "2");
    service.ok(&["rejoin", "four"]);
    let is_old = |bytes: &[u8]| {
        bytes[12..14] == [8, 0] && bytes[23] == 2 && bytes[30..34] == [239, 1, 1, 1] && bytes[38] == 0x16
    };
    wait_until(SOON, "it is reported in version 2", || wire.next_frame(SOON).is_some_and(|frame| is_old(&frame.bytes)));

    // Of MLD it is the version of who asks there, as the kernel has it.
    let is_old = |bytes: &[u8]| {
        bytes[12..14] == [0x86, 0xdd] && bytes.get(62) == Some(&131) && bytes.get(70..86) == Some(&GROUP6_OCTETS[..])
    };
    let sender = RawSender::new(net.device_interface());
    sender.send_bytes(&query6_of(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 1));
    wait_until(SOON, "the older querier is heard", || {
        service.ok(&["events"]).contains("fe80::1 asks for memberships (MLD)")
    });
    // The kernel answers within the time that the query leaves it: this is for what comes when it is asked for.
    reports::all(&wire, Duration::from_millis(300));
    service.ok(&["rejoin", "six"]);
    wait_until(SOON, "it is reported in version 1", || wire.next_frame(SOON).is_some_and(|frame| is_old(&frame.bytes)));
}
