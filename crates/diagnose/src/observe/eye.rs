//! A packet socket that looks at one interface (`man 7 packet`): frames as they come, before the IP stack judges them.

use std::io;
use std::mem::size_of;
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mcr_datapath::{FilterInstruction, open_eye};
use mcr_wire::{ChecksumState, FrameMeta, VlanTag};

use crate::facts::Direction;

/// Enough of a frame for its headers, and for the checksum of all that an Ethernet carries.
pub(crate) const FRAME_BYTES: usize = OFFLOAD_BYTES + 65_536;
/// Flags of `struct tpacket_auxdata` (`include/uapi/linux/if_packet.h`).
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_CSUM_VALID: u32 = 1 << 7;
/// Bytes of `struct virtio_net_hdr` (`include/uapi/linux/virtio_net.h`), which comes before each frame.
const OFFLOAD_BYTES: usize = 10;

/// A packet socket on one interface, as made by [`open_eye`].
pub(crate) struct Eye {
    socket: OwnedFd,
}

impl From<OwnedFd> for Eye {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

/// A frame that was received.
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) direction: Direction,
    pub(crate) beside: FrameMeta,
}

impl Eye {
    /// Opens one that sees what `filter` lets through.
    pub(crate) fn open(index: u32, filter: &[FilterInstruction]) -> io::Result<Self> {
        Ok(Self { socket: open_eye(index, filter)? })
    }

    /// The next frame, if one is there.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<Received<'b>> {
        // SAFETY: all zeros is a valid sockaddr_ll and a valid msghdr.
        let (mut address, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { std::mem::zeroed() };
        let mut control = [0_u64; 16];
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        message.msg_name = std::ptr::from_mut(&mut address).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the header points at buffers with their true lengths, which live through the call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).ok()?;
        let auxiliary = auxiliary(&message);
        let status = auxiliary.map_or(0, |auxiliary| auxiliary.tp_status);
        let vlan = auxiliary.filter(|_| status & TP_STATUS_VLAN_VALID != 0);
        Some(Received {
            bytes: buffer.get(OFFLOAD_BYTES..length.min(buffer.len())).unwrap_or_default(),
            direction: if address.sll_pkttype == libc::PACKET_OUTGOING { Direction::Out } else { Direction::In },
            beside: FrameMeta {
                vlan: vlan.map(|auxiliary| VlanTag { tpid: auxiliary.tp_vlan_tpid, tci: auxiliary.tp_vlan_tci }),
                checksum: match status {
                    status if status & TP_STATUS_CSUMNOTREADY != 0 => ChecksumState::Partial,
                    status if status & TP_STATUS_CSUM_VALID != 0 => ChecksumState::Valid,
                    _ => ChecksumState::Unknown,
                },
                segment_bytes: segment_bytes(buffer),
            },
        })
    }

    /// Frames that found no room in the socket since it was asked last.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: all zeros is a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        let (fd, value) = (self.socket.as_raw_fd(), std::ptr::from_mut(&mut stats).cast());
        // SAFETY: the kernel writes at most `length` bytes of integers.
        let done = unsafe { libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &mut length) };
        if done == 0 { stats.tp_drops.into() } else { 0 }
    }
}

/// Which of the eyes have something to see, after `at_most` at the latest.
pub(crate) fn wait<'a>(eyes: impl Iterator<Item = &'a Eye>, at_most: Duration) -> Vec<usize> {
    let poll = |eye: &Eye| libc::pollfd { fd: eye.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polls: Vec<libc::pollfd> = eyes.map(poll).collect();
    let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: the array has as many entries as are told, and lives through the call.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, milliseconds) };
    polls.iter().enumerate().filter(|(_, poll)| poll.revents != 0).map(|(i, _)| i).collect()
}

/// The payload of each datagram of a super-frame: flags, kind, header length, then this, in host order.
fn segment_bytes(offload: &[u8]) -> Option<NonZeroU16> {
    const NO_SEGMENTS: u8 = 0;
    let is_one = *offload.get(1)? == NO_SEGMENTS;
    let bytes = u16::from_ne_bytes(*offload.get(4..)?.first_chunk()?);
    NonZeroU16::new(bytes).filter(|_| !is_one)
}

fn auxiliary(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: the kernel filled the control buffer of this header and told its length; the macros stay within it, and the data of
    // PACKET_AUXDATA is a tpacket_auxdata, read without assuming alignment.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                return Some(libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}
