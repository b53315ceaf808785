//! Sending: messages gathered per output socket and handed to the kernel in one call each.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mcr_wire::{Datagram, DropReason, Headers, Oversize, Rewrite};

use super::run::Run;
use super::virtio::VirtioHeader;
use crate::clock::monotonic_nanoseconds;
use crate::counters::OutputShare;
use crate::table::{CompiledAction, CompiledOutput, CompiledTable};

/// Most messages that wait for one call.
const MAX_MESSAGES: usize = 256;
/// Most pieces of payload and headers that they consist of.
const MAX_PIECES: usize = 4_096;

/// The sending socket of an output interface, shared by all outputs on it.
#[derive(Debug)]
pub struct TxSocket {
    socket: OwnedFd,
    /// Whether the kernel takes segmented sends here; found out by trying.
    segments: AtomicBool,
    /// The next identification of a datagram that is cut into fragments. All outputs of the interface count here: two of
    /// them may have the same addresses, and pieces of two datagrams would be taken for one.
    identification: AtomicU32,
}

impl TxSocket {
    /// Takes over a socket by [`open_output`](super::open_output).
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        // Not where another process may have been just now.
        let identification = AtomicU32::new(monotonic_nanoseconds() as u32);
        Self { socket, segments: AtomicBool::new(true), identification }
    }

    fn next_identification(&self) -> u32 {
        self.identification.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether runs of equal-sized packets go to the kernel as one. `false` once it has refused
    /// one: they go one by one since.
    #[must_use]
    pub fn sends_segmented(&self) -> bool {
        self.segments.load(Ordering::Relaxed)
    }
}

/// Headers of a message as the kernel wants them: in one piece.
#[repr(C)]
struct Front {
    virtio: VirtioHeader,
    headers: [u8; Headers::MOST_BYTES],
}

const _: () = assert!(std::mem::offset_of!(Front, headers) == size_of::<VirtioHeader>());

impl Front {
    /// The bytes to send, with their number.
    fn new(virtio: VirtioHeader, headers: &Headers) -> (Self, usize) {
        let bytes = headers.bytes();
        let mut front = Self { virtio, headers: [0; Headers::MOST_BYTES] };
        front.headers[..bytes.len()].copy_from_slice(bytes);
        (front, size_of::<VirtioHeader>() + bytes.len())
    }

    fn for_run(rewrite: &Rewrite, run: &Run) -> (Self, usize) {
        match run.segmented() {
            Some(segment_bytes) => {
                let headers = rewrite.run_headers(run.first(), run.payload_bytes());
                let length = headers.bytes().len();
                let virtio = VirtioHeader::segmented(headers.completion, length, segment_bytes);
                Self::new(virtio, &headers)
            }
            None => {
                // The lengths in the headers come from the payload.
                let datagram = run.datagrams().next();
                Self::for_datagram(rewrite, datagram.as_ref().unwrap_or(run.first()))
            }
        }
    }

    fn for_datagram(rewrite: &Rewrite, datagram: &Datagram<'_>) -> (Self, usize) {
        let headers = rewrite.headers(datagram);
        Self::new(VirtioHeader::whole(headers.completion), &headers)
    }
}

/// What a message is, for the books.
#[derive(Clone, Copy)]
struct Account {
    run: u32,
    output: u32,
    /// 0: a piece of a datagram of which more pieces follow. The last one stands for all.
    packets: u32,
    ip_bytes: u64,
}

/// Messages that wait for [`Transmitter::flush`]. Made once; sending allocates nothing.
pub(super) struct Transmitter {
    /// By message.
    fronts: Vec<Front>,
    /// The pieces of all messages; `messages` point into it, so it never grows past its capacity.
    pieces: Vec<libc::iovec>,
    queues: Vec<Queue>,
    /// Numbers of the queues that are not empty.
    waiting: Vec<usize>,
}

/// Messages for one socket.
struct Queue {
    messages: Vec<libc::mmsghdr>,
    accounts: Vec<Account>,
}

// SAFETY: the raw pointers are into the value's own heap memory and into payloads that are only
// used between `push` and `flush`, both on one thread.
unsafe impl Send for Transmitter {}

impl Transmitter {
    pub(super) fn new() -> Self {
        Self {
            fronts: Vec::with_capacity(MAX_MESSAGES),
            pieces: Vec::with_capacity(MAX_PIECES),
            queues: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Prepares for a table with this many sockets. Nothing may be waiting.
    pub(super) fn resize(&mut self, sockets: usize) {
        debug_assert!(self.waiting.is_empty());
        self.queues.resize_with(sockets, || Queue {
            messages: Vec::with_capacity(MAX_MESSAGES),
            accounts: Vec::with_capacity(MAX_MESSAGES),
        });
        self.waiting.reserve(sockets);
    }

    /// Sends every run to every output of its relay, and counts what became of it.
    pub(super) fn send(&mut self, runs: &[Run], table: &CompiledTable, now_nanoseconds: u64) {
        for (number, run) in runs.iter().enumerate() {
            let relay = table.relay_at(run.relay());
            for (output, entry) in relay.outputs.iter().enumerate() {
                match &entry.action {
                    CompiledAction::Drop(reason) => {
                        entry.counters.count_dropped(*reason, run.packets());
                    }
                    CompiledAction::Send { rewrite, .. }
                        if let Some(reason) = entry.refusal(run, rewrite, now_nanoseconds) =>
                    {
                        entry.counters.count_dropped(reason, run.packets());
                    }
                    CompiledAction::Send { socket, rewrite, mtu } => {
                        let account = Account {
                            run: number as u32,
                            output: output as u32,
                            packets: run.packets() as u32,
                            ip_bytes: run.ip_bytes(rewrite),
                        };
                        let fits = run.largest_ip_bytes(rewrite) <= *mtu as usize;
                        let whole = run.packets() == 1 || table.sockets()[*socket].sends_segmented();
                        if fits && whole {
                            self.push_run(*socket, rewrite, run, account, (runs, table));
                        } else {
                            self.push_datagrams(*socket, account, (runs, table));
                        }
                    }
                }
            }
        }
        self.flush(runs, table);
    }

    fn push_run(
        &mut self,
        socket: usize,
        rewrite: &Rewrite,
        run: &Run,
        account: Account,
        (runs, table): (&[Run], &CompiledTable),
    ) {
        if self.is_full(run.pieces().len()) {
            self.flush(runs, table);
        }
        self.push(socket, Front::for_run(rewrite, run), run.pieces(), account);
    }

    /// Queues the datagrams of a run one by one; those that are too large are cut or dropped.
    fn push_datagrams(&mut self, socket: usize, account: Account, (runs, table): (&[Run], &CompiledTable)) {
        let run = &runs[account.run as usize];
        let entry = &table.relay_at(run.relay()).outputs[account.output as usize];
        let CompiledAction::Send { rewrite, mtu, .. } = &entry.action else { return };
        for datagram in run.datagrams() {
            let ip_bytes = datagram.payload.len() + rewrite.bytes_before(&datagram);
            if ip_bytes > *mtu as usize {
                if !self.push_pieces(socket, &datagram, account, (runs, table)) {
                    entry.counters.count_dropped(DropReason::TooBig, 1);
                }
                continue;
            }
            if self.is_full(1) {
                self.flush(runs, table);
            }
            let account = Account { packets: 1, ip_bytes: ip_bytes as u64, ..account };
            let front = Front::for_datagram(rewrite, &datagram);
            self.push(socket, front, &[piece(datagram.payload)], account);
        }
    }

    /// Queues a datagram that is too large in fragments, if that is what its output wants; whether it did.
    #[cold]
    fn push_pieces(
        &mut self,
        socket: usize,
        datagram: &Datagram<'_>,
        account: Account,
        (runs, table): (&[Run], &CompiledTable),
    ) -> bool {
        let entry = &table.relay_at(runs[account.run as usize].relay()).outputs[account.output as usize];
        let CompiledAction::Send { rewrite, mtu, .. } = &entry.action else { return false };
        if rewrite.oversize == Oversize::Drop {
            return false;
        }
        let identification = table.sockets()[socket].next_identification();
        let pieces = rewrite.pieces(datagram, *mtu as usize, identification);
        // They wait together, so that a refused one takes the rest along.
        let Some(pieces) = pieces.filter(|pieces| pieces.len() <= MAX_MESSAGES) else { return false };
        let (count, ip_bytes) = (pieces.len(), pieces.ip_bytes());
        if self.fronts.len() + count > MAX_MESSAGES || self.pieces.len() + 2 * count > MAX_PIECES {
            self.flush(runs, table);
        }
        for (number, datagram) in pieces.enumerate() {
            let account = if number + 1 < count {
                Account { packets: 0, ip_bytes: 0, ..account }
            } else {
                Account { packets: 1, ip_bytes, ..account }
            };
            self.push(socket, Front::for_datagram(rewrite, &datagram), &[piece(datagram.payload)], account);
        }
        true
    }

    fn is_full(&self, pieces: usize) -> bool {
        self.fronts.len() == MAX_MESSAGES || self.pieces.len() + 1 + pieces > MAX_PIECES
    }

    /// Queues a message. There is room: neither vector may move while messages point into it.
    fn push(&mut self, socket: usize, (front, front_bytes): (Front, usize), payload: &[libc::iovec], account: Account) {
        assert!(!self.is_full(payload.len()));
        self.fronts.push(front);
        let first = self.pieces.len();
        let front = &raw const self.fronts[self.fronts.len() - 1];
        self.pieces.push(libc::iovec { iov_base: front.cast_mut().cast(), iov_len: front_bytes });
        self.pieces.extend_from_slice(payload);
        // SAFETY: all-zero bytes are a valid mmsghdr: no name, no control data, no flags.
        let mut message: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: `first` is below the length after the pushes above.
        message.msg_hdr.msg_iov = unsafe { self.pieces.as_mut_ptr().add(first) };
        message.msg_hdr.msg_iovlen = (payload.len() + 1) as _;
        let queue = &mut self.queues[socket];
        if queue.messages.is_empty() {
            self.waiting.push(socket);
        }
        queue.messages.push(message);
        queue.accounts.push(account);
    }

    /// Hands everything that waits to the kernel.
    fn flush(&mut self, runs: &[Run], table: &CompiledTable) {
        for &socket in &self.waiting {
            let queue = &mut self.queues[socket];
            queue.send(&table.sockets()[socket], runs, table);
            queue.messages.clear();
            queue.accounts.clear();
        }
        self.waiting.clear();
        self.pieces.clear();
        self.fronts.clear();
    }
}

impl CompiledOutput {
    /// Why the output sends nothing of a run, whatever its size.
    fn refusal(&self, run: &Run, rewrite: &Rewrite, now_nanoseconds: u64) -> Option<DropReason> {
        rewrite
            .refusal(run.first())
            .or_else(|| (!self.admits(run, rewrite, now_nanoseconds)).then_some(DropReason::RateLimited))
    }

    /// Whether the output's cap lets a run pass, as it would leave.
    fn admits(&self, run: &Run, rewrite: &Rewrite, now_nanoseconds: u64) -> bool {
        let limiter = self.limiter.as_ref();
        limiter.is_none_or(|limiter| limiter.admits(now_nanoseconds, run.packets(), run.ip_bytes(rewrite)))
    }
}

impl Queue {
    /// Sends the messages in order. The kernel stops at the first one that it refuses, without a
    /// word; the next call begins with it and learns why, and the one after that goes on behind it,
    /// so that no message costs another one.
    fn send(&mut self, socket: &TxSocket, runs: &[Run], table: &CompiledTable) {
        let mut done = 0;
        while done < self.messages.len() {
            let end = done + self.together(done);
            match send_messages(socket, &mut self.messages[done..end]) {
                Ok(count) => {
                    for account in &self.accounts[done..done + count] {
                        account.counters(runs, table).count_sent(account.packets.into(), account.ip_bytes);
                    }
                    done += count;
                }
                Err(errno) => {
                    let refused = match Refusal::of(errno) {
                        Refusal::Message(reason) => {
                            self.accounts[done].refused(errno, reason, socket, (runs, table));
                            self.rest_of_datagram(done)
                        }
                        Refusal::Socket(reason) => {
                            for account in &self.accounts[done..] {
                                let counters = account.counters(runs, table);
                                counters.count_dropped(reason, account.packets.into());
                            }
                            self.accounts.len() - done
                        }
                    };
                    done += refused;
                }
            }
        }
    }

    /// How many messages from `first` on go into one call: ordinary ones together, a segmented one by
    /// itself. Where the kernel segments for a device without a queue (veth), a refusal is about the
    /// last segment: those before it may have left, and are not to be handed over again.
    fn together(&self, first: usize) -> usize {
        self.accounts[first..].iter().take_while(|account| account.packets <= 1).count().max(1)
    }

    /// How many messages from `first` on are pieces of the same datagram: without that one they are of no use.
    fn rest_of_datagram(&self, first: usize) -> usize {
        1 + self.accounts[first..].iter().take_while(|account| account.packets == 0).count()
    }
}

impl Account {
    fn counters<'t>(&self, runs: &[Run], table: &'t CompiledTable) -> &'t OutputShare {
        let relay = table.relay_at(runs[self.run as usize].relay());
        &relay.outputs[self.output as usize].counters
    }

    /// Deals with a message that the kernel refused. A segmented one may be beyond this kernel or
    /// device: its datagrams are tried one by one.
    fn refused(&self, errno: i32, reason: DropReason, socket: &TxSocket, (runs, table): (&[Run], &CompiledTable)) {
        if errno == libc::EINVAL && self.packets > 1 {
            self.send_datagrams(socket, runs, table);
        } else {
            self.counters(runs, table).count_dropped(reason, self.packets.max(1).into());
        }
    }

    fn send_datagrams(&self, socket: &TxSocket, runs: &[Run], table: &CompiledTable) {
        let run = &runs[self.run as usize];
        let entry = &table.relay_at(run.relay()).outputs[self.output as usize];
        let CompiledAction::Send { rewrite, .. } = &entry.action else { return };
        for datagram in run.datagrams() {
            match send_datagram(socket, rewrite, &datagram) {
                Ok(()) => {
                    // What failed as one works one by one: remember that.
                    socket.segments.store(false, Ordering::Relaxed);
                    let ip_bytes = datagram.payload.len() + rewrite.bytes_before(&datagram);
                    entry.counters.count_sent(1, ip_bytes as u64);
                }
                Err(errno) => {
                    let (Refusal::Message(reason) | Refusal::Socket(reason)) = Refusal::of(errno);
                    entry.counters.count_dropped(reason, 1);
                }
            }
        }
    }
}

/// What an error says about the messages behind the refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Nothing: they are tried.
    Message(DropReason),
    /// They would be refused as well, and trying costs a system call each.
    Socket(DropReason),
}

impl Refusal {
    /// The errors of `net/packet/af_packet.c: packet_snd`.
    fn of(errno: i32) -> Self {
        match errno {
            // The queueing discipline dropped this one.
            libc::ENOBUFS => Self::Message(DropReason::OutputQueueFull),
            // The socket's buffer is full of frames that the device has not sent.
            libc::EAGAIN => Self::Socket(DropReason::OutputQueueFull),
            libc::ENETDOWN => Self::Socket(DropReason::OutputDown),
            libc::ENXIO | libc::ENODEV => Self::Socket(DropReason::OutputMissing),
            libc::EMSGSIZE => Self::Message(DropReason::TooBig),
            _ => Self::Message(DropReason::SendFailed),
        }
    }
}

fn piece(payload: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() }
}

/// How many messages were sent, at least one; or why the first one was not.
fn send_messages(socket: &TxSocket, messages: &mut [libc::mmsghdr]) -> Result<usize, i32> {
    loop {
        // SAFETY: the messages point into the transmitter's pieces, those at its fronts and at
        // payloads that stay in the ring until the round is over; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        match usize::try_from(sent) {
            Ok(count) => return Ok(count.max(1)),
            Err(_) => match errno() {
                libc::EINTR => {}
                errno => return Err(errno),
            },
        }
    }
}

fn send_datagram(socket: &TxSocket, rewrite: &Rewrite, datagram: &Datagram<'_>) -> Result<(), i32> {
    let (front, front_bytes) = Front::for_datagram(rewrite, datagram);
    let front = libc::iovec { iov_base: (&raw const front).cast_mut().cast(), iov_len: front_bytes };
    let mut pieces = [front, piece(datagram.payload)];
    // SAFETY: all-zero bytes are a valid mmsghdr.
    let mut message: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_hdr.msg_iov = pieces.as_mut_ptr();
    message.msg_hdr.msg_iovlen = pieces.len() as _;
    send_messages(socket, std::slice::from_mut(&mut message)).map(|_| ())
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
