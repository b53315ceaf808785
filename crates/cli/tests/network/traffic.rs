//! Datagrams whose every byte follows from their number, sent by an ordinary socket in the device's namespace and
//! compared one by one where they arrive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcr_testbed::Namespace;

/// Where the device of most tests sends to.
pub(crate) const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 1, 1, 1)), 5001);

/// A series of datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series {
    pub(crate) count: u64,
    pub(crate) smallest: usize,
    pub(crate) largest: usize,
}

impl Series {
    pub(crate) const fn of(count: u64, bytes: usize) -> Series {
        Series { count, smallest: bytes, largest: bytes }
    }

    /// Datagram `number`: its length and bytes follow from the number alone.
    pub(crate) fn payload(&self, number: u64, buffer: &mut Vec<u8>) {
        let span = (self.largest - self.smallest + 1) as u64;
        // Half of them come in runs of one size, as media streams do; the others change with each.
        let seed = if (number / 64).is_multiple_of(2) { number / 64 } else { number };
        let length = self.smallest + (mix(seed) % span) as usize;
        buffer.clear();
        let mut word = number;
        while buffer.len() < length {
            word = mix(word);
            let bytes = word.to_be_bytes();
            buffer.extend_from_slice(&bytes[..bytes.len().min(length - buffer.len())]);
        }
    }
}

/// SplitMix64's finaliser: each bit of the input changes half of the output.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sends a series at `rate` packets per second, in bursts of at most 16.
pub(crate) fn send(from: &Namespace, source: impl Into<IpAddr>, to: SocketAddr, series: Series, rate: u64) {
    let source = source.into();
    from.run(move || {
        let socket = sender(source);
        let mut payload = Vec::new();
        let start = Instant::now();
        for number in 0..series.count {
            if number % 16 == 0 {
                let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            series.payload(number, &mut payload);
            send_one(&socket, &payload, to);
        }
    });
}

/// Sends a series at `rate` packets per second for as long as it is to go on; how many were sent.
pub(crate) fn send_while(
    goes_on: &AtomicBool,
    from: &Namespace,
    source: impl Into<IpAddr>,
    to: SocketAddr,
    series: Series,
    rate: u64,
) -> u64 {
    let source = source.into();
    from.run(move || {
        let socket = sender(source);
        let mut payload = Vec::new();
        let start = Instant::now();
        for number in 0..series.count {
            if number % 16 == 0 {
                if !goes_on.load(Ordering::Relaxed) {
                    return number;
                }
                let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            series.payload(number, &mut payload);
            send_one(&socket, &payload, to);
        }
        series.count
    })
}

/// Sends these payloads, one every `pause`.
pub(crate) fn send_payloads(
    from: &Namespace,
    source: impl Into<IpAddr>,
    to: SocketAddr,
    payloads: &[Vec<u8>],
    pause: Duration,
) {
    let source = source.into();
    from.run(move || {
        let socket = sender(source);
        for payload in payloads {
            send_one(&socket, payload, to);
            std::thread::sleep(pause);
        }
    });
}

fn sender(source: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((source, 0)).expect("bind to the device's address");
    match source {
        IpAddr::V4(_) => socket.set_multicast_ttl_v4(1).expect("set the TTL"),
        IpAddr::V6(_) => set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, 1),
    }
    socket
}

fn send_one(socket: &UdpSocket, payload: &[u8], to: SocketAddr) {
    while let Err(error) = socket.send_to(payload, to) {
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "send to {to}: {error}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What a receiver saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Datagrams that arrived.
    pub(crate) count: u64,
    /// The first datagram that was not the next of the series, in words.
    pub(crate) first_difference: Option<String>,
    /// Every (source, TTL, DSCP and ECN) seen, in order of appearance.
    pub(crate) headers: Vec<(SocketAddr, u8, u8)>,
    /// The payloads, when they were asked for.
    pub(crate) payloads: Vec<Vec<u8>>,
}

/// What is done with payloads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payloads {
    /// Compared with those of a series, in order and byte by byte.
    Compare(Series),
    /// Kept.
    Keep,
    /// Only counted.
    Count,
}

/// An ordinary socket in a namespace that receives until it is told to stop.
pub(crate) struct Receiver {
    thread: Option<JoinHandle<Report>>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Receiver {
    /// Joins the group of `on` (or binds, when it is unicast) at the interface with address `local`, or of IPv6 at the one
    /// that the routes choose; when this returns nothing is missed any more.
    pub(crate) fn start(namespace: &Namespace, local: Ipv4Addr, on: SocketAddr, payloads: Payloads) -> Receiver {
        let socket = namespace.run(move || {
            let socket = UdpSocket::bind(on).expect("bind the receiver");
            match on.ip() {
                group if !group.is_multicast() => {}
                IpAddr::V4(group) => socket.join_multicast_v4(&group, &local).expect("join the group"),
                IpAddr::V6(group) => socket.join_multicast_v6(&group, 0).expect("join the group"),
            }
            socket
        });
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 128 << 20);
        let (level, options) = match on {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, [libc::IP_RECVTTL, libc::IP_RECVTOS]),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS]),
        };
        options.into_iter().for_each(|option| set_option(&socket, level, option, 1));
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set a timeout");
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let thread = std::thread::spawn({
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            move || receive(&socket, payloads, &stop, &count)
        });
        Receiver { thread: Some(thread), stop, count }
    }

    /// How many have arrived so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `count` have arrived or nothing has come for a second, then reports.
    pub(crate) fn finish(mut self, count: u64) -> Report {
        let mut last = (self.count(), Instant::now());
        while last.0 < count && last.1.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
            if self.count() != last.0 {
                last = (self.count(), Instant::now());
            }
        }
        // A moment more: whatever comes twice comes late.
        std::thread::sleep(Duration::from_millis(50));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("finished once").join().expect("the receiver's thread")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn receive(socket: &UdpSocket, payloads: Payloads, stop: &AtomicBool, count: &AtomicU64) -> Report {
    let mut report = Report { count: 0, first_difference: None, headers: Vec::new(), payloads: Vec::new() };
    let (mut buffer, mut expected) = (vec![0; 65_536], Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let Some((length, header)) = receive_one(socket, &mut buffer) else { continue };
        if report.headers.last() != Some(&header) && !report.headers.contains(&header) {
            report.headers.push(header);
        }
        match payloads {
            Payloads::Compare(series) if report.first_difference.is_none() => {
                series.payload(report.count, &mut expected);
                if buffer[..length] != expected[..] {
                    let (number, wanted) = (report.count, expected.len());
                    report.first_difference =
                        Some(format!("datagram {number} has {length} bytes, not the {wanted} sent"));
                }
            }
            Payloads::Keep => report.payloads.push(buffer[..length].to_vec()),
            Payloads::Compare(_) | Payloads::Count => {}
        }
        report.count += 1;
        count.store(report.count, Ordering::Relaxed);
    }
    report
}

/// One datagram with its source, TTL and traffic class; `None` when none came in time.
fn receive_one(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, (SocketAddr, u8, u8))> {
    let mut control = [0u64; 16];
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid value of these plain structures.
    let (mut name, mut message): (libc::sockaddr_in6, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in `message` is to memory that lives through the call, with its true length.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    if length < 0 {
        let error = io::Error::last_os_error();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted), "receive: {error}");
        return None;
    }
    // The port is at the same place in both families; the address of IPv4 is where IPv6 has its flow information.
    let ip = match i32::from(name.sin6_family) {
        libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(name.sin6_addr.s6_addr)),
        _ => IpAddr::from(Ipv4Addr::from(u32::from_be(name.sin6_flowinfo))),
    };
    let source = SocketAddr::new(ip, u16::from_be(name.sin6_port));
    let (mut ttl, mut class) = (0, 0);
    // SAFETY: the kernel filled `message`; CMSG_FIRSTHDR and CMSG_NXTHDR stay within its control buffer, and both
    // options carry at least the bytes that are read.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_TTL) => ttl = libc::CMSG_DATA(header).cast::<i32>().read_unaligned() as u8,
                (libc::IPPROTO_IP, libc::IP_TOS) => class = libc::CMSG_DATA(header).read(),
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    ttl = libc::CMSG_DATA(header).cast::<i32>().read_unaligned() as u8;
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    class = libc::CMSG_DATA(header).cast::<i32>().read_unaligned() as u8;
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Some((length as usize, (source, ttl, class)))
}

fn set_option(socket: &UdpSocket, level: i32, option: i32, value: i32) {
    // SAFETY: the value is an int of the given length, alive through the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size_of::<i32>() as u32)
    };
    assert_eq!(result, 0, "socket option {option}: {}", io::Error::last_os_error());
}
