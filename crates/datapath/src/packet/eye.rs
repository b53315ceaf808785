//! Sockets that look at an interface beside the datapath: frames as they come, before the IP stack judges them. Nothing is
//! relayed by them; `mcr explain` and `mcr discover` look through them, and `GET flows` does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::filter::FilterInstruction;
use super::socket::{bind, force_buffer, open_unbound, set_filter, set_option};

/// What the kernel may hold for who looks, in bytes.
const BUFFER_BYTES: libc::c_int = 16 << 20;

/// Opens a socket that sees what `filter` lets through, going in and out. It does not block. Each frame comes behind a
/// `virtio_net_hdr`, which says how many datagrams a super-frame is, and with a `tpacket_auxdata` beside it.
///
/// The socket hears nothing before it has its filter and is bound, so that no frame of another interface is in it.
///
/// # Errors
/// `EPERM` without CAP_NET_RAW, `ENODEV` when no interface has this index.
pub fn open_eye(interface_index: u32, filter: &[FilterInstruction]) -> io::Result<OwnedFd> {
    let socket = open_unbound(libc::SOCK_NONBLOCK)?;
    force_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, BUFFER_BYTES)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
    set_filter(socket.as_fd(), filter)?;
    bind(&socket, interface_index, libc::ETH_P_ALL as u16)?;
    Ok(socket)
}

/// Opens a socket that sees every UDP datagram to a group, of IPv4 and of IPv6. The interface takes the frames of every
/// address while the socket lives (`PACKET_MR_PROMISC`).
///
/// # Errors
/// As [`open_eye`].
pub fn open_gaze(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = open_eye(interface_index, &udp_to_groups())?;
    take_more(&socket, interface_index, libc::PACKET_MR_PROMISC)?;
    Ok(socket)
}

/// Opens a socket that hears which groups the hosts of a network report and leave, by IGMP and by MLD. The interface takes the
/// frames of every group while the socket lives (`PACKET_MR_ALLMULTI`): reports of the older versions go to the group itself.
///
/// # Errors
/// As [`open_eye`].
pub fn open_ear(interface_index: u32) -> io::Result<OwnedFd> {
    let socket = open_eye(interface_index, &memberships())?;
    take_more(&socket, interface_index, libc::PACKET_MR_ALLMULTI)?;
    Ok(socket)
}

/// Has the interface take more frames than those that are for it, while the socket lives.
fn take_more(socket: &OwnedFd, interface_index: u32, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: all zeros is a valid packet_mreq.
    let mut request: libc::packet_mreq = unsafe { std::mem::zeroed() };
    request.mr_ifindex = interface_index.cast_signed();
    request.mr_type = kind as u16;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// IGMP, and ICMPv6 behind a header of hop by hop, which every message of MLD has (RFC 3810 section 5): untagged.
fn memberships() -> Vec<FilterInstruction> {
    const IGMP: u32 = 2;
    const ICMPV6: u32 = 58;
    vec![
        step(LOAD_HALF, 0, 0, 12),
        step(IF_EQUAL, 0, 2, 0x0800),
        step(LOAD_BYTE, 0, 0, 23),
        step(IF_EQUAL, 5, 6, IGMP),
        step(IF_EQUAL, 0, 5, 0x86dd),
        step(LOAD_BYTE, 0, 0, 20),
        step(IF_EQUAL, 0, 3, 0),
        step(LOAD_BYTE, 0, 0, 54),
        step(IF_EQUAL, 0, 1, ICMPV6),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}

/// UDP to a group, tagged in the frame or not. Extension headers of IPv6 are not followed.
fn udp_to_groups() -> Vec<FilterInstruction> {
    let mut program = vec![
        step(LOAD_HALF, 0, 0, 12),
        step(IF_EQUAL, 1, 0, 0x8100),
        step(IF_EQUAL, 0, 14, 0x88a8),
        step(LOAD_HALF, 0, 0, 16),
    ];
    program.extend(by_protocol(18));
    program.extend(by_protocol(14));
    program
}

/// The verdict on what begins at `start`, with its ethertype in A.
fn by_protocol(start: u32) -> [FilterInstruction; 13] {
    const UDP: u32 = 17;
    [
        step(IF_EQUAL, 1, 0, 0x0800),
        step(IF_EQUAL, 5, 9, 0x86dd),
        step(LOAD_BYTE, 0, 0, start + 9),
        step(IF_EQUAL, 0, 7, UDP),
        step(LOAD_BYTE, 0, 0, start + 16),
        step(AND, 0, 0, 0xf0),
        step(IF_EQUAL, 5, 4, 0xe0),
        step(LOAD_BYTE, 0, 0, start + 6),
        step(IF_EQUAL, 0, 2, UDP),
        step(LOAD_BYTE, 0, 0, start + 24),
        step(IF_EQUAL, 1, 0, 0xff),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ]
}

// Classic BPF (`Documentation/networking/filter.rst`).
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> FilterInstruction {
    FilterInstruction { code, jt, jf, k }
}
