//! Clients that wait for something.

use std::time::{Duration, Instant};

use mcr_model::{Grant, RelayName, WaitFor};
use tokio::sync::oneshot;

use super::Waited;

/// How often it is looked whether it is so, while anybody waits. Counters tell nobody when they change.
const PERIOD: Duration = Duration::from_millis(5);

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) name: RelayName,
    pub(super) condition: WaitFor,
    /// On the engine's clock.
    pub(super) deadline: Duration,
    /// Of who waits: a relay that leaves it is gone for them.
    pub(super) grant: Grant,
    pub(super) reply: oneshot::Sender<Waited>,
}

/// All who wait.
#[derive(Debug)]
pub(super) struct Waiters {
    waiters: Vec<Waiter>,
    next_look: Instant,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self { waiters: Vec::new(), next_look: Instant::now() }
    }

    pub(super) fn add(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
        self.hurry();
    }

    /// Something has changed that somebody may wait for.
    pub(super) fn hurry(&mut self) {
        self.next_look = Instant::now();
    }

    /// When to look; `None`: nobody waits.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (!self.waiters.is_empty()).then_some(self.next_look)
    }

    /// Those to look at, when it is time; who goes on waiting is to be put back.
    pub(super) fn take_due(&mut self) -> Vec<Waiter> {
        let now = Instant::now();
        if self.next_look > now {
            return Vec::new();
        }
        self.next_look = now + PERIOD;
        std::mem::take(&mut self.waiters)
    }

    pub(super) fn put_back(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }
}
