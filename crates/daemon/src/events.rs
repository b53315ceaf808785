//! What happened, kept for a while for those who want to hear of it.
//!
//! The log is a ring; readers come and take from it at their own pace. Nobody who writes ever waits for a reader, and a
//! reader costs no memory while it waits: one that is too slow finds that what it would have read next is gone, and is
//! told how much that was. A reader is told only what is any business of its grant.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mcr_engine::Happening;
use mcr_model::time::to_the_millisecond;
use mcr_model::{Event, EventKind, Grant};
use tokio::sync::watch;

/// So many events are kept; each takes a few hundred bytes.
pub const KEPT: usize = 8192;
/// So many are handed to a reader at once.
const MOST_AT_ONCE: usize = 256;

/// The log. Clones share it.
#[derive(Debug, Clone)]
pub struct EventLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells this run of the daemon from others, in ids.
    run: String,
    ring: Mutex<Ring>,
    stage: watch::Sender<Stage>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the oldest event that is kept, or of the next one when there is none.
    first: u64,
    events: VecDeque<Kept>,
}

/// An event that is kept: the number in its id is that of its place.
#[derive(Debug)]
struct Kept {
    /// Since 1970: a number takes less room than its text, and there are thousands.
    time: Duration,
    happening: Happening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many events there have been.
    Open(u64),
    Closed,
}

/// Where a reader wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// With the oldest that is kept.
    Oldest,
    /// With the next one that happens.
    Now,
    /// With the one after this id.
    After(&'a str),
}

/// Reads events in order.
#[derive(Debug)]
pub struct Reader {
    log: EventLog,
    grant: Grant,
    next: u64,
    /// It read in another run of the daemon, and nobody knows how much it missed.
    stranger: bool,
    stage: watch::Receiver<Stage>,
}

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        let run = format!("{:x}", since_1970().as_millis());
        let stage = watch::Sender::new(Stage::Open(0));
        Self(Arc::new(Shared { run, ring: Mutex::default(), stage }))
    }

    /// Adds what happened just now.
    pub fn publish(&self, happenings: impl IntoIterator<Item = impl Into<Happening>>) {
        let time = since_1970();
        let mut ring = self.ring();
        for happening in happenings {
            ring.push(Kept { time, happening: happening.into() });
        }
        let next = ring.next();
        drop(ring);
        self.0.stage.send_if_modified(|stage| match stage {
            Stage::Open(known) if *known != next => {
                *known = next;
                true
            }
            Stage::Open(_) | Stage::Closed => false,
        });
    }

    /// Ends every reader: the daemon is about to end.
    pub fn close(&self) {
        self.0.stage.send_replace(Stage::Closed);
    }

    /// A reader for somebody with that grant.
    pub fn read(&self, from: From<'_>, grant: Grant) -> Reader {
        let stage = self.0.stage.subscribe();
        let ring = self.ring();
        let (next, stranger) = match from {
            From::Oldest => (ring.first, false),
            From::Now => (ring.next(), false),
            From::After(id) => match self.number(id).filter(|number| *number < ring.next()) {
                Some(number) => (number + 1, false),
                None => (ring.first, true),
            },
        };
        drop(ring);
        Reader { log: self.clone(), grant, next, stranger, stage }
    }

    /// The number in an id of this run.
    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        (run == self.0.run).then(|| number.parse().ok())?
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn push(&mut self, event: Kept) {
        if self.events.len() == KEPT {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(event);
    }
}

impl Reader {
    /// What is there and was not read yet, some of it at a time, what was missed first; empty when all was read. What is
    /// no business of the reader's counts as read.
    pub fn take(&mut self) -> Vec<Event> {
        let ring = self.log.ring();
        let missed = match (std::mem::take(&mut self.stranger), ring.first.saturating_sub(self.next)) {
            (true, _) => Some(None),
            (false, 0) => None,
            (false, events) => Some(Some(events)),
        };
        self.next = self.next.max(ring.first);
        let mut events: Vec<Event> = missed.map(missed_event).into_iter().collect();
        for Kept { time, happening } in ring.events.iter().skip((self.next - ring.first) as usize) {
            if events.len() >= MOST_AT_ONCE {
                break;
            }
            if happening.concerns(&self.grant) {
                let id = format!("{}-{}", self.log.0.run, self.next);
                events.push(Event { id: Some(id), time: to_the_millisecond(*time), kind: happening.kind.clone() });
            }
            self.next += 1;
        }
        events
    }

    /// As [`Reader::take`], but waits until there is something; `None` when there will be nothing any more.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if matches!(*self.stage.borrow_and_update(), Stage::Closed) {
                return None;
            }
            let events = self.take();
            if !events.is_empty() {
                return Some(events);
            }
            self.stage.changed().await.ok()?;
        }
    }
}

fn missed_event(events: Option<u64>) -> Event {
    Event { id: None, time: to_the_millisecond(since_1970()), kind: EventKind::Missed { events } }
}

/// The wall clock.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mcr_model::Role;

    use super::*;

    fn numbered(number: u32) -> EventKind {
        EventKind::KeeperFound { pid: Some(number) }
    }

    fn anything() -> Grant {
        Grant::unlimited(Role::Viewer)
    }

    fn pids(events: &[Event]) -> Vec<u32> {
        let pid = |event: &Event| match event.kind {
            EventKind::KeeperFound { pid } => pid,
            _ => None,
        };
        events.iter().filter_map(pid).collect()
    }

    #[test]
    fn a_reader_goes_on_after_the_last_that_it_had() {
        let log = EventLog::new();
        log.publish((0..5).map(numbered));
        let events = log.read(From::Oldest, anything()).take();
        assert_eq!(pids(&events), [0, 1, 2, 3, 4]);
        let id = events[2].id.as_deref().unwrap();
        assert_eq!(pids(&log.read(From::After(id), anything()).take()), [3, 4]);
        let mut now = log.read(From::Now, anything());
        assert!(now.take().is_empty());
        log.publish([numbered(5)]);
        assert_eq!(pids(&now.take()), [5]);
    }

    #[test]
    fn one_that_is_too_slow_is_told_how_much_it_missed() {
        let log = EventLog::new();
        let mut reader = log.read(From::Now, anything());
        log.publish((0..KEPT as u32 + 7).map(numbered));
        let events = reader.take();
        assert_eq!(events[0].kind, EventKind::Missed { events: Some(7) });
        assert_eq!(pids(&events)[0], 7);
        let mut rest = pids(&events);
        loop {
            let more = reader.take();
            if more.is_empty() {
                break;
            }
            rest.extend(pids(&more));
        }
        assert_eq!(rest, (7..KEPT as u32 + 7).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_read_in_another_run_is_told_that_nobody_knows() {
        let log = EventLog::new();
        log.publish([numbered(0)]);
        for id in ["18c-0", "nonsense", "", &format!("{}-99", log.0.run)] {
            let events = log.read(From::After(id), anything()).take();
            assert_eq!(events[0].kind, EventKind::Missed { events: None }, "{id}");
            assert_eq!(pids(&events), [0]);
        }
    }

    #[tokio::test]
    async fn a_reader_wakes_for_news_and_ends_with_the_log() {
        let log = EventLog::new();
        let mut reader = log.read(From::Now, anything());
        let (read, ()) = tokio::join!(reader.next(), async { log.publish([numbered(1)]) });
        assert_eq!(pids(&read.unwrap()), [1]);
        let (read, ()) = tokio::join!(reader.next(), async { log.close() });
        assert_eq!(read, None);
    }
}
