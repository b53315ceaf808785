//! Many datagrams in one call (sendmmsg(2)); runs of equal ones to one group as one segmented send, which the kernel or the
//! interface takes apart (`UDP_SEGMENT`, udp(7)).

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::SockAddr;

use crate::traffic::MAX_PAYLOAD_BYTES;

/// The kernel takes no more segments at once (`UDP_MAX_SEGMENTS` of older ones).
const MOST_SEGMENTS: usize = 64;
/// Bytes of a control message with one `u16`, aligned.
const CONTROL_WORDS: usize = 3;

/// Whether equal datagrams go as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// One after the other, as a device sends them.
    Apart,
    /// As one segmented send.
    Together,
}

/// Datagrams that wait to be sent.
pub(crate) struct Outbox {
    socket: UdpSocket,
    runs: Runs,
    bytes: Vec<u8>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    /// `None`: where the socket is connected to.
    to: Option<SockAddr>,
    start: usize,
    length: usize,
}

/// Some of those that wait, sent by one message.
struct Run {
    first: usize,
    count: usize,
}

/// What became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    /// Bytes of their payloads.
    pub(crate) payload_bytes: u64,
    /// Lost for full queues, or because nobody listens at a host.
    pub(crate) refused: u64,
}

impl Outbox {
    /// An empty one.
    pub(crate) fn new(socket: UdpSocket, runs: Runs) -> Self {
        Self { socket, runs, bytes: Vec::new(), waiting: Vec::new() }
    }

    /// Puts a datagram in, to be written by `fill`; without `to` it goes where the socket is connected to.
    pub(crate) fn put(&mut self, to: Option<SocketAddr>, length: usize, fill: impl FnOnce(&mut [u8])) {
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        fill(&mut self.bytes[start..]);
        self.waiting.push(Waiting { to: to.map(SockAddr::from), start, length });
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sends all of them. What finds a full queue is lost, and counted.
    ///
    /// # Errors
    /// Anything else that the kernel says, with the payload's length that it says it of.
    pub(crate) fn send(&mut self) -> Result<Sent, (usize, io::Error)> {
        let mut sent = Sent::default();
        let mut next = 0;
        while next < self.waiting.len() {
            let runs = self.runs_from(next);
            match self.send_runs(&runs) {
                Ok(0) => return Err((self.waiting[next].length, io::ErrorKind::WriteZero.into())),
                Ok(done) => {
                    for run in &runs[..done] {
                        next += run.count;
                        sent.packets += run.count as u64;
                        sent.payload_bytes += self.payload_bytes(run) as u64;
                    }
                }
                Err(error) if is_loss(&error) => {
                    sent.refused += runs[0].count as u64;
                    next += runs[0].count;
                }
                // A kernel or an interface without segmentation.
                Err(error)
                    if runs[0].count > 1
                        && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE)) =>
                {
                    self.runs = Runs::Apart;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((self.waiting[next].length, error)),
            }
        }
        self.bytes.clear();
        self.waiting.clear();
        Ok(sent)
    }

    fn payload_bytes(&self, run: &Run) -> usize {
        self.waiting[run.first..run.first + run.count].iter().map(|waiting| waiting.length).sum()
    }

    /// The next messages: as many as one call takes.
    fn runs_from(&self, first: usize) -> Vec<Run> {
        const MOST_MESSAGES: usize = 256;
        let (mut runs, mut next) = (Vec::new(), first);
        while runs.len() < MOST_MESSAGES && next < self.waiting.len() {
            let count = self.run_at(next);
            runs.push(Run { first: next, count });
            next += count;
        }
        runs
    }

    /// How many of those that wait from here on are alike.
    fn run_at(&self, first: usize) -> usize {
        if self.runs == Runs::Apart {
            return 1;
        }
        let Waiting { to, length, .. } = &self.waiting[first];
        let most = MOST_SEGMENTS.min(MAX_PAYLOAD_BYTES / (*length).max(1)).max(1);
        let alike = self.waiting[first..].iter().take(most);
        alike.take_while(|other| other.length == *length && other.to == *to).count()
    }

    /// How many of these messages were taken.
    fn send_runs(&self, runs: &[Run]) -> io::Result<usize> {
        let mut vectors: Vec<libc::iovec> = runs.iter().map(|run| self.vector(run)).collect();
        let mut controls = vec![[0_u64; CONTROL_WORDS]; runs.len()];
        let mut messages: Vec<libc::mmsghdr> = runs
            .iter()
            .zip(vectors.iter_mut().zip(&mut controls))
            .map(|(run, (vector, control))| self.message(run, vector, control))
            .collect();
        // SAFETY: each header points at an address, a vector and a control buffer with their true lengths, all of which live
        // through the call; the kernel only reads what they point at.
        let done = unsafe {
            libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, 0)
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    fn vector(&self, run: &Run) -> libc::iovec {
        let start = self.waiting[run.first].start;
        let bytes = &self.bytes[start..start + self.payload_bytes(run)];
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
    }

    fn message(&self, run: &Run, vector: &mut libc::iovec, control: &mut [u64; CONTROL_WORDS]) -> libc::mmsghdr {
        let Waiting { to, length, .. } = &self.waiting[run.first];
        // SAFETY: all zeros is a valid mmsghdr.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let header = &mut message.msg_hdr;
        if let Some(to) = to {
            header.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_namelen = to.len();
        }
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        if run.count > 1 {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(control);
            // SAFETY: the buffer is aligned and has room for a header and a u16 (asserted below), so the first header is there.
            unsafe {
                let segment = libc::CMSG_FIRSTHDR(header);
                (*segment).cmsg_level = libc::SOL_UDP;
                (*segment).cmsg_type = libc::UDP_SEGMENT;
                (*segment).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as usize;
                libc::CMSG_DATA(segment).cast::<u16>().write_unaligned(*length as u16);
            }
        }
        message
    }
}

// SAFETY: it only computes.
const _: () = assert!(unsafe { libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) } as usize <= CONTROL_WORDS * 8);

/// Full queues and hosts that do not listen yet: the packet is lost, the run goes on.
fn is_loss(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
        || matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_arrive_whole_and_in_order_apart_and_together() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        for runs in [Runs::Apart, Runs::Together] {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut outbox = Outbox::new(sender, runs);
            let lengths: Vec<usize> = (0..100).map(|i| if i < 80 { 100 } else { 100 + i }).collect();
            for (i, length) in lengths.iter().enumerate() {
                outbox.put(Some(address), *length, |payload| payload.fill(i as u8));
            }
            let payload_bytes = lengths.iter().sum::<usize>() as u64;
            assert_eq!(outbox.send().unwrap(), Sent { packets: 100, payload_bytes, refused: 0 });
            assert_eq!(outbox.len(), 0);
            let mut buffer = [0; 1000];
            for (i, length) in lengths.iter().enumerate() {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), *length, "{runs:?} {i}");
                assert!(buffer[..*length].iter().all(|byte| *byte == i as u8), "{runs:?} {i}");
            }
        }
    }
}
