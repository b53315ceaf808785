//! The plain relay that a good engineer writes in an afternoon: batches with `recvmmsg` and `sendmmsg`, nothing else.
//! It runs as a process of its own, `mcr-bench plain-relay OUTPUTS`, until it is told to end.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::path::{GROUP, OUTPUT_PORT};
use crate::socket;

const BATCH: usize = 64;
const LARGEST: usize = 9_000;

/// Relays the group from the relay's input to `outputs` LANs, forever.
pub(crate) fn relay(outputs: u8) -> ! {
    let input = UdpSocket::bind(GROUP).expect("bind the input");
    input.join_multicast_v4(GROUP.ip(), &Ipv4Addr::new(10, 0, 0, 1)).expect("join the group");
    let input = OwnedFd::from(input);
    socket::set(&input, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16i32 << 20);
    let outputs: Vec<OwnedFd> = (1..=outputs).map(output).collect();

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

fn output(number: u8) -> OwnedFd {
    let local = Ipv4Addr::new(10, 0, number, 1);
    let socket = UdpSocket::bind((local, 0)).expect("bind an output");
    socket.set_multicast_ttl_v4(16).expect("set the TTL");
    socket.connect((Ipv4Addr::new(239, 2, 2, number), OUTPUT_PORT)).expect("connect an output");
    let socket = OwnedFd::from(socket);
    socket::set(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, libc::in_addr { s_addr: u32::from(local).to_be() });
    socket
}
