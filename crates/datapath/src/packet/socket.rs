//! Opening AF_PACKET sockets: the only calls of this crate that need a privilege (CAP_NET_RAW,
//! and CAP_NET_ADMIN for buffers above the system's limit). The keeper makes them and hands the
//! descriptors over; everything else here works on a descriptor without any capability.
//!
//! Kernel side: `net/packet/af_packet.c`, ABI in `include/uapi/linux/if_packet.h`.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::fanout;
use super::filter::{self, FilterInstruction};
use super::ring::RingGeometry;

/// Memory that frames larger than a ring slot may wait in, in bytes as the kernel accounts them.
///
/// 64 super-frames of 64 KiB: more than one round of the worker gathers.
const INPUT_OVERSIZE_BYTES: libc::c_int = 8 << 20;

/// Memory that frames on their way out may occupy, in bytes as the kernel accounts them.
const OUTPUT_QUEUE_BYTES: libc::c_int = 8 << 20;

/// Opens the receiving side of an interface: `rings` packet sockets (at least one), each with a memory-mapped
/// TPACKET_V2 ring that a filter keeps empty until [`set_filter`] says what is wanted.
///
/// Several rings share the flows by a hash of addresses and ports (`PACKET_FANOUT_HASH`): a flow
/// stays in one ring, so that its order is kept. Fragments are hashed by their addresses alone, and
/// left as they are. A kernel before Linux 6.13 joins no sockets while the interface is down: there is one ring then.
///
/// The filter is in place before a socket is bound, so no frame of the time before it was
/// configured is ever seen. Frames that this host sends are not received
/// (`PACKET_IGNORE_OUTGOING`), and frames larger than a slot arrive whole through the socket's own
/// queue (`PACKET_COPY_THRESH`).
///
/// # Errors
///
/// `EPERM` without CAP_NET_RAW, `ENODEV` when no interface has this index, `EINVAL` for a geometry
/// that the kernel refuses, `ENOMEM` when a ring does not fit. A socket on an interface
/// that is down opens, and receives once the interface is up.
pub fn open_inputs(interface_index: u32, geometry: &RingGeometry, rings: usize) -> io::Result<Vec<OwnedFd>> {
    let first = open_input(interface_index, geometry)?;
    if rings < 2 {
        return Ok(vec![first]);
    }
    match fanout::found(&first) {
        Ok(group) => {
            let mut sockets = vec![first];
            while sockets.len() < rings {
                let another = open_input(interface_index, geometry)?;
                fanout::join(&another, group)?;
                sockets.push(another);
            }
            Ok(sockets)
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(vec![first]),
        Err(error) => Err(error),
    }
}

fn open_input(interface_index: u32, geometry: &RingGeometry) -> io::Result<OwnedFd> {
    let socket = open_unbound(0)?;
    set_filter(borrow(&socket), &filter::drop_all())?;
    let level = libc::SOL_PACKET;
    let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
    set_option(&socket, level, libc::PACKET_VERSION, &version)?;
    set_option(&socket, level, libc::PACKET_VNET_HDR, &1)?;
    set_option(&socket, level, libc::PACKET_IGNORE_OUTGOING, &1)?;
    set_option(&socket, level, libc::PACKET_COPY_THRESH, &1)?;
    force_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, INPUT_OVERSIZE_BYTES)?;
    set_option(&socket, level, libc::PACKET_RX_RING, &geometry.request())?;
    bind(&socket, interface_index, libc::ETH_P_ALL as u16)?;
    Ok(socket)
}

/// Opens the sending side of an interface: a packet socket that receives nothing and takes whole
/// Ethernet frames, each behind a `virtio_net_hdr`.
///
/// Frames pass the egress queueing discipline like any other traffic.
///
/// # Errors
///
/// `EPERM` without CAP_NET_RAW, `ENODEV` when no interface has this index.
pub fn open_output(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = open_unbound(0)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    force_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, OUTPUT_QUEUE_BYTES)?;
    bind(&socket, interface_index, 0)?;
    Ok(socket)
}

/// Replaces the filter of a socket by [`open_inputs`]. The kernel swaps it between two frames:
/// there is no moment without one.
///
/// The kernel charges a filter to `net.core.optmem_max`, the old one and the new one together while
/// it swaps them. Where both do not fit, a filter that accepts everything stands in between: more
/// comes through for a moment, never less.
///
/// # Errors
///
/// `EINVAL` for a program that the kernel's checker refuses or that is empty or longer than 4,096
/// instructions. `ENOMEM` when it alone exceeds `net.core.optmem_max`: everything comes through
/// then, and [`filter::compile_within`] makes a shorter one.
pub fn set_filter(socket: BorrowedFd<'_>, instructions: &[FilterInstruction]) -> io::Result<()> {
    match attach(socket, instructions) {
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            attach(socket, &filter::accept_all())?;
            attach(socket, instructions)
        }
        other => other,
    }
}

/// Takes the ring of a socket away, with all that waits in it and in the socket's queue, and gives
/// it a new one. Nobody may have it mapped (`EBUSY`). Frames of the moment in between are not seen.
pub(super) fn remake_ring(socket: &OwnedFd, geometry: &RingGeometry) -> io::Result<()> {
    let none = libc::tpacket_req { tp_block_size: 0, tp_block_nr: 0, tp_frame_size: 0, tp_frame_nr: 0 };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &none)?;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &geometry.request())
}

fn attach(socket: BorrowedFd<'_>, instructions: &[FilterInstruction]) -> io::Result<()> {
    let length = u16::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog {
        len: length,
        // The kernel only reads the program; the C declaration lacks the `const`.
        filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Protocol 0 keeps a socket deaf until it is bound to one.
pub(super) fn open_unbound(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn bind(socket: &OwnedFd, interface_index: u32, protocol: u16) -> io::Result<()> {
    let index = libc::c_int::try_from(interface_index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // Index 0 would bind to every interface at once.
    if index == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets a buffer size past the system's limit, or up to it where that needs a privilege that is
/// missing (a user namespace): smaller is slower under bursts, not wrong.
pub(super) fn force_buffer(
    socket: &OwnedFd,
    forced: libc::c_int,
    limited: libc::c_int,
    bytes: libc::c_int,
) -> io::Result<()> {
    match set_option(socket, libc::SOL_SOCKET, forced, &bytes) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            set_option(socket, libc::SOL_SOCKET, limited, &bytes)
        }
        other => other,
    }
}

pub(super) fn set_option<S: AsRawFd, T>(
    socket: &S,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel
    // only reads it.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (value as *const T).cast(), size_of::<T>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn borrow(socket: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(socket)
}
