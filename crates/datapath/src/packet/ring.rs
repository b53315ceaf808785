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
//!
//! A ring outlives its readers: the keeper holds the descriptor, and the next worker goes on where
//! the last one stopped. The kernel tells nobody which slot it fills next, so each slot that is
//! given back carries the running number of its release in the gap, which the kernel leaves alone:
//! the slot after the newest number is next, even when the ring is full.
//!
//! One kind of frame breaks a ring: a super-frame that `virtio_net_hdr` has no words for, such as a
//! datagram that a virtual machine leaves to be cut into fragments (`SKB_GSO_UDP`). `tpacket_rcv`
//! drops it, counts it, and forgets to clear its mark in `rx_owner_map`: from then on it drops every
//! frame at that slot (seen with Linux 6.18). Only a new ring helps: [`Ring::renew`].

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::virtio::VirtioHeader;

/// Slots that [`RingGeometry::for_mtu`] aims at: the worker may be away for 16 ms at 500,000 packets
/// per second, or for 400 ms at 20,000. For the rate itself it is all one: rings of 4 to 32 MiB
/// forward the same.
const SLOTS: u32 = 8_192;
/// Most bytes of ring that it takes for that: jumbo frames get fewer slots.
const MOST_RING_BYTES: u32 = 32 << 20;
/// Fewest slots, however large.
const MIN_SLOTS: u32 = 256;
/// Bytes of one contiguous block of the ring, unless a slot is larger.
const BLOCK_BYTES: u32 = 64 << 10;
/// Slots start at cache lines, so that the kernel and the worker never write to the same one.
const SLOT_ALIGNMENT: u32 = 64;
/// Bytes that a processor fetches at once.
const CACHE_LINE: usize = 64;
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
    /// Slots that take every frame of an interface with this MTU (bytes): about 13 MiB of them for an ordinary
    /// Ethernet, at most 32 MiB for larger frames.
    ///
    /// Larger frames, such as the super-frames of a local sender with segmentation offload, still
    /// arrive whole, at the cost of one system call each.
    #[must_use]
    pub fn for_mtu(mtu: u32) -> Self {
        let frame = NETWORK_OFFSET + LINK_BYTES + mtu.clamp(576, MAX_MTU);
        let slot_bytes = frame.next_multiple_of(SLOT_ALIGNMENT);
        let mut geometry = Self { slot_bytes, slots: 0 };
        let per_block = geometry.slots_per_block();
        let blocks = SLOTS.div_ceil(per_block).min(MOST_RING_BYTES / geometry.block_bytes());
        let blocks = blocks.max(MIN_SLOTS.div_ceil(per_block));
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

    /// Whether the kernel can have made a ring of it: what keeps every slot inside the mapping.
    fn is_possible(&self) -> bool {
        self.slot_bytes >= NETWORK_OFFSET
            && self.slot_bytes.is_multiple_of(libc::TPACKET_ALIGNMENT as u32)
            && self.slots > 0
            && self.slots.is_multiple_of(self.slots_per_block())
    }

    fn block_bytes(&self) -> u32 {
        // Larger ones than any slot of `for_mtu` needs are refused by the kernel, not here.
        self.slot_bytes.checked_next_power_of_two().map_or(u32::MAX, |slot| slot.max(BLOCK_BYTES))
    }

    fn slots_per_block(&self) -> u32 {
        (self.block_bytes() / self.slot_bytes.max(1)).max(1)
    }

    fn blocks(&self) -> u32 {
        self.slots / self.slots_per_block()
    }
}

/// Offset of the running number of a slot's last release, in the gap before the virtio header.
const MARK_OFFSET: usize = 56;
const _: () = assert!(
    MARK_OFFSET >= size_of::<libc::tpacket2_hdr>() + size_of::<libc::sockaddr_ll>()
        && MARK_OFFSET + 4 <= NETWORK_OFFSET as usize - 14 - size_of::<VirtioHeader>()
);
/// What a slot's `tp_padding` says between its release by the reader and the next frame: the kernel
/// writes zeros there with each frame.
const RELEASED: [u8; 4] = [0xff; 4];

/// A frame in its slot. Valid until the slot is given back.
pub(super) struct Frame<'ring> {
    /// As much of the frame as fits the slot, from the Ethernet header on.
    pub(super) bytes: &'ring [u8],
    /// Length of the whole frame in bytes.
    pub(super) frame_bytes: u32,
    /// `TP_STATUS_*` bits.
    pub(super) status: u32,
    /// Tag control information of the tag that the kernel took out; valid by `status`.
    pub(super) vlan_tci: u16,
    /// Protocol of that tag, host order; valid by `status`.
    pub(super) vlan_tpid: u16,
    /// `PACKET_HOST`, `PACKET_MULTICAST`, ...
    pub(super) packet_type: u8,
    /// What was left to offload.
    pub(super) virtio: VirtioHeader,
}

impl Frame<'_> {
    /// Whether the slot holds only the beginning of the frame.
    pub(super) fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < u64::from(self.frame_bytes)
    }
}

/// The mapped ring and the place of its reader.
pub(super) struct Ring {
    memory: NonNull<u8>,
    geometry: RingGeometry,
    block_bytes: u32,
    slots_per_block: u32,
    /// The slot to read next.
    next: u32,
    /// Running number of the last release.
    mark: u32,
    socket: Arc<OwnedFd>,
}

// SAFETY: the mapping belongs to this value alone in this process and is not tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of a socket by `open_input` and finds the slot to read next, also when
    /// another reader used the ring before. Only one reader may use it at a time.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the socket has no ring of this geometry.
    pub(super) fn map(socket: Arc<OwnedFd>, geometry: RingGeometry) -> io::Result<Self> {
        if !geometry.is_possible() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let memory = map_memory(&socket, geometry)?;
        let mut ring = Self {
            memory,
            geometry,
            block_bytes: geometry.block_bytes(),
            slots_per_block: geometry.slots_per_block(),
            next: 0,
            mark: 0,
            socket,
        };
        ring.adopt();
        Ok(ring)
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn shared_socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> u32 {
        self.geometry.slots
    }

    /// The frame `ahead` slots after the next one, if the kernel has filled it.
    #[inline]
    pub(super) fn frame(&self, ahead: u32) -> Option<Frame<'_>> {
        let slot = self.slot(self.after_next(ahead));
        let status = self.status(slot).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: `slot` points at `slot_bytes` of mapped memory, which starts with this header;
        // the kernel does not write to it until the status is given back, which needs `&mut self`.
        let header = unsafe { &*slot.cast::<libc::tpacket2_hdr>().as_ptr() };
        let start = usize::from(header.tp_mac);
        // The kernel is trusted with memory, not with arithmetic: a slot never reads past its end.
        let room = (self.geometry.slot_bytes as usize).checked_sub(start)?;
        let virtio_start = start.checked_sub(size_of::<VirtioHeader>())?;
        let length = (header.tp_snaplen as usize).min(room);
        // SAFETY: `start + length <= slot_bytes`, so all of it is inside the slot.
        let bytes = unsafe { slice::from_raw_parts(slot.as_ptr().add(start), length) };
        // SAFETY: inside the slot by `virtio_start < start`; any bytes are a valid header.
        let virtio = unsafe { slot.as_ptr().add(virtio_start).cast::<VirtioHeader>().read_unaligned() };
        // SAFETY: the sockaddr_ll follows the header (its size is a multiple of TPACKET_ALIGNMENT).
        let address = unsafe { &*slot.as_ptr().add(size_of::<libc::tpacket2_hdr>()).cast::<libc::sockaddr_ll>() };
        Some(Frame {
            bytes,
            frame_bytes: header.tp_len,
            status,
            vlan_tci: header.tp_vlan_tci,
            vlan_tpid: header.tp_vlan_tpid,
            packet_type: address.sll_pkttype,
            virtio,
        })
    }

    /// Has the processor fetch the frame `ahead` slots after the next one, if it is there, while the one before it
    /// is worked on: another processor wrote it, and waiting for it was a sixth of the worker's time, in the checksum
    /// that reads it first. A slot that is being filled is left alone.
    #[inline]
    pub(super) fn prefetch(&self, ahead: u32) {
        let slot = self.slot(self.after_next(ahead));
        if self.status(slot).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return;
        }
        // SAFETY: the slot is ours by its status, and starts with this header.
        let header = unsafe { &*slot.cast::<libc::tpacket2_hdr>().as_ptr() };
        let end = (usize::from(header.tp_mac) + header.tp_snaplen as usize).min(self.geometry.slot_bytes as usize);
        for line in (CACHE_LINE..end).step_by(CACHE_LINE) {
            // SAFETY: inside the slot.
            prefetch(unsafe { slot.add(line) });
        }
        prefetch(self.slot(self.after_next(ahead + 1)));
    }

    /// Gives the next `count` slots back to the kernel.
    pub(super) fn release(&mut self, count: u32) {
        for _ in 0..count {
            let slot = self.slot(self.next);
            self.mark = self.mark.wrapping_add(1).max(1);
            // SAFETY: both places are inside the slot, aligned, and ours until the status says
            // otherwise. In this order: whoever finds the mark of a reader that was killed here finds
            // the padding, too.
            unsafe {
                (*slot.cast::<libc::tpacket2_hdr>().as_ptr()).tp_padding = RELEASED;
                let mark = slot.as_ptr().add(MARK_OFFSET).cast::<u32>();
                AtomicU32::from_ptr(mark).store(self.mark, Ordering::Release);
            }
            self.status(slot).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = self.after_next(1);
        }
    }

    /// Whether no slot is filled, wherever the reader looks.
    pub(super) fn is_empty(&self) -> bool {
        (0..self.geometry.slots).all(|ahead| self.frame(ahead).is_none())
    }

    /// Moves to the nearest filled slot, for a reader that lost its place: the kernel says that
    /// there are frames, but not where the reader looks. Whether there is one.
    pub(super) fn seek_filled(&mut self) -> bool {
        let found = (0..self.geometry.slots).find(|&ahead| self.frame(ahead).is_some());
        if let Some(ahead) = found {
            self.next = self.after_next(ahead);
        }
        found.is_some()
    }

    /// Replaces the ring by a new one, with all that is in it. Needs no privilege, but nobody else
    /// may have it mapped.
    ///
    /// # Errors
    ///
    /// What `setsockopt` and `mmap` may say. There is no ring then, and no frame in it.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        // SAFETY: as in `drop`; an empty geometry makes sure that nothing reads there any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.geometry.bytes()) };
        let geometry = self.geometry;
        self.geometry.slots = 0;
        super::socket::remake_ring(&self.socket, &geometry)?;
        self.memory = map_memory(&self.socket, geometry)?;
        (self.geometry, self.next, self.mark) = (geometry, 0, 0);
        Ok(())
    }

    /// Finds the slot after the one that was released last.
    fn adopt(&mut self) {
        let mut newest: Option<(u32, u32)> = None;
        for index in 0..self.geometry.slots {
            let mark = self.mark_of(index);
            // Marks are at most one lap apart, so their distance tells the order across a wrap.
            if mark != 0 && newest.is_none_or(|(best, _)| (mark.wrapping_sub(best) as i32) > 0) {
                newest = Some((mark, index));
            }
        }
        let Some((mark, index)) = newest else { return };
        self.finish_release(index);
        self.mark = mark;
        self.next = index;
        self.next = self.after_next(1);
    }

    /// Completes a release that the last reader was killed in the middle of.
    fn finish_release(&self, index: u32) {
        let slot = self.slot(index);
        let status = self.status(slot);
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return;
        }
        // SAFETY: the slot is ours by its status, and starts with this header.
        let padding = unsafe { (*slot.cast::<libc::tpacket2_hdr>().as_ptr()).tp_padding };
        if padding == RELEASED {
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    fn mark_of(&self, index: u32) -> u32 {
        // SAFETY: inside the slot and aligned; only readers write here, one at a time.
        unsafe { self.slot(index).as_ptr().add(MARK_OFFSET).cast::<u32>().read() }
    }

    #[inline]
    fn after_next(&self, ahead: u32) -> u32 {
        let index = self.next + ahead;
        if index >= self.geometry.slots { index - self.geometry.slots } else { index }
    }

    /// The slot of this number; slots do not cross blocks.
    #[inline]
    fn slot(&self, index: u32) -> NonNull<u8> {
        let block = index / self.slots_per_block;
        let within = index % self.slots_per_block;
        let offset = block as usize * self.block_bytes as usize + within as usize * self.geometry.slot_bytes as usize;
        // SAFETY: `index < slots`, so the offset is inside the mapping.
        unsafe { self.memory.add(offset) }
    }

    #[inline]
    fn status(&self, slot: NonNull<u8>) -> &AtomicU32 {
        // SAFETY: the status is the first field of the slot, aligned to 16; the kernel and this
        // process share it, so it is only ever touched atomically.
        unsafe { AtomicU32::from_ptr(slot.cast::<u32>().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.geometry.slots == 0 {
            return; // `renew` failed.
        }
        // SAFETY: the mapping was made with this length; no frame outlives `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.geometry.bytes()) };
    }
}

#[inline]
fn prefetch(place: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

fn map_memory(socket: &OwnedFd, geometry: RingGeometry) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice; the kernel checks the length
    // against the ring's.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            geometry.bytes(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            socket.as_raw_fd(),
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast::<u8>()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_the_mtu_within_the_bounds_of_a_ring() {
        for mtu in [0, 68, 576, 1_280, 1_500, 9_000, 16_110, 65_535, u32::MAX] {
            let geometry = RingGeometry::for_mtu(mtu);
            assert!(geometry.is_possible(), "{mtu}: {geometry:?}");
            assert!(geometry.slot_bytes >= NETWORK_OFFSET + mtu.min(MAX_MTU), "{mtu}: {geometry:?}");
            assert!(geometry.slots >= MIN_SLOTS, "{mtu}: {geometry:?}");
            assert!((4 << 20..=32 << 20).contains(&geometry.bytes()), "{mtu}: {geometry:?}");
        }
    }

    #[test]
    fn slots_that_would_leave_the_mapping_are_refused() {
        let good = RingGeometry::for_mtu(1_500);
        for bad in [
            RingGeometry { slots: 0, ..good },
            RingGeometry { slots: good.slots + 1, ..good },
            RingGeometry { slot_bytes: 0, ..good },
            RingGeometry { slot_bytes: 64, ..good },
            RingGeometry { slot_bytes: good.slot_bytes + 8, ..good },
            RingGeometry { slot_bytes: u32::MAX, ..good },
        ] {
            assert!(!bad.is_possible(), "{bad:?}");
        }
    }
}
