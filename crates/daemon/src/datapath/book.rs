//! What was counted for each relay, whoever moved its packets.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcr_datapath::counters as packet;
use mcr_engine::{OutputTotals, RelayPlan, RelayTotals, Totals};
use mcr_kernel_path::{self as kernel, Arrivals, Crossings, TableWriter, WriteError};
use mcr_model::RelayName;
use mcr_wire::{OutputSnapshot, RelaySnapshot};

/// The books of all relays.
#[derive(Debug, Default)]
pub(crate) struct Books(BTreeMap<RelayName, Book>);

/// The counters of one definition of a relay: those of each datapath that has served it.
#[derive(Debug, Default)]
pub(super) struct Book {
    incarnation: u64,
    pub(super) packet: Option<PacketCounters>,
    pub(super) kernel: Option<KernelCounters>,
    /// What was counted in the kernel's tables under a writer that is gone.
    past: RelayTotals,
    /// How much of `past` is in these tables still, should they be gone on with.
    carried: Option<Carried>,
    movement: Movement,
}

/// When the counters of a relay moved last, as far as [`Books::lively`] has seen.
#[derive(Debug, Default)]
struct Movement {
    received_packets: u64,
    seen: Option<Instant>,
}

/// So long after its last packet a relay is read in full: until rates over a second have come to rest, and what the
/// kernel counts late is counted.
const LIVELY: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Carried {
    tables: u32,
    totals: RelayTotals,
}

#[derive(Debug)]
pub(super) struct PacketCounters {
    pub(super) relay: Arc<packet::RelayCounters>,
    pub(super) outputs: Vec<Arc<packet::OutputCounters>>,
}

#[derive(Debug)]
pub(super) struct KernelCounters {
    pub(super) relay: Arc<kernel::RelayCounters>,
    pub(super) outputs: Vec<Arc<kernel::OutputCounters>>,
    /// The tables that they are in.
    tables: u32,
    crossings: RefCell<Crossings>,
}

impl Books {
    /// The book of that definition of the relay.
    pub(super) fn of(&mut self, plan: &RelayPlan) -> &mut Book {
        let book = self.0.entry(plan.relay.clone()).or_default();
        if book.incarnation != plan.incarnation {
            *book = Book { incarnation: plan.incarnation, ..Book::default() };
        }
        book
    }

    /// The writer of the kernel's tables goes, and with it the right to their counters: what they have counted is kept.
    pub(crate) fn set_kernel_aside(&mut self) {
        for book in self.0.values_mut() {
            let Some(counters) = book.kernel.take() else { continue };
            let totals = counters.last_totals();
            book.past = sum(&book.past, &totals);
            book.carried = Some(Carried { tables: counters.tables, totals });
        }
    }

    /// Drops the counters of these definitions, which nobody wants any more.
    pub(crate) fn close(&mut self, obsolete: &[(RelayName, u64)]) {
        for (name, incarnation) in obsolete {
            if self.0.get(name).is_some_and(|book| book.incarnation == *incarnation) {
                self.0.remove(name);
            }
        }
    }

    /// What every relay has counted so far.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&RelayName, u64, RelayTotals)> {
        self.0.iter().map(|(name, book)| (name, book.incarnation, book.totals()))
    }

    /// As [`Books::totals`], without the relays that nothing has come for of late: of ten thousand most rest, and to
    /// see that takes one number of each.
    pub(crate) fn lively(&mut self) -> impl Iterator<Item = (&RelayName, u64, RelayTotals)> {
        let now = Instant::now();
        let lively = self.0.iter_mut().filter_map(move |(name, book)| book.is_lively(now).then_some((name, book)));
        lively.map(|(name, book)| (name, book.incarnation, book.totals()))
    }

    /// What packets have come for of late, to a relay whose arrivals are noted, with what the kernel noted of all; `None`: it is not
    /// known.
    pub(crate) fn arrivals(&self, name: &RelayName, in_kernel: Option<&Arrivals>) -> Option<BTreeSet<IpAddr>> {
        let Some(book) = self.0.get(name) else { return Some(BTreeSet::new()) };
        let in_kernel = match &book.kernel {
            Some(counters) => in_kernel?.of(&counters.relay),
            None => &[],
        };
        let in_packet = book.packet.iter().flat_map(|counters| counters.relay.take_arrivals());
        Some(in_packet.chain(in_kernel.iter().copied()).map(|destination| destination.address).collect())
    }

    /// What one relay has counted so far.
    pub(crate) fn totals_of(&self, name: &RelayName) -> Option<(u64, RelayTotals)> {
        self.0.get(name).map(|book| (book.incarnation, book.totals()))
    }
}

impl Book {
    /// The counters in user space.
    pub(super) fn in_packet(&mut self, outputs: usize) -> &PacketCounters {
        self.packet.get_or_insert_with(|| PacketCounters {
            relay: Arc::default(),
            outputs: (0..outputs).map(|_| Arc::default()).collect(),
        })
    }

    /// The counters in the kernel: those that the relay had there, also under a daemon before this one.
    pub(super) fn in_kernel(
        &mut self,
        plan: &RelayPlan,
        writer: &mut TableWriter,
        tables: u32,
    ) -> Result<&KernelCounters, WriteError> {
        if self.kernel.is_none() {
            let counters = KernelCounters::new(plan, writer, tables)?;
            // Where the tables and the relay in them were gone on with, they still count what they had counted.
            let carried = self.carried.take().filter(|carried| carried.tables == tables);
            if let Some(carried) =
                carried.filter(|carried| counters.totals().received.packets >= carried.totals.received.packets)
            {
                self.past = difference(&self.past, &carried.totals);
            }
            self.kernel = Some(counters);
        }
        Ok(self.kernel.as_ref().expect("there just now"))
    }

    fn is_lively(&mut self, now: Instant) -> bool {
        let packet = self.packet.iter().map(|counters| counters.relay.received_packets());
        let kernel = self.kernel.iter().map(|counters| counters.relay.received_packets());
        let received_packets = packet.chain(kernel).fold(0, u64::wrapping_add);
        if received_packets != std::mem::replace(&mut self.movement.received_packets, received_packets) {
            self.movement.seen = Some(now);
        }
        self.movement.seen.is_some_and(|seen| now.duration_since(seen) < LIVELY)
    }

    fn totals(&self) -> RelayTotals {
        let packet = self.packet.iter().map(PacketCounters::totals);
        let kernel = self.kernel.iter().map(KernelCounters::totals);
        packet.chain(kernel).fold(self.past.clone(), |all, one| sum(&all, &one))
    }
}

impl PacketCounters {
    fn totals(&self) -> RelayTotals {
        // Outputs first: a packet that is counted in between shows as received and not yet sent, never the reverse.
        let outputs = self.outputs.iter().map(|output| of_output_snapshot(&output.snapshot())).collect();
        of_snapshot(&self.relay.snapshot(), outputs)
    }
}

impl KernelCounters {
    fn new(plan: &RelayPlan, writer: &mut TableWriter, tables: u32) -> Result<Self, WriteError> {
        let relay = writer.relay_counters(plan.identity)?;
        let outputs =
            (0..plan.outputs.len() as u64).map(|index| writer.output_counters(of_output(plan.identity, index)));
        Ok(Self { relay, outputs: outputs.collect::<Result<_, _>>()?, tables, crossings: RefCell::default() })
    }

    fn totals(&self) -> RelayTotals {
        let mut crossings = self.crossings.borrow_mut();
        crossings.look(&self.relay, &self.outputs, Instant::now());
        self.totals_at(&crossings)
    }

    /// When there is no later look: what has not arrived by now is lost.
    fn last_totals(&self) -> RelayTotals {
        self.totals_at(&Crossings::at_rest(&self.relay, &self.outputs))
    }

    fn totals_at(&self, crossings: &Crossings) -> RelayTotals {
        // In the same order as above.
        let outputs = self.outputs.iter().map(|output| of_output_snapshot(&crossings.snapshot(output))).collect();
        of_snapshot(&self.relay.snapshot(), outputs)
    }
}

fn of_snapshot(seen: &RelaySnapshot, outputs: Vec<OutputTotals>) -> RelayTotals {
    RelayTotals {
        received: Totals { packets: seen.received_packets, bytes: seen.received_bytes },
        outputs,
        last_packet: last_packet(seen.last_seen_nanoseconds),
    }
}

fn of_output_snapshot(seen: &OutputSnapshot) -> OutputTotals {
    let sent = Totals { packets: seen.sent_packets, bytes: seen.sent_bytes };
    OutputTotals { sent, dropped: seen.dropped.by_index() }
}

/// On `CLOCK_MONOTONIC`.
fn last_packet(nanoseconds: u64) -> Option<Duration> {
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

/// The identity of an output: that of its relay, spread (the odd number is 2^64 divided by the golden ratio).
fn of_output(relay: u64, index: u64) -> u64 {
    let spread = relay ^ (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread.max(1)
}

fn sum(a: &RelayTotals, b: &RelayTotals) -> RelayTotals {
    combine(a, b, u64::wrapping_add)
}

fn difference(all: &RelayTotals, part: &RelayTotals) -> RelayTotals {
    combine(all, part, u64::saturating_sub)
}

fn combine(a: &RelayTotals, b: &RelayTotals, with: fn(u64, u64) -> u64) -> RelayTotals {
    let traffic = |a: Totals, b: Totals| Totals { packets: with(a.packets, b.packets), bytes: with(a.bytes, b.bytes) };
    let none = OutputTotals::default();
    let outputs = (0..a.outputs.len().max(b.outputs.len())).map(|index| {
        let (a, b) = (a.outputs.get(index).unwrap_or(&none), b.outputs.get(index).unwrap_or(&none));
        let dropped = std::array::from_fn(|reason| with(a.dropped[reason], b.dropped[reason]));
        OutputTotals { sent: traffic(a.sent, b.sent), dropped }
    });
    RelayTotals {
        received: traffic(a.received, b.received),
        outputs: outputs.collect(),
        last_packet: a.last_packet.max(b.last_packet),
    }
}
