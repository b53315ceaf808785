//! How many connections there may be at once, in all and for each peer, and who has to go when there are more.
//!
//! A newcomer is never kept out by connections that ask for nothing: when the seats are taken, the one that has been
//! there longest without a whole request in work goes. That a request has arrived to its last byte is what counts, so
//! that neither a slow handshake, nor a slow head, nor a slow body holds a seat against others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::Notify;

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
    /// Whether a request has arrived whole and is not answered yet.
    works: AtomicBool,
    leave: Notify,
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
        Self { shared: Arc::new(Shared { most, most_of_one, table: Mutex::default() }) }
    }

    /// A seat; `None`: all that could be taken from somebody are at work.
    pub(super) fn take(&self, occupant: Occupant) -> Option<Seat> {
        let Shared { most, most_of_one, .. } = &*self.shared;
        let mut table = self.shared.table();
        if table.of(occupant) >= *most_of_one {
            table.free_one(occupant)?;
        } else if table.taken.len() >= *most {
            let greediest = table.greediest()?;
            table.free_one(greediest)?;
        }
        let (number, sitter) = (table.next, Arc::new(Sitter::default()));
        table.next += 1;
        table.taken.insert(number, (occupant, Arc::clone(&sitter)));
        drop(table);
        Some(Seat { number, sitter, shared: Arc::clone(&self.shared) })
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&self, occupant: Occupant) -> usize {
        self.taken.values().filter(|(other, _)| *other == occupant).count()
    }

    /// Who has the most seats that are not at work.
    fn greediest(&self) -> Option<Occupant> {
        let mut idle: HashMap<Occupant, usize> = HashMap::new();
        for (occupant, sitter) in self.taken.values() {
            *idle.entry(*occupant).or_default() += usize::from(!sitter.works.load(Ordering::Relaxed));
        }
        idle.into_iter().filter(|(_, idle)| *idle > 0).max_by_key(|(_, idle)| *idle).map(|(occupant, _)| occupant)
    }

    /// Sends away the longest-sitting connection of `occupant` that does not work.
    fn free_one(&mut self, occupant: Occupant) -> Option<()> {
        let idle =
            self.taken.iter().filter(|(_, (of, sitter))| *of == occupant && !sitter.works.load(Ordering::Relaxed));
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

    /// The body of a request; when it has arrived to its end, the seat is at work until [`Work`] is dropped.
    pub(super) fn watch(&self, body: Incoming) -> (Arriving, Work) {
        let left = Arc::new(AtomicBool::new(false));
        let arriving = Arriving { body, sitter: Arc::clone(&self.sitter), left: Arc::clone(&left) };
        arriving.note_end();
        (arriving, Work { sitter: Arc::clone(&self.sitter), left })
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
    left: Arc<AtomicBool>,
}

impl Work {
    /// Whether the body was thrown away before its end: what follows on the connection is no request then.
    pub(super) fn left_body(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.sitter.works.store(false, Ordering::Relaxed);
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
            self.sitter.works.store(true, Ordering::Relaxed);
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
        first.sitter.works.store(true, Ordering::Relaxed);
        let third = seats.take(A).unwrap();
        assert!(!is_sent_away(&first) && is_sent_away(&second) && !is_sent_away(&third));
        third.sitter.works.store(true, Ordering::Relaxed);
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
