//! The memory-mapped TPACKET_V2 receive ring of an input.
//!
//! Version 2 hands over every frame at once; version 3 hands over blocks, and its block timer costs
//! about a millisecond at low rates.
//!
//! A slot, as `net/packet/af_packet.c: tpacket_rcv` lays it out:
//!
//! ```text
//! 0          32          52        tp_mac-10     tp_mac            tp_mac+tp_snaplen
//! tpacket2_hdr sockaddr_ll  (gap)  virtio_net_hdr  Ethernet frame
//! ```
//!
//! Whoever reads the ring owns a slot while `TP_STATUS_USER` is set in it; the kernel otherwise.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::virtio::VirtioHeader;

/// Bytes of ring that [`RingGeometry::for_mtu`] aims at: 5,000 frames of an ordinary Ethernet, the
/// worker may be away for 10 ms at 500,000 packets per second.
const RING_BYTES: u32 = 8 << 20;
/// Fewest slots, however large.
const MIN_SLOTS: u32 = 256;
/// Bytes of one contiguous block of the ring, unless a slot is larger.
const BLOCK_BYTES: u32 = 64 << 10;
/// Slots start at cache lines, so that the kernel and the worker never write to the same one.
const SLOT_ALIGNMENT: u32 = 64;
/// Ethernet header and two VLAN tags, one of which the kernel may leave in the frame.
const LINK_BYTES: u32 = 14 + 4 + 4;
/// Offset of the IP header in a slot: `TPACKET_ALIGN(TPACKET2_HDRLEN + 16) + sizeof(vnet header)`.
const NETWORK_OFFSET: u32 = 80 + size_of::<VirtioHeader>() as u32;
/// Largest IP packet there is; super-frames count as packets here.
const MAX_MTU: u32 = 65_535;

/// How the memory of a ring is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingGeometry {
    /// Size of a slot in bytes, headers included; a multiple of 16.
    pub slot_bytes: u32,
    /// Number of slots; a multiple of the slots in a block.
    pub slots: u32,
}

impl RingGeometry {
    /// Slots that take every frame of an interface with this MTU (bytes), about 8 MiB of them.
    ///
    /// Larger frames, such as the super-frames of a local sender with segmentation offload, still
    /// arrive whole, at the cost of one system call each.
    #[must_use]
    pub fn for_mtu(mtu: u32) -> Self {
        let frame = NETWORK_OFFSET + LINK_BYTES + mtu.clamp(576, MAX_MTU);
        let slot_bytes = frame.next_multiple_of(SLOT_ALIGNMENT);
        let mut geometry = Self {
            slot_bytes,
            slots: 0,
        };
        let per_block = geometry.slots_per_block();
        let blocks = (RING_BYTES / geometry.block_bytes()).max(MIN_SLOTS.div_ceil(per_block));
        geometry.slots = blocks * per_block;
        geometry
    }

    /// Bytes of memory that the ring takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks() as usize * self.block_bytes() as usize
    }

    /// The kernel's form of this geometry.
    pub(super) fn request(&self) -> libc::tpacket_req {
        libc::tpacket_req {
            tp_block_size: self.block_bytes(),
            tp_block_nr: self.blocks(),
            tp_frame_size: self.slot_bytes,
            tp_frame_nr: self.slots,
        }
    }

    fn block_bytes(&self) -> u32 {
        // Larger ones than any slot of `for_mtu` needs are refused by the kernel, not here.
        self.slot_bytes
            .checked_next_power_of_two()
            .map_or(u32::MAX, |slot| slot.max(BLOCK_BYTES))
    }

    fn slots_per_block(&self) -> u32 {
        (self.block_bytes() / self.slot_bytes.max(1)).max(1)
    }

    fn blocks(&self) -> u32 {
        self.slots / self.slots_per_block()
    }
}
