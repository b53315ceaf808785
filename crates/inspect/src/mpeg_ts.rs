//! MPEG transport streams (ISO/IEC 13818-1): packets of 188 bytes, the list of programs (PAT), and the services' names (SDT, ETSI
//! EN 300 468).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bytes::{be16, shown};

/// Bytes of a packet of the stream.
pub const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
const PAT_PID: u16 = 0;
const SDT_PID: u16 = 0x11;
const PAT: u8 = 0x00;
const SDT_ACTUAL: u8 = 0x42;
const SERVICE_DESCRIPTOR: u8 = 0x48;
/// A stream says of no more programs than fit a section.
const MOST_PROGRAMS: usize = 256;

/// The programs of a stream, as far as they have been seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Programs {
    /// Numbers, with the name of the service where there is one.
    pub programs: BTreeMap<u16, String>,
}

/// Whether it is whole packets of a stream, and nothing else.
pub fn is_transport(payload: &[u8]) -> bool {
    let (packets, rest) = payload.as_chunks::<PACKET_BYTES>();
    rest.is_empty() && !packets.is_empty() && packets.iter().all(|packet| packet[0] == SYNC)
}

/// The packets of a payload with their identifiers.
pub fn packets(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8; PACKET_BYTES])> {
    let pid = |packet: &[u8; PACKET_BYTES]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
    payload.as_chunks::<PACKET_BYTES>().0.iter().map(move |packet| (pid(packet), packet))
}

impl Programs {
    /// Reads the tables in a payload of whole packets; those that go on in a later packet are left.
    pub(crate) fn see(&mut self, payload: &[u8]) {
        for (pid, packet) in packets(payload) {
            let Some(section) = section(packet).filter(|_| matches!(pid, PAT_PID | SDT_PID)) else { continue };
            match (pid, section.first()) {
                (PAT_PID, Some(&PAT)) => self.see_pat(section),
                (SDT_PID, Some(&SDT_ACTUAL)) => self.see_sdt(section),
                _ => {}
            }
        }
    }

    /// After eight bytes: program and identifier of its map, two bytes each. Program 0 is the network's.
    fn see_pat(&mut self, section: &[u8]) {
        let numbers = section.get(8..).unwrap_or_default().as_chunks::<4>().0.iter().filter_map(|entry| be16(entry, 0));
        for number in numbers.filter(|number| *number != 0) {
            if self.programs.len() < MOST_PROGRAMS {
                self.programs.entry(number).or_default();
            }
        }
    }

    /// After eleven bytes: service, flags, length of descriptors, descriptors.
    fn see_sdt(&mut self, section: &[u8]) {
        let mut rest = section.get(11..).unwrap_or_default();
        while let (Some(service), Some(length)) = (be16(rest, 0), be16(rest, 3)) {
            let end = 5 + usize::from(length & 0x0fff);
            let Some(descriptors) = rest.get(5..end) else { return };
            if let (Some(name), true) = (service_name(descriptors), self.programs.len() < MOST_PROGRAMS) {
                self.programs.insert(service, name);
            }
            rest = &rest[end..];
        }
    }
}

/// The section that begins in a packet and ends in it, without its checksum.
fn section(packet: &[u8; PACKET_BYTES]) -> Option<&[u8]> {
    let (starts, has_payload, has_adaptation) = (packet[1] & 0x40 != 0, packet[3] & 0x10 != 0, packet[3] & 0x20 != 0);
    if !starts || !has_payload || packet[3] & 0xc0 != 0 {
        return None;
    }
    let start = if has_adaptation { 5 + usize::from(packet[4]) } else { 4 };
    let pointer = usize::from(*packet.get(start)?);
    let section = packet.get(start + 1 + pointer..)?;
    let length = usize::from(be16(section, 1)? & 0x0fff);
    section.get(..(3 + length).checked_sub(4)?)
}

fn service_name(descriptors: &[u8]) -> Option<String> {
    let mut rest = descriptors;
    while let (Some(&tag), Some(&length)) = (rest.first(), rest.get(1)) {
        let body = rest.get(2..2 + usize::from(length))?;
        if tag == SERVICE_DESCRIPTOR {
            let provider = usize::from(*body.get(1)?);
            let name_bytes = usize::from(*body.get(2 + provider)?);
            let name = body.get(3 + provider..)?.get(..name_bytes)?;
            // A first byte below 0x20 chooses the table of characters (EN 300 468 annex A).
            let text = if name.first().is_some_and(|byte| *byte < 0x20) { &name[1..] } else { name };
            return Some(shown(text)).filter(|text| !text.is_empty());
        }
        rest = &rest[2 + usize::from(length)..];
    }
    None
}

/// The counters of a stream's parts (ISO/IEC 13818-1 section 2.4.3.3).
#[derive(Debug, Clone, Default)]
pub struct Continuity {
    counters: BTreeMap<u16, u8>,
    errors: u64,
}

impl Continuity {
    /// Follows the counters of a payload of whole packets.
    pub fn see(&mut self, payload: &[u8]) {
        const NULL_PID: u16 = 0x1fff;
        for (pid, packet) in packets(payload).filter(|(pid, _)| *pid != NULL_PID) {
            let (counter, has_payload, has_adaptation) =
                (packet[3] & 0x0f, packet[3] & 0x10 != 0, packet[3] & 0x20 != 0);
            let is_announced = has_adaptation && packet[4] > 0 && packet[5] & 0x80 != 0;
            let Some(before) = self.counters.insert(pid, counter) else { continue };
            // A packet may be sent twice; one without payload does not count.
            let is_next = counter == (before + u8::from(has_payload)) & 0x0f || counter == before;
            self.errors += u64::from(!is_next && !is_announced);
        }
    }

    /// Places where a counter jumped: one for each gap, however long.
    pub fn errors(&self) -> u64 {
        self.errors
    }
}
