//! How many connections there may be at once, in all and for each peer, and who has to go when there are more.
//!
//! A newcomer is never kept out by connections that ask for nothing: when the seats are taken, the one that has been
//! there longest without a whole request in work goes. That a request has arrived to its last byte is what counts, so
//! that neither a slow handshake, nor a slow head, nor a slow body holds a seat against others. An answer is work until
//! its end, however long it is, as long as its client takes it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// For whom a seat is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Occupant {
    /// A local user.
    User(u32),
    /// An address of the network; of IPv6 the first 64 bits, since a host has all those behind them.
    Address(IpAddr),
}

impl Occupant {
    /// Whoever is at that address.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        })
    }
}

/// The seats of one listener.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    most: usize,
    most_of_one: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, (Occupant, Arc<Sitter>)>,
}

/// One connection, as its seat knows it.
#[derive(Debug, Default)]
struct Sitter {
    /// Until when it is at work, in milliseconds since the listener began: a request has arrived whole and is not
    /// answered to its end.
    works_until: AtomicU64,
    leave: Notify,
}

/// An answer of which the client has taken nothing for so long is no work any more. A stream of events says something
/// at least twice as often.
const STALLED: Duration = Duration::from_secs(40);
/// A request that the daemon works on itself is work until it is answered.
const UNTIL_ANSWERED: u64 = u64::MAX;
const IDLE: u64 = 0;

impl Sitter {
    fn works(&self, now: u64) -> bool {
        self.works_until.load(Ordering::Relaxed) > now
    }
}

/// A place for one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    sitter: Arc<Sitter>,
    shared: Arc<Shared>,
}

impl Seats {
    /// So many seats, of which one occupant gets at most `most_of_one`.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { shared: Arc::new(Shared { began: Instant::now(), most, most_of_one, table: Mutex::default() }) }
    }

    /// A seat; `None`: all that could be taken from somebody are at work.
    pub(super) fn take(&self, occupant: Occupant) -> Option<Seat> {
        let Shared { most, most_of_one, .. } = &*self.shared;
        let mut table = self.shared.table();
        if table.of(occupant) >= *most_of_one {
            table.free_one(occupant, self.shared.now())?;
        } else if table.taken.len() >= *most {
            let now = self.shared.now();
            let greediest = table.greediest(now)?;
            table.free_one(greediest, now)?;
        }
        let (number, sitter) = (table.next, Arc::new(Sitter::default()));
        table.next += 1;
        table.taken.insert(number, (occupant, Arc::clone(&sitter)));
        drop(table);
        Some(Seat { number, sitter, shared: Arc::clone(&self.shared) })
    }
}

impl Shared {
    /// Milliseconds since the listener began, at least 1.
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&self, occupant: Occupant) -> usize {
        self.taken.values().filter(|(other, _)| *other == occupant).count()
    }

    /// Who has the most seats that are not at work.
    fn greediest(&self, now: u64) -> Option<Occupant> {
        let mut idle: HashMap<Occupant, usize> = HashMap::new();
        for (occupant, sitter) in self.taken.values() {
            *idle.entry(*occupant).or_default() += usize::from(!sitter.works(now));
        }
        idle.into_iter().filter(|(_, idle)| *idle > 0).max_by_key(|(_, idle)| *idle).map(|(occupant, _)| occupant)
    }

    /// Sends away the longest-sitting connection of `occupant` that does not work.
    fn free_one(&mut self, occupant: Occupant, now: u64) -> Option<()> {
        let idle = self.taken.iter().filter(|(_, (of, sitter))| *of == occupant && !sitter.works(now));
        let number = idle.map(|(number, _)| *number).min()?;
        let (_, sitter) = self.taken.remove(&number)?;
        sitter.leave.notify_one();
        Some(())
    }
}

impl Seat {
    /// Returns when somebody else needs the seat.
    pub(super) async fn taken_away(&self) {
        self.sitter.leave.notified().await;
    }

    /// The body of a request; when it has arrived to its end, the seat is at work until [`Work`], or the answer that it
    /// has become part of, is dropped.
    pub(super) fn watch(&self, body: Incoming) -> (Arriving, Work) {
        let left = Arc::new(AtomicBool::new(false));
        let arriving = Arriving { body, sitter: Arc::clone(&self.sitter), left: Arc::clone(&left) };
        arriving.note_end();
        (arriving, Work { sitter: Arc::clone(&self.sitter), shared: Arc::clone(&self.shared), left })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.table().taken.remove(&self.number);
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Work {
    sitter: Arc<Sitter>,
    shared: Arc<Shared>,
    left: Arc<AtomicBool>,
}

impl Work {
    /// Whether the body was thrown away before its end: what follows on the connection is no request then.
    pub(super) fn left_body(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The body of the answer, which is work as long as its client takes it.
    pub(super) fn on<B>(self, body: B) -> Answering<B> {
        self.goes_on();
        Answering { body, work: self }
    }

    fn goes_on(&self) {
        // Only if it was at work at all: a body that was left behind is none.
        let until = self.shared.now() + STALLED.as_millis() as u64;
        let work = |before| (before != IDLE).then_some(until);
        let _ = self.sitter.works_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, work);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.sitter.works_until.store(IDLE, Ordering::Relaxed);
    }
}

/// A body that tells when its end has come.
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    sitter: Arc<Sitter>,
    left: Arc<AtomicBool>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.left.store(!self.body.is_end_stream(), Ordering::Relaxed);
    }
}

impl Arriving {
    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.sitter.works_until.store(UNTIL_ANSWERED, Ordering::Relaxed);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.note_end();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body of an answer, whose end is the end of the work.
#[derive(Debug)]
pub(super) struct Answering<B> {
    body: B,
    work: Work,
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.work.goes_on();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Occupant = Occupant::User(1);
    const B: Occupant = Occupant::User(2);

    fn is_sent_away(seat: &Seat) -> bool {
        !seat.shared.table().taken.contains_key(&seat.number)
    }

    #[test]
    fn the_idlest_goes_and_those_at_work_stay() {
        let seats = Seats::new(10, 2);
        let (first, second) = (seats.take(A).unwrap(), seats.take(A).unwrap());
        first.sitter.works_until.store(UNTIL_ANSWERED, Ordering::Relaxed);
        let third = seats.take(A).unwrap();
        assert!(!is_sent_away(&first) && is_sent_away(&second) && !is_sent_away(&third));
        third.sitter.works_until.store(UNTIL_ANSWERED, Ordering::Relaxed);
        assert!(seats.take(A).is_none());
        drop(first);
        assert!(seats.take(A).is_some());
    }

    #[test]
    fn who_has_the_most_idle_seats_gives_one_to_another() {
        let seats = Seats::new(5, 4);
        let of_a: Vec<_> = (0..4).map(|_| seats.take(A).unwrap()).collect();
        let of_b: Vec<_> = (0..3).map(|_| seats.take(B).unwrap()).collect();
        assert_eq!(of_a.iter().filter(|seat| is_sent_away(seat)).count(), 2);
        assert!(is_sent_away(&of_a[0]) && is_sent_away(&of_a[1]) && !of_b.iter().any(is_sent_away));
    }

    #[test]
    fn a_host_has_one_count_for_all_its_addresses() {
        let at = |text: &str| Occupant::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
