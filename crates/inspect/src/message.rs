//! Protocols of which one datagram says what it is, by its port and its first bytes.

use crate::announcement;
use crate::bytes::{be16, be32, shown};
use crate::kind::Kind;
use crate::rtp;

/// What `payload`, sent to `port`, is; `None` when it does not say.
pub fn recognise(port: u16, payload: &[u8]) -> Option<Kind> {
    by_magic(payload).or_else(|| by_port(port, payload))
}

fn by_magic(payload: &[u8]) -> Option<Kind> {
    match payload {
        [b'R', b'T', b'P', b'S', 2, _, vendor @ ..] => Some(Kind::Rtps { vendor: rtps_vendor(be16(vendor, 0)?) }),
        [b'M', b'C', b'R', b't', ..] if payload.len() >= 32 => Some(Kind::TestTraffic),
        _ => sacn(payload),
    }
}

fn by_port(port: u16, payload: &[u8]) -> Option<Kind> {
    match port {
        9875 => announcement::parse(payload).map(Kind::Sap),
        5353 => dns_name(payload).map(|name| Kind::Mdns { name }),
        5355 => dns_name(payload).map(|name| Kind::Llmnr { name }),
        1900 => ssdp(payload),
        3702 => contains(payload, b"http://schemas.xmlsoap.org/ws/2005/04/discovery").then_some(Kind::WsDiscovery),
        319 | 320 => ptp(payload),
        2222 => is_ethernet_ip(payload).then_some(Kind::EthernetIp),
        4840 => is_opc_ua(payload).then_some(Kind::OpcUaPubSub),
        102 => iec_61850(payload),
        _ => rtp::is_rtcp(payload).then_some(Kind::Rtcp),
    }
}

fn contains(payload: &[u8], text: &[u8]) -> bool {
    payload.windows(text.len()).any(|window| window == text)
}

/// DDS-RTPS 2.5 section 8.3.3; the vendors are those of the OMG's list.
fn rtps_vendor(id: u16) -> Option<&'static str> {
    Some(match id {
        0x0101 => "RTI Connext",
        0x0102 => "OpenSplice",
        0x0103 => "OpenDDS",
        0x0106 => "InterCOM",
        0x0109 => "CoreDX",
        0x010f => "eProsima Fast DDS",
        0x0110 => "Eclipse Cyclone DDS",
        0x0111 => "GurumDDS",
        0x0112 => "RustDDS",
        _ => return None,
    })
}

/// ANSI E1.31: the root layer's identifier, the source's name at 44, the universe at 113.
fn sacn(payload: &[u8]) -> Option<Kind> {
    const PREAMBLE: &[u8] = b"\x00\x10\x00\x00ASC-E1.17\x00\x00\x00";
    payload.strip_prefix(PREAMBLE)?;
    let name = payload.get(44..108).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Kind::Sacn { source: shown(name), universe: be16(payload, 113).unwrap_or_default() })
}

/// The name in the first question, or the first answer, of a DNS message (RFC 1035 section 4, RFC 6762).
fn dns_name(payload: &[u8]) -> Option<String> {
    let counts = be16(payload, 4)?.saturating_add(be16(payload, 6)?);
    // Opcode 0: anything else is no mDNS (RFC 6762 section 18.3).
    if counts == 0 || payload.get(2)? & 0x78 != 0 {
        return None;
    }
    let (mut at, mut labels) = (12, Vec::new());
    for _ in 0..32 {
        match usize::from(*payload.get(at)?) {
            0 => break,
            length @ 1..=63 => {
                labels.push(shown(payload.get(at + 1..at + 1 + length)?));
                at += 1 + length;
            }
            // The first name has nothing before it that it could point at.
            _ => return None,
        }
    }
    Some(labels.join("."))
}

/// UPnP Device Architecture 2.0 section 1: requests like HTTP's.
fn ssdp(payload: &[u8]) -> Option<Kind> {
    let starts = [&b"NOTIFY * HTTP/1."[..], b"M-SEARCH * HTTP/1.", b"HTTP/1.1 200 OK"];
    if !starts.iter().any(|start| payload.starts_with(start)) {
        return None;
    }
    let header = |wanted: &str| {
        payload.split(|byte| *byte == b'\n').find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at(colon);
            name.eq_ignore_ascii_case(wanted.as_bytes()).then(|| shown(&value[1..]))
        })
    };
    Some(Kind::Ssdp { target: header("NT").or_else(|| header("ST")).unwrap_or_default() })
}

/// IEEE 1588-2019 section 13.3: type and version in nibbles, length, domain; version 1 has its number in two bytes.
fn ptp(payload: &[u8]) -> Option<Kind> {
    let (version, length) = (payload.get(1)? & 0x0f, usize::from(be16(payload, 2)?));
    if version == 2 && length >= 34 && length <= payload.len() {
        return Some(Kind::Ptp { version: 2, domain: Some(*payload.get(4)?) });
    }
    (be16(payload, 0)? == 1 && payload.len() >= 100).then_some(Kind::Ptp { version: 1, domain: None })
}

/// CIP volume 2 section 2-6: two items or more, first a sequenced address, then connected data.
fn is_ethernet_ip(payload: &[u8]) -> bool {
    const SEQUENCED_ADDRESS: [u8; 4] = [0x02, 0x80, 8, 0];
    const CONNECTED_DATA: [u8; 2] = [0xb1, 0];
    let count = payload.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
    count.is_some_and(|count| (2..=4).contains(&count))
        && payload.get(2..6) == Some(&SEQUENCED_ADDRESS[..])
        && payload.get(14..16) == Some(&CONNECTED_DATA[..])
}

/// OPC 10000-14 section 7.2.4.4: version 1, and flags that announce at least one header.
fn is_opc_ua(payload: &[u8]) -> bool {
    payload.len() >= 4 && payload[0] & 0x0f == 1 && payload[0] & 0xf0 != 0
}

/// IEC 61850-90-5: the connectionless transport header (ISO 8602), then the session's identifier, whose length is that of a header.
fn iec_61850(payload: &[u8]) -> Option<Kind> {
    let [1, 0x40, session, _, rest @ ..] = payload else { return None };
    be32(rest, 0)?;
    match session {
        0xa1 => Some(Kind::RoutableGoose),
        0xa2 => Some(Kind::RoutableSampledValues),
        _ => None,
    }
}
