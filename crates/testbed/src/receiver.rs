//! An ordinary program that listens: a UDP socket, a thread, and a tally of all that arrived, checked byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::deadline::wait_for_state;
use crate::frame::endpoint;
use crate::interface::Interface;
use crate::namespace::Namespace;
use crate::payload::{self, Content};
use crate::sender::Sent;
use crate::socket::{
    RECEIVE_TIMEOUT, endpoint_of, for_each_control, join, listening_socket, prepare_to_receive, set_option,
};

/// Datagrams taken from the kernel in one call.
const BATCH: usize = 64;
/// The largest UDP datagram.
const LARGEST_PAYLOAD: usize = 65_535;
/// Sequence numbers beyond are taken for damage; 2^28 of them take 32 MiB of bitmap.
const HIGHEST_SEQUENCE: u64 = 1 << 28;

/// A listening UDP socket and the thread that reads it.
#[derive(Debug)]
pub struct Receiver {
    arrived: Arc<Mutex<Arrived>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    local: SocketAddrV4,
}

impl Receiver {
    /// Listens to a group (as `239.1.1.1:5000`), joined on `interface`; other listeners of the host may do so too.
    #[track_caller]
    pub fn group(interface: &Interface, group: &str) -> Receiver {
        let (socket, group) = (bind(interface.namespace(), group), endpoint(group));
        join(&socket, interface, *group.ip(), None);
        Receiver::start(socket, group)
    }

    /// Listens to a group from one source only (IGMPv3); `interface` needs an address.
    #[track_caller]
    pub fn group_from(interface: &Interface, group: &str, source: Ipv4Addr) -> Receiver {
        let (socket, group) = (bind(interface.namespace(), group), endpoint(group));
        join(&socket, interface, *group.ip(), Some(source));
        Receiver::start(socket, group)
    }

    /// Listens at an address and port of the namespace.
    #[track_caller]
    pub fn unicast(namespace: &Namespace, local: &str) -> Receiver {
        Receiver::start(bind(namespace, local), endpoint(local))
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddrV4 {
        self.local
    }

    /// What has arrived so far.
    pub fn tally(&self) -> Tally {
        self.arrived().tally.clone()
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `datagrams` have arrived, counting all streams, and damaged and repeated ones too.
    ///
    /// # Panics
    /// After `limit`, with the tally.
    #[track_caller]
    pub fn wait_for(&self, datagrams: u64, limit: Duration) -> Tally {
        let what = format!("{datagrams} datagrams at {}", self.local);
        wait_for_state(limit, &what, || self.tally(), |tally| tally.datagrams >= datagrams)
    }

    /// Waits for all that was sent by this one call, and that everything here arrived once, in order and whole. What was sent
    /// before may be missing: a receiver may come late.
    ///
    /// # Panics
    /// When not all have arrived within `limit`, or not so.
    #[track_caller]
    pub fn expect(&self, sent: &Sent, limit: Duration) -> Tally {
        let what = format!("all of {sent:?} at {}", self.local);
        let look = || {
            let tally = self.tally();
            Progress { lost: tally.lost(sent), tally }
        };
        let Progress { tally, .. } = wait_for_state(limit, &what, look, |progress| progress.lost == 0);
        tally.assert_faultless();
        tally
    }

    /// Keeps every payload that arrives from now on, for [`Receiver::payloads`]; else they are checked and forgotten.
    pub fn keep_payloads(self) -> Receiver {
        self.arrived().kept.get_or_insert_default();
        self
    }

    /// The payloads that were kept, in the order of their arrival.
    ///
    /// # Panics
    /// Without [`Receiver::keep_payloads`].
    #[track_caller]
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        self.arrived().kept.clone().expect("a receiver made with keep_payloads")
    }

    /// Waits until nothing has arrived for `pause`: after a loss, when there is no number to wait for.
    pub fn wait_for_quiet(&self, pause: Duration) -> Tally {
        let mut last = self.tally();
        let mut since = Instant::now();
        while since.elapsed() < pause {
            std::thread::sleep(RECEIVE_TIMEOUT.min(pause / 4));
            let now = self.tally();
            if now.datagrams != last.datagrams {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    #[track_caller]
    fn start(socket: UdpSocket, local: SocketAddrV4) -> Receiver {
        prepare_to_receive(&socket);
        for option in [libc::IP_RECVTTL, libc::IP_RECVTOS] {
            set_option(&socket, libc::IPPROTO_IP, option, &1);
        }
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &1);
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, told) = (arrived.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut inbox = Inbox::new();
            while !told.load(Ordering::Relaxed) {
                inbox.receive(&socket, &shared);
            }
        });
        Receiver { arrived, stop, thread: Some(thread), local }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread shares with the test.
#[derive(Debug, Default)]
struct Arrived {
    tally: Tally,
    kept: Option<Vec<Vec<u8>>>,
}

/// What [`Receiver::expect`] has reached, told when it is not enough.
#[derive(Debug)]
struct Progress {
    lost: u64,
    tally: Tally,
}

/// All that arrived, and how.
#[derive(Clone, Default)]
pub struct Tally {
    /// Datagrams of any content.
    pub datagrams: u64,
    /// Payload bytes of them.
    pub payload_bytes: u64,
    /// Those whose content is not what a [`Sender`](crate::Sender) sent.
    pub corrupt: u64,
    /// Those that had arrived before.
    pub duplicated: u64,
    /// Those that arrived after a later one of their stream.
    pub reordered: u64,
    /// Dropped by the kernel because this receiver was too slow: the test's fault, not the product's.
    pub receiver_overruns: u32,
    /// Addresses and ports that they came from.
    pub sources: BTreeSet<SocketAddrV4>,
    /// Times to live that they arrived with.
    pub ttls: BTreeSet<u8>,
    /// Bytes of DSCP and ECN that they arrived with.
    pub traffic_classes: BTreeSet<u8>,
    /// Payload sizes in bytes.
    pub sizes: BTreeSet<usize>,
    streams: BTreeMap<u32, Stream>,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    seen: Vec<u64>,
    distinct: u64,
    highest: u64,
}

impl Tally {
    /// How many different datagrams of a stream arrived intact.
    pub fn distinct(&self, stream: u32) -> u64 {
        self.streams.get(&stream).map_or(0, |stream| stream.distinct)
    }

    /// How many of what was sent did not arrive.
    pub fn lost(&self, sent: &Sent) -> u64 {
        let last = sent.first + sent.datagrams;
        (sent.first..last).filter(|&sequence| !self.has(sent.stream, sequence)).count() as u64
    }

    /// Whether this datagram arrived intact.
    pub fn has(&self, stream: u32, sequence: u64) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.has(sequence))
    }

    /// # Panics
    /// When any datagram was damaged, repeated or out of order, or this receiver was too slow.
    #[track_caller]
    pub fn assert_faultless(&self) {
        let faults = (self.corrupt, self.duplicated, self.reordered, self.receiver_overruns);
        assert_eq!(faults, (0, 0, 0, 0), "damaged, repeated, out of order, overruns: {self:?}");
    }

    fn count(&mut self, payload: &[u8]) {
        self.datagrams += 1;
        self.payload_bytes += payload.len() as u64;
        self.sizes.insert(payload.len());
        match payload::check(payload) {
            Content::Intact { stream, sequence } if sequence <= HIGHEST_SEQUENCE => {
                match self.streams.entry(stream).or_default().count(sequence) {
                    Arrival::InOrder => {}
                    Arrival::Late => self.reordered += 1,
                    Arrival::Again => self.duplicated += 1,
                }
            }
            Content::Intact { .. } | Content::Corrupt => self.corrupt += 1,
        }
    }
}

/// Without the bitmaps of what was seen.
impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let distinct: BTreeMap<u32, u64> = self.streams.iter().map(|(&stream, of)| (stream, of.distinct)).collect();
        f.debug_struct("Tally")
            .field("datagrams", &self.datagrams)
            .field("payload_bytes", &self.payload_bytes)
            .field("corrupt", &self.corrupt)
            .field("duplicated", &self.duplicated)
            .field("reordered", &self.reordered)
            .field("receiver_overruns", &self.receiver_overruns)
            .field("distinct_by_stream", &distinct)
            .field("sources", &self.sources)
            .field("ttls", &self.ttls)
            .field("traffic_classes", &self.traffic_classes)
            .finish_non_exhaustive()
    }
}

enum Arrival {
    InOrder,
    Late,
    Again,
}

impl Stream {
    fn has(&self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).ok().and_then(|at| self.seen.get(at)).copied().unwrap_or(0);
        word >> (sequence % 64) & 1 == 1
    }

    fn count(&mut self, sequence: u64) -> Arrival {
        if self.has(sequence) {
            return Arrival::Again;
        }
        let at = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        if self.seen.len() <= at {
            self.seen.resize(at + 1, 0);
        }
        self.seen[at] |= 1 << (sequence % 64);
        let is_late = self.distinct > 0 && sequence < self.highest;
        self.distinct += 1;
        self.highest = self.highest.max(sequence);
        if is_late { Arrival::Late } else { Arrival::InOrder }
    }
}

/// Control data of one datagram, in words so that its headers are aligned.
type Control = [u64; 16];

/// Buffers for a batch, made once.
struct Inbox {
    payloads: Vec<Vec<u8>>,
    controls: Vec<Control>,
    sources: Vec<libc::sockaddr_in>,
}

impl Inbox {
    fn new() -> Inbox {
        // SAFETY: all zeros is a valid sockaddr_in.
        let nowhere: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        Inbox {
            payloads: vec![vec![0; LARGEST_PAYLOAD]; BATCH],
            controls: vec![[0; 16]; BATCH],
            sources: vec![nowhere; BATCH],
        }
    }

    /// Takes what is there, or waits for up to the socket's receive timeout.
    fn receive(&mut self, socket: &UdpSocket, arrived: &Mutex<Arrived>) {
        let mut vectors: Vec<libc::iovec> = self
            .payloads
            .iter_mut()
            .map(|payload| libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() })
            .collect();
        let mut messages = Vec::with_capacity(BATCH);
        for ((vector, control), source) in vectors.iter_mut().zip(&mut self.controls).zip(&mut self.sources) {
            // SAFETY: all zeros is a valid mmsghdr.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = std::ptr::from_mut(source).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
            message.msg_hdr.msg_controllen = size_of::<Control>();
            messages.push(message);
        }
        // SAFETY: each of the BATCH headers points at a vector over a buffer of its own, a control buffer and an address, all with
        // their true lengths and alive until after the call.
        let received = unsafe {
            let (fd, first) = (socket.as_raw_fd(), messages.as_mut_ptr());
            libc::recvmmsg(fd, first, BATCH as u32, libc::MSG_WAITFORONE, std::ptr::null_mut())
        };
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            let is_nothing_yet = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            assert!(is_nothing_yet, "cannot receive: {error}");
            return;
        };
        let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, message) in messages[..received].iter().enumerate() {
            let payload = &self.payloads[index][..message.msg_len as usize];
            arrived.tally.count(payload);
            arrived.tally.sources.insert(endpoint_of(&self.sources[index]));
            arrived.tally.note(&message.msg_hdr);
            if let Some(kept) = &mut arrived.kept {
                kept.push(payload.to_vec());
            }
        }
    }
}

impl Tally {
    /// What the kernel says beside the payload.
    fn note(&mut self, header: &libc::msghdr) {
        for_each_control(header, |level, kind, data| {
            let int = data.first_chunk().map(|&bytes| u32::from_ne_bytes(bytes));
            match (level, kind, int) {
                (libc::IPPROTO_IP, libc::IP_TTL, Some(ttl)) => drop(self.ttls.insert(ttl as u8)),
                // A single byte, unlike the others.
                (libc::IPPROTO_IP, libc::IP_TOS, _) => self.traffic_classes.extend(data.first()),
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, Some(overruns)) => self.receiver_overruns = overruns,
                _ => {}
            }
        });
    }
}

#[track_caller]
fn bind(namespace: &Namespace, local: &str) -> UdpSocket {
    let address = endpoint(local);
    let bound = namespace.run(|| listening_socket(address));
    let socket = bound.unwrap_or_else(|error| panic!("cannot listen at {local} in {}: {error}", namespace.name()));
    // A socket hears a group that any other socket of its host joined, unless told otherwise.
    set_option(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &0);
    socket
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(tally: &mut Tally, sequences: &[u64]) {
        for &sequence in sequences {
            let mut payload = vec![0; 40];
            payload::fill(&mut payload, 9, sequence);
            tally.count(&payload);
        }
    }

    #[test]
    fn losses_repeats_and_disorder_are_told_apart() {
        let sent = Sent { stream: 9, first: 0, datagrams: 200, payload_bytes: 0, took: Duration::ZERO };
        let mut tally = Tally::default();
        arrive(&mut tally, &[0, 1, 3, 2, 3, 130]);
        tally.count(b"noise");
        assert_eq!((tally.datagrams, tally.distinct(9), tally.lost(&sent)), (7, 5, 195));
        assert_eq!((tally.corrupt, tally.duplicated, tally.reordered), (1, 1, 1));
        assert!(tally.has(9, 130) && !tally.has(9, 129) && !tally.has(8, 0));
    }
}
