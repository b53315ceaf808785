//! A short look at the wires with packet sockets (`man 7 packet`): frames as they come, before the IP stack judges them.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
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
    pub(super) addresses: BTreeSet<Ipv4Addr>,
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

/// Lets through what is of interest: IPv4 packets to the addresses, IGMP, and UDP to the port of any group; of frames with a
/// tag that the kernel left in place, all. Classic BPF (`Documentation/networking/filter.rst`).
fn filter(interest: &Interest) -> Vec<FilterInstruction> {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_INDEXED: u16 = 0x48;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| FilterInstruction { code, jt, jf, k };
    let mut program = vec![
        step(LOAD_HALF, 0, 0, 12),
        step(JUMP_EQUAL, 0, 1, 0x8100),
        step(RETURN, 0, 0, u32::MAX),
        step(JUMP_EQUAL, 1, 0, 0x0800),
        step(RETURN, 0, 0, 0),
        step(LOAD_BYTE, 0, 0, 23),
        step(JUMP_EQUAL, 0, 1, 2),
        step(RETURN, 0, 0, u32::MAX),
        step(LOAD_WORD, 0, 0, 30),
    ];
    for &address in &interest.addresses {
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
