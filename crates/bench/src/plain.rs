//! The plain relay that a good engineer writes in an afternoon: batches with `recvmmsg` and `sendmmsg`, nothing else.
//! It runs as a process of its own, `mcr-bench plain-relay OUTPUTS FAMILIES`, until it is told to end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::families::Families;
use crate::path::OUTPUT_PORT;
use crate::socket;

const BATCH: usize = 64;
const LARGEST: usize = 9_000;

/// Relays the group from the relay's input to `outputs` LANs, forever.
pub(crate) fn relay(outputs: u8, families: Families) -> ! {
    let input = OwnedFd::from(input(families.group()));
    socket::set(&input, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16i32 << 20);
    let outputs: Vec<OwnedFd> = (1..=outputs).map(|number| output(families, number)).collect();

    let mut buffers = vec![[0u8; LARGEST]; BATCH];
    let mut pieces: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: LARGEST })
        .collect();
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut messages: Vec<libc::mmsghdr> = (0..BATCH).map(|_| unsafe { std::mem::zeroed() }).collect();
    for (message, piece) in messages.iter_mut().zip(&mut pieces) {
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
    }
    loop {
        pieces.iter_mut().for_each(|piece| piece.iov_len = LARGEST);
        // SAFETY: the messages and what they point to live through the call.
        let received = unsafe {
            libc::recvmmsg(
                input.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else { continue };
        for (message, piece) in messages.iter().zip(&mut pieces).take(received) {
            piece.iov_len = message.msg_len as usize;
        }
        for output in &outputs {
            send_all(output, &mut messages[..received]);
        }
    }
}

/// A call that sends only some is followed by another for the rest; a message that fails is skipped.
fn send_all(output: &OwnedFd, messages: &mut [libc::mmsghdr]) {
    let mut sent = 0;
    while sent < messages.len() {
        let rest = &mut messages[sent..];
        // SAFETY: the messages and what they point to live through the call.
        let taken = unsafe { libc::sendmmsg(output.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
        sent += usize::try_from(taken).unwrap_or(0).max(1);
    }
}

fn input(group: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(group).expect("bind the input");
    match group.ip() {
        IpAddr::V4(group) => socket.join_multicast_v4(&group, &Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V6(group) => socket.join_multicast_v6(&group, socket::interface_index("dev0")),
    }
    .expect("join the group");
    socket
}

fn output(families: Families, number: u8) -> OwnedFd {
    let local = families.output_source(number.into());
    let group = SocketAddr::new(families.output_group(number.into()), OUTPUT_PORT);
    let socket = UdpSocket::bind((local, 0)).expect("bind an output");
    socket::set_group_ttl(&socket, group, 16);
    match local {
        IpAddr::V4(local) => {
            let local = libc::in_addr { s_addr: u32::from(local).to_be() };
            socket::set(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, local);
        }
        IpAddr::V6(_) => {
            let index = socket::interface_index(&format!("lan{number}"));
            socket::set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, index);
        }
    }
    socket.connect(group).expect("connect an output");
    OwnedFd::from(socket)
}
