//! The load: frames that are ready to go, in bursts, at a rate, for a time.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mcr_testbed::{Frame, Topology};

use crate::{cpu, socket};

/// Frames of one burst, as a media sender makes them.
const BURST: usize = 16;
/// The nice value of everything that is measured and of what measures it: that which MCR gives itself.
pub(crate) const NICE: i32 = -10;
/// Bytes of Ethernet, IPv4 and UDP headers before the payload of a crafted frame.
const HEADER_BYTES: usize = 42;

/// How the load gets onto the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ingress {
    /// Crafted frames past the sender's IP stack and queue, with finished checksums.
    Raw,
    /// An ordinary socket, one call for each burst; checksums are left to offload.
    Socket,
}

impl Ingress {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Socket => "socket",
        }
    }
}

/// Whether the CPU time of the sends is taken: two more system calls for each burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Unread,
    EachBurst,
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) ingress: Ingress,
    pub(crate) source: Ipv4Addr,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload_bytes: usize,
    /// Packets per second.
    pub(crate) rate: u64,
    pub(crate) time: Duration,
    pub(crate) clock: Clock,
}

/// What left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offered {
    pub(crate) packets: u64,
    pub(crate) time: Duration,
    /// CPU time inside the sends, when it was taken: the sender's own work, and the soft interrupts of the receiving
    /// interface, which run within it.
    pub(crate) send_nanoseconds: u64,
}

/// Sends the load from the device.
pub(crate) fn generate(net: &Topology, load: Load) -> Offered {
    let outlet = Outlet::new(net, load.ingress, load.source, load.to, load.payload_bytes);
    beside_the_relay(|| outlet.paced(load))
}

/// Sends `count` packets one by one at `rate`, each with the wall clock's time in nanoseconds in its first eight bytes of
/// payload (big-endian), and the complement in the next eight: that keeps the checksum as it is.
pub(crate) fn generate_stamped(net: &Topology, load: Load, count: u64) {
    let outlet = Outlet::new(net, load.ingress, load.source, load.to, load.payload_bytes);
    beside_the_relay(|| outlet.stamped(load.rate, count));
}

/// Runs in a thread before ordinary programs, as the relays do, but not before these.
fn beside_the_relay<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let first = || {
        // SAFETY: a plain system call; it concerns the calling thread.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        body()
    };
    let result = std::thread::scope(|scope| scope.spawn(first).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The device's socket with the bytes that it sends.
struct Outlet {
    socket: OwnedFd,
    bytes: Box<[u8]>,
    /// Where in `bytes` the payload begins.
    payload_at: usize,
}

impl Outlet {
    fn new(net: &Topology, ingress: Ingress, source: Ipv4Addr, to: SocketAddrV4, payload_bytes: usize) -> Outlet {
        let mut payload = vec![0x5a; payload_bytes];
        payload[..8].fill(0);
        payload[8..16].fill(0xff);
        match ingress {
            Ingress::Raw => {
                let interface = net.device_interface();
                let frame =
                    Frame::udp(&format!("{source}:4000"), &to.to_string(), payload).source_mac(interface.mac()).bytes();
                let socket = net.device().run(|| {
                    let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
                    socket::bind_packet(&socket, interface.index(), 0);
                    socket::set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1i32);
                    socket
                });
                Outlet { socket, bytes: frame.into(), payload_at: HEADER_BYTES }
            }
            Ingress::Socket => {
                let socket = net.device().run(|| {
                    let socket = UdpSocket::bind((source, 0)).expect("bind to the device's address");
                    socket.connect(to).expect("a route to the group");
                    OwnedFd::from(socket)
                });
                Outlet { socket, bytes: payload.into(), payload_at: 0 }
            }
        }
    }

    /// Sends up to a burst of equal packets; how many the kernel took.
    fn send(&mut self, packets: usize) -> u64 {
        let mut piece = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: self.bytes.len() };
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut piece;
        message.msg_hdr.msg_iovlen = 1;
        let mut messages = [message; BURST];
        let count = packets.min(BURST) as u32;
        // SAFETY: the messages and all that they point to live through the call.
        let taken = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        u64::try_from(taken).unwrap_or(0)
    }

    fn stamped(mut self, rate: u64, count: u64) {
        let start = Instant::now();
        for i in 0..count {
            let due = start + Duration::from_nanos(i * 1_000_000_000 / rate);
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let stamp = socket::now(libc::CLOCK_REALTIME);
            self.bytes[self.payload_at..][..8].copy_from_slice(&stamp.to_be_bytes());
            self.bytes[self.payload_at + 8..][..8].copy_from_slice(&(!stamp).to_be_bytes());
            self.send(1);
        }
    }

    fn paced(mut self, load: Load) -> Offered {
        let start = Instant::now();
        let mut offered = Offered::default();
        loop {
            let due = Duration::from_nanos(offered.packets * 1_000_000_000 / load.rate);
            let now = start.elapsed();
            offered.time = now;
            // A generator that can't keep the rate ends in time all the same.
            if due >= load.time || now >= load.time.mul_f64(1.1) {
                return offered;
            }
            match due.checked_sub(now) {
                // Sleeping is for long pauses only: the scheduler wakes a sleeper too late for short ones.
                Some(wait) if wait > Duration::from_micros(200) => {
                    std::thread::sleep(wait - Duration::from_micros(100));
                }
                Some(_) => std::thread::yield_now(),
                None => match load.clock {
                    Clock::Unread => offered.packets += self.send(BURST),
                    Clock::EachBurst => {
                        let before = cpu::of_this_thread();
                        offered.packets += self.send(BURST);
                        offered.send_nanoseconds += cpu::of_this_thread() - before;
                    }
                },
            }
        }
    }
}
