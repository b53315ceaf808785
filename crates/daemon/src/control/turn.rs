//! One turn of the control thread after the other.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mcr_engine::{Effect, EffectError, Engine, Outcome, Refusal};
use mcr_model::status::{DaemonStatus, RelayStatus};
use mcr_model::{RelayName, RelayState};
use mcr_netd::Keeper;
use tokio::sync::oneshot;

use super::hands::Hands;
use super::{Command, Start, WaitFor, Waited};
use crate::netlink::{Change, Netlink};

/// How often counters are read for states and rates.
const TICK: Duration = Duration::from_millis(100);
/// How often they are read while somebody waits for something.
const WAITING_TICK: Duration = Duration::from_millis(5);
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
    waiters: Vec<Waiter>,
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

enum Next {
    Turn,
    End,
}

impl Turn {
    pub(super) fn new(start: Start, netlink: Netlink, commands: Sender<Command>) -> io::Result<Self> {
        let Start { keeper, keeper_socket, config } = start;
        super::watch(&keeper, &commands);
        let mut engine = Engine::new(config.clone().unwrap_or_else(|| "(none)".to_owned()));
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
            waiters: Vec::new(),
            last_states: Default::default(),
        };
        turn.look_again()?;
        Ok(turn)
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut next_tick = Instant::now();
        loop {
            let pause = next_tick.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(pause) {
                Ok(command) => {
                    if let Next::End = self.handle(command) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.settle();
            if Instant::now() >= next_tick {
                self.seek_keeper();
                self.count();
                self.log_states();
                self.answer_waiters();
                next_tick = Instant::now() + if self.waiters.is_empty() { TICK } else { WAITING_TICK };
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
            Command::Create(relay, reply) => {
                let name = relay.name().clone();
                let result = self.engine.create(relay);
                drop(reply.send(self.settled(&name, result).map(|((), status)| status)));
            }
            Command::Replace(relay, reply) => {
                let name = relay.name().clone();
                let result = self.engine.replace(relay);
                drop(reply.send(self.settled(&name, result)));
            }
            Command::Remove(name, reply) => {
                let result = self.engine.remove(&name);
                self.settle();
                drop(reply.send(result));
            }
            Command::LoadFile(relays, reply) => {
                let result = self.engine.load_file(relays);
                self.settle();
                drop(reply.send(result));
            }
            Command::Interfaces(reply) => {
                self.count();
                drop(reply.send(self.engine.interfaces()));
            }
            Command::Status(reply) => drop(reply.send(self.daemon_status())),
            Command::Wait(name, condition, timeout, reply) => {
                let deadline = self.now() + timeout;
                self.waiters.push(Waiter { name, condition, deadline, reply });
                self.count();
                self.answer_waiters();
            }
            Command::Changed(changes) => self.changed(&changes),
            Command::KeeperGone => self.keeper_gone(),
            Command::Shutdown(reply) => {
                self.hands.stop();
                let last = self.statuses();
                self.hands.release();
                drop(reply.send(last));
                return Next::End;
            }
        }
        Next::Turn
    }

    /// Puts a change in force before it is answered: "ready" in the answer means that no packet is missed.
    fn settled<T>(&mut self, name: &RelayName, result: Result<T, Refusal>) -> Result<(T, RelayStatus), Refusal> {
        let done = result?;
        self.settle();
        let status = self.status_of(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
        Ok((done, status))
    }

    fn changed(&mut self, changes: &[Change]) {
        let mut look = false;
        for change in changes {
            match change {
                Change::Interfaces => look = true,
                Change::Routes => self.engine.routes_changed(),
                Change::Neighbour(neighbour) => self.engine.neighbour_is(*neighbour),
                Change::Everything => {
                    look = true;
                    self.engine.routes_changed();
                }
            }
        }
        if look && let Err(error) = self.look_again() {
            tracing::error!(%error, "can't read the interfaces; their changes are missed until the next one");
        }
    }

    fn keeper_gone(&mut self) {
        tracing::error!(
            "the keeper has ended: groups are left until another one is there; packets that still come are relayed"
        );
        self.keeper = KeeperLink::Down;
        self.engine.keeper_lost();
    }

    /// Looks for another keeper; with it everything is opened and joined anew.
    fn seek_keeper(&mut self) {
        let (KeeperLink::Down, Some(path)) = (self.keeper, &self.keeper_socket) else { return };
        let Ok(keeper) = Keeper::connect(path) else { return };
        super::watch(&keeper, &self.commands);
        match self.hands.take(keeper) {
            Ok(inventory) => {
                tracing::info!(keeper = self.hands.keeper_pid(), "another keeper is there");
                self.keeper = KeeperLink::Up;
                self.engine.keeper_found(inventory);
                self.settle();
            }
            Err(error) => tracing::warn!(%error, "the new keeper does not answer"),
        }
    }

    /// Takes a new picture of interfaces and neighbours.
    fn look_again(&mut self) -> io::Result<()> {
        self.engine.interfaces_are(self.netlink.interfaces()?);
        for neighbour in self.netlink.neighbours()? {
            self.engine.neighbour_is(neighbour);
        }
        Ok(())
    }

    /// Carries out effects until wanted and actual agree, or what is left has to wait for a retry.
    fn settle(&mut self) {
        for _ in 0..MOST_BATCHES {
            let effects = self.engine.reconcile(self.now());
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                let result = self.carry_out(&effect);
                if let Err(error) = &result {
                    tracing::warn!(reason = %error.reason, remedy = %error.remedy, "an effect failed; it is tried again");
                }
                self.engine.done(self.now(), effect, result);
            }
        }
        tracing::error!("the engine does not come to rest; this is a bug, please report it");
    }

    fn carry_out(&mut self, effect: &Effect) -> Result<Outcome, EffectError> {
        if let Effect::FindNextHop { interface, destination } = effect {
            let found = self.netlink.next_hop(*interface, *destination);
            return found.map(Outcome::NextHop).map_err(|error| EffectError {
                reason: format!("there is no route to {destination} on that interface ({error})"),
                remedy: format!("add one, or correct the address (`ip route get {destination}`)"),
            });
        }
        self.hands.carry_out(effect).map(|()| Outcome::Done)
    }

    fn count(&mut self) {
        let now = self.now();
        for (name, incarnation, totals) in self.hands.totals() {
            self.engine.counted(now, name, incarnation, totals);
        }
        for (interface, ledger) in self.hands.ledgers() {
            self.engine.counted_on(interface, ledger);
        }
    }

    fn answer_waiters(&mut self) {
        let now = self.now();
        for waiter in std::mem::take(&mut self.waiters) {
            let Some(status) = self.engine.status(&waiter.name, now) else {
                drop(waiter.reply.send(Waited::NotFound));
                continue;
            };
            if is_reached(&status, waiter.condition) {
                drop(waiter.reply.send(Waited::Reached(status)));
            } else if now >= waiter.deadline {
                drop(waiter.reply.send(Waited::TimedOut(status)));
            } else if !waiter.reply.is_closed() {
                self.waiters.push(waiter);
            }
        }
    }

    fn log_states(&mut self) {
        let now = self.now();
        let mut states = std::collections::BTreeMap::new();
        for (name, condition) in self.engine.conditions(now) {
            if self.last_states.get(name) != Some(&condition.state) {
                let (state, reason) = (condition.state.name(), &condition.reason);
                let remedy = condition.remedy.as_deref();
                tracing::info!(relay = %name, state, reason, remedy, "relay is {state}");
            }
            states.insert(name.clone(), condition.state);
        }
        self.last_states = states;
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

fn is_reached(status: &RelayStatus, condition: WaitFor) -> bool {
    match condition {
        WaitFor::Ready => status.state.is_listening(),
        WaitFor::FirstPacket => status.received.packets > 0,
    }
}
