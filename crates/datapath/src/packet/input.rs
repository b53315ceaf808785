//! What a frame in the ring means: its bytes, whole, and what came beside them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use mcr_wire::ethernet::TPID_8021Q;
use mcr_wire::{ChecksumState, Datagram, Destination, DropReason, FrameMeta, Reject, VlanTag};

use super::fragments::Fragments;
use super::ring::{Frame, Ring};
use super::virtio::{Segmentation, VirtioHeader};

/// Frames larger than a slot that are held at once; the round ends when they are used up.
const MAX_OVERSIZE: usize = 16;
/// Virtio header, Ethernet header with two tags, and the largest IP packet (an IPv6 header and 65,535 bytes), rounded up.
const OVERSIZE_BYTES: usize = 65_664;

/// A frame that is not relayed, with a name for it.
pub(super) struct Refused {
    pub(super) reason: DropReason,
    /// Where it was sent, if that can be read.
    pub(super) destination: Option<Destination>,
    /// Who sent it, and how much it was.
    pub(super) frame: mcr_wire::Refused,
}

impl Refused {
    /// A frame that could be read, but is not wanted.
    pub(super) fn datagram(reason: DropReason, datagram: &Datagram<'_>) -> Self {
        Self {
            reason,
            destination: Some(datagram.destination),
            frame: mcr_wire::Refused {
                source: Some(datagram.source.ip()),
                packets: datagram.packets(),
                ip_bytes: datagram.ip_bytes(),
            },
        }
    }
}

/// Reads a frame, whose bytes are whole or the beginning of it. `Err(None)`: not ours, left alone.
pub(super) fn read<'a>(
    frame: &Frame<'_>,
    bytes: &'a [u8],
    fragments: &Fragments,
) -> Result<Datagram<'a>, Option<Refused>> {
    let segmentation = frame.virtio.segmentation();
    let segment_bytes = match segmentation {
        Segmentation::Udp(bytes) => Some(bytes),
        Segmentation::Whole | Segmentation::Other => None,
    };
    let meta = FrameMeta { vlan: vlan(frame), checksum: checksum(frame.status), segment_bytes };
    match mcr_wire::parse_following(bytes, &meta, |key| fragments.port(key)) {
        Ok(datagram) if segmentation == Segmentation::Other => {
            Err(Some(Refused::datagram(DropReason::GsoUnsupported, &datagram)))
        }
        Ok(datagram) => Ok(datagram),
        Err(Reject::NotOurs) => Err(None),
        Err(Reject::Drop { reason, destination }) => {
            let lost = bytes.len() < frame.frame_bytes as usize;
            let reason = match reason {
                // The rest of it did not fit into the socket's queue: it was lost here, not on the wire.
                DropReason::Truncated if lost => DropReason::RingFull,
                reason => reason,
            };
            Err(Some(Refused { reason, destination, frame: mcr_wire::Refused::of(bytes, &meta) }))
        }
    }
}

/// The tag that the kernel took out of the frame.
fn vlan(frame: &Frame<'_>) -> Option<VlanTag> {
    if frame.status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let known = frame.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    Some(VlanTag { tpid: if known { frame.vlan_tpid } else { TPID_8021Q }, tci: frame.vlan_tci })
}

fn checksum(status: u32) -> ChecksumState {
    if status & libc::TP_STATUS_CSUMNOTREADY != 0 {
        ChecksumState::Partial
    } else if status & libc::TP_STATUS_CSUM_VALID != 0 {
        ChecksumState::Valid
    } else {
        ChecksumState::Unknown
    }
}

/// Room for frames that are larger than a slot, which the kernel hands over through the socket's
/// queue, in the order of their slots (`af_packet.c: tpacket_rcv`, `copy_skb`).
///
/// Made when the first one arrives: most inputs never see one.
pub(super) struct Oversize {
    buffers: Vec<Box<[u8]>>,
    used: usize,
}

impl Oversize {
    pub(super) fn new() -> Self {
        Self { buffers: Vec::with_capacity(MAX_OVERSIZE), used: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.used == MAX_OVERSIZE
    }

    /// Forgets what was fetched.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Fetches the whole of the frame in the slot `ahead`, of which the ring has the beginning. `None`
    /// when there is no copy of it. What was fetched stays in place until [`Oversize::clear`].
    pub(super) fn fetch(&mut self, ring: &Ring, ahead: u32, frame: &Frame<'_>) -> Option<&[u8]> {
        if frame.status & libc::TP_STATUS_COPY == 0 || self.is_full() {
            return None;
        }
        if self.buffers.len() == self.used {
            self.buffers.push(vec![0; OVERSIZE_BYTES].into_boxed_slice());
        }
        let buffer = &mut self.buffers[self.used];
        loop {
            let received = receive(ring.socket(), buffer, libc::MSG_PEEK)?;
            let copy = buffer.get(size_of::<VirtioHeader>()..received).unwrap_or_default();
            let is_of = |frame: &Frame<'_>| copy.len() == frame.frame_bytes as usize && copy.starts_with(frame.bytes);
            // A reader that was killed may have taken this slot's copy with it: the next one's stays.
            if !is_of(frame) && (ahead + 1..ring.slots()).map_while(|slot| ring.frame(slot)).any(|later| is_of(&later))
            {
                return None;
            }
            let wanted = is_of(frame);
            discard_copy(ring.socket());
            if wanted {
                self.used += 1;
                return self.buffers[self.used - 1].get(size_of::<VirtioHeader>()..received);
            }
        }
    }
}

/// Takes one frame out of the socket's own queue and throws it away. Whether there was one.
pub(super) fn discard_copy(socket: BorrowedFd<'_>) -> bool {
    receive(socket, &mut [0; 64], 0).is_some()
}

/// One frame from the socket's own queue, behind its virtio header; its length, or `None` when
/// there is none.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> Option<usize> {
    loop {
        // SAFETY: the pointer and the length describe `buffer`, which outlives the call.
        let received = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags | libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            )
        };
        match usize::try_from(received) {
            Ok(length) => return Some(length),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                // The call also reports that the interface went down, once.
                Some(libc::EINTR | libc::ENETDOWN) => {}
                _ => return None,
            },
        }
    }
}
