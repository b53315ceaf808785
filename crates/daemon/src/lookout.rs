//! What multicast is on the wires, for who asks the daemon: it looks when it is told to, for a bounded time, through a socket
//! that the keeper opens and that takes nothing from the datapath. What was seen is remembered until the daemon ends, at most
//! as many flows as [`Flows`] keeps.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mcr_diagnose::{Gaze, give_way};
use mcr_inspect::{Flows, Look};
use mcr_model::flow::FlowReport;
use mcr_model::time::Timestamp;

/// How long a look may go on after it was told to end, and how stale an answer may be.
const GLANCE: Duration = Duration::from_millis(50);
/// Flows that were not seen for so long make room when somebody looks again.
const OLD: Duration = Duration::from_secs(3600);

/// Looks, and remembers. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Lookout(Arc<Mutex<Memory>>);

#[derive(Debug)]
struct Memory {
    began: (Instant, Timestamp),
    flows: Flows,
    missed: u64,
    names: BTreeMap<u32, String>,
    /// The interfaces that are being looked at, and until when.
    looks: BTreeMap<u32, Instant>,
    /// How long was looked, at several interfaces at once too.
    looked: Duration,
    until: Option<Instant>,
}

/// Whose wish it is to look at these interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// Somebody has named them: all have to be looked at.
    ByName,
    /// They are all that there are: those that may be looked at are.
    AsAll,
}

/// What a wish to look needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A socket for [`Lookout::begin`].
    Socket,
    /// Nothing: somebody looks there already, and goes on as long as is wished.
    Nothing,
}

impl Lookout {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Memory {
            began: (Instant::now(), Timestamp::now()),
            flows: Flows::default(),
            missed: 0,
            names: BTreeMap::new(),
            looks: BTreeMap::new(),
            looked: Duration::ZERO,
            until: None,
        })))
    }

    /// Somebody wants to look at an interface until then.
    pub(crate) fn wish(&self, interface: u32, until: Instant) -> Need {
        let mut memory = self.memory();
        match memory.looks.get_mut(&interface) {
            Some(end) => {
                *end = until.max(*end);
                memory.will_look(until);
                Need::Nothing
            }
            None => Need::Socket,
        }
    }

    /// Looks through `socket`; when it is over, `close` is called before the socket is given up.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn begin(
        &self,
        (interface, name): (u32, String),
        socket: OwnedFd,
        until: Instant,
        close: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let mut memory = self.memory();
        memory.names.insert(interface, name);
        let end = memory.looks.entry(interface).or_insert(until);
        *end = until.max(*end);
        memory.will_look(until);
        let old = memory.now().saturating_sub(OLD);
        memory.flows.forget_before(old);
        drop(memory);
        let this = self.clone();
        let thread = std::thread::Builder::new().name("mcr-look".into());
        let started = thread.spawn(move || {
            let mut gaze = Gaze::over([(interface, socket)]);
            this.look(interface, &mut gaze);
            close();
        });
        if started.is_err() {
            self.memory().looks.remove(&interface);
        }
        started.map(drop)
    }

    fn look(&self, interface: u32, gaze: &mut Gaze) {
        give_way();
        let began = self.memory().began.0;
        loop {
            let end = {
                let mut memory = self.memory();
                memory.missed += gaze.missed();
                match memory.looks.get(&interface) {
                    Some(end) if Instant::now() < *end => *end,
                    Some(_) | None => {
                        memory.looks.remove(&interface);
                        return;
                    }
                }
            };
            gaze.watch(end.min(Instant::now() + GLANCE), |index, frame, beside| {
                self.memory().flows.see(index, frame, beside, began.elapsed());
            });
        }
    }

    /// Everything that was seen.
    pub(crate) fn report(&self) -> FlowReport {
        let memory = self.memory();
        let look = Look { names: &memory.names, began: memory.began.1, now: memory.now() };
        let mut report = memory.flows.report(look);
        let ahead = memory.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        report.seconds = memory.looked.saturating_sub(ahead).as_secs_f64();
        report.missed_packets = memory.missed;
        if memory.until.is_none() {
            report.hint = Some("nobody has looked since the daemon started; POST to this path looks".to_owned());
        }
        report
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn now(&self) -> Duration {
        self.began.0.elapsed()
    }

    /// Counts the time that is not counted already.
    fn will_look(&mut self, until: Instant) {
        let from = self.until.map_or_else(Instant::now, |before| before.max(Instant::now()));
        self.looked += until.saturating_duration_since(from);
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_overlap_are_counted_once() {
        let lookout = Lookout::new();
        assert!(lookout.report().hint.is_some());
        let now = Instant::now();
        let mut memory = lookout.memory();
        for seconds in [10, 20, 15] {
            memory.will_look(now + Duration::from_secs(seconds));
        }
        assert!((memory.looked.as_secs_f64() - 20.0).abs() < 0.1, "{:?}", memory.looked);
    }
}
