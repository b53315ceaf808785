//! The load: packets that are ready to go, in bursts, at a rate, for a time.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mcr_testbed::{Frame, Interface, Mac, Namespace};

use crate::live::LiveFrames;
use crate::{cpu, socket};

/// Packets of one burst, as a media sender makes them.
pub(crate) const BURST: usize = 16;
/// Enough for a rival that lets the kernel forward, and takes one off.
pub(crate) const TTL: u8 = 32;

/// How the load gets onto the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ingress {
    /// Crafted frames with finished checksums, as a NIC hands them over.
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

/// What is in the first eight bytes of each payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Zero.
    Zero,
    /// Of IPv4: `CLOCK_MONOTONIC` in nanoseconds when it was sent, and the complement in the next eight, which keeps the checksum as it is.
    Time,
}

/// How packets follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// Sixteen at a time.
    Bursts,
    /// One at a time.
    Single,
}

impl Spacing {
    pub(crate) fn packets(self) -> usize {
        match self {
            Self::Bursts => BURST,
            Self::Single => 1,
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) ingress: Ingress,
    pub(crate) source: IpAddr,
    pub(crate) group: SocketAddr,
    pub(crate) payload_bytes: usize,
    /// Packets per second.
    pub(crate) rate: u64,
    pub(crate) time: Duration,
    pub(crate) spacing: Spacing,
    pub(crate) stamp: Stamp,
}

/// What left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offered {
    pub(crate) packets: u64,
    pub(crate) time: Duration,
    /// CPU time of each packet: the sender's own work, and the soft interrupts of the receiving interface, which run within it.
    pub(crate) nanoseconds_each: f64,
}

/// The device's senders.
pub(crate) struct Generator {
    namespace: Namespace,
    mac: Mac,
    live: LiveFrames,
}

impl Generator {
    pub(crate) fn new(interface: &Interface) -> Generator {
        Generator { namespace: interface.namespace().clone(), mac: interface.mac(), live: LiveFrames::new(interface) }
    }

    pub(crate) fn send(&mut self, load: Load) -> Offered {
        let payload = payload(load.payload_bytes);
        match load.ingress {
            Ingress::Raw => {
                let source = SocketAddr::new(load.source, 4000).to_string();
                let frame = Frame::udp(&source, &load.group.to_string(), payload);
                self.live.send(&frame.source_mac(self.mac).ttl(TTL).bytes(), load)
            }
            Ingress::Socket => self.namespace.run(|| {
                cpu::become_the_generator();
                Outlet::new(load, payload).send(load)
            }),
        }
    }
}

/// A stamp of zero, and its complement.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    let mut payload = vec![0x5a; bytes];
    payload[..8].fill(0);
    payload[8..16].fill(0xff);
    payload
}

/// The device's ordinary socket with the bytes that it sends.
struct Outlet {
    socket: OwnedFd,
    payload: Vec<u8>,
}

impl Outlet {
    fn new(load: Load, payload: Vec<u8>) -> Outlet {
        let socket = UdpSocket::bind((load.source, 0)).expect("bind to the device's address");
        socket::set_group_ttl(&socket, load.group, TTL);
        socket.connect(load.group).expect("a route to the group");
        Outlet { socket: socket.into(), payload }
    }

    /// Sends a burst of equal packets; how many the kernel took.
    fn burst(&mut self, packets: usize) -> u64 {
        let mut piece = libc::iovec { iov_base: self.payload.as_mut_ptr().cast(), iov_len: self.payload.len() };
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut piece;
        message.msg_hdr.msg_iovlen = 1;
        let mut messages = [message; BURST];
        // SAFETY: the messages and all that they point to live through the call.
        let taken = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), packets as u32, 0) };
        u64::try_from(taken).unwrap_or(0)
    }

    fn stamp(&mut self) {
        let now = socket::now(libc::CLOCK_MONOTONIC);
        self.payload[..8].copy_from_slice(&now.to_ne_bytes());
        self.payload[8..16].copy_from_slice(&(!now).to_ne_bytes());
    }

    fn send(mut self, load: Load) -> Offered {
        let (start, mut busy_nanoseconds) = (Instant::now(), 0);
        let mut offered = Offered::default();
        loop {
            let due = Duration::from_nanos(offered.packets * 1_000_000_000 / load.rate);
            let now = start.elapsed();
            offered.time = now;
            // A generator that can't keep the rate ends in time all the same.
            if due >= load.time || now >= load.time.mul_f64(1.1) {
                offered.nanoseconds_each = busy_nanoseconds as f64 / offered.packets.max(1) as f64;
                return offered;
            }
            match due.checked_sub(now) {
                // Sleeping is for long pauses only: the scheduler wakes a sleeper too late for short ones.
                Some(wait) if wait > Duration::from_micros(200) => {
                    std::thread::sleep(wait - Duration::from_micros(100));
                }
                Some(_) => std::thread::yield_now(),
                None => {
                    if load.stamp == Stamp::Time {
                        self.stamp();
                    }
                    let before = cpu::of_this_thread();
                    offered.packets += self.burst(load.spacing.packets());
                    busy_nanoseconds += cpu::of_this_thread() - before;
                }
            }
        }
    }
}
