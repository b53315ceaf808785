//! The time that a path adds to each packet, against the bare wire: the kernel's receive times of the same packet at the
//! relay's own interface and behind the relay.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mcr_testbed::{Interface, Topology};

use crate::generate::{Clock, Ingress, Load, generate_stamped};
use crate::measure::{Egress, Setup, Stand};
use crate::path::{GROUP, OUTPUT_PORT, Path};
use crate::socket;

const ETH_P_IP: u16 = 0x0800;
const PACKET_IGNORE_OUTGOING: i32 = 23;
/// The payload begins here.
const HEADER_BYTES: usize = 42;
/// Packets per second.
const RATE: u64 = 20_000;

/// Percentiles of what a path added, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// One output, payloads of 1,250 bytes, one packet at a time; `None` when nothing came.
pub(crate) fn latency(net: &Topology, path: Path, ingress: Ingress, time: Duration) -> Option<Latency> {
    let setup = Setup { path, ingress, egress: Egress::Software, outputs: 1, payload_bytes: 1_250, relays: 1 };
    let _stand = Stand::start(net, setup);
    let wire = Stamps::new(net.relay_input(), GROUP.port());
    let behind = Stamps::new(net.lan(1).host_side(), OUTPUT_PORT);
    let load = Load {
        ingress,
        source: path.source(),
        to: GROUP,
        payload_bytes: setup.payload_bytes,
        rate: RATE,
        time,
        clock: Clock::Unread,
    };
    generate_stamped(net, load, (RATE as f64 * time.as_secs_f64()) as u64);
    // Longer than anything may lie in a queue.
    std::thread::sleep(Duration::from_millis(200));
    let on_wire: HashMap<u64, u64> = wire.take().into_iter().collect();
    let behind = behind.take().into_iter();
    let mut added: Vec<u64> = behind.filter_map(|(stamp, time)| time.checked_sub(*on_wire.get(&stamp)?)).collect();
    added.sort_unstable();
    let at = |share: f64| {
        let index = ((added.len() as f64 * share) as usize).min(added.len().saturating_sub(1));
        added.get(index).map(|nanoseconds| *nanoseconds as f64 / 1000.0)
    };
    Some(Latency { p50: at(0.5)?, p99: at(0.99)? })
}

/// Takes stamps and receive times of stamped packets at an interface.
struct Stamps {
    socket: OwnedFd,
}

impl Stamps {
    fn new(interface: &Interface, port: u16) -> Stamps {
        let socket = interface.namespace().run(|| {
            let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
            first_bytes_of_udp(&socket, port);
            socket::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 256i32 << 20);
            socket::set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1i32);
            socket::set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1i32);
            socket::bind_packet(&socket, interface.index(), ETH_P_IP);
            socket
        });
        Stamps { socket }
    }

    /// Stamp and receive time, in nanoseconds of the wall clock, of all that has arrived.
    fn take(&self) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| self.next()).flatten().collect()
    }

    /// `None` when the queue is empty, `Some(None)` for a packet without a time.
    fn next(&self) -> Option<Option<(u64, u64)>> {
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
        let mut stamp = [0; 8];
        stamp.copy_from_slice(&frame[HEADER_BYTES..HEADER_BYTES + 8]);
        // SAFETY: the kernel filled the control buffer; a SCM_TIMESTAMPNS message carries a timespec.
        let time = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (!header.is_null() && (*header).cmsg_type == libc::SCM_TIMESTAMPNS)
                .then(|| libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned())
        };
        let time = time.map(|time| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
        Some(time.map(|time| (u64::from_be_bytes(stamp), time)))
    }
}

/// Lets the first 64 bytes of each UDP packet to `port` through (IPv4 without options, as everything here is).
fn first_bytes_of_udp(socket: &OwnedFd, port: u16) {
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
        step(ret, 0, 0, 64),
        step(ret, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    socket::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program);
}
