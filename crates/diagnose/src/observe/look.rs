//! A short look at the wires with packet sockets (`man 7 packet`): frames as they come, before the IP stack judges them.

use std::collections::BTreeSet;
use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mcr_wire::{ChecksumState, FrameMeta, VlanTag};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::sight::Sight;
use crate::facts::{Blind, Direction, Wire};

/// Enough of a frame for its headers, and for the checksum of all that an Ethernet carries.
const FRAME_BYTES: usize = OFFLOAD_BYTES + 65_536;
/// What the kernel may hold for us while we count.
const BUFFER_BYTES: usize = 16 << 20;
/// Flags of `struct tpacket_auxdata` (`include/uapi/linux/if_packet.h`).
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_CSUM_VALID: u32 = 1 << 7;
/// Bytes of `struct virtio_net_hdr` (`include/uapi/linux/virtio_net.h`), which comes before each frame.
const OFFLOAD_BYTES: usize = 10;

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
    eyes: Vec<(u32, Socket)>,
    interest: Interest,
}

impl Look {
    pub(super) fn open(interest: &Interest) -> Result<Self, Blind> {
        let open = |&index: &u32| Ok((index, eye(index, interest)?));
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
            for ready in self.wait(left) {
                let (index, eye) = &self.eyes[ready];
                // One batch from each in turn, so that a busy interface does not hide a quiet one.
                for _ in 0..64 {
                    let Some(frame) = receive(eye, &mut buffer) else { break };
                    let bytes = buffer.get(OFFLOAD_BYTES..frame.length).unwrap_or_default();
                    sight.see(*index, frame.direction, bytes, frame.beside);
                }
            }
        }
        let missed = self.eyes.iter().map(|(_, eye)| missed(eye)).sum();
        sight.finish(missed)
    }

    fn wait(&self, at_most: Duration) -> Vec<usize> {
        let poll = |eye: &Socket| libc::pollfd { fd: eye.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polls: Vec<libc::pollfd> = self.eyes.iter().map(|(_, eye)| poll(eye)).collect();
        let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: the array has as many entries as are told, and lives through the call.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, milliseconds) };
        polls.iter().enumerate().filter(|(_, poll)| poll.revents != 0).map(|(i, _)| i).collect()
    }
}

/// A packet socket on one interface. It is made with protocol 0, which hears nothing, so that no frame of another interface is
/// in it; binding switches it on.
fn eye(index: u32, interest: &Interest) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(0)))?;
    // Without the privilege to exceed the limit the kernel gives what it may.
    let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(BUFFER_BYTES as libc::c_int))
        .or_else(|_| socket.set_recv_buffer_size(BUFFER_BYTES));
    set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
    // Says how many datagrams a super-frame is.
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
    let filter = filter(interest);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll of integers fits in the storage, which is zeroed and aligned for every address.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the storage holds a sockaddr_ll of that length.
    let address = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    socket.bind(&address)?;
    Ok(socket)
}

/// Lets through what is of interest: IPv4 packets to the addresses, IGMP, and UDP to the port of any group; of frames with a
/// tag that the kernel left in place, all. Classic BPF (`Documentation/networking/filter.rst`).
fn filter(interest: &Interest) -> Vec<libc::sock_filter> {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_INDEXED: u16 = 0x48;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
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

fn set<T>(socket: &Socket, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is an initialised option value of the length that is told.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A frame in the buffer.
struct Received {
    length: usize,
    direction: Direction,
    beside: FrameMeta,
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> Option<Received> {
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
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).ok()?;
    let auxiliary = auxiliary(&message);
    let status = auxiliary.map_or(0, |auxiliary| auxiliary.tp_status);
    let vlan = auxiliary.filter(|_| status & TP_STATUS_VLAN_VALID != 0);
    Some(Received {
        length: length.min(buffer.len()),
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

/// Frames that found no room in the socket since it was asked last.
fn missed(socket: &Socket) -> u64 {
    // SAFETY: all zeros is a valid tpacket_stats.
    let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), std::ptr::from_mut(&mut stats).cast());
    // SAFETY: the kernel writes at most `length` bytes of integers.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &mut length) };
    if done == 0 { stats.tp_drops.into() } else { 0 }
}
