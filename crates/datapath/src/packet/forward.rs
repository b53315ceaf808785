//! One round: from slots to runs, from runs to messages.

use std::sync::Arc;

use mcr_wire::{Datagram, DropReason, MacAddr};

use super::fragments::Fragments;
use super::input::{self, Oversize, Refused};
use super::ring::{Frame, Ring};
use super::run::Run;
use super::transmit::Transmitter;
use crate::clock::monotonic_nanoseconds;
use crate::counters::InputShare;
use crate::table::{CompiledTable, RelayIndex};

/// Most slots of a round: what one segmented send can take.
const MAX_SLOTS: u32 = 64;
/// Most runs of a round; it is cut short when they are used up.
const MAX_RUNS: usize = 128;

/// What [`Forwarder::gather`] found.
pub(super) struct Gathered {
    /// Slots to give back.
    pub(super) slots: u32,
    /// Whether the kernel says that it dropped frames.
    pub(super) losing: bool,
}

/// The memory of a round. Made once; a round allocates nothing.
pub(super) struct Forwarder {
    runs: Vec<Run>,
    used: usize,
    /// The run that was started last for each relay of the table.
    latest: Vec<Latest>,
    /// Tells apart the entries of `latest` that are of this round.
    round: u64,
    oversize: Oversize,
    fragments: Fragments,
    transmitter: Transmitter,
    counters: Arc<InputShare>,
    /// When this round began, in nanoseconds of `CLOCK_MONOTONIC`.
    now: u64,
}

#[derive(Clone, Copy, Default)]
struct Latest {
    round: u64,
    run: u32,
}

// SAFETY: the raw pointers in `runs` are only used between `gather` and `send`, on one thread.
unsafe impl Send for Forwarder {}

impl Forwarder {
    pub(super) fn new(counters: Arc<InputShare>) -> Self {
        let mut runs = Vec::new();
        runs.resize_with(MAX_RUNS, Run::vacant);
        Self {
            runs,
            used: 0,
            latest: Vec::new(),
            round: 1,
            oversize: Oversize::new(),
            fragments: Fragments::default(),
            transmitter: Transmitter::new(),
            counters,
            now: 0,
        }
    }

    /// Makes room for a table. Between two rounds only.
    pub(super) fn prepare(&mut self, table: &CompiledTable) {
        self.latest.clear();
        self.latest.resize(table.relay_count(), Latest::default());
        self.transmitter.resize(table.sockets().len());
    }

    /// Reads the slots that are ready and counts what arrived.
    pub(super) fn gather(&mut self, ring: &Ring, table: &CompiledTable) -> Gathered {
        let mut gathered = Gathered { slots: 0, losing: false };
        let most = MAX_SLOTS.min(ring.slots());
        while gathered.slots < most && !self.oversize.is_full() {
            let Some(frame) = ring.frame(gathered.slots) else { break };
            if gathered.slots == 0 {
                self.now = monotonic_nanoseconds();
            }
            gathered.losing |= frame.status & libc::TP_STATUS_LOSING != 0;
            self.counters.count_frame();
            ring.prefetch(gathered.slots + 1);
            self.take(&frame, gathered.slots, ring, table);
            gathered.slots += 1;
        }
        gathered
    }

    /// Sends the runs. Nothing of the ring is pointed at afterwards.
    pub(super) fn send(&mut self, table: &CompiledTable) {
        self.send_runs(table);
        self.oversize.clear();
    }

    fn send_runs(&mut self, table: &CompiledTable) {
        self.transmitter.send(&self.runs[..self.used], table, self.now);
        self.used = 0;
        self.round += 1;
    }

    fn take(&mut self, frame: &Frame<'_>, ahead: u32, ring: &Ring, table: &CompiledTable) {
        if !frame.is_cut() {
            return self.classify(frame, frame.bytes, table);
        }
        let Some(bytes) = self.oversize.fetch(ring, ahead, frame) else {
            return self.classify(frame, frame.bytes, table);
        };
        // SAFETY: the buffer is a heap block of its own that stays in place and unchanged until
        // `oversize.clear()`, after the round's sends.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        self.classify(frame, bytes, table);
    }

    fn classify(&mut self, frame: &Frame<'_>, bytes: &[u8], table: &CompiledTable) {
        match input::read(frame, bytes, &self.fragments) {
            Ok(datagram) if is_foreign(frame, &datagram) => {}
            Ok(datagram) if is_loop(bytes, table) => {
                self.refuse(&Refused::datagram(DropReason::Loop, &datagram), table);
            }
            Ok(datagram) => self.relay(&datagram, table),
            Err(None) => {}
            Err(Some(refused)) => self.refuse(&refused, table),
        }
    }

    /// Hands a datagram to every relay that wants it.
    fn relay(&mut self, datagram: &Datagram<'_>, table: &CompiledTable) {
        let relays = table.find(&datagram.destination);
        let nobody = if relays.is_empty() { DropReason::NoRelay } else { DropReason::SourceNotListed };
        let mut wanted = false;
        for index in relays {
            let relay = table.relay_at(index);
            if relay.accepts(datagram.source.ip()) {
                wanted = true;
                relay.counters.count_received(datagram.packets(), datagram.ip_bytes(), self.now);
                match &relay.limiter {
                    Some(limiter) if !limiter.admits(self.now, datagram.packets(), datagram.ip_bytes()) => {
                        relay.count_dropped(DropReason::RateLimited, datagram.packets());
                    }
                    Some(_) | None => self.enqueue(index, datagram, table),
                }
            }
        }
        if !wanted {
            self.counters.count_dropped(nobody, datagram.packets());
        } else if let Some(key) = datagram.fragment_key() {
            self.fragments.note(key, datagram.destination.port);
        }
    }

    /// Appends a datagram to its relay's run or starts one.
    #[inline]
    fn enqueue(&mut self, relay: RelayIndex, datagram: &Datagram<'_>, table: &CompiledTable) {
        let latest = self.latest[relay as usize];
        if latest.round == self.round {
            // SAFETY: the payload is in the ring or an oversize buffer, where it stays until the
            // round's sends are done.
            if unsafe { self.runs[latest.run as usize].append(datagram) } {
                return;
            }
        }
        if self.used == self.runs.len() {
            self.send_runs(table);
        }
        // SAFETY: as above.
        unsafe { self.runs[self.used].start(relay, datagram) };
        self.latest[relay as usize] = Latest { round: self.round, run: self.used as u32 };
        self.used += 1;
    }

    /// Charges a refused frame to the relays that it was meant for, or else to the input: so a later
    /// fragment of which no first one was relayed.
    fn refuse(&mut self, refused: &Refused, table: &CompiledTable) {
        let &Refused { reason, destination, frame: mcr_wire::Refused { source, packets, ip_bytes } } = refused;
        let relays = destination.map_or(0..0, |destination| table.find(&destination));
        let mut charged = false;
        for index in relays {
            let relay = table.relay_at(index);
            if source.is_some_and(|source| !relay.accepts(source)) {
                continue;
            }
            charged = true;
            relay.counters.count_received(packets, ip_bytes, self.now);
            relay.count_dropped(reason, packets);
        }
        if !charged {
            self.counters.count_dropped(reason, packets);
        }
    }
}

/// Whether a unicast datagram is for another host, seen only because the interface is promiscuous.
fn is_foreign(frame: &Frame<'_>, datagram: &Datagram<'_>) -> bool {
    frame.packet_type == libc::PACKET_OTHERHOST && !datagram.destination.address.is_multicast()
}

/// Whether this host sent the frame. Its link-layer source is behind its destination.
#[inline]
fn is_loop(bytes: &[u8], table: &CompiledTable) -> bool {
    bytes
        .get(6..12)
        .and_then(|source| <[u8; 6]>::try_from(source).ok())
        .is_some_and(|source| table.is_ours(MacAddr::new(source)))
}
