//! One turn of the control thread after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mcr_datapath::clock;
use mcr_diagnose::Egress;
use mcr_engine::{Counted, Effect, EffectError, Engine, Flow, Ifindex, Link, Outcome, Receivers, Refusal, RelayTotals};
use mcr_model::plan::Plan;
use mcr_model::rejoin::{RejoinReport, ReportedInterface};
use mcr_model::relay::Relay;
use mcr_model::status::{DaemonStatus, RelayStatus};
use mcr_model::trouble::{Trouble, TroubleKind};
use mcr_model::{EventKind, Grant, InterfaceName, Lease, RelayName, RelayState, WaitFor};
use mcr_netd::{Keeper, KeeperError, Written, igmp_versions};

use super::hands::Hands;
use super::rules::{Rules, unheard};
use super::unanswered::Unanswered;
use super::waiting::{Waiter, Waiters};
use super::{Command, Start, Waited};
use crate::confinement;
use crate::ears::Ears;
use crate::events::EventLog;
use crate::netlink::{Change, Netlink};

/// How often counters are read for states and rates: as often as takes a twentieth of the time, within these bounds.
const SHORTEST_TICK: Duration = Duration::from_millis(40);
const LONGEST_TICK: Duration = Duration::from_millis(90);
/// A look that a silence is due for comes no sooner after the last one.
const SOONEST_TICK: Duration = Duration::from_millis(10);
/// So many commands are taken together.
const MOST_COMMANDS: usize = 1024;
/// How often it is looked at how interfaces queue packets.
const QUEUES_PAUSE: Duration = Duration::from_secs(5);
/// How often the sockets of this host are looked at.
const LISTENERS_PAUSE: Duration = Duration::from_secs(1);
/// How long a keeper that is there but can not be used is left alone: each look may take seconds.
const SEEK_PAUSE: Duration = Duration::from_secs(5);
/// A batch that is never empty would be a bug of the engine; it must not become an endless loop of a daemon.
const MOST_BATCHES: usize = 64;

pub(super) struct Turn {
    engine: Engine,
    hands: Hands,
    netlink: Netlink,
    started: Instant,
    /// `CLOCK_MONOTONIC` then: datapaths tell times by it.
    clock_began: Duration,
    config: Option<String>,
    keeper: KeeperLink,
    keeper_socket: Option<PathBuf>,
    /// For the threads that report to this one.
    commands: Sender<Command>,
    phase: Phase,
    next_seek: Instant,
    next_listeners: Instant,
    next_queues: Instant,
    /// Clients of what was changed in this turn.
    unanswered: Vec<Unanswered>,
    /// The leases among it.
    lent: Vec<(RelayName, Lease)>,
    waiters: Waiters,
    events: EventLog,
    ears: Ears,
    rules: Rules,
    next_look: Instant,
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
    pub(super) fn new(start: Start, netlink: Netlink, commands: Sender<Command>, events: EventLog) -> io::Result<Self> {
        let Start { keeper, keeper_socket, config, datapath, store: _, troubles: _, workers } = start;
        let config = config.map(|path| path.display().to_string());
        super::watch(&keeper, &commands);
        let mut engine = Engine::new(config.clone().unwrap_or_else(|| "(none)".to_owned()));
        engine.datapath_is(datapath);
        let (started, clock_began) = (Instant::now(), Duration::from_nanos(clock::monotonic_nanoseconds()));
        let mut hands = Hands::new(keeper, workers);
        engine.adopt(hands.inventory().map_err(io::Error::other)?);
        let mut turn = Self {
            engine,
            hands,
            netlink,
            started,
            clock_began,
            config,
            keeper: KeeperLink::Up,
            keeper_socket,
            commands,
            phase: Phase::Starting,
            next_seek: Instant::now(),
            next_listeners: Instant::now(),
            next_queues: Instant::now() + QUEUES_PAUSE,
            unanswered: Vec::new(),
            lent: Vec::new(),
            waiters: Waiters::new(),
            events,
            ears: Ears::new(),
            rules: Rules::of_keeper(),
            next_look: Instant::now(),
        };
        turn.look_again()?;
        turn.look_for_listeners();
        Ok(turn)
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            match take(inbox, self.next_turn().saturating_duration_since(Instant::now())) {
                Ok(commands) => {
                    for command in commands {
                        if let Next::End = self.handle(command) {
                            return;
                        }
                    }
                    self.waiters.hurry();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.engine.end_leases(self.now());
            self.tend_members();
            self.settle();
            self.answer();
            if Instant::now() >= self.next_look {
                self.seek_keeper();
                self.look_for_listeners();
                self.look_at_queues();
                self.look();
            }
            self.answer_waiters();
            self.publish();
        }
    }

    /// When there is something to do although nobody asks for it.
    fn next_turn(&self) -> Instant {
        let lease_end = self.engine.next_lease_end().map(|end| self.started + end);
        [lease_end, self.waiters.next_look()].into_iter().flatten().fold(self.next_look, Instant::min)
    }

    /// Reads the counters, and tells what changed by itself.
    fn look(&mut self) {
        let began = Instant::now();
        let is_whole = self.engine.is_whole_look_due(self.now());
        if is_whole {
            self.count();
        } else {
            self.count_lively();
        }
        let due = self.engine.look(self.now());
        if is_whole {
            self.look_for_groups();
        }
        let cost = began.elapsed();
        let longest = if self.engine.has_breakers() { SHORTEST_TICK } else { LONGEST_TICK };
        let tick = (cost * 20).clamp(SHORTEST_TICK, longest);
        let soonest = began + SOONEST_TICK.max(cost * 4);
        let due = due.map_or(began + tick, |due| (self.started + due).max(soonest));
        self.next_look = due.min(began + tick);
    }

    /// Which groups packets come for, where only those are joined: at once, so that no relay is seen to wait for that.
    fn look_for_groups(&mut self) {
        let looking = self.engine.looking();
        if looking.is_empty() {
            return;
        }
        let arrived = self.hands.arrivals(looking.iter().map(|(name, _)| name));
        for ((_, interface), arrived) in looking.iter().zip(arrived) {
            match arrived {
                Some(groups) => self.engine.saw(self.now(), *interface, groups),
                None => self.engine.could_not_see(self.now(), *interface),
            }
        }
        self.settle();
    }

    /// Makes known what happened in this turn.
    fn publish(&mut self) {
        let events = self.engine.take_events();
        if events.is_empty() {
            return;
        }
        events.iter().for_each(|event| log(&event.kind));
        self.events.publish(events);
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
            Command::Create(relay, lease, reply) => {
                self.phase = Phase::Running;
                let name = relay.name().clone();
                match self.engine.create(relay) {
                    Ok(()) => {
                        self.lend(&name, lease);
                        self.unanswered.push(Unanswered::Created(name, reply));
                    }
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                }
            }
            Command::Replace(relay, lease, reply) => {
                self.phase = Phase::Running;
                let name = relay.name().clone();
                match self.engine.replace(relay) {
                    Ok(replaced) => {
                        self.lend(&name, lease);
                        self.unanswered.push(Unanswered::Replaced(name, replaced, reply));
                    }
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                }
            }
            Command::Renew(name, lease, grant, reply) => {
                let renewed = self.engine.renew(self.now(), &name, lease, &grant);
                let status = renewed.and_then(|()| self.status_of(&name).ok_or(Refusal::NotFound { name }));
                drop(reply.send(status));
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
            Command::History(name, step, grant, reply) => {
                let track = self.engine.history(&name, step).filter(|_| self.engine.is_within(&name, &grant));
                drop(reply.send(track.map(|track| (track, self.now()))));
            }
            Command::Wait(name, condition, timeout, grant, reply) => {
                let deadline = self.now() + timeout;
                self.waiters.add(Waiter { name, condition, deadline, grant, reply });
            }
            Command::Reported(report) => self.engine.reported(self.now(), report),
            Command::Rejoin(name, grant, reply) => drop(reply.send(self.rejoin(name.as_deref(), &grant))),
            Command::OpenGaze(interface, reply) => drop(reply.send(self.hands.open_gaze(interface))),
            Command::CloseGaze(interface, reply) => {
                self.hands.close_gaze(interface);
                let _ = reply.send(());
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
            Command::HandOver(reply) => {
                self.settle();
                self.answer();
                self.hands.stop();
                let _ = reply.send(());
                return Next::End;
            }
        }
        Next::Turn
    }

    fn plan(&mut self, relays: &[Relay]) -> Result<Plan, Vec<Refusal>> {
        self.count();
        self.engine.preview(relays, &links())
    }

    fn lend(&mut self, name: &RelayName, lease: Option<Lease>) {
        self.engine.lend(self.now(), name, lease);
        self.lent.extend(lease.map(|lease| (name.clone(), lease)));
    }

    /// Answers what was changed in this turn, now that it is in force: "ready" means that no packet is missed.
    fn answer(&mut self) {
        // A lease begins when its client hears of it, however long it took to put the relay in force.
        for (name, lease) in std::mem::take(&mut self.lent) {
            self.engine.begin_lease(self.now(), &name, lease);
        }
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
            remedy = self.other_keeper(),
            "the keeper has ended: groups are left until another one is there, unless the service manager keeps them; packets that still come are relayed"
        );
        self.keeper = KeeperLink::Down;
        self.engine.keeper_lost();
        self.events.publish([EventKind::KeeperLost { pid: self.hands.keeper_pid() }]);
    }

    /// Sees which applications would miss what a datapath in the kernel takes.
    fn look_for_listeners(&mut self) {
        if Instant::now() >= self.next_listeners {
            self.engine.listeners_are(crate::listeners::udp());
            // Where the list can't be read, nothing is known of them.
            let versions = igmp_versions().unwrap_or_default();
            self.engine
                .igmp_versions_are(versions.into_iter().map(|(index, version)| (Ifindex(index), version)).collect());
            self.read_board();
            self.next_listeners = Instant::now() + LISTENERS_PAUSE;
        }
    }

    /// Hears what the keeper has to tell, and asks for memberships where that is wanted.
    fn read_board(&mut self) {
        let Some(Written { queriers, disturbance }) = self.hands.written() else { return };
        self.events.publish(self.rules.learn(disturbance));
        let Some(heard) = queriers else { return self.engine.queries_are_unheard() };
        let heard = Hands::queriers(heard);
        for (interface, protocol) in self.engine.queries_are(self.now(), &heard) {
            if let Err(EffectError { reason, remedy }) = self.hands.ask_for_memberships(interface, protocol) {
                tracing::warn!(reason, remedy, "can't ask for memberships");
            }
        }
    }

    /// Hears who wants what behind outputs, and asks where that is due.
    fn tend_members(&mut self) {
        let mut hearing = self.hands.hearing(&self.commands);
        self.ears.tend(self.engine.sought_groups(), &mut hearing);
        self.engine.hears(self.ears.hearing(), self.ears.deaf());
        for (interface, group) in self.engine.tend_members(self.now()) {
            if let Err(EffectError { reason, remedy }) = self.hands.ask_for_members(interface, group) {
                tracing::warn!(reason, remedy, "can't ask who wants a group");
            }
        }
    }

    fn rejoin(&mut self, name: Option<&str>, grant: &Grant) -> Option<RejoinReport> {
        let joined = self.engine.joined_for(name, grant)?;
        let report = |((index, name), groups): ((Ifindex, InterfaceName), BTreeSet<IpAddr>)| {
            let groups: Vec<IpAddr> = groups.into_iter().collect();
            let reported = self.hands.report(index, &groups);
            let problem = reported.err().map(|EffectError { reason, remedy }| format!("{reason}; {remedy}"));
            ReportedInterface { interface: name.to_string(), groups, problem }
        };
        Some(RejoinReport { interfaces: joined.into_iter().map(report).collect() })
    }

    /// Looks at how interfaces queue packets, which is not among what the kernel tells of by itself.
    fn look_at_queues(&mut self) {
        if Instant::now() < self.next_queues {
            return;
        }
        self.next_queues = Instant::now() + QUEUES_PAUSE;
        if let Err(error) = self.look_again() {
            tracing::warn!(%error, "can't look at the interfaces");
        }
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
                self.events.publish([EventKind::KeeperFound { pid: self.hands.keeper_pid() }]);
                // The new one is to know of every ear.
                self.ears = Ears::new();
                self.rules = Rules::of_keeper();
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
            let results = self.carry_out_all(&effects);
            let mut is_address_added = false;
            for (effect, result) in effects.into_iter().zip(results) {
                is_address_added |= matches!((&effect, &result), (Effect::AddAddress { .. }, Ok(Outcome::Done)));
                if let Err(error) = &result {
                    self.tell(&effect, error);
                }
                self.engine.done(self.now(), effect, result);
            }
            // What was added is seen at once, so that what is answered now is true.
            if is_address_added && let Err(error) = self.look_again() {
                tracing::error!(%error, "can't read the interfaces; their changes are missed until the next one");
            }
            if self.hands.has_lost_keeper() {
                self.keeper_gone();
            }
        }
        tracing::error!("the engine does not come to rest; this is a bug, please report it");
    }

    /// Once, however often it is tried. That everything fails without a keeper was told when it went.
    fn tell(&self, effect: &Effect, error: &EffectError) {
        let EffectError { reason, remedy } = error;
        match self.keeper {
            KeeperLink::Up if !self.engine.is_known_failure(effect, error) => {
                tracing::warn!(reason, remedy, "an effect failed; it is tried again");
            }
            KeeperLink::Up | KeeperLink::Down => {
                tracing::debug!(reason, remedy, "an effect failed; it is tried again");
            }
        }
    }

    /// What came of each. Memberships that come one behind the other are changed together.
    fn carry_out_all(&mut self, effects: &[Effect]) -> Vec<Result<Outcome, EffectError>> {
        let mut results = Vec::with_capacity(effects.len());
        for run in effects.chunk_by(|one, next| one.is_membership() && next.is_membership()) {
            match run {
                [effect] => results.push(self.carry_out(effect)),
                memberships => results.extend(self.hands.change_memberships(memberships)),
            }
        }
        let told = |result: Result<Outcome, EffectError>| result.map_err(|error| self.with_remedy(error));
        results.into_iter().map(told).collect()
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

    fn with_remedy(&self, error: EffectError) -> EffectError {
        match self.other_keeper() {
            Some(remedy) if self.hands.has_lost_keeper() => EffectError { remedy, ..error },
            _ => error,
        }
    }

    /// What brings another keeper, which this process has no privilege to start.
    fn other_keeper(&self) -> Option<String> {
        let path = self.keeper_socket.as_ref()?.display();
        Some(format!("start another: `systemctl restart mcr-netd`, or as root `mcr-netd --socket {path}`"))
    }

    fn count(&mut self) {
        let now = self.now();
        let mut obsolete = Vec::new();
        for (name, incarnation, totals) in self.hands.totals() {
            let totals = on_our_clock(totals, self.clock_began);
            if self.engine.counted(now, name, incarnation, totals) == Counted::Obsolete {
                obsolete.push((name.clone(), incarnation));
            }
        }
        self.hands.close_books(&obsolete);
        for (interface, ledger) in self.hands.ledgers() {
            self.engine.counted_on(interface, ledger);
        }
    }

    /// As `count`, for the relays that something comes for.
    fn count_lively(&mut self) {
        let now = self.now();
        for (name, incarnation, totals) in self.hands.lively_totals() {
            // The book of a relay that is no more is closed by the next whole count.
            self.engine.counted(now, name, incarnation, on_our_clock(totals, self.clock_began));
        }
    }

    fn answer_waiters(&mut self) {
        for waiter in self.waiters.take_due() {
            let reached = self.is_reached(&waiter);
            let over = self.now() >= waiter.deadline;
            if reached == Some(false) && !over {
                if !waiter.reply.is_closed() {
                    self.waiters.put_back(waiter);
                }
                continue;
            }
            let waited = match (reached, self.status_of(&waiter.name)) {
                (None, _) | (_, None) => Waited::NotFound,
                (Some(true), Some(status)) => Waited::Reached(status),
                (Some(false), Some(status)) => Waited::TimedOut(status),
            };
            drop(waiter.reply.send(waited));
        }
    }

    /// Whether it is so; `None` when there is no such relay, or not any more for who waits.
    fn is_reached(&mut self, waiter: &Waiter) -> Option<bool> {
        let Waiter { name, condition, grant, .. } = waiter;
        if !self.engine.is_within(name, grant) {
            return None;
        }
        if *condition == WaitFor::Ready {
            return self.engine.is_ready(name);
        }
        self.count_one(name);
        let Flow { received_packets, silent } = self.engine.flow(self.now(), name)?;
        Some(match *condition {
            WaitFor::Ready => unreachable!("it was asked for above"),
            WaitFor::FirstPacket => received_packets > 0,
            WaitFor::Packets(count) => received_packets >= count,
            WaitFor::Silent => silent,
        })
    }

    fn statuses(&mut self) -> Vec<RelayStatus> {
        self.count();
        self.engine.statuses(self.now())
    }

    fn status_of(&mut self, name: &RelayName) -> Option<RelayStatus> {
        self.count_one(name);
        self.engine.status(name, self.now())
    }

    fn count_one(&mut self, name: &RelayName) {
        if let Some((incarnation, totals)) = self.hands.totals_of(name) {
            let totals = on_our_clock(totals, self.clock_began);
            self.engine.counted(self.now(), name, incarnation, totals);
        }
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
            troubles: self.troubles().collect(),
            confinement: Some(confinement::status()),
        }
    }

    fn troubles(&self) -> impl Iterator<Item = Trouble> {
        let unheard = self.engine.unheard_relay().map(unheard);
        self.keeper_trouble().into_iter().chain(self.rules.trouble()).chain(unheard).chain(crate::log::trouble())
    }

    fn keeper_trouble(&self) -> Option<Trouble> {
        let remedy = self.other_keeper().filter(|_| self.keeper == KeeperLink::Down)?;
        let message =
            "the keeper has ended: no group is joined any more, unless the service manager keeps them; packets that still come are relayed".to_owned();
        Some(Trouble { kind: TroubleKind::KeeperLost, relay: None, message, remedy })
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

/// Datapaths tell times by `CLOCK_MONOTONIC`, on which ours began at `clock_began`.
fn on_our_clock(totals: RelayTotals, clock_began: Duration) -> RelayTotals {
    RelayTotals { last_packet: totals.last_packet.map(|at| at.saturating_sub(clock_began)), ..totals }
}

/// What an operator wants to find in the log later.
fn log(event: &EventKind) {
    match event {
        EventKind::RelayState { relay, to: state, reason, remedy, .. } => {
            tracing::info!(relay, state = state.name(), reason, remedy, "relay is {state}");
        }
        EventKind::LeaseExpired { relay, lease_seconds } => {
            tracing::info!(relay, lease_seconds, "nobody renewed the lease of the relay: it is removed");
        }
        EventKind::FlowRecovered { relay, gap_seconds } => {
            tracing::info!(relay, gap_seconds, "packets come again");
        }
        EventKind::BreakerTripped { relay, packets_per_second, max_packets_per_second } => {
            tracing::warn!(relay, packets_per_second, max_packets_per_second, "a storm: the relay is out of force");
        }
        EventKind::QuerierHeard { interface, protocol, querier } => {
            tracing::info!(interface, %protocol, querier, "somebody asks for memberships");
        }
        EventKind::QuerierMissing { interface, protocol } => {
            let told = "nobody asks for memberships: switches that watch them will forget the groups";
            tracing::warn!(interface, %protocol, "{told}");
        }
        EventKind::QuerierOurs { interface, protocol } => {
            tracing::info!(interface, %protocol, "this host asks for memberships");
        }
        EventKind::BreakerRecovered { relay } => tracing::info!(relay, "the relay is tried again after a storm"),
        EventKind::DropsStarted { relay, output, reason, packets } => {
            tracing::warn!(relay, output, reason, packets, "packets are dropped");
        }
        EventKind::DropsEnded { relay, output, reason, packets } => {
            tracing::info!(relay, output, reason, packets, "no more packets are dropped");
        }
        // Told where they happen, or by the state that follows.
        other => tracing::debug!(event = other.name(), "{other:?}"),
    }
}

/// What is known of the links that packets leave on; a plan without it warns of less.
fn links() -> BTreeMap<InterfaceName, Link> {
    let found = mcr_diagnose::egress().unwrap_or_else(|error| {
        tracing::warn!(%error, "the speeds of links and the groups of bridges are not known");
        Vec::new()
    });
    let link = |Egress { name, bits_per_second, joined }: Egress| {
        let receivers = joined.map_or(Receivers::Unknown, Receivers::Joined);
        Some((name.parse().ok()?, Link { bits_per_second, receivers }))
    };
    found.into_iter().filter_map(link).collect()
}
