//! Reports of memberships as they are on the wire: IGMPv3 (RFC 3376 section 4.2) and MLDv2 (RFC 3810 section 5.2).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mcr_testbed::RawReceiver;

/// Bytes of an Ethernet header and of one of IPv6.
const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
/// `IPPROTO_IGMP`, `IPPROTO_ICMPV6`, and the types of the reports.
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const IGMP_V3_REPORT: u8 = 0x22;
const MLD_V2_REPORT: u8 = 143;

/// What is reported of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// As in both standards: 1 MODE_IS_INCLUDE to 6 BLOCK_OLD_SOURCES.
    kind: u8,
    pub(crate) group: IpAddr,
}

impl Record {
    /// Whether it tells that the group was left: CHANGE_TO_INCLUDE of no source, or BLOCK.
    pub(crate) fn is_leave(&self) -> bool {
        matches!(self.kind, 3 | 6)
    }
}

/// All records that have come, and that come until none does for `pause`.
pub(crate) fn all(wire: &RawReceiver, pause: Duration) -> Vec<Record> {
    std::iter::from_fn(|| wire.next_frame(pause)).flat_map(|frame| records(&frame.bytes)).collect()
}

/// Waits for a report that the group is listened to; how long that took.
#[track_caller]
pub(crate) fn wait_for(wire: &RawReceiver, group: IpAddr, limit: Duration) -> Duration {
    let begun = Instant::now();
    while let Some(frame) = wire.next_frame(limit.saturating_sub(begun.elapsed())) {
        if records(&frame.bytes).iter().any(|record| record.group == group && !record.is_leave()) {
            return begun.elapsed();
        }
    }
    panic!("no report of {group} within {limit:?}");
}

/// The records of a frame, if it is a report.
fn records(frame: &[u8]) -> Vec<Record> {
    message(frame).map(records_of).unwrap_or_default()
}

/// A report, behind the headers, and the bytes of its addresses.
fn message(frame: &[u8]) -> Option<(&[u8], usize)> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let (message, kind, address_bytes) = match (frame[12], frame[13], packet.first()? >> 4) {
        (8, 0, 4) if packet.get(9) == Some(&IGMP) => {
            (packet.get(usize::from(packet[0] & 15) * 4..)?, IGMP_V3_REPORT, 4)
        }
        // The router alert is an option of hop by hop, eight bytes in all.
        (0x86, 0xdd, 6) if packet.get(IPV6_BYTES) == Some(&ICMPV6) => {
            (packet.get(IPV6_BYTES + 8..)?, MLD_V2_REPORT, 16)
        }
        _ => return None,
    };
    (message.first() == Some(&kind)).then_some((message, address_bytes))
}

fn records_of((message, address_bytes): (&[u8], usize)) -> Vec<Record> {
    let count = u16::from_be_bytes([message[6], message[7]]);
    let mut rest = &message[8..];
    let record = |_| {
        let (kind, auxiliary) = (rest[0], usize::from(rest[1]) * 4);
        let sources = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let group = match <[u8; 16]>::try_from(&rest[4..4 + address_bytes]) {
            Ok(bytes) => IpAddr::from(bytes),
            Err(_) => IpAddr::from(<[u8; 4]>::try_from(&rest[4..8]).expect("four bytes")),
        };
        rest = &rest[4 + address_bytes * (1 + sources) + auxiliary..];
        Record { kind, group }
    };
    (0..count).map(record).collect()
}
