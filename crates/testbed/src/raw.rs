//! Whole frames, byte by byte: sent as they are given, received with the VLAN tag back in its place.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::frame::{Frame, Seen};
use crate::interface::Interface;
use crate::socket::{for_each_control, packet_socket, prepare_to_receive, set_option};

/// The largest super-frame: 64 KiB of IP, Ethernet header and two tags.
const LARGEST_FRAME: usize = 65_536 + 14 + 8;
/// Where a VLAN tag stands: after both MAC addresses.
const TAG_OFFSET: usize = 12;
/// `PACKET_IGNORE_OUTGOING` of linux/if_packet.h, which the libc crate lacks for some targets.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` of linux/virtio_net.h.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_UDP_L4` of linux/virtio_net.h.
const GSO_UDP_L4: u8 = 5;

/// Sends frames out of an interface, as if its host had made them.
#[derive(Debug)]
pub struct RawSender {
    socket: OwnedFd,
}

impl RawSender {
    /// Opens it on `interface`.
    #[track_caller]
    pub fn new(interface: &Interface) -> RawSender {
        RawSender { socket: packet_socket(interface, 0) }
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// When the kernel refuses it, as it does a frame of less than 14 bytes or one larger than the MTU.
    #[track_caller]
    pub fn send(&self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    /// Sends these bytes as a frame.
    ///
    /// # Panics
    /// As [`RawSender::send`].
    #[track_caller]
    pub fn send_bytes(&self, frame: &[u8]) {
        self.try_send(frame).unwrap_or_else(|error| panic!("cannot send a frame of {} bytes: {error}", frame.len()));
    }

    /// Sends these bytes as a frame, or says why the kernel would not.
    ///
    /// # Errors
    /// What `send` says.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel reads as many bytes as the slice has.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sends frames of which something is left to the device, as a virtual machine or a local socket does.
#[derive(Debug)]
pub struct OffloadingSender(RawSender);

impl OffloadingSender {
    /// Opens it on `interface`.
    #[track_caller]
    pub fn new(interface: &Interface) -> OffloadingSender {
        let sender = RawSender::new(interface);
        set_option(&sender.socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1);
        OffloadingSender(sender)
    }

    /// Sends a frame whose UDP checksum field holds the pseudo header's sum, the rest being left to the device.
    #[track_caller]
    pub fn send_unfinished(&self, frame: &Frame) {
        self.send(frame, 0, 0);
    }

    /// Sends a frame that the device is to cut into datagrams of `payload_bytes`, and to give each its checksum.
    #[track_caller]
    pub fn send_segments(&self, frame: &Frame, payload_bytes: u16) {
        self.send(frame, GSO_UDP_L4, payload_bytes);
    }

    #[track_caller]
    fn send(&self, frame: &Frame, gso_type: u8, gso_bytes: u16) {
        let udp_at = frame.udp_offset();
        // struct virtio_net_hdr of linux/virtio_net.h, in host order.
        let mut bytes = vec![NEEDS_CHECKSUM, gso_type];
        for field in [udp_at + 8, gso_bytes, udp_at, 6] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(frame.bytes());
        self.0.send_bytes(&bytes);
    }
}

/// How far the UDP checksum of a received frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumStatus {
    /// As on a wire; nobody has looked at it.
    Unchecked,
    /// The kernel or the device found it right.
    FoundRight,
    /// A local sender left it to a device to finish: the field holds the sum of the pseudo header.
    Unfinished,
}

/// A frame as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The frame with all its VLAN tags.
    pub bytes: Vec<u8>,
    /// How far its checksum is.
    pub checksum: ChecksumStatus,
}

/// Receives the frames that arrive at an interface (not those sent out of it), from its making on.
#[derive(Debug)]
pub struct RawReceiver {
    socket: OwnedFd,
}

impl RawReceiver {
    /// Opens it on `interface`.
    #[track_caller]
    pub fn new(interface: &Interface) -> RawReceiver {
        let socket = packet_socket(interface, libc::ETH_P_ALL as u16);
        set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1);
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1);
        prepare_to_receive(&socket);
        RawReceiver { socket }
    }

    /// The next frame of any kind, ARP and IGMP too; `None` after `limit` without one.
    #[track_caller]
    pub fn next_frame(&self, limit: Duration) -> Option<Received> {
        let begun = Instant::now();
        loop {
            match self.receive() {
                Ok(frame) => return Some(frame),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // An interface that goes down says so once on each of its packet sockets.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => panic!("cannot receive frames: {error}"),
            }
            if begun.elapsed() >= limit {
                return None;
            }
        }
    }

    /// The next frame that is a whole UDP datagram, others passed over.
    ///
    /// # Panics
    /// After `limit` without one.
    #[track_caller]
    pub fn next_udp(&self, limit: Duration) -> Seen {
        self.try_next_udp(limit).unwrap_or_else(|| panic!("no UDP frame arrived within {limit:?}"))
    }

    /// As [`RawReceiver::next_udp`], or `None` after `limit`.
    #[track_caller]
    pub fn try_next_udp(&self, limit: Duration) -> Option<Seen> {
        let begun = Instant::now();
        loop {
            let frame = self.next_frame(limit.saturating_sub(begun.elapsed()))?;
            if let Some(seen) = Seen::read(&frame.bytes) {
                return Some(seen);
            }
        }
    }

    fn receive(&self) -> io::Result<Received> {
        let mut buffer = vec![0u8; LARGEST_FRAME];
        // Words, so that the control headers are aligned.
        let mut control = [0u64; 16];
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zeros is a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = std::mem::size_of_val(&control);
        // SAFETY: `header` points at one vector over `buffer` and at `control`, with their lengths; all outlive the call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) };
        buffer.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
        let mut checksum = ChecksumStatus::Unchecked;
        for_each_control(&header, |level, kind, data| {
            if let (libc::SOL_PACKET, libc::PACKET_AUXDATA, Some(data)) = (level, kind, data.first_chunk()) {
                let auxiliary = Auxiliary::read(data);
                checksum = auxiliary.checksum();
                auxiliary.put_tag_back(&mut buffer);
            }
        });
        Ok(Received { bytes: buffer, checksum })
    }
}

/// What of `struct tpacket_auxdata` (linux/if_packet.h; host order) is of use: status at 0, tag control at 16, tag protocol at 18.
#[derive(Debug, Clone, Copy)]
struct Auxiliary {
    status: u32,
    tag_control: u16,
    tag_protocol: u16,
}

impl Auxiliary {
    fn read(data: &[u8; 20]) -> Auxiliary {
        Auxiliary {
            status: u32::from_ne_bytes([data[0], data[1], data[2], data[3]]),
            tag_control: u16::from_ne_bytes([data[16], data[17]]),
            tag_protocol: u16::from_ne_bytes([data[18], data[19]]),
        }
    }

    fn checksum(self) -> ChecksumStatus {
        if self.status & libc::TP_STATUS_CSUMNOTREADY != 0 {
            ChecksumStatus::Unfinished
        } else if self.status & libc::TP_STATUS_CSUM_VALID != 0 {
            ChecksumStatus::FoundRight
        } else {
            ChecksumStatus::Unchecked
        }
    }

    fn put_tag_back(self, frame: &mut Vec<u8>) {
        if self.status & libc::TP_STATUS_VLAN_VALID != 0 && frame.len() >= TAG_OFFSET {
            let [a, b] = self.tag_protocol.to_be_bytes();
            let [c, d] = self.tag_control.to_be_bytes();
            frame.splice(TAG_OFFSET..TAG_OFFSET, [a, b, c, d]);
        }
    }
}
