//! Hearing which groups hosts want: those behind outputs, for relays that join on demand, and those on an input's network, for relays
//! that join what is seen. A thread for each such interface reads reports from a socket that the keeper opens, and tells those that
//! matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mcr_diagnose::Gaze;
use mcr_engine::{HeardReport, Ifindex, Interest, SoughtGroups};

mod report;

/// How long a thread may go on after its ear was closed.
const GLANCE: Duration = Duration::from_secs(1);
/// What was told is not told again within this time, however often hosts say it.
const REPEAT: Duration = Duration::from_millis(100);
/// So many reports of one interface are told at most within [`BREATH`]; others wait, and get lost when they are too many.
const MOST_TOLD: u32 = 200;
const BREATH: Duration = Duration::from_millis(50);
/// How long an interface where nobody could be heard is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// The groups that are listened for; what hosts say of others ends here.
type Sought = Arc<BTreeSet<IpAddr>>;

/// All ears.
pub(crate) struct Ears {
    open: BTreeMap<Ifindex, Ear>,
    /// Where none could be opened, why, and when that is tried again.
    deaf: BTreeMap<Ifindex, (String, Instant)>,
}

/// An open ear; its thread ends when this is dropped.
struct Ear {
    sought: Arc<Mutex<Sought>>,
    closed: Arc<AtomicBool>,
}

/// Opening and closing sockets, and who is told what is heard there.
pub(crate) trait Hearing {
    fn open(&mut self, interface: Ifindex) -> Result<OwnedFd, String>;
    fn close(&mut self, interface: Ifindex);
    fn listener(&self) -> Box<dyn FnMut(HeardReport) + Send>;
}

impl Ears {
    pub(crate) fn new() -> Self {
        Self { open: BTreeMap::new(), deaf: BTreeMap::new() }
    }

    /// Listens where these are sought, for these, and nowhere else.
    pub(crate) fn tend(&mut self, sought: &SoughtGroups, hearing: &mut impl Hearing) {
        self.deaf.retain(|interface, _| sought.contains_key(interface));
        self.open.retain(|interface, _| {
            let is_sought = sought.contains_key(interface);
            if !is_sought {
                hearing.close(*interface);
            }
            is_sought
        });
        for (interface, groups) in sought {
            match self.open.get(interface) {
                Some(ear) => ear.listen_for(groups),
                None if self.deaf.get(interface).is_some_and(|(_, retry)| Instant::now() < *retry) => {}
                None => self.start(*interface, groups, hearing),
            }
        }
    }

    fn start(&mut self, interface: Ifindex, groups: &Sought, hearing: &mut impl Hearing) {
        let started = hearing.open(interface).and_then(|socket| {
            let ear = Ear::start(interface, socket, Arc::clone(groups), hearing.listener());
            ear.map_err(|error| format!("no thread to hear reports with: {error}"))
        });
        match started {
            Ok(ear) => {
                self.deaf.remove(&interface);
                self.open.insert(interface, ear);
            }
            Err(reason) => {
                let before = self.deaf.insert(interface, (reason.clone(), Instant::now() + RETRY));
                if before.is_none_or(|(before, _)| before != reason) {
                    tracing::warn!(
                        reason,
                        interface = interface.0,
                        "no host is heard on an interface: relays that join on demand, or what is seen, join everything for it"
                    );
                }
            }
        }
    }

    /// Where hosts are heard.
    pub(crate) fn hearing(&self) -> BTreeSet<Ifindex> {
        self.open.keys().copied().collect()
    }

    /// Where they can not be, and why.
    pub(crate) fn deaf(&self) -> BTreeMap<Ifindex, String> {
        self.deaf.iter().map(|(interface, (reason, _))| (*interface, reason.clone())).collect()
    }
}

impl Ear {
    fn start(
        interface: Ifindex,
        socket: OwnedFd,
        groups: Sought,
        mut tell: impl FnMut(HeardReport) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sought, closed) = (Arc::new(Mutex::new(groups)), Arc::new(AtomicBool::new(false)));
        let ear = Self { sought: Arc::clone(&sought), closed: Arc::clone(&closed) };
        let listen = move || {
            let mut gaze = Gaze::over([(interface.0, socket)]);
            let (mut told, mut pace) = (Told::default(), Pace::new());
            while !closed.load(Ordering::Relaxed) {
                gaze.watch(Instant::now() + GLANCE, |_, frame, beside| {
                    if beside.vlan.is_some() || closed.load(Ordering::Relaxed) {
                        return;
                    }
                    for (group, interest) in report::read(frame) {
                        let is_sought = sought.lock().unwrap_or_else(PoisonError::into_inner).contains(&group);
                        if is_sought && told.is_news(group, interest) {
                            std::thread::sleep(pace.pause(Instant::now()));
                            tell(HeardReport { interface, group, interest });
                        }
                    }
                });
            }
        };
        std::thread::Builder::new().name("mcr-ear".into()).spawn(listen)?;
        Ok(ear)
    }

    fn listen_for(&self, groups: &Sought) {
        let mut sought = self.sought.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&sought, groups) {
            *sought = Arc::clone(groups);
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// What was told last of each group: a flood of reports must not keep the control thread busy.
#[derive(Default)]
struct Told(BTreeMap<IpAddr, (Interest, Instant)>);

impl Told {
    fn is_news(&mut self, group: IpAddr, interest: Interest) -> bool {
        let now = Instant::now();
        let is_old = |(last, at): &(Interest, Instant)| *last == interest && now.duration_since(*at) < REPEAT;
        if self.0.get(&group).is_some_and(is_old) {
            return false;
        }
        self.0.insert(group, (interest, now));
        true
    }
}

/// How fast one interface's hosts are told of, whatever they say.
struct Pace {
    began: Instant,
    told: u32,
}

impl Pace {
    fn new() -> Self {
        Self { began: Instant::now(), told: 0 }
    }

    /// How long to wait before one more is told, which counts then.
    fn pause(&mut self, now: Instant) -> Duration {
        let end = self.began + BREATH;
        if self.told < MOST_TOLD && now < end {
            self.told += 1;
            return Duration::ZERO;
        }
        let is_spent = self.told >= MOST_TOLD;
        let pause = if is_spent { end.saturating_duration_since(now) } else { Duration::ZERO };
        *self = Self { began: now + pause, told: 1 };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_at_once_and_a_flood_at_a_pace() {
        let mut pace = Pace::new();
        let begin = pace.began;
        let burst: Duration = (0..MOST_TOLD).map(|_| pace.pause(begin)).sum();
        assert_eq!(burst, Duration::ZERO);
        let (mut now, mut told) = (begin, MOST_TOLD);
        while now < begin + Duration::from_secs(1) {
            now += pace.pause(now);
            told += 1;
        }
        assert_eq!(told, 20 * MOST_TOLD + 1, "within a second");
        now += Duration::from_secs(5);
        assert!((0..MOST_TOLD).all(|_| pace.pause(now).is_zero()), "nothing is owed");
    }
}
