//! One turn of the control thread after the other.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mcr_engine::{Counted, Effect, EffectError, Engine, Outcome, Refusal};
use mcr_model::plan::Plan;
use mcr_model::relay::Relay;
use mcr_model::status::{DaemonStatus, RelayStatus};
use mcr_model::{Condition, RelayName, RelayState};
use mcr_netd::{Keeper, KeeperError};
use tokio::sync::oneshot;

use super::hands::Hands;
use super::unanswered::Unanswered;
use super::{Command, Start, WaitFor, Waited};
use crate::netlink::{Change, Netlink};

/// How often counters are read for states and rates.
const TICK: Duration = Duration::from_millis(100);
/// How often they are read while somebody waits for something.
const WAITING_TICK: Duration = Duration::from_millis(5);
/// So many commands are taken together.
const MOST_COMMANDS: usize = 1024;
/// How long a keeper that is there but can not be used is left alone: each look may take seconds.
const SEEK_PAUSE: Duration = Duration::from_secs(5);
/// A batch that is never empty would be a bug of the engine; it must not become an endless loop of a daemon.
const MOST_BATCHES: usize = 64;

pub(super) struct Turn {
    engine: Engine,
    hands: Hands,
    netlink: Netlink,
    started: Instant,
    config: Option<String>,
    keeper: KeeperLink,
    keeper_socket: Option<PathBuf>,
    /// For the threads that report to this one.
    commands: Sender<Command>,
    phase: Phase,
    next_seek: Instant,
    /// Clients of what was changed in this turn.
    unanswered: Vec<Unanswered>,
    waiters: Vec<Waiter>,
    next_answer: Instant,
    last_states: std::collections::BTreeMap<RelayName, RelayState>,
}

struct Waiter {
    name: RelayName,
    condition: WaitFor,
    deadline: Duration,
    reply: oneshot::Sender<Waited>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeeperLink {
    Up,
    Down,
}

/// What a keeper held before this daemon came must not be given back before it is known what is wanted of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody has said yet what is wanted.
    Starting,
    Running,
}

enum Next {
    Turn,
    End,
}

impl Turn {
    pub(super) fn new(start: Start, netlink: Netlink, commands: Sender<Command>) -> io::Result<Self> {
        let Start { keeper, keeper_socket, config, datapath, store: _ } = start;
        let config = config.map(|path| path.display().to_string());
        super::watch(&keeper, &commands);
        let mut engine = Engine::new(config.clone().unwrap_or_else(|| "(none)".to_owned()));
        engine.datapath_is(datapath);
        let mut hands = Hands::new(keeper);
        engine.adopt(hands.inventory().map_err(io::Error::other)?);
        let mut turn = Self {
            engine,
            hands,
            netlink,
            started: Instant::now(),
            config,
            keeper: KeeperLink::Up,
            keeper_socket,
            commands,
            phase: Phase::Starting,
            next_seek: Instant::now(),
            unanswered: Vec::new(),
            waiters: Vec::new(),
            next_answer: Instant::now(),
            last_states: Default::default(),
        };
        turn.look_again()?;
        Ok(turn)
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut next_tick = Instant::now();
        loop {
            let next_turn = if self.waiters.is_empty() { next_tick } else { next_tick.min(self.next_answer) };
            match take(inbox, next_turn.saturating_duration_since(Instant::now())) {
                Ok(commands) => {
                    for command in commands {
                        if let Next::End = self.handle(command) {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.settle();
            self.answer();
            if Instant::now() >= next_tick {
                self.seek_keeper();
                self.count();
                self.log_states();
                next_tick = Instant::now() + TICK;
            }
            if !self.waiters.is_empty() && Instant::now() >= self.next_answer {
                self.answer_waiters();
                self.next_answer = Instant::now() + WAITING_TICK;
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn handle(&mut self, command: Command) -> Next {
        // An answer that nobody waits for any more is no error: the client hung up.
        match command {
            Command::Relays(reply) => drop(reply.send(self.statuses())),
            Command::Relay(name, reply) => drop(reply.send(self.status_of(&name))),
            Command::Rehearse(wishes, reply) => drop(reply.send(self.engine.rehearse(&wishes))),
            Command::Plan(relays, reply) => drop(reply.send(self.plan(&relays))),
            Command::Begin(file, api, reply) => {
                let begun = self.engine.begin(file, api);
                if begun.is_ok() {
                    self.phase = Phase::Running;
                    self.settle();
                }
                drop(reply.send(begun));
            }
            Command::Create(relay, reply) => {
                self.phase = Phase::Running;
                let name = relay.name().clone();
                match self.engine.create(relay) {
                    Ok(()) => self.unanswered.push(Unanswered::Created(name, reply)),
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                }
            }
            Command::Replace(relay, reply) => {
                self.phase = Phase::Running;
                let name = relay.name().clone();
                match self.engine.replace(relay) {
                    Ok(replaced) => self.unanswered.push(Unanswered::Replaced(name, replaced, reply)),
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                }
            }
            Command::Remove(name, reply) => match self.engine.remove(&name) {
                Ok(()) => self.unanswered.push(Unanswered::Removed(reply)),
                Err(refusal) => drop(reply.send(Err(refusal.into()))),
            },
            Command::LoadFile(relays, reply) => {
                self.phase = Phase::Running;
                match self.engine.load_file(relays) {
                    Ok(difference) => self.unanswered.push(Unanswered::Loaded(difference, reply)),
                    Err(refusals) => drop(reply.send(Err(refusals))),
                }
            }
            Command::Interfaces(reply) => {
                self.count();
                drop(reply.send(self.engine.interfaces()));
            }
            Command::Status(reply) => drop(reply.send(self.daemon_status())),
            Command::Wait(name, condition, timeout, reply) => {
                let deadline = self.now() + timeout;
                self.waiters.push(Waiter { name, condition, deadline, reply });
                self.next_answer = Instant::now();
            }
            Command::Changed(changes) => self.changed(&changes),
            // The end of one that was given up before is no news.
            Command::KeeperGone(pid) if pid == self.hands.keeper_pid() => self.keeper_gone(),
            Command::KeeperGone(_) => {}
            Command::Shutdown(reply) => {
                self.settle();
                self.answer();
                self.hands.stop();
                let last = self.statuses();
                self.hands.release();
                drop(reply.send(last));
                return Next::End;
            }
        }
        Next::Turn
    }

    fn plan(&mut self, relays: &[Relay]) -> Result<Plan, Vec<Refusal>> {
        self.count();
        self.engine.preview(relays, &Default::default())
    }

    /// Answers what was changed in this turn, now that it is in force: "ready" means that no packet is missed.
    fn answer(&mut self) {
        for unanswered in std::mem::take(&mut self.unanswered) {
            unanswered.answer(|name| self.status_of(name));
        }
    }

    fn changed(&mut self, changes: &[Change]) {
        let mut look = false;
        for change in changes {
            match change {
                Change::Interfaces => look = true,
                Change::Left(interface) => {
                    look = true;
                    self.engine.interface_left(*interface);
                }
                Change::Routes => self.engine.routes_changed(),
                Change::Neighbour(neighbour) => self.engine.neighbour_is(*neighbour),
                Change::NeighbourGone(interface, address) => self.engine.neighbour_is_gone(*interface, *address),
                Change::Everything => {
                    look = true;
                    self.engine.routes_changed();
                }
            }
        }
        if look {
            // What belonged to interfaces that left is closed before one of the same index is seen.
            self.settle();
            if let Err(error) = self.look_again() {
                tracing::error!(%error, "can't read the interfaces; their changes are missed until the next one");
            }
        }
    }

    fn keeper_gone(&mut self) {
        if self.keeper == KeeperLink::Down {
            return;
        }
        tracing::error!(
            "the keeper has ended: groups are left until another one is there; packets that still come are relayed"
        );
        self.keeper = KeeperLink::Down;
        self.engine.keeper_lost();
    }

    /// Looks for another keeper; with it everything is opened and joined anew.
    fn seek_keeper(&mut self) {
        let (KeeperLink::Down, Some(path)) = (self.keeper, &self.keeper_socket) else { return };
        if Instant::now() < self.next_seek {
            return;
        }
        let keeper = match Keeper::connect(path) {
            Ok(keeper) => keeper,
            Err(error) => return self.seek_later(&error),
        };
        super::watch(&keeper, &self.commands);
        match self.hands.take(keeper) {
            Ok(inventory) => {
                tracing::info!(keeper = self.hands.keeper_pid(), "another keeper is there");
                self.keeper = KeeperLink::Up;
                self.engine.keeper_found(inventory);
                self.settle();
            }
            Err(error) => self.seek_later(&error),
        }
    }

    fn seek_later(&mut self, error: &KeeperError) {
        if !error.is_nobody_there() && !error.has_ended() {
            tracing::warn!(%error, "there is a keeper that can not be used");
            self.next_seek = Instant::now() + SEEK_PAUSE;
        }
    }

    /// Takes a new picture of interfaces and neighbours.
    fn look_again(&mut self) -> io::Result<()> {
        self.engine.interfaces_are(self.netlink.interfaces()?);
        self.engine.neighbours_are(self.netlink.neighbours()?);
        Ok(())
    }

    /// Carries out effects until wanted and actual agree, or what is left has to wait for a retry.
    fn settle(&mut self) {
        if self.phase == Phase::Starting {
            return;
        }
        for _ in 0..MOST_BATCHES {
            let effects = self.engine.reconcile(self.now());
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                let result = self.carry_out(&effect);
                if let Err(error) = &result {
                    self.tell(error);
                }
                self.engine.done(self.now(), effect, result);
            }
            if self.hands.has_lost_keeper() {
                self.keeper_gone();
            }
        }
        tracing::error!("the engine does not come to rest; this is a bug, please report it");
    }

    /// That everything fails without a keeper was told when it went.
    fn tell(&self, EffectError { reason, remedy }: &EffectError) {
        match self.keeper {
            KeeperLink::Up => tracing::warn!(reason, remedy, "an effect failed; it is tried again"),
            KeeperLink::Down => tracing::debug!(reason, remedy, "an effect failed; it is tried again"),
        }
    }

    fn carry_out(&mut self, effect: &Effect) -> Result<Outcome, EffectError> {
        if let Effect::FindNextHop { interface, destination } = effect {
            let found = self.netlink.next_hop(*interface, *destination);
            return found.map(Outcome::NextHop).map_err(|error| EffectError {
                reason: format!("there is no route to {destination} on that interface ({error})"),
                remedy: format!("add one, or correct the address (`ip route get {destination}`)"),
            });
        }
        self.hands.carry_out(effect)
    }

    fn count(&mut self) {
        let now = self.now();
        let mut obsolete = Vec::new();
        for (name, incarnation, totals) in self.hands.totals() {
            if self.engine.counted(now, name, incarnation, totals) == Counted::Obsolete {
                obsolete.push((name.clone(), incarnation));
            }
        }
        self.hands.close_books(&obsolete);
        for (interface, ledger) in self.hands.ledgers() {
            self.engine.counted_on(interface, ledger);
        }
    }

    fn answer_waiters(&mut self) {
        for waiter in std::mem::take(&mut self.waiters) {
            let Some(status) = self.status_of(&waiter.name) else {
                drop(waiter.reply.send(Waited::NotFound));
                continue;
            };
            if is_reached(&status, waiter.condition) {
                drop(waiter.reply.send(Waited::Reached(status)));
            } else if self.now() >= waiter.deadline {
                drop(waiter.reply.send(Waited::TimedOut(status)));
            } else if !waiter.reply.is_closed() {
                self.waiters.push(waiter);
            }
        }
    }

    fn log_states(&mut self) {
        for (name, condition) in self.engine.conditions(self.now()) {
            let Condition { state, reason, remedy } = condition;
            match self.last_states.get_mut(name) {
                Some(last) if *last == state => continue,
                Some(last) => *last = state,
                None => drop(self.last_states.insert(name.clone(), state)),
            }
            tracing::info!(relay = %name, state = state.name(), reason, remedy, "relay is {state}");
        }
        if self.last_states.len() > self.engine.relay_count() {
            self.last_states.retain(|name, _| self.engine.has_relay(name));
        }
    }

    fn statuses(&mut self) -> Vec<RelayStatus> {
        self.count();
        self.engine.statuses(self.now())
    }

    fn status_of(&mut self, name: &RelayName) -> Option<RelayStatus> {
        if let Some((incarnation, totals)) = self.hands.totals_of(name) {
            self.engine.counted(self.now(), name, incarnation, totals);
        }
        self.engine.status(name, self.now())
    }

    fn daemon_status(&mut self) -> DaemonStatus {
        let mut relays: std::collections::BTreeMap<String, usize> =
            RelayState::ALL.iter().map(|state| (state.name().to_owned(), 0)).collect();
        for (_, condition) in self.engine.conditions(self.now()) {
            *relays.entry(condition.state.name().to_owned()).or_default() += 1;
        }
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            config: self.config.clone(),
            relays,
            keeper_pid: self.hands.keeper_pid(),
        }
    }
}

/// The commands that are there, at least one. Changes of interfaces that come one behind the other become one: a host
/// that starts a hundred containers tells of a thousand, and each costs a look at everything.
fn take(inbox: &Receiver<Command>, pause: Duration) -> Result<Vec<Command>, RecvTimeoutError> {
    let mut commands = vec![inbox.recv_timeout(pause)?];
    for command in inbox.try_iter().take(MOST_COMMANDS - 1) {
        match (commands.last_mut(), command) {
            (Some(Command::Changed(changes)), Command::Changed(more)) => changes.extend(more),
            (_, command) => commands.push(command),
        }
    }
    Ok(commands)
}

fn is_reached(status: &RelayStatus, condition: WaitFor) -> bool {
    match condition {
        WaitFor::Ready => status.state.is_listening(),
        WaitFor::FirstPacket => status.received.packets > 0,
    }
}
