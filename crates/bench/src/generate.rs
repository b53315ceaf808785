//! The load: frames that are ready to go, in bursts, at a rate, for a time.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mcr_testbed::{DEVICE, Frame, Interface, Topology};

use crate::socket;

/// Frames of one burst, as a media sender makes them.
const BURST: usize = 16;

/// How the load gets onto the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ingress {
    /// Crafted frames past the sender's IP stack and queue, with finished checksums.
    Raw,
    /// An ordinary socket, one call for each burst; checksums are left to offload.
    Socket,
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) ingress: Ingress,
    pub(crate) source: std::net::Ipv4Addr,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload_bytes: usize,
    pub(crate) rate: u64,
    pub(crate) time: Duration,
}

/// Sends the load from the device; how many packets left.
pub(crate) fn generate(net: &Topology, load: Load) -> u64 {
    let interface = net.device_interface();
    match load.ingress {
        Ingress::Raw => {
            let frame =
                Frame::udp(&format!("{}:4000", load.source), &load.to.to_string(), vec![0x5a; load.payload_bytes])
                    .source_mac(interface.mac())
                    .bytes();
            let socket = net.device().run(|| packet_socket(interface));
            paced(load, &Burst::new(&frame, None), &socket)
        }
        Ingress::Socket => {
            let socket = net.device().run(|| {
                let socket = UdpSocket::bind((load.source, 0)).expect("bind to the device's address");
                OwnedFd::from(socket)
            });
            paced(load, &Burst::new(&vec![0x5a; load.payload_bytes], Some(load.to)), &socket)
        }
    }
}

/// Sends one frame every `pause`, each with the wall clock's time in its first eight bytes of payload.
pub(crate) fn generate_stamped(net: &Topology, to: SocketAddrV4, payload_bytes: usize, rate: u64, count: u64) {
    net.device().run(|| {
        let socket = UdpSocket::bind((DEVICE, 0)).expect("bind to the device's address");
        let mut payload = vec![0; payload_bytes];
        let start = Instant::now();
        for i in 0..count {
            let due = start + Duration::from_nanos(i * 1_000_000_000 / rate);
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            payload[..8].copy_from_slice(&socket::now(libc::CLOCK_REALTIME).to_be_bytes());
            // What the wire does not take now is simply not a sample.
            let _ = socket.send_to(&payload, to);
        }
    });
}

fn packet_socket(interface: &Interface) -> OwnedFd {
    let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
    socket::bind_packet(&socket, interface.index(), 0);
    socket::set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1i32);
    socket
}

/// The messages of one burst; all carry the same bytes.
struct Burst {
    _bytes: Box<[u8]>,
    _piece: Box<libc::iovec>,
    _name: Option<Box<libc::sockaddr_in>>,
    messages: [libc::mmsghdr; BURST],
}

impl Burst {
    fn new(bytes: &[u8], to: Option<SocketAddrV4>) -> Burst {
        let mut bytes: Box<[u8]> = bytes.into();
        let mut piece = Box::new(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
        let mut name = to.map(|to| {
            // SAFETY: all-zero is a valid value of this plain structure.
            let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            name.sin_family = libc::AF_INET as u16;
            name.sin_port = to.port().to_be();
            name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
            Box::new(name)
        });
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut *piece;
        message.msg_hdr.msg_iovlen = 1;
        if let Some(name) = &mut name {
            message.msg_hdr.msg_name = (&raw mut **name).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        }
        Burst { _bytes: bytes, _piece: piece, _name: name, messages: [message; BURST] }
    }
}

fn paced(load: Load, burst: &Burst, socket: &OwnedFd) -> u64 {
    let mut messages = burst.messages;
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let due = Duration::from_nanos(sent * 1_000_000_000 / load.rate);
        if due >= load.time {
            return sent;
        }
        let now = start.elapsed();
        if now > load.time * 2 {
            return sent;
        }
        // Sleeping is for long pauses only: the scheduler wakes a sleeper too late for short ones.
        match due.checked_sub(now) {
            Some(wait) if wait > Duration::from_micros(200) => std::thread::sleep(wait - Duration::from_micros(100)),
            Some(_) => std::thread::yield_now(),
            None => {
                // SAFETY: the messages and all that they point to live in `burst`.
                let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BURST as u32, 0) };
                sent += u64::try_from(taken).unwrap_or(0);
            }
        }
    }
}
