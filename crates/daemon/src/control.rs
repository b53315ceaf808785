//! The control thread: one owner of the engine, the keeper's client, the datapath and netlink.
//!
//! Everything that changes goes through one channel in one order, so there are no locks and no races between a
//! request, an interface that vanishes and a reload. What has to outlive the daemon goes through the journal first,
//! which stores it. Each turn handles what came, lets the engine find the
//! difference, carries it out, and answers. The API talks to it through [`Control`].

mod change;
mod hands;
mod journal;
pub(crate) mod line;
mod rules;
mod turn;
mod unanswered;
mod waiting;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mcr_diagnose::Link;
use mcr_engine::{Difference, HeardReport, Refusal, Replaced, Step, Track, Wish};
use mcr_model::flow::FlowReport;
use mcr_model::plan::Plan;
use mcr_model::rejoin::RejoinReport;
use mcr_model::relay::Relay;
use mcr_model::revision::{Applied, History, Revision, RevisionText};
use mcr_model::status::{DaemonStatus, InterfaceStatus, Origin, RelayHistory, RelayStatus};
use mcr_model::time::to_the_millisecond;
use mcr_model::{DatapathChoice, EventKind, Grant, Lease, RelayName, WaitFor};
use mcr_netd::{Keeper, KeeperError};
use tokio::sync::oneshot;

use crate::config::Configuration;
use crate::datapath::workers::Workers;
use crate::events::{EventLog, since_1970};
use crate::lookout::{Chosen, Lookout, Need};
use crate::netlink::{Change, Monitor, Netlink};
use crate::store::{Store, StoreError};
use crate::troubles::Troubles;

pub use change::{Application, ApplyError, ChangeError, Claim, Terms};
use journal::{RelayRequest, Reply, Request};

/// After so long a look that is being opened or closed is asked for again.
const SHORTLY: Duration = Duration::from_millis(10);

/// How waiting ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Waited {
    /// It is so.
    Reached(RelayStatus),
    /// It was not so in time; this is how the relay does.
    TimedOut(RelayStatus),
    /// The relay does not exist, or was removed.
    NotFound,
}

/// The handle of the control thread. Clones share it.
#[derive(Debug, Clone)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    journal: mpsc::Sender<journal::Request>,
    store: Store,
    events: EventLog,
    troubles: Troubles,
    lookout: Lookout,
}

/// What the control thread is asked to do.
#[derive(Debug)]
enum Command {
    Relays(oneshot::Sender<Vec<RelayStatus>>),
    Relay(RelayName, oneshot::Sender<Option<RelayStatus>>),
    Rehearse(Vec<(Wish, Grant)>, oneshot::Sender<Vec<Result<Origin, Refusal>>>),
    Create(Relay, Option<Lease>, Reply<RelayStatus>),
    Replace(Relay, Option<Lease>, Reply<(Replaced, RelayStatus)>),
    Renew(RelayName, Option<Lease>, Grant, oneshot::Sender<Result<RelayStatus, Refusal>>),
    Remove(RelayName, Reply<()>),
    /// The relays of the file and of the API that there are from the start.
    Begin(Vec<Relay>, Vec<Relay>, oneshot::Sender<Result<Vec<Refusal>, Vec<Refusal>>>),
    Plan(Vec<Relay>, oneshot::Sender<Result<Plan, Vec<Refusal>>>),
    LoadFile(Vec<Relay>, oneshot::Sender<Result<Difference, Vec<Refusal>>>),
    Interfaces(oneshot::Sender<Vec<InterfaceStatus>>),
    Status(oneshot::Sender<DaemonStatus>),
    /// The answer has the age of the engine's clock, too.
    History(RelayName, Step, Grant, oneshot::Sender<Option<(Track, Duration)>>),
    Wait(RelayName, WaitFor, Duration, Grant, oneshot::Sender<Waited>),
    /// Reports groups once more.
    Rejoin(Option<String>, Grant, oneshot::Sender<Option<RejoinReport>>),
    /// A host behind an output was heard.
    Reported(HeardReport),
    /// A socket that looks at an interface.
    OpenGaze(u32, oneshot::Sender<Result<OwnedFd, KeeperError>>),
    CloseGaze(u32, oneshot::Sender<()>),
    Changed(Vec<Change>),
    /// The keeper of that process id has ended.
    KeeperGone(Option<u32>),
    Shutdown(oneshot::Sender<Vec<RelayStatus>>),
    /// End without giving anything back.
    HandOver(oneshot::Sender<()>),
}

/// What the control thread starts with.
#[derive(Debug)]
pub struct Start {
    /// The connection to the keeper.
    pub keeper: Keeper,
    /// Where another keeper may be found when this one ends; `None`: it is a private one.
    pub keeper_socket: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// What outlives the daemon.
    pub store: Store,
    /// What was found to be wrong so far.
    pub(crate) troubles: Troubles,
    /// What moves the packets of relays that do not say.
    pub datapath: DatapathChoice,
    /// How many threads move the packets of an input, where this process does.
    pub workers: Workers,
}

impl Control {
    /// Starts the control thread and the one that listens to netlink. Neither needs a privilege.
    ///
    /// # Errors
    /// When netlink or a thread is not to be had, or the keeper does not say what it holds.
    pub fn start(start: Start) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let monitor = Monitor::open()?;
        let (journal, requests) = mpsc::channel();
        let (store, troubles, file) = (start.store.clone(), start.troubles.clone(), start.config.clone());
        let events = EventLog::new();
        let turn = turn::Turn::new(start, Netlink::open()?, commands.clone(), events.clone())?;
        let (disk, records) = mpsc::channel();
        let keeping =
            journal::Journal::new(store.clone(), disk, commands.clone(), file, events.clone(), troubles.clone());
        let (kept, journal_of_disk) = (store.clone(), journal.clone());
        let changes = commands.clone();
        std::thread::Builder::new().name("mcr-netlink".into()).spawn(move || listen(&monitor, &changes))?;
        std::thread::Builder::new().name("mcr-control".into()).spawn(move || run("control", || turn.run(&inbox)))?;
        std::thread::Builder::new()
            .name("mcr-journal".into())
            .spawn(move || run("journal", || keeping.run(&requests)))?;
        std::thread::Builder::new()
            .name("mcr-disk".into())
            .spawn(move || run("disk", || journal::write(&kept, &records, &journal_of_disk)))?;
        Ok(Self { commands, journal, store, events, troubles, lookout: Lookout::new() })
    }

    /// All relays, by name.
    pub async fn relays(&self) -> Vec<RelayStatus> {
        self.ask(Command::Relays).await
    }

    /// One relay.
    pub async fn relay(&self, name: &RelayName) -> Option<RelayStatus> {
        self.ask(|reply| Command::Relay(name.clone(), reply)).await
    }

    /// Makes a relay; when this returns it is stored, and in force or says why not.
    ///
    /// # Errors
    /// The [`ChangeError`]; nothing is changed then.
    pub async fn create(&self, relay: Relay, lease: Option<Lease>) -> Result<RelayStatus, ChangeError> {
        self.change(|reply| Request::Relay(Box::new(RelayRequest::Create(relay, lease, reply)))).await
    }

    /// Makes the relay of that name be exactly this one, for somebody with that claim.
    ///
    /// # Errors
    /// The [`ChangeError`]; nothing is changed then.
    pub async fn replace(
        &self,
        relay: Relay,
        lease: Option<Lease>,
        claim: Claim,
    ) -> Result<(Replaced, RelayStatus), ChangeError> {
        self.change(|reply| Request::Relay(Box::new(RelayRequest::Replace(relay, lease, claim, reply)))).await
    }

    /// Begins the lease of a relay anew, with another length if one is given, for somebody with that grant. Leases are
    /// not stored.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing is changed then.
    pub async fn renew(&self, name: RelayName, lease: Option<Lease>, grant: Grant) -> Result<RelayStatus, Refusal> {
        self.ask(|reply| Command::Renew(name, lease, grant, reply)).await
    }

    /// Removes a relay, for somebody with that claim; when this returns its group is left unless another relay wants it.
    ///
    /// # Errors
    /// The [`ChangeError`]; nothing is changed then.
    pub async fn remove(&self, name: RelayName, claim: Claim) -> Result<(), ChangeError> {
        self.change(|reply| Request::Relay(Box::new(RelayRequest::Remove(name, claim, reply)))).await
    }

    /// Starts with the configuration file, or what was applied since it was written, and with the stored relays.
    ///
    /// # Errors
    /// Every [`Refusal`]; nothing is in force then.
    pub async fn begin(&self, file: Option<Configuration>) -> Result<(), Vec<Refusal>> {
        self.change(|reply| Request::Begin(file, reply)).await
    }

    /// Makes the relays of the file be exactly these.
    ///
    /// # Errors
    /// The [`ApplyError`]; nothing is changed then.
    pub async fn reload(&self, file: Configuration) -> Result<Difference, ApplyError> {
        self.change(|reply| Request::Reload(file, reply)).await
    }

    /// What a configuration would change.
    ///
    /// # Errors
    /// Every [`Refusal`].
    pub async fn plan(&self, relays: Vec<Relay>) -> Result<Plan, Vec<Refusal>> {
        self.ask(|reply| Command::Plan(relays, reply)).await
    }

    /// Puts a configuration in force instead of the file's.
    ///
    /// # Errors
    /// The [`ApplyError`]; nothing is changed then.
    pub async fn apply(&self, application: Application) -> Result<Applied, ApplyError> {
        self.change(|reply| Request::Apply(application, reply)).await
    }

    /// Puts an earlier revision in force again; `None`: the one before.
    ///
    /// # Errors
    /// The [`ApplyError`]; nothing is changed then.
    pub async fn roll_back(&self, to: Option<u64>, terms: Terms) -> Result<Applied, ApplyError> {
        self.change(|reply| Request::RollBack(to, terms, reply)).await
    }

    /// The configuration on trial is to stay.
    ///
    /// # Errors
    /// [`ApplyError::NothingToConfirm`], [`ApplyError::NotStored`].
    pub async fn confirm(&self, by: String) -> Result<Revision, ApplyError> {
        self.change(|reply| Request::Confirm(by, reply)).await
    }

    /// What outlives the daemon. Its calls may wait for the disk.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The revisions, and which one is in force.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self) -> Result<History, StoreError> {
        let look = |store: Store| {
            let (revisions, standing) = (store.revisions()?, store.standing()?);
            let confirm_until = standing.as_ref().and_then(|standing| Some(standing.pending.as_ref()?.until));
            Ok(History { in_force: standing.map(|standing| standing.revision), confirm_until, revisions })
        };
        self.look(look).await
    }

    /// One revision with its text; `None`: there is none of that number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revision(&self, number: u64) -> Result<Option<RevisionText>, StoreError> {
        let look = move |store: Store| store.revision(number);
        Ok(self.look(look).await?.map(|(revision, text)| RevisionText { revision, text }))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || look(store)).await.expect("a look at the store does not panic")
    }

    /// All interfaces, by name.
    pub async fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.ask(Command::Interfaces).await
    }

    /// The daemon as a whole.
    pub async fn status(&self) -> DaemonStatus {
        let mut status = self.ask(Command::Status).await;
        status.troubles.extend(self.troubles.all());
        status
    }

    /// What a relay carried, step by step, of the time `last` or as far back as it is remembered; `None`: there is none
    /// of that name, or it is no business of who has that grant.
    pub async fn relay_history(
        &self,
        name: RelayName,
        step: Step,
        last: Option<Duration>,
        grant: Grant,
    ) -> Option<RelayHistory> {
        let relay = name.to_string();
        let (Track { first, samples }, age) = self.ask(|reply| Command::History(name, step, grant, reply)).await?;
        let step_seconds = step.length().as_secs();
        let wanted = last.map_or(usize::MAX, |last| last.as_secs().div_ceil(step_seconds) as usize);
        let left_out = samples.len().saturating_sub(wanted);
        let samples = &samples[left_out..];
        let start = since_1970().saturating_sub(age) + Duration::from_secs((first + left_out as u64) * step_seconds);
        Some(RelayHistory {
            relay,
            step_seconds,
            start: to_the_millisecond(start),
            received_packets: samples.iter().map(|sample| sample.packets).collect(),
            received_bytes: samples.iter().map(|sample| sample.bytes).collect(),
            dropped_packets: samples.iter().map(|sample| sample.dropped).collect(),
        })
    }

    /// What happens.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// A configuration was found to be wrong before it came to the engine.
    pub fn configuration_refused(&self, reason: String) {
        self.events.publish([EventKind::ConfigurationRefused { reason }]);
    }

    /// Waits for a condition of a relay, at most `timeout`, for somebody with that grant.
    pub async fn wait(&self, name: RelayName, condition: WaitFor, timeout: Duration, grant: Grant) -> Waited {
        self.ask(|reply| Command::Wait(name, condition, timeout, grant, reply)).await
    }

    /// Reports the groups of the relay of that name, or of those that listen on the interface of that name, or all, as far as they
    /// are within the grant; `None`: there is neither.
    pub async fn rejoin(&self, name: Option<String>, grant: Grant) -> Option<RejoinReport> {
        self.ask(|reply| Command::Rejoin(name, grant, reply)).await
    }

    /// The multicast flows that were seen so far.
    pub fn flows(&self) -> FlowReport {
        self.lookout.report()
    }

    /// Looks at these interfaces for so long from now on; does not wait for the end.
    ///
    /// # Errors
    /// When one that was named, or none of all, can be looked at.
    pub async fn look_at(&self, links: Vec<Link>, length: Duration, chosen: Chosen) -> Result<(), KeeperError> {
        let until = Instant::now() + length;
        let (mut seen, mut refused) = (0, None);
        for Link { index, name, .. } in links {
            match self.look_at_one(index, name, until).await {
                Ok(()) => seen += 1,
                Err(error) if chosen == Chosen::ByName => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        refused.filter(|_| seen == 0).map_or(Ok(()), Err)
    }

    async fn look_at_one(&self, interface: u32, name: String, until: Instant) -> Result<(), KeeperError> {
        let place = loop {
            match self.lookout.wish(interface, until) {
                Need::Nothing => return Ok(()),
                Need::Patience => tokio::time::sleep(SHORTLY).await,
                Need::Socket(place) => break place,
            }
        };
        let socket = self.ask(|reply| Command::OpenGaze(interface, reply)).await?;
        let commands = self.commands.clone();
        let close = move || {
            let (reply, done) = oneshot::channel();
            // The keeper goes first: closing the last descriptor takes long, and should not keep it.
            if commands.send(Command::CloseGaze(interface, reply)).is_ok() {
                let _ = done.blocking_recv();
            }
        };
        self.lookout.begin(place, name, socket, until, close).map_err(|error| {
            tracing::error!(%error, "no thread to look with");
            KeeperError::local("starting to look", &error)
        })
    }

    /// Stops every worker, gives everything back and ends the control thread. All relays with their final counters.
    pub async fn shutdown(&self) -> Vec<RelayStatus> {
        self.ask(Command::Shutdown).await
    }

    /// Stops every worker and ends the control thread; the keeper goes on with what it holds, for the next daemon.
    pub async fn hand_over(&self) {
        self.ask(Command::HandOver).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        ask(&self.commands, command).await
    }

    async fn change<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> T {
        ask(&self.journal, request).await
    }
}

async fn ask<C, T>(thread: &mpsc::Sender<C>, command: impl FnOnce(oneshot::Sender<T>) -> C) -> T {
    let (reply, answer) = oneshot::channel();
    let sent = thread.send(command(reply));
    match (sent, answer.await) {
        (Ok(()), Ok(answer)) => answer,
        // The threads end only by Shutdown, after which nobody asks, or by a bug that has printed its panic.
        _ => panic!("the control thread has ended"),
    }
}

/// A daemon without its control thread or its journal would look alive and obey nobody: it ends, for a service manager
/// to start it again.
fn run(thread: &str, body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        tracing::error!("the {thread} thread has ended by a panic, and the daemon with it; please report this");
        std::process::abort();
    }
}

/// Tells the control thread when the keeper ends.
fn watch(keeper: &Keeper, commands: &mpsc::Sender<Command>) {
    let (commands, pid) = (commands.clone(), keeper.pid());
    let started = keeper.watch().and_then(|watch| {
        std::thread::Builder::new().name("mcr-watch".into()).spawn(move || {
            if watch.wait().is_ok() {
                // A control thread that has ended needs no keeper.
                let _ = commands.send(Command::KeeperGone(pid));
            }
        })
    });
    if let Err(error) = started {
        tracing::warn!(%error, "can't watch the keeper: its end is noticed at the next change only");
    }
}

fn listen(monitor: &Monitor, commands: &mpsc::Sender<Command>) {
    loop {
        match monitor.next() {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                if commands.send(Command::Changed(changes)).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "can't hear netlink any more: changes of interfaces will be missed");
                return;
            }
        }
    }
}
