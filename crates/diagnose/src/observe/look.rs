//! A short look at the wires with packet sockets (`man 7 packet`): frames as they come, before the IP stack judges them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mcr_datapath::FilterInstruction;

use super::eye::{self, Eye, FRAME_BYTES};
use super::sight::Sight;
use crate::facts::{Blind, Wire};

/// What the look is for.
#[derive(Debug, Clone, Default)]
pub(super) struct Interest {
    /// The interfaces to look at.
    pub(super) interfaces: BTreeSet<u32>,
    /// The addresses whose packets count.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Other groups count, too, where their port is this one: they are what a mistyped group looks like.
    pub(super) port: u16,
}

/// Packet sockets that collect from the moment of their making.
pub(super) struct Look {
    eyes: Vec<(u32, Eye)>,
    interest: Interest,
}

impl Look {
    pub(super) fn open(interest: &Interest) -> Result<Self, Blind> {
        let filter = filter(interest);
        let open = |&index: &u32| Ok((index, Eye::open(index, &filter)?));
        let eyes: io::Result<Vec<_>> = interest.interfaces.iter().map(open).collect();
        let eyes = eyes.map_err(|error| {
            Blind::new(format!("the wire can not be looked at: {error}"), "run as root (CAP_NET_RAW)")
        })?;
        Ok(Self { eyes, interest: interest.clone() })
    }

    /// Counts what comes until `length` is over.
    pub(super) fn watch(self, length: Duration) -> Wire {
        let end = Instant::now() + length;
        let mut sight = Sight::new(&self.interest.addresses);
        let mut buffer = vec![0; FRAME_BYTES];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            for ready in eye::wait(self.eyes.iter().map(|(_, eye)| eye), left) {
                let (index, eye) = &self.eyes[ready];
                // One batch from each in turn, so that a busy interface does not hide a quiet one.
                for _ in 0..64 {
                    let Some(frame) = eye.receive(&mut buffer) else { break };
                    sight.see(*index, frame.direction, frame.bytes, frame.beside);
                }
            }
        }
        let missed = self.eyes.iter().map(|(_, eye)| eye.missed()).sum();
        sight.finish(missed)
    }
}

/// Operations of classic BPF (`Documentation/networking/filter.rst`).
mod operation {
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_HALF_INDEXED: u16 = 0x48;
    pub(super) const LOAD_HEADER_LENGTH: u16 = 0xb1;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    pub(super) const JUMP_AT_LEAST: u16 = 0x35;
    pub(super) const RETURN: u16 = 0x06;
}

fn step(code: u16, jt: u8, jf: u8, k: u32) -> FilterInstruction {
    FilterInstruction { code, jt, jf, k }
}

/// Lets through what is of interest: packets to the addresses, IGMP and MLD, and UDP to the port of any group; of frames with a
/// tag that the kernel left in place, all.
fn filter(interest: &Interest) -> Vec<FilterInstruction> {
    use operation::{JUMP, JUMP_EQUAL, LOAD_HALF, RETURN};
    let (ipv4, ipv6) = (filter_ipv4(interest), filter_ipv6(interest));
    let mut program = vec![
        step(LOAD_HALF, 0, 0, 12),
        step(JUMP_EQUAL, 1, 0, 0x8100),
        step(JUMP_EQUAL, 0, 1, 0x88a8),
        step(RETURN, 0, 0, u32::MAX),
        step(JUMP_EQUAL, 0, 1, 0x86dd),
        step(JUMP, 0, 0, ipv4.len() as u32 + 2),
        step(JUMP_EQUAL, 1, 0, 0x0800),
        step(RETURN, 0, 0, 0),
    ];
    program.extend(ipv4);
    program.extend(ipv6);
    program
}

fn filter_ipv4(interest: &Interest) -> Vec<FilterInstruction> {
    use operation::{JUMP_AT_LEAST, JUMP_EQUAL, LOAD_BYTE, LOAD_HALF_INDEXED, LOAD_HEADER_LENGTH, LOAD_WORD, RETURN};
    let mut program = vec![
        step(LOAD_BYTE, 0, 0, 23),
        step(JUMP_EQUAL, 0, 1, 2),
        step(RETURN, 0, 0, u32::MAX),
        step(LOAD_WORD, 0, 0, 30),
    ];
    for address in &interest.addresses {
        let IpAddr::V4(address) = *address else { continue };
        program.extend([step(JUMP_EQUAL, 0, 1, address.into()), step(RETURN, 0, 0, u32::MAX)]);
    }
    program.extend([
        step(JUMP_AT_LEAST, 1, 0, 0xe000_0000),
        step(RETURN, 0, 0, 0),
        step(LOAD_BYTE, 0, 0, 23),
        step(JUMP_EQUAL, 1, 0, 17),
        step(RETURN, 0, 0, 0),
        step(LOAD_HEADER_LENGTH, 0, 0, 14),
        step(LOAD_HALF_INDEXED, 0, 0, 16),
        step(JUMP_EQUAL, 0, 1, interest.port.into()),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]);
    program
}

/// MLD is behind a hop-by-hop header, and little else is.
fn filter_ipv6(interest: &Interest) -> Vec<FilterInstruction> {
    use operation::{JUMP_EQUAL, LOAD_BYTE, LOAD_HALF, LOAD_WORD, RETURN};
    let mut program = vec![step(LOAD_BYTE, 0, 0, 20), step(JUMP_EQUAL, 0, 1, 0), step(RETURN, 0, 0, u32::MAX)];
    for address in &interest.addresses {
        let IpAddr::V6(address) = *address else { continue };
        for (place, word) in (0_u8..).zip(address.octets().as_chunks().0) {
            let at = 38 + 4 * u32::from(place);
            // To what follows the last word and its return.
            let rest = 7 - 2 * place;
            program.extend([step(LOAD_WORD, 0, 0, at), step(JUMP_EQUAL, 0, rest, u32::from_be_bytes(*word))]);
        }
        program.push(step(RETURN, 0, 0, u32::MAX));
    }
    program.extend([
        step(LOAD_BYTE, 0, 0, 38),
        step(JUMP_EQUAL, 1, 0, 0xff),
        step(RETURN, 0, 0, 0),
        step(LOAD_BYTE, 0, 0, 20),
        step(JUMP_EQUAL, 1, 0, 17),
        step(RETURN, 0, 0, 0),
        step(LOAD_HALF, 0, 0, 56),
        step(JUMP_EQUAL, 0, 1, interest.port.into()),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]);
    program
}
