//! Reports of memberships as hosts send them: IGMPv3 (RFC 3376 section 4.2) and MLDv2 (RFC 3810 section 5.2) have the same form, with
//! addresses of either length.
//!
//! ```text
//! type u8 | 0 | checksum u16 | 0 u16 | records u16 | records × (kind u8 | 0 | sources u16 | group | sources × source)
//! ```

use std::net::IpAddr;

/// A membership: the group, and its sources; none for any.
pub(crate) type Membership = (IpAddr, Vec<IpAddr>);

/// `MODE_IS_INCLUDE` and `MODE_IS_EXCLUDE`: the state as it is, whatever was heard of it before.
const IS_INCLUDE: u8 = 1;
const IS_EXCLUDE: u8 = 2;
/// A message is closed beyond this, so that it fits the least MTU of IPv6 with one more record.
const FILL_BYTES: usize = 600;
/// Most sources of a record; the others follow in another, which adds to it.
const MOST_SOURCES: usize = 32;

/// The messages, of that type, that report these memberships, without checksums.
pub(crate) fn messages(kind: u8, memberships: &[Membership]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for record in memberships.iter().flat_map(records) {
        match messages.last_mut().filter(|message| message.len() <= FILL_BYTES) {
            Some(message) => {
                message.extend(record);
                let count = u16::from_be_bytes([message[6], message[7]]) + 1;
                message[6..8].copy_from_slice(&count.to_be_bytes());
            }
            None => messages.push([&[kind, 0, 0, 0, 0, 0, 0, 1][..], &record].concat()),
        }
    }
    messages
}

fn records((group, sources): &Membership) -> Vec<Vec<u8>> {
    let record = |mode: u8, sources: &[IpAddr]| {
        let [high, low] = (sources.len() as u16).to_be_bytes();
        let addresses = std::iter::once(group).chain(sources).flat_map(octets);
        [mode, 0, high, low].into_iter().chain(addresses).collect()
    };
    match &sources[..] {
        [] => vec![record(IS_EXCLUDE, &[])],
        sources => sources.chunks(MOST_SOURCES).map(|sources| record(IS_INCLUDE, sources)).collect(),
    }
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_sources_are_reported_whole_in_messages_that_fit() {
        let group = |last: u8| IpAddr::from([239, 1, 1, last]);
        let source = |last: u8| IpAddr::from([10, 0, 0, last]);
        let any = (group(1), Vec::new());
        let listed = (group(2), vec![source(7), source(8)]);
        assert_eq!(
            messages(0x22, &[any, listed]),
            [[
                &[0x22, 0, 0, 0, 0, 0, 0, 2][..],
                &[2, 0, 0, 0, 239, 1, 1, 1],
                &[1, 0, 0, 2, 239, 1, 1, 2, 10, 0, 0, 7, 10, 0, 0, 8],
            ]
            .concat()]
        );
        let many: Vec<Membership> = (0..200).map(|last| (group(last), (0..40).map(source).collect())).collect();
        let messages = messages(0x22, &many);
        assert!(messages.iter().all(|message| message.len() < 1_232), "IPv6 of 1,280 bytes and its headers");
        let records: u16 = messages.iter().map(|message| u16::from_be_bytes([message[6], message[7]])).sum();
        assert_eq!(records, 400, "each in two parts");
    }
}
