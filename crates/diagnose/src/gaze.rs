//! A look at everything that is sent to groups: frames are handed on as they come, and nothing is concluded.

use std::time::{Duration, Instant};

use mcr_wire::FrameMeta;

use crate::facts::{Blind, Direction, Link};
use crate::observe::eye::{self, Eye, FRAME_BYTES};

/// Packet sockets that see every UDP datagram to a group which comes in. Their interfaces are promiscuous while this lives.
pub struct Gaze {
    eyes: Vec<(u32, Eye)>,
    buffer: Vec<u8>,
}

impl Gaze {
    /// Opens them on interfaces by their indexes.
    ///
    /// # Errors
    /// When a socket can not be opened, with what to do.
    pub fn open(interfaces: &[u32]) -> Result<Self, Blind> {
        let filter = filter();
        let open = |&index: &u32| {
            let eye = Eye::open(index, &filter)?;
            eye.take_all()?;
            Ok((index, eye))
        };
        let eyes: std::io::Result<Vec<_>> = interfaces.iter().map(open).collect();
        let eyes = eyes.map_err(|error| {
            Blind::new(format!("the wire can not be looked at: {error}"), "run as root (CAP_NET_RAW)")
        })?;
        Ok(Self { eyes, buffer: vec![0; FRAME_BYTES] })
    }

    /// Hands on what comes in until `end`: the index of the interface, the frame, and what the kernel says beside it. Never waits
    /// longer, also when frames come without a pause.
    pub fn watch(&mut self, end: Instant, mut see: impl FnMut(u32, &[u8], &FrameMeta)) {
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| *left > Duration::ZERO) {
            for ready in eye::wait(self.eyes.iter().map(|(_, eye)| eye), left) {
                let (index, eye) = &self.eyes[ready];
                // One batch from each in turn, so that a busy interface does not hide a quiet one.
                for _ in 0..64 {
                    let Some(frame) = eye.receive(&mut self.buffer) else { break };
                    if frame.direction == Direction::In {
                        see(*index, frame.bytes, &frame.beside);
                    }
                }
            }
        }
    }

    /// Frames that found no room since this was asked last: they were not handed on.
    pub fn missed(&self) -> u64 {
        self.eyes.iter().map(|(_, eye)| eye.missed()).sum()
    }
}

/// The interfaces of this host.
///
/// # Errors
/// When the kernel does not say.
pub fn links() -> std::io::Result<Vec<Link>> {
    crate::observe::links()
}

/// Lets through UDP over IPv4 to a group, tagged in the frame or not. Classic BPF (`Documentation/networking/filter.rst`).
fn filter() -> Vec<libc::sock_filter> {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const AND: u16 = 0x54;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let to_group_by_udp = |start: u32, skip: u8| {
        [
            step(LOAD_BYTE, 0, 0, start + 9),
            step(JUMP_EQUAL, 0, skip + 4, 17),
            step(LOAD_BYTE, 0, 0, start + 16),
            step(AND, 0, 0, 0xf0),
            step(JUMP_EQUAL, skip, skip + 1, 0xe0),
        ]
    };
    let mut program = vec![
        step(LOAD_HALF, 0, 0, 12),
        step(JUMP_EQUAL, 3, 0, 0x8100),
        step(JUMP_EQUAL, 2, 0, 0x88a8),
        step(JUMP_EQUAL, 8, 0, 0x0800),
        step(RETURN, 0, 0, 0),
        step(LOAD_HALF, 0, 0, 16),
        step(JUMP_EQUAL, 0, 11, 0x0800),
    ];
    program.extend(to_group_by_udp(18, 5));
    program.extend(to_group_by_udp(14, 0));
    program.extend([step(RETURN, 0, 0, u32::MAX), step(RETURN, 0, 0, 0)]);
    program
}
