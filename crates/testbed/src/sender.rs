//! An ordinary program that sends UDP: a socket, test payloads, and if wanted a rate, marks and super-frames.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::frame::endpoint;
use crate::interface::Interface;
use crate::namespace::Namespace;
use crate::payload;
use crate::socket::{set_multicast_interface, set_option};

/// Datagrams handed to the kernel in one call; also the largest burst of a paced sender.
const BATCH: usize = 32;
/// No sender goes on for longer, whatever was asked for.
const LONGEST_RUN: Duration = Duration::from_secs(120);
/// Sleep of a paced sender that is ahead of its rate.
const PACE: Duration = Duration::from_micros(100);

static STREAMS: AtomicU32 = AtomicU32::new(1);

/// A UDP sender. Each has a stream number of its own; its sequence goes on from one [`Sender::send`] to the next.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    destination: SocketAddrV4,
    connected: OnceLock<()>,
    stream: u32,
    next: u64,
    payload_sizes: Vec<usize>,
    datagrams_per_second: Option<u32>,
    segments: Option<usize>,
}

/// What was sent by one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The sender's number in the payloads.
    pub stream: u32,
    /// Sequence number of the first datagram.
    pub first: u64,
    /// Datagrams; a super-frame counts as its segments.
    pub datagrams: u64,
    /// Payload bytes.
    pub payload_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl Sender {
    /// A sender in `namespace` to `destination` (as `239.1.1.1:5000`), from a port and the address that the routes choose,
    /// TTL 16, payloads of 1,200 bytes, as fast as it goes.
    #[track_caller]
    pub fn new(namespace: &Namespace, destination: &str) -> Sender {
        Sender::bound(namespace, "0.0.0.0:0", destination)
    }

    /// A sender from `source`, an address of the namespace and a port (0: any).
    #[track_caller]
    pub fn bound(namespace: &Namespace, source: &str, destination: &str) -> Sender {
        let (source, destination) = (endpoint(source), endpoint(destination));
        let opened = namespace.run(|| UdpSocket::bind(source));
        let socket =
            opened.unwrap_or_else(|error| panic!("cannot send from {source} in {}: {error}", namespace.name()));
        let sender = Sender {
            socket,
            destination,
            connected: OnceLock::new(),
            stream: STREAMS.fetch_add(1, Ordering::Relaxed),
            next: 0,
            payload_sizes: vec![1200],
            datagrams_per_second: None,
            segments: None,
        };
        sender.ttl(16)
    }

    /// Time to live of what is sent, group or not.
    #[track_caller]
    pub fn ttl(self, ttl: u8) -> Sender {
        set_option(&self.socket, libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, &libc::c_int::from(ttl));
        set_option(&self.socket, libc::IPPROTO_IP, libc::IP_TTL, &libc::c_int::from(ttl));
        self
    }

    /// Differentiated services code point, 0 to 63.
    #[track_caller]
    pub fn dscp(self, dscp: u8) -> Sender {
        set_option(&self.socket, libc::IPPROTO_IP, libc::IP_TOS, &(libc::c_int::from(dscp) << 2));
        self
    }

    /// The interface for groups, where routes do not say.
    #[track_caller]
    pub fn out_of(self, interface: &Interface) -> Sender {
        set_multicast_interface(&self.socket, interface);
        self
    }

    /// Size of all payloads in bytes.
    #[track_caller]
    pub fn payload_bytes(self, bytes: usize) -> Sender {
        self.payload_sizes(&[bytes])
    }

    /// Sizes of the payloads in bytes, taken in turn.
    #[track_caller]
    pub fn payload_sizes(mut self, bytes: &[usize]) -> Sender {
        assert!(!bytes.is_empty() && bytes.iter().all(|&size| size >= payload::SMALLEST_PAYLOAD), "{bytes:?}");
        self.payload_sizes = bytes.to_vec();
        self
    }

    /// The rate to keep to, in bursts of up to 32 when the scheduler is late.
    pub fn datagrams_per_second(mut self, rate: u32) -> Sender {
        self.datagrams_per_second = Some(rate.max(1));
        self
    }

    /// Sends super-frames of this many datagrams (`UDP_SEGMENT`, up to 64 KiB together), all of the first payload size; the kernel
    /// or the device cuts them.
    #[track_caller]
    pub fn segmented(mut self, segments: usize) -> Sender {
        let size = self.payload_sizes[0];
        assert!((1..=64).contains(&segments) && segments * size < 65_500, "{segments} segments of {size} bytes");
        self.payload_sizes.truncate(1);
        set_option(
            &self.socket,
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            &libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX),
        );
        self.segments = Some(segments);
        self
    }

    /// The address and port that it sends from.
    ///
    /// # Panics
    /// When there is no way to the destination.
    #[track_caller]
    pub fn source(&self) -> SocketAddrV4 {
        self.connect();
        match self.socket.local_addr() {
            Ok(std::net::SocketAddr::V4(address)) => address,
            other => panic!("a UDP socket without an IPv4 address: {other:?}"),
        }
    }

    /// Its number in the payloads.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Sends `datagrams` and returns when the last has been handed to the kernel.
    ///
    /// # Panics
    /// When the kernel refuses one.
    #[track_caller]
    pub fn send(&mut self, datagrams: u64) -> Sent {
        self.send_while(datagrams, || true)
    }

    /// Sends these payloads as they are, a datagram each, at the sender's rate: those of a capture, perhaps. They are not of its
    /// sequence, so that a receiver counts them as corrupt unless they happen to be test payloads: keep and compare them.
    ///
    /// # Panics
    /// When the kernel refuses one, or when this sender sends super-frames.
    #[track_caller]
    pub fn send_payloads<P: AsRef<[u8]>>(&self, payloads: &[P]) {
        assert!(self.segments.is_none(), "payloads of their own sizes cannot be cut from super-frames");
        self.connect();
        let begun = Instant::now();
        let mut done = 0;
        while done < payloads.len() {
            assert!(begun.elapsed() < LONGEST_RUN, "{done} of {} payloads sent in {LONGEST_RUN:?}", payloads.len());
            let due = usize::try_from(self.due(begun.elapsed())).unwrap_or(usize::MAX).min(payloads.len());
            if due <= done {
                std::thread::sleep(PACE);
                continue;
            }
            let batch = &payloads[done..due.min(done + BATCH)];
            self.hand_over(batch);
            done += batch.len();
        }
    }

    /// Sends on a thread of its own until stopped, or for two minutes.
    pub fn start(mut self) -> Sending {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || self.send_while(u64::MAX, || !told.load(Ordering::Relaxed)));
        Sending { stop, thread: Some(thread) }
    }

    /// Chooses route and source address, at the first use: until then the interface may be set, without which there may be no route.
    #[track_caller]
    fn connect(&self) {
        self.connected.get_or_init(|| {
            let connected = self.socket.connect(self.destination);
            connected.unwrap_or_else(|error| panic!("cannot send to {}: {error}", self.destination));
        });
    }

    #[track_caller]
    fn send_while(&mut self, datagrams: u64, go_on: impl Fn() -> bool) -> Sent {
        self.connect();
        let begun = Instant::now();
        let mut sent =
            Sent { stream: self.stream, first: self.next, datagrams: 0, payload_bytes: 0, took: Duration::ZERO };
        while sent.datagrams < datagrams && go_on() && begun.elapsed() < LONGEST_RUN {
            let due = self.due(begun.elapsed()).saturating_sub(sent.datagrams).min(datagrams - sent.datagrams);
            if due == 0 {
                std::thread::sleep(PACE);
                continue;
            }
            let burst = usize::try_from(due).unwrap_or(usize::MAX);
            sent.payload_bytes += match self.segments {
                Some(segments) => self.send_segmented(burst.min(segments)),
                None => self.send_batch(burst.min(BATCH)),
            };
            sent.datagrams = self.next - sent.first;
        }
        sent.took = begun.elapsed();
        sent
    }

    /// How many should have been sent by now.
    fn due(&self, elapsed: Duration) -> u64 {
        match self.datagrams_per_second {
            None => u64::MAX,
            Some(rate) => u64::try_from(elapsed.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX),
        }
    }

    /// One datagram's payload, the next of the sequence.
    fn next_payload(&mut self) -> Vec<u8> {
        let turn = self.next % self.payload_sizes.len() as u64;
        let mut payload = vec![0; self.payload_sizes[turn as usize]];
        payload::fill(&mut payload, self.stream, self.next);
        self.next += 1;
        payload
    }

    #[track_caller]
    fn send_segmented(&mut self, segments: usize) -> u64 {
        let mut together = Vec::new();
        for _ in 0..segments {
            together.extend(self.next_payload());
        }
        let sent = retry_refused(|| self.socket.send(&together));
        sent.unwrap_or_else(|error| panic!("cannot send {segments} segments: {error}"));
        together.len() as u64
    }

    #[track_caller]
    fn send_batch(&mut self, count: usize) -> u64 {
        let payloads: Vec<Vec<u8>> = (0..count).map(|_| self.next_payload()).collect();
        self.hand_over(&payloads);
        payloads.iter().map(|payload| payload.len() as u64).sum()
    }

    /// Hands all of them to the kernel.
    #[track_caller]
    fn hand_over<P: AsRef<[u8]>>(&self, payloads: &[P]) {
        let mut vectors: Vec<libc::iovec> = payloads
            .iter()
            .map(AsRef::as_ref)
            .map(|payload| libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: all zeros is a valid mmsghdr: no name, no buffers, no control data.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let mut done = 0;
        while done < messages.len() {
            let rest = &mut messages[done..];
            let sent = retry_refused(|| {
                // SAFETY: `rest` has as many headers as it is long; each points at one vector of `vectors`, and that at one
                // payload of `payloads`; both outlive the call and sendmmsg only reads the payloads.
                let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
                usize::try_from(sent).map_err(|_| io::Error::last_os_error())
            });
            done += sent.unwrap_or_else(|error| panic!("cannot send datagram {done} of {}: {error}", payloads.len()));
        }
    }
}

/// A connected socket reports an earlier ICMP "port unreachable" at the next send, which says nothing about that send.
fn retry_refused<T>(mut send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match send() {
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => {}
            other => return other,
        }
    }
}

/// A sender at work; stops when it is dropped.
#[derive(Debug)]
pub struct Sending {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

impl Sending {
    /// Stops it and says what it sent.
    #[track_caller]
    pub fn stop(mut self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("taken only here and in drop");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
