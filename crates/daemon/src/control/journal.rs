//! The way of a change: tried by the engine, stored, put in force, answered.
//!
//! One thread takes the changes in the order they come, so that what was tried is still true when it is put in force.
//! Stored before in force: a disk that refuses has changed nothing on the wire, and an answer that says "created" is
//! true after a power cut. All that wait one behind the other are stored in one transaction: fifty clients wait for
//! one write to the disk, not fifty. The control thread waits for no disk; looking at relays does not come here.
//!
//! A thread beside this one writes to the disk. What needs no store (most of all relays with a lease) does not wait for
//! it, see [`overtaking`].

mod configuration;
mod overtaking;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mcr_engine::{Difference, Refusal, Replaced, Wish};
use mcr_model::relay::Relay;
use mcr_model::revision::{Applied, Revision};
use mcr_model::spec::RelaySpec;
use mcr_model::status::{Origin, RelayStatus};
use mcr_model::trouble::TroubleKind;
use mcr_model::{Grant, Lease, RelayName, Role};
use tokio::sync::oneshot;

use super::{Application, ApplyError, ChangeError, Claim, Command, Terms};
use crate::config::Configuration;
use crate::events::EventLog;
use crate::store::{RelayChange, Standing, Store, StoreError};
use crate::troubles::Troubles;

/// So many changes are stored together.
const MOST_TOGETHER: usize = 256;

pub(super) struct Journal {
    store: Store,
    /// For the thread that writes relays to the store; it answers with [`Request::Stored`].
    disk: Sender<Vec<RelayChange>>,
    /// What the disk writes now.
    writing: Option<Writing>,
    /// What was asked and is not begun, in its order.
    waiting: VecDeque<Request>,
    /// For the control thread.
    commands: Sender<Command>,
    /// The configuration file.
    file: Option<PathBuf>,
    /// The relays in the store.
    stored: BTreeMap<RelayName, RelaySpec>,
    standing: Option<Standing>,
    /// When the configuration in force gives way to the one before.
    trial_ends: Option<Instant>,
    events: EventLog,
    troubles: Troubles,
}

/// What the journal is asked to change.
#[derive(Debug)]
pub(super) enum Request {
    Relay(Box<RelayRequest>),
    Begin(Option<Configuration>, oneshot::Sender<Result<(), Vec<Refusal>>>),
    Reload(Configuration, oneshot::Sender<Result<Difference, ApplyError>>),
    Apply(Application, oneshot::Sender<Result<Applied, ApplyError>>),
    /// Back to a revision; `None`: the one before.
    RollBack(Option<u64>, Terms, oneshot::Sender<Result<Applied, ApplyError>>),
    Confirm(String, oneshot::Sender<Result<Revision, ApplyError>>),
    /// The disk has written, or refused, what it was given last.
    Stored(Result<(), StoreError>),
}

/// Changes that fit, whose records the disk writes.
struct Writing {
    changes: Vec<(RelayRequest, Fit)>,
    records: Vec<RelayChange>,
}

/// A change of one relay. What was there before has to be as claimed; whether the new relay is within what its caller may
/// use is known already.
#[derive(Debug)]
pub(super) enum RelayRequest {
    Create(Relay, Option<Lease>, Reply<RelayStatus>),
    Replace(Relay, Option<Lease>, Claim, Reply<(Replaced, RelayStatus)>),
    Remove(RelayName, Claim, Reply<()>),
}

/// How a change that is to be made stands to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// It has to be stored first.
    ToStore,
    /// Nothing in the store is different by it.
    AsStored,
    /// It is about a relay that is in the store only.
    LeftOut,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, ChangeError>>;

impl Journal {
    pub(super) fn new(
        store: Store,
        disk: Sender<Vec<RelayChange>>,
        commands: Sender<Command>,
        file: Option<PathBuf>,
        events: EventLog,
        troubles: Troubles,
    ) -> Self {
        Self {
            store,
            disk,
            writing: None,
            waiting: VecDeque::new(),
            commands,
            file,
            stored: BTreeMap::new(),
            standing: None,
            trial_ends: None,
            events,
            troubles,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Request>) {
        loop {
            match self.next(inbox) {
                Ok(first) => self.take(first, inbox),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.next_trial_end().is_some_and(|end| end <= Instant::now()) {
                self.end_trial();
            }
        }
    }

    fn next(&self, inbox: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
        match self.next_trial_end() {
            Some(end) => inbox.recv_timeout(end.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// When to go back by itself; not while the disk writes, after which it is looked at again.
    fn next_trial_end(&self) -> Option<Instant> {
        self.trial_ends.filter(|_| self.writing.is_none())
    }

    /// Begins with `first` and what waits behind it, in their order.
    fn take(&mut self, first: Request, inbox: &Receiver<Request>) {
        for request in std::iter::once(first).chain(inbox.try_iter().take(MOST_TOGETHER - 1)) {
            match request {
                Request::Stored(outcome) => self.stored(outcome),
                request => self.waiting.push_back(request),
            }
        }
        self.go_on();
    }

    /// Makes what waits, until the disk has something to write.
    fn go_on(&mut self) {
        loop {
            self.overtake();
            if self.writing.is_some() {
                return;
            }
            match self.waiting.pop_front() {
                None => return,
                Some(Request::Relay(first)) => {
                    let together = self.with_relays_behind(*first);
                    self.change_relays(together);
                }
                Some(configuration) => self.change_configuration(configuration),
            }
        }
    }

    /// That change of a relay, and those right behind it.
    fn with_relays_behind(&mut self, first: RelayRequest) -> Vec<RelayRequest> {
        let mut together = vec![first];
        while together.len() < MOST_TOGETHER
            && matches!(self.waiting.front(), Some(Request::Relay(_)))
            && let Some(Request::Relay(next)) = self.waiting.pop_front()
        {
            together.push(*next);
        }
        together
    }

    fn change_configuration(&mut self, request: Request) {
        // An answer that nobody waits for any more is no error: the client hung up.
        match request {
            Request::Relay(request) => self.change_relays(vec![*request]),
            Request::Begin(file, reply) => drop(reply.send(self.begin(file))),
            Request::Reload(configuration, reply) => drop(reply.send(self.reload(&configuration))),
            Request::Apply(application, reply) => drop(reply.send(self.apply(application))),
            Request::RollBack(to, terms, reply) => drop(reply.send(self.roll_back(to, terms))),
            Request::Confirm(by, reply) => drop(reply.send(self.confirm(&by))),
            Request::Stored(outcome) => self.stored(outcome),
        }
    }

    /// Tries these changes, and has the disk write what has to be stored of those that fit.
    fn change_relays(&mut self, requests: Vec<RelayRequest>) {
        let wishes = requests.iter().map(RelayRequest::wish).collect();
        let Some(verdicts) = self.ask(|reply| Command::Rehearse(wishes, reply)) else { return };
        let mut changes = Vec::new();
        let mut records = Vec::new();
        for (request, verdict) in requests.into_iter().zip(verdicts) {
            match verdict {
                Ok(owner) => {
                    let record = self.record(&request, owner, &records);
                    let fit = if record.is_some() { Fit::ToStore } else { Fit::AsStored };
                    changes.push((request, fit));
                    records.extend(record);
                }
                Err(refusal) if self.is_left_out(&request, &refusal) => {
                    records.push(RelayChange::Remove(refusal.name().clone()));
                    changes.push((request, Fit::LeftOut));
                }
                Err(refusal) => request.refuse(refusal.into()),
            }
        }
        if records.is_empty() {
            changes.into_iter().for_each(|(request, _)| self.enforce(request));
            return;
        }
        // Without its thread the daemon ends, and nobody waits for an answer.
        let _ = self.disk.send(records.clone());
        self.writing = Some(Writing { changes, records });
    }

    /// The disk has spoken: what it wrote is put in force, what it refused is refused.
    fn stored(&mut self, outcome: Result<(), StoreError>) {
        let Some(Writing { mut changes, records }) = self.writing.take() else { return };
        match outcome {
            Ok(()) => records.iter().for_each(|record| self.note_stored(record)),
            Err(error) => {
                tracing::error!(%error, "changes of relays were refused");
                let (rest, lost): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(_, fit)| *fit == Fit::AsStored);
                lost.into_iter().for_each(|(request, _)| request.refuse(error.clone().into()));
                changes = rest;
            }
        }
        for (request, fit) in changes {
            match (request, fit) {
                (RelayRequest::Remove(.., reply), Fit::LeftOut) => drop(reply.send(Ok(()))),
                (request, Fit::ToStore | Fit::AsStored | Fit::LeftOut) => self.enforce(request),
            }
        }
    }

    fn note_stored(&mut self, record: &RelayChange) {
        let name = match record {
            RelayChange::Put(spec) => {
                if let Ok(name) = spec.name.parse() {
                    self.stored.insert(name, spec.clone());
                }
                spec.name.as_str()
            }
            RelayChange::Remove(name) => {
                self.stored.remove(name);
                name.as_str()
            }
        };
        self.troubles.end(TroubleKind::RelayLeftOut, Some(name));
    }

    /// Whether somebody removes a relay that is stored and was left out at the start. A relay of the file that has its
    /// name stays.
    fn is_left_out(&self, request: &RelayRequest, refusal: &Refusal) -> bool {
        let (RelayRequest::Remove(name, claim, _), Refusal::NotFound { .. } | Refusal::OwnedByFile { .. }) =
            (request, refusal)
        else {
            return false;
        };
        // Of a relay that is not there nobody knows whether it is within a limited grant.
        claim.grant.is_unlimited() && self.troubles.has(TroubleKind::RelayLeftOut, name.as_str())
    }

    /// What has to be stored for a change that fits; `None`: nothing is different.
    fn record(&self, request: &RelayRequest, owner: Origin, before: &[RelayChange]) -> Option<RelayChange> {
        match (request, owner) {
            (_, Origin::File) => None,
            // What goes by itself is not remembered over a restart, and no longer if it was.
            (RelayRequest::Create(relay, Some(_), _) | RelayRequest::Replace(relay, Some(_), ..), Origin::Api) => {
                self.remembers(relay.name(), before).then(|| RelayChange::Remove(relay.name().clone()))
            }
            (RelayRequest::Create(relay, None, _) | RelayRequest::Replace(relay, None, ..), Origin::Api) => {
                let spec = RelaySpec::from(relay);
                let as_stored = last_record(relay.name(), before).is_none()
                    && self.stored.get(relay.name()) == Some(&spec)
                    && !self.troubles.has(TroubleKind::RelayLeftOut, relay.name().as_str());
                (!as_stored).then_some(RelayChange::Put(spec))
            }
            (RelayRequest::Remove(name, ..), Origin::Api) => {
                self.remembers(name, before).then(|| RelayChange::Remove(name.clone()))
            }
        }
    }

    /// Whether the relay is in the store, once the records `before` are.
    fn remembers(&self, name: &RelayName, before: &[RelayChange]) -> bool {
        match last_record(name, before) {
            Some(RelayChange::Put(_)) => true,
            Some(RelayChange::Remove(_)) => false,
            None => self.stored.contains_key(name),
        }
    }

    /// The control thread answers the client when the change is in force.
    fn enforce(&self, request: RelayRequest) {
        let command = match request {
            RelayRequest::Create(relay, lease, reply) => Command::Create(relay, lease, reply),
            RelayRequest::Replace(relay, lease, _, reply) => Command::Replace(relay, lease, reply),
            RelayRequest::Remove(name, _, reply) => Command::Remove(name, reply),
        };
        // A control thread that has ended serves nobody any more.
        let _ = self.commands.send(command);
    }

    /// Asks the control thread; `None`: it has ended, and with it the daemon ends.
    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).ok()?;
        answer.blocking_recv().ok()
    }

    fn begin_trial(&mut self, length: Option<Duration>) {
        self.trial_ends = length.map(|length| Instant::now() + length);
    }
}

/// The disk's side: stores what the journal gives, as long as there is a journal.
pub(super) fn write(store: &Store, records: &Receiver<Vec<RelayChange>>, journal: &Sender<Request>) {
    for records in records {
        if journal.send(Request::Stored(store.change_relays(&records))).is_err() {
            return;
        }
    }
}

impl RelayRequest {
    fn name(&self) -> &RelayName {
        match self {
            Self::Create(relay, ..) | Self::Replace(relay, ..) => relay.name(),
            Self::Remove(name, ..) => name,
        }
    }

    fn wish(&self) -> (Wish, Grant) {
        match self {
            // It touches nothing that is there.
            Self::Create(relay, ..) => (Wish::Create(relay.clone()), Grant::unlimited(Role::Operator)),
            Self::Replace(relay, _, Claim { grant, premise }, _) => {
                (Wish::Replace(relay.clone(), premise.clone()), grant.clone())
            }
            Self::Remove(name, Claim { grant, premise }, _) => {
                (Wish::Remove(name.clone(), premise.clone()), grant.clone())
            }
        }
    }

    fn refuse(self, error: ChangeError) {
        match self {
            Self::Create(.., reply) => drop(reply.send(Err(error))),
            Self::Replace(.., reply) => drop(reply.send(Err(error))),
            Self::Remove(.., reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What is to be stored of that relay by those that are stored together with the next one.
fn last_record<'a>(name: &RelayName, before: &'a [RelayChange]) -> Option<&'a RelayChange> {
    before.iter().rev().find(|record| match record {
        RelayChange::Put(spec) => spec.name == name.as_str(),
        RelayChange::Remove(removed) => removed == name,
    })
}
