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
    /// The interfaces that are being looked at.
    looks: BTreeMap<u32, Stage>,
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

/// How far a look has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its socket is being opened or closed.
    AtTheKeeper,
    /// It goes on until then.
    Until(Instant),
}

/// What a wish to look needs.
#[derive(Debug)]
pub(crate) enum Need {
    /// A socket for [`Lookout::begin`].
    Socket(Place),
    /// Another wish in a moment: the keeper opens or closes a socket there for somebody else.
    Patience,
    /// Nothing: somebody looks there already, and goes on as long as is wished.
    Nothing,
}

/// The right to look at an interface, which one has at a time: the keeper has one socket for it, and what one closes another
/// must not have just been given.
#[derive(Debug)]
pub(crate) struct Place {
    lookout: Lookout,
    interface: u32,
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
            Some(Stage::Until(end)) => {
                *end = until.max(*end);
                memory.will_look(until);
                Need::Nothing
            }
            Some(Stage::AtTheKeeper) => Need::Patience,
            None => {
                memory.looks.insert(interface, Stage::AtTheKeeper);
                Need::Socket(Place { lookout: self.clone(), interface })
            }
        }
    }

    /// Looks through `socket`; when it is over, `close` is called before the socket and the place are given up.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn begin(
        &self,
        place: Place,
        name: String,
        socket: OwnedFd,
        until: Instant,
        close: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let mut memory = self.memory();
        let interface = place.interface;
        memory.names.insert(interface, name);
        memory.looks.insert(interface, Stage::Until(until));
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
            drop(place);
        });
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
                    Some(Stage::Until(end)) if Instant::now() < *end => *end,
                    Some(Stage::Until(_) | Stage::AtTheKeeper) | None => {
                        memory.looks.insert(interface, Stage::AtTheKeeper);
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

impl Drop for Place {
    fn drop(&mut self) {
        self.lookout.memory().looks.remove(&self.interface);
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
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::channel;

    use super::*;

    /// While the keeper closes a socket it would give a wish a copy of the same.
    #[test]
    fn one_looks_at_an_interface_at_a_time_until_its_socket_is_closed() {
        let lookout = Lookout::new();
        let until = Instant::now() + Duration::from_millis(20);
        let Need::Socket(place) = lookout.wish(7, until) else { panic!("nobody looks") };
        assert!(matches!(lookout.wish(7, until), Need::Patience), "it is being opened");
        assert!(matches!(lookout.wish(8, until), Need::Socket(_)), "another interface");

        let ((closing, is_closing), (closed, is_closed)) = (channel(), channel::<()>());
        let close = move || {
            closing.send(()).unwrap();
            is_closed.recv().unwrap();
        };
        let (socket, _other) = UnixDatagram::pair().unwrap();
        lookout.begin(place, "eth0".into(), socket.into(), until, close).unwrap();
        is_closing.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(lookout.wish(7, until), Need::Patience), "it is being closed");
        closed.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !matches!(lookout.wish(7, until), Need::Socket(_)) {
            assert!(Instant::now() < deadline, "the place is never given up");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

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
