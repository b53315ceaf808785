//! `struct virtio_net_hdr` (`include/uapi/linux/virtio_net.h`), which AF_PACKET puts before each
//! frame when `PACKET_VNET_HDR` is set: what is left to offload, in both directions.

use std::num::NonZeroU16;

use mcr_wire::Completion;

/// The checksum at `csum_start + csum_offset` is to be completed.
const NEEDS_CSUM: u8 = 1;
/// No segmentation.
const GSO_NONE: u8 = 0;
/// UDP datagrams of `gso_size` payload bytes each (virtio 1.3 section 5.1.6; Linux 6.2).
const GSO_UDP_L4: u8 = 5;

/// The header; all fields in host order (`af_packet.c: vio_le` is the legacy mode of virtio).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VirtioHeader {
    flags: u8,
    gso_type: u8,
    /// Bytes of headers; the kernel raises it to what the checksum needs.
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

const _: () = assert!(size_of::<VirtioHeader>() == 10);

/// How a received frame is to be cut into packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segmentation {
    /// Not at all.
    Whole,
    /// Into UDP datagrams of this many payload bytes; the last may have fewer.
    Udp(NonZeroU16),
    /// In a way that no datagram is relayed.
    Other,
}

impl VirtioHeader {
    /// For a frame of one packet.
    pub(super) fn whole(completion: Completion) -> Self {
        match completion {
            Completion::Done => Self::default(),
            Completion::Needed { start, offset } => {
                Self { flags: NEEDS_CSUM, csum_start: start, csum_offset: offset, ..Self::default() }
            }
        }
    }

    /// For a frame that the kernel or the device cuts into datagrams of `segment_bytes` of payload.
    pub(super) fn segmented(completion: Completion, header_bytes: usize, segment_bytes: NonZeroU16) -> Self {
        Self {
            gso_type: GSO_UDP_L4,
            hdr_len: header_bytes as u16,
            gso_size: segment_bytes.get(),
            ..Self::whole(completion)
        }
    }

    pub(super) fn segmentation(&self) -> Segmentation {
        match (self.gso_type, NonZeroU16::new(self.gso_size)) {
            (GSO_NONE, _) => Segmentation::Whole,
            (GSO_UDP_L4, Some(bytes)) => Segmentation::Udp(bytes),
            _ => Segmentation::Other,
        }
    }
}
