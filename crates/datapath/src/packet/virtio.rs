//! `struct virtio_net_hdr` (`include/uapi/linux/virtio_net.h`), which AF_PACKET puts before each
//! frame when `PACKET_VNET_HDR` is set: what is left to offload, in both directions.

/// The checksum at `csum_start + csum_offset` is to be completed.
const NEEDS_CSUM: u8 = 1;
/// The checksum was verified by whoever received the frame.
const DATA_VALID: u8 = 2;
/// No segmentation.
const GSO_NONE: u8 = 0;
/// UDP datagrams of `gso_size` payload bytes each, Linux 6.2 (virtio 1.2 section 5.1.6).
const GSO_UDP_L4: u8 = 5;

/// The header; all fields in host order (AF_PACKET's legacy mode on little-endian and big-endian
/// machines alike: `af_packet.c: vio_le()`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtioHeader {
    flags: u8,
    gso_type: u8,
    /// Bytes that the kernel must have in one piece; a lower bound on send.
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

const _: () = assert!(size_of::<VirtioHeader>() == 10);
