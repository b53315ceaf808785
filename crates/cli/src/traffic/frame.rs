//! Captured packets as Ethernet frames.

use std::borrow::Cow;

use crate::traffic::capture::Packet;

/// Link types (<https://www.tcpdump.org/linktypes.html>).
const ETHERNET: u16 = 1;
const RAW_IP: [u16; 3] = [12, 14, 101];
const RAW_IPV4: u16 = 228;
const RAW_IPV6: u16 = 229;
const LINUX_COOKED: u16 = 113;
const LINUX_COOKED_V2: u16 = 276;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The frame, with an empty header where it was captured without one; `None` of other links.
pub(crate) fn of(packet: &Packet) -> Option<Cow<'_, [u8]>> {
    let bytes = packet.bytes.as_slice();
    let behind = |kind: [u8; 2], bytes: &[u8]| Cow::Owned([&[0; 12][..], &kind, bytes].concat());
    let kind_of_version = |first: &u8| if first >> 4 == 6 { IPV6 } else { IPV4 };
    match packet.link_type {
        ETHERNET => Some(Cow::Borrowed(bytes)),
        link if RAW_IP.contains(&link) => Some(behind(kind_of_version(bytes.first()?), bytes)),
        RAW_IPV4 => Some(behind(IPV4, bytes)),
        RAW_IPV6 => Some(behind(IPV6, bytes)),
        LINUX_COOKED => Some(behind(*bytes.get(14..)?.first_chunk()?, bytes.get(16..)?)),
        LINUX_COOKED_V2 => Some(behind(*bytes.first_chunk()?, bytes.get(20..)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_is_found_behind_each_link() {
        let ip = [0x45, 1, 2, 3];
        let frame = [&[0; 12][..], &IPV4, &ip].concat();
        let cooked = [&[0; 14][..], &IPV4, &ip].concat();
        let cooked_v2 = [&IPV4[..], &[0; 18], &ip].concat();
        for (link_type, bytes) in [(1, &frame[..]), (101, &ip), (228, &ip), (113, &cooked), (276, &cooked_v2)] {
            let packet = Packet { time: std::time::Duration::ZERO, link_type, bytes: bytes.to_vec() };
            assert_eq!(of(&packet).as_deref(), Some(&frame[..]), "{link_type}");
        }
        for link_type in [101, 113, 276, 147] {
            let packet = Packet { time: std::time::Duration::ZERO, link_type, bytes: Vec::new() };
            assert_eq!(of(&packet), None);
        }
    }
}
