//! What hosts say of groups: reports of IGMP version 1 to 3 (RFC 3376 section 4.2, RFC 2236 section 2) and of MLD version 1 and 2
//! (RFC 3810 section 5.2, RFC 2710 section 3), and the leaves of the older ones. Whatever is not exactly so says nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mcr_engine::Interest;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
/// A header of hop by hop with nothing but a router alert, which every message of MLD has.
const HOP_BY_HOP_BYTES: usize = 8;
const ICMPV6: u8 = 58;
/// Most records of one message: more than fit a frame of 1,500 bytes.
const MOST_RECORDS: usize = 256;

/// Kinds of records: RFC 3376 section 4.2.12, RFC 3810 section 5.2.12.
const IS_INCLUDE: u8 = 1;
const IS_EXCLUDE: u8 = 2;
const TO_INCLUDE: u8 = 3;
const TO_EXCLUDE: u8 = 4;
const ALLOW: u8 = 5;
const BLOCK: u8 = 6;

/// What the sender of an untagged frame says of which group.
pub(super) fn read(frame: &[u8]) -> Vec<(IpAddr, Interest)> {
    let packet = frame.get(ETHERNET_BYTES..).unwrap_or_default();
    match frame.get(12..14) {
        Some([0x08, 0x00]) => igmp(packet),
        Some([0x86, 0xdd]) => mld(packet),
        _ => None,
    }
    .unwrap_or_default()
}

fn igmp(packet: &[u8]) -> Option<Vec<(IpAddr, Interest)>> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let message = packet.get(header.max(20)..length)?;
    // One that was forwarded is not of this link.
    if *packet.get(8)? != 1 || sum(message) != 0xffff {
        return None;
    }
    let group = || Some(IpAddr::from(Ipv4Addr::from(*message.get(4..)?.first_chunk::<4>()?)));
    Some(match message.first()? {
        0x12 | 0x16 => vec![(group()?, Interest::Wanted)],
        0x17 => vec![(group()?, Interest::Left)],
        0x22 => records(message, |bytes| Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()), 4),
        _ => Vec::new(),
    })
}

fn mld(packet: &[u8]) -> Option<Vec<(IpAddr, Interest)>> {
    let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
    let payload = packet.get(IPV6_BYTES..IPV6_BYTES + length)?;
    let (extension, message) = payload.split_at_checked(HOP_BY_HOP_BYTES)?;
    let addresses = packet.get(8..IPV6_BYTES)?;
    let pseudo = [addresses, &(message.len() as u32).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    if extension[..2] != [ICMPV6, 0] || packet[7] != 1 || sum(&[&pseudo, message].concat()) != 0xffff {
        return None;
    }
    let address = |bytes: &[u8]| Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)));
    let group = || address(message.get(8..)?);
    Some(match message.first()? {
        131 => vec![(group()?, Interest::Wanted)],
        132 => vec![(group()?, Interest::Left)],
        143 => records(message, address, 16),
        _ => Vec::new(),
    })
}

/// The records of a report of IGMPv3 or MLDv2, which differ in the length of addresses only.
fn records(message: &[u8], address: impl Fn(&[u8]) -> Option<IpAddr>, address_bytes: usize) -> Vec<(IpAddr, Interest)> {
    let Some((head, mut rest)) = message.split_first_chunk::<8>() else { return Vec::new() };
    let count = usize::from(u16::from_be_bytes([head[6], head[7]])).min(MOST_RECORDS);
    let record = |_| {
        let (&[kind, auxiliary, high, low], after) = rest.split_first_chunk::<4>()?;
        let group = address(after)?;
        let sources = usize::from(u16::from_be_bytes([high, low]));
        rest = after.get(address_bytes * (1 + sources) + usize::from(auxiliary) * 4..)?;
        Some((group, interest(kind, sources)))
    };
    (0..count).map_while(record).filter_map(|(group, interest)| Some((group, interest?))).collect()
}

/// Sources are not told apart: who wants one of a group wants the group, and who blocks one is asked whether that was all.
fn interest(kind: u8, sources: usize) -> Option<Interest> {
    match (kind, sources) {
        (IS_EXCLUDE | TO_EXCLUDE, _) | (IS_INCLUDE | TO_INCLUDE | ALLOW, 1..) => Some(Interest::Wanted),
        (TO_INCLUDE, 0) | (BLOCK, 1..) => Some(Interest::Left),
        _ => None,
    }
}

/// RFC 1071; all ones for what includes its own checksum.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_sum(message: &mut [u8], before: &[u8]) {
        let [high, low] = (!sum(&[before, message].concat())).to_be_bytes();
        (message[2], message[3]) = (high, low);
    }

    fn igmp_frame(message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        put_sum(&mut message, &[]);
        let mut frame =
            [&[0; 12][..], &[8, 0, 0x46, 0xc0, 0, 24 + message.len() as u8, 0, 0, 0, 0, 1, 2, 0, 0]].concat();
        frame.extend([&[10, 0, 1, 2, 224, 0, 0, 22, 0x94, 4, 0, 0][..], &message].concat());
        frame
    }

    fn mld_frame(message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let addresses: Vec<u8> = (0..32).collect();
        let length = message.len() as u8;
        put_sum(&mut message, &[&addresses[..], &[0, 0, 0, length, 0, 0, 0, ICMPV6]].concat());
        let mut frame = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, length + 8, 0, 1], &addresses].concat();
        frame.extend([&[ICMPV6, 0, 5, 2, 0, 0, 1, 0][..], &message].concat());
        frame
    }

    fn group(last: u8) -> IpAddr {
        [239, 2, 2, last].into()
    }

    #[test]
    fn every_version_is_read() {
        let old = |kind: u8| igmp_frame(&[kind, 0, 0, 0, 239, 2, 2, 1]);
        assert_eq!(
            [0x12, 0x16, 0x17, 0x11].map(|kind| read(&old(kind))),
            [
                vec![(group(1), Interest::Wanted)],
                vec![(group(1), Interest::Wanted)],
                vec![(group(1), Interest::Left)],
                vec![],
            ]
        );
        let records = [
            &[0x22, 0, 0, 0, 0, 0, 0, 5][..],
            &[TO_EXCLUDE, 0, 0, 0, 239, 2, 2, 1],
            &[TO_INCLUDE, 1, 0, 0, 239, 2, 2, 2, 7, 7, 7, 7],
            &[ALLOW, 0, 0, 1, 239, 2, 2, 3, 10, 0, 0, 1],
            &[BLOCK, 0, 0, 1, 239, 2, 2, 4, 10, 0, 0, 1],
            &[IS_INCLUDE, 0, 0, 0, 239, 2, 2, 5],
        ];
        let (wanted, left) = (Interest::Wanted, Interest::Left);
        let expected = vec![(group(1), wanted), (group(2), left), (group(3), wanted), (group(4), left)];
        assert_eq!(read(&igmp_frame(&records.concat())), expected);

        let six = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1);
        let old = |kind: u8| mld_frame(&[&[kind, 0, 0, 0, 0, 0, 0, 0][..], &six.octets()].concat());
        assert_eq!(read(&old(131)), [(six.into(), wanted)]);
        assert_eq!(read(&old(132)), [(six.into(), left)]);
        let new = [&[143, 0, 0, 0, 0, 0, 0, 1, TO_EXCLUDE, 0, 0, 0][..], &six.octets()].concat();
        assert_eq!(read(&mld_frame(&new)), [(six.into(), wanted)]);
    }

    #[test]
    fn what_is_cut_damaged_or_forwarded_says_nothing() {
        let report = igmp_frame(&[&[0x22, 0, 0, 0, 0, 0, 0, 1][..], &[TO_EXCLUDE, 0, 0, 0, 239, 2, 2, 1]].concat());
        let six = mld_frame(&[&[131, 0, 0, 0, 0, 0, 0, 0][..], &[0xff; 16]].concat());
        for whole in [report, six] {
            assert_eq!(read(&whole).len(), 1);
            for length in 0..whole.len() {
                assert_eq!(read(&whole[..length]), []);
            }
            for at in 14..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0xff;
                let _never_panics = read(&damaged);
            }
            let hops = if whole[12] == 8 { 14 + 8 } else { 14 + 7 };
            let (mut forwarded, mut damaged) = (whole.clone(), whole.clone());
            forwarded[hops] = 2;
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!((read(&forwarded), read(&damaged)), (vec![], vec![]));
        }
    }
}
