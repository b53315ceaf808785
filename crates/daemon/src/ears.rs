//! Hearing which groups the hosts behind outputs want, for relays that join on demand: a thread for each such output reads
//! reports from a socket that the keeper opens, and tells those that matter.

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
/// How long an output where nobody could be heard is left alone.
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
                    tracing::warn!(reason, "nobody is heard behind an output: relays on demand stay joined");
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
            let mut told = Told::default();
            while !closed.load(Ordering::Relaxed) {
                gaze.watch(Instant::now() + GLANCE, |_, frame, beside| {
                    if beside.vlan.is_some() {
                        return;
                    }
                    for (group, interest) in report::read(frame) {
                        let is_sought = sought.lock().unwrap_or_else(PoisonError::into_inner).contains(&group);
                        if is_sought && told.is_news(group, interest) {
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
