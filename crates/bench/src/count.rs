//! The receiving side: counts exactly what arrives at an interface, at almost no cost.

use std::os::fd::{AsRawFd, OwnedFd};

use mcr_testbed::Interface;

use crate::socket;

const ETH_P_IP: u16 = 0x0800;

/// Counts the UDP packets to one port at an interface. Nobody reads them: the kernel's own statistics count those that
/// did not fit the socket too.
pub(crate) struct Counter {
    socket: OwnedFd,
}

impl Counter {
    pub(crate) fn new(interface: &Interface, port: u16) -> Counter {
        let socket = interface.namespace().run(|| {
            let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
            filter(&socket, port, 1);
            socket::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 1i32);
            socket::set(&socket, libc::SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, 1i32);
            socket::bind_packet(&socket, interface.index(), ETH_P_IP);
            socket
        });
        let counter = Counter { socket };
        counter.take();
        counter
    }

    /// How many came since the last call.
    pub(crate) fn take(&self) -> u64 {
        let none = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        socket::get(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, none).tp_packets.into()
    }
}

/// Lets the first `bytes` of each UDP packet to `port` through (IPv4 without options, as everything here is).
fn filter(socket: &OwnedFd, port: u16, bytes: u32) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load_byte, load_half, equal, ret) = (
        libc::BPF_LD | libc::BPF_B | libc::BPF_ABS,
        libc::BPF_LD | libc::BPF_H | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let mut program = [
        step(load_byte, 0, 0, 23),
        step(equal, 0, 3, 17),
        step(load_half, 0, 0, 36),
        step(equal, 0, 1, port.into()),
        step(ret, 0, 0, bytes),
        step(ret, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    socket::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program);
}

/// Takes the kernel's receive time of stamped packets; one-way times in nanoseconds.
pub(crate) struct Stamps {
    socket: OwnedFd,
}

impl Stamps {
    pub(crate) fn new(interface: &Interface, port: u16) -> Stamps {
        let socket = interface.namespace().run(|| {
            let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
            filter(&socket, port, 64);
            socket::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 256i32 << 20);
            socket::set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1i32);
            socket::set(&socket, libc::SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, 1i32);
            socket::bind_packet(&socket, interface.index(), ETH_P_IP);
            socket
        });
        Stamps { socket }
    }

    /// The one-way times of all that has arrived, sorted.
    pub(crate) fn take(&self) -> Vec<u64> {
        let mut times: Vec<u64> = std::iter::from_fn(|| self.next()).flatten().collect();
        times.sort_unstable();
        times
    }

    /// `None` when the queue is empty, `Some(None)` for a packet without a usable time.
    fn next(&self) -> Option<Option<u64>> {
        let (mut frame, mut control) = ([0u8; 64], [0u64; 8]);
        let mut piece = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer of `message` is to memory that outlives the call, with its length.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if length < 0 {
            return None;
        }
        let mut sent = [0; 8];
        sent.copy_from_slice(&frame[42..50]);
        // SAFETY: the kernel filled the control buffer; a SCM_TIMESTAMPNS message carries a timespec.
        let received = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (!header.is_null() && (*header).cmsg_type == libc::SCM_TIMESTAMPNS)
                .then(|| libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned())
        };
        let received = received.map(|time| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
        Some(received.and_then(|received| received.checked_sub(u64::from_be_bytes(sent))))
    }
}
