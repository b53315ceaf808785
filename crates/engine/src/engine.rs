//! The engine itself: the relays, what is known, what is in force, and the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mcr_model::relay::Relay;
use mcr_model::status::{InterfaceStatus, Origin, OutputStatus, RelayStatus};
use mcr_model::{
    Condition, Datapath, DatapathChoice, DropReason, EventKind, Grant, InterfaceName, RelayName, RelayState,
};

use crate::actual::{Actual, Inventory};
use crate::breaker::Fuse;
use crate::condition::OutputHealth;
use crate::datapath::Serving;
use crate::effect::{Effect, EffectError, InputKey, Membership, Outcome, Refused, Subject, Until};
use crate::fact::{Ifindex, InterfaceFacts, Neighbour};
use crate::failures::Failures;
use crate::happening::Happenings;
use crate::history::{Recorder, Step, Track};
use crate::lease::Leases;
use crate::plan::{Action, Desired, InputPlan, RelayPlan, View};
use crate::rulebook::{Refusal, Rulebook};
use crate::traffic::{InterfaceLedger, Meter, RelayTotals};
use crate::watch::Told;

/// A relay that somebody wants, and what was counted of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) relay: Arc<Relay>,
    pub(crate) origin: Origin,
    pub(crate) incarnation: u64,
    pub(crate) meter: Meter,
    pub(crate) told: Told,
    /// What it carried, once it carried something.
    pub(crate) recorder: Option<Box<Recorder>>,
    /// Its plan, and the epoch of the [`View`] that it was made from.
    pub(crate) plan: Option<(u64, Arc<RelayPlan>)>,
    /// What moves its packets, as decided last.
    pub(crate) serving: Serving,
    /// Whether another relay takes the same packets.
    pub(crate) shares_destination: bool,
    pub(crate) fuse: Fuse,
}

/// A relay that is wanted, for those who count for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: RelayName,
    /// Which definition of that name.
    pub incarnation: u64,
    /// How many outputs it has.
    pub outputs: usize,
}

/// What came for a relay so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Datagrams.
    pub received_packets: u64,
    /// They came, and have stopped.
    pub silent: bool,
}

/// Whether anybody wants what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It is the relay's.
    Noted,
    /// That definition of the relay is gone: nothing need be counted for it any more.
    Obsolete,
}

/// What putting a relay changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// There was none of that name.
    Created,
    /// There was another definition.
    Changed,
    /// It was there, exactly so.
    Unchanged,
}

/// What a new set of relays of the configuration file changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// New ones.
    pub added: Vec<RelayName>,
    /// Ones with another definition.
    pub changed: Vec<RelayName>,
    /// Ones that are gone.
    pub removed: Vec<RelayName>,
    /// Ones that were not touched.
    pub unchanged: Vec<RelayName>,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    pub(crate) relays: BTreeMap<RelayName, Entry>,
    pub(crate) rulebook: Rulebook,
    file: String,
    /// For relays that do not say.
    datapath: DatapathChoice,
    /// What applications of this host listen to.
    listeners: BTreeSet<(IpAddr, u16)>,
    incarnations: u64,
    pub(crate) facts: BTreeMap<InterfaceName, InterfaceFacts>,
    neighbours: BTreeMap<(Ifindex, IpAddr), [u8; 6]>,
    ledgers: BTreeMap<Ifindex, InterfaceLedger>,
    pub(crate) actual: Actual,
    pub(crate) failures: Failures,
    settled: bool,
    /// Counts the changes that can change the plan of a relay that did not change itself.
    epoch: u64,
    /// What was wanted when it was last worked out; `None` when that may be out of date.
    desired: Option<Desired>,
    pub(crate) leases: Leases,
    pub(crate) happenings: Happenings,
    /// Counts everything that can change the state of a relay, except what is counted of it.
    pub(crate) generation: u64,
    /// The second up to which history is written.
    pub(crate) recorded: u64,
}

impl Engine {
    /// An engine without relays; `file` is how refusals name the configuration file.
    pub fn new(file: impl Into<String>) -> Self {
        Self {
            relays: BTreeMap::new(),
            rulebook: Rulebook::default(),
            file: file.into(),
            datapath: DatapathChoice::Auto,
            listeners: BTreeSet::new(),
            incarnations: 0,
            facts: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            actual: Actual::default(),
            failures: Failures::default(),
            settled: false,
            epoch: 0,
            desired: None,
            leases: Leases::default(),
            happenings: Happenings::default(),
            generation: 0,
            recorded: 0,
        }
    }

    /// Takes over what a living keeper holds.
    pub fn adopt(&mut self, inventory: Inventory) {
        self.actual.adopt(inventory);
        self.world_changed();
    }

    /// The keeper is gone and with it every membership; what this process holds open goes on.
    pub fn keeper_lost(&mut self) {
        self.actual.groups.clear();
        self.actual.kept.clear();
        self.unsettle();
    }

    /// Another keeper is there, which holds `inventory`; everything is opened and joined anew.
    pub fn keeper_found(&mut self, inventory: Inventory) {
        self.actual = Actual::default();
        self.failures.clear();
        self.adopt(inventory);
    }

    // ---- what is wanted

    /// Adds a relay of the API.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing is changed then.
    pub fn create(&mut self, relay: Relay) -> Result<(), Refusal> {
        if let Some(entry) = self.relays.get(relay.name()) {
            self.check_owner(entry)?;
            return Err(Refusal::Exists { name: relay.name().clone() });
        }
        self.rulebook.admit(&relay)?;
        self.insert(relay, Origin::Api);
        Ok(())
    }

    /// Makes the relay of that name be exactly this one.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing is changed then.
    pub fn replace(&mut self, relay: Relay) -> Result<Replaced, Refusal> {
        let Some(entry) = self.relays.get(relay.name()) else {
            return self.create(relay).map(|()| Replaced::Created);
        };
        if *entry.relay == relay {
            return Ok(Replaced::Unchanged);
        }
        self.check_owner(entry)?;
        self.rulebook.strike(&entry.relay);
        if let Err(refusal) = self.rulebook.admit(&relay) {
            self.rulebook.restore(&entry.relay);
            return Err(refusal);
        }
        self.insert(relay, Origin::Api);
        Ok(Replaced::Changed)
    }

    /// Removes a relay of the API.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::OwnedByFile`].
    pub fn remove(&mut self, name: &RelayName) -> Result<(), Refusal> {
        let entry = self.relays.get(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
        self.check_owner(entry)?;
        let (relay, origin) = (name.to_string(), entry.origin);
        self.rulebook.strike(&entry.relay);
        self.relays.remove(name);
        self.leases.stop(name);
        self.happened(EventKind::RelayRemoved { relay, origin });
        self.happenings.forget(name);
        self.relay_changed(Some(name));
        Ok(())
    }

    /// Makes the relays of the file be exactly these; relays of the API stay.
    ///
    /// # Errors
    /// Every [`Refusal`]; nothing is changed then.
    pub fn load_file(&mut self, relays: Vec<Relay>) -> Result<Difference, Vec<Refusal>> {
        let rulebook = self.rulebook_with_file(&relays)?;
        self.rulebook = rulebook;
        let mut difference = Difference::default();
        let mut gone: BTreeMap<RelayName, ()> =
            self.of_origin(Origin::File).map(|entry| (entry.relay.name().clone(), ())).collect();
        for relay in relays {
            let name = relay.name().clone();
            gone.remove(&name);
            match self.relays.get(&name) {
                Some(entry) if *entry.relay == relay => difference.unchanged.push(name),
                Some(_) => {
                    self.insert(relay, Origin::File);
                    difference.changed.push(name);
                }
                None => {
                    self.insert(relay, Origin::File);
                    difference.added.push(name);
                }
            }
        }
        for name in gone.into_keys() {
            self.relays.remove(&name);
            self.happened(EventKind::RelayRemoved { relay: name.to_string(), origin: Origin::File });
            self.happenings.forget(&name);
            difference.removed.push(name);
        }
        self.happened(EventKind::ConfigurationLoaded {
            added: difference.added.len(),
            changed: difference.changed.len(),
            removed: difference.removed.len(),
            unchanged: difference.unchanged.len(),
        });
        self.relay_changed(None);
        Ok(difference)
    }

    /// The relays of a start: those of the file, then those of the API that an earlier daemon stored. One of the latter
    /// that does not fit beside the file is left out.
    ///
    /// # Errors
    /// Every [`Refusal`] of the file's; nothing is changed then. When it succeeds, those of the API that were left out.
    pub fn begin(&mut self, file: Vec<Relay>, api: Vec<Relay>) -> Result<Vec<Refusal>, Vec<Refusal>> {
        self.load_file(file)?;
        Ok(api.into_iter().filter_map(|relay| self.create(relay).err()).collect())
    }

    pub(crate) fn rulebook_with_file(&self, relays: &[Relay]) -> Result<Rulebook, Vec<Refusal>> {
        let mut rulebook = Rulebook::default();
        let mut refusals = Vec::new();
        for entry in self.of_origin(Origin::Api) {
            rulebook.admit(&entry.relay).map_err(|refusal| vec![refusal])?;
        }
        for relay in relays {
            let name = relay.name();
            if self.relays.get(name).is_some_and(|entry| entry.origin == Origin::Api) {
                refusals.push(Refusal::OwnedByApi { name: name.clone() });
            } else if let Err(refusal) = rulebook.admit(relay) {
                refusals.push(refusal);
            }
        }
        if refusals.is_empty() { Ok(rulebook) } else { Err(refusals) }
    }

    pub(crate) fn of_origin(&self, origin: Origin) -> impl Iterator<Item = &Entry> {
        self.relays.values().filter(move |entry| entry.origin == origin)
    }

    pub(crate) fn check_api_owns(&self, name: &RelayName) -> Result<(), Refusal> {
        self.check_owner(self.relays.get(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })?)
    }

    fn check_owner(&self, entry: &Entry) -> Result<(), Refusal> {
        self.check_owned(entry.relay.name(), entry.origin)
    }

    /// The API may change only what it made.
    pub(crate) fn check_owned(&self, name: &RelayName, origin: Origin) -> Result<(), Refusal> {
        match origin {
            Origin::Api => Ok(()),
            Origin::File => Err(Refusal::OwnedByFile { name: name.clone(), file: self.file.clone() }),
        }
    }

    fn insert(&mut self, relay: Relay, origin: Origin) {
        let relay = Arc::new(relay);
        let name = relay.name().clone();
        let text = name.to_string();
        self.happenings.learn(&relay);
        let entry = match self.relays.remove(&name) {
            None => {
                self.happened(EventKind::RelayCreated { relay: text, origin });
                self.new_entry(relay, origin)
            }
            // It stays the same relay, and its counters go on.
            Some(mut before) if before.relay.relays_as(&relay) => {
                self.happened(EventKind::RelayChanged { relay: text, origin });
                before.fuse.close();
                Entry { relay, origin, ..before }
            }
            Some(Entry { mut told, mut recorder, .. }) => {
                self.happened(EventKind::RelayChanged { relay: text, origin });
                told.restart();
                recorder.iter_mut().for_each(|recorder| recorder.restart());
                Entry { told, recorder, ..self.new_entry(relay, origin) }
            }
        };
        self.relay_changed(Some(&name));
        self.relays.insert(name, entry);
    }

    /// The datapath of relays that do not say; theirs as they say.
    pub fn datapath_is(&mut self, choice: DatapathChoice) {
        if self.datapath != choice {
            self.datapath = choice;
            self.wish_changed();
        }
    }

    /// All that applications of this host listen to by UDP; the unspecified address stands for any.
    pub fn listeners_are(&mut self, listeners: BTreeSet<(IpAddr, u16)>) {
        if self.listeners != listeners {
            self.listeners = listeners;
            self.wish_changed();
        }
    }

    fn relay_changed(&mut self, name: Option<&RelayName>) {
        self.failures.relay_changed(name);
        self.wish_changed();
    }

    fn new_entry(&mut self, relay: Arc<Relay>, origin: Origin) -> Entry {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        Entry {
            serving: Serving::hoped(relay.datapath().unwrap_or(self.datapath)),
            shares_destination: false,
            relay,
            origin,
            incarnation,
            meter: Meter::default(),
            told: Told::default(),
            recorder: None,
            plan: None,
            fuse: Fuse::default(),
        }
    }

    // ---- what is known

    /// All interfaces that there are now.
    pub fn interfaces_are(&mut self, interfaces: Vec<InterfaceFacts>) {
        let facts: BTreeMap<_, _> = interfaces.into_iter().map(|facts| (facts.name.clone(), facts)).collect();
        if facts == self.facts {
            return;
        }
        self.tell_interfaces(&facts);
        self.facts = facts;
        // Whatever failed may have failed because of what changed just now.
        self.failures.clear();
        let known = self.indexes();
        self.neighbours.retain(|(interface, _), _| known.contains(interface));
        self.ledgers.retain(|interface, _| known.contains(interface));
        self.actual.next_hops.clear();
        self.actual.proven.retain(|interface| known.contains(interface));
        self.world_changed();
    }

    /// An interface has left, whatever may have its index now: nothing that was opened or joined there is of use.
    /// Reconcile before the next [`Engine::interfaces_are`], or what was opened passes for what is to be opened.
    pub fn interface_left(&mut self, index: Ifindex) {
        let rest = self.facts.values().filter(|facts| facts.index != index);
        self.interfaces_are(rest.cloned().collect());
    }

    /// The kernel's word on a neighbour.
    pub fn neighbour_is(&mut self, neighbour: Neighbour) {
        let Neighbour { interface, address, mac } = neighbour;
        let key = (interface, address);
        let before = match mac {
            Some(mac) => self.neighbours.insert(key, mac),
            None => self.neighbours.remove(&key),
        };
        let matters = self.desired.as_ref().is_none_or(|desired| desired.neighbours.contains(&key));
        if before != mac && matters {
            self.world_changed();
        }
    }

    /// All neighbours that there are now: what is not among them is not resolved.
    pub fn neighbours_are(&mut self, neighbours: Vec<Neighbour>) {
        let resolved = neighbours.into_iter().filter_map(|n| Some(((n.interface, n.address), n.mac?))).collect();
        if self.neighbours != resolved {
            self.neighbours = resolved;
            self.world_changed();
        }
    }

    /// The kernel has forgotten a neighbour altogether, and with it that it was to be kept.
    pub fn neighbour_is_gone(&mut self, interface: Ifindex, address: IpAddr) {
        self.neighbour_is(Neighbour { interface, address, mac: None });
        if self.actual.kept.remove(&(interface, address)) {
            self.unsettle();
        }
    }

    /// Routes changed: next hops have to be asked for again.
    pub fn routes_changed(&mut self) {
        let was_missing = self.failures.routes_changed();
        if was_missing || !self.actual.next_hops.is_empty() {
            self.actual.next_hops.clear();
            self.world_changed();
        }
    }

    /// What the datapath counted for a relay. Of another incarnation than the present one it says nothing.
    pub fn counted(&mut self, now: Duration, name: &RelayName, incarnation: u64, totals: RelayTotals) -> Counted {
        let Some(entry) = self.relays.get_mut(name).filter(|entry| entry.incarnation == incarnation) else {
            return Counted::Obsolete;
        };
        let stuck = entry.stuck_at_driver(&totals);
        entry.meter.observe(now, totals);
        entry.told.stir();
        self.doubt(&stuck);
        Counted::Noted
    }

    /// What the datapath counted on an interface without being able to charge a relay.
    pub fn counted_on(&mut self, interface: Ifindex, ledger: InterfaceLedger) {
        self.ledgers.insert(interface, ledger);
    }

    // ---- the difference

    /// The next effects: carry out each, report it with [`Engine::done`], and ask again until there are none.
    pub fn reconcile(&mut self, now: Duration) -> Vec<Effect> {
        if self.failures.is_any_due(now) {
            self.settled = false;
        }
        if self.failures.put_on_trial(now) {
            self.wish_changed();
        }
        if self.settled {
            return Vec::new();
        }
        let desired = self.desired.take().unwrap_or_else(|| self.desire());
        let stages = [Self::openings, Self::installs, Self::joins, Self::endings];
        let effects = stages.iter().map(|stage| self.due(stage(self, &desired), now)).find(|batch| !batch.is_empty());
        self.settled = effects.is_none();
        if self.settled && !self.failures.is_empty() {
            let waiting: BTreeSet<Subject> =
                stages.iter().flat_map(|stage| stage(self, &desired)).map(|effect| effect.subject()).collect();
            self.failures.settle(&waiting, |name| self.relays.contains_key(name));
            self.generation += 1;
        }
        self.desired = Some(desired);
        effects.unwrap_or_default()
    }

    fn desire(&mut self) -> Desired {
        // Not `self.view()`: the entries are changed beside it.
        let view = View {
            facts: &self.facts,
            neighbours: &self.neighbours,
            actual: &self.actual,
            failures: &self.failures,
            datapath: self.datapath,
            listeners: &self.listeners,
        };
        view.desire(self.epoch, &mut self.relays)
    }

    /// Somebody wants something else: what is wanted has to be worked out again.
    pub(crate) fn wish_changed(&mut self) {
        self.desired = None;
        self.unsettle();
    }

    /// Something that is in force may not be what is wanted.
    pub(crate) fn unsettle(&mut self) {
        self.settled = false;
        self.generation += 1;
    }

    /// What plans are made from is different: so may be each plan.
    fn world_changed(&mut self) {
        self.epoch += 1;
        self.wish_changed();
    }

    /// What came of an effect.
    pub fn done(&mut self, now: Duration, effect: Effect, result: Result<Outcome, EffectError>) {
        let subject = effect.subject();
        match result {
            Ok(outcome) => {
                let had_failed = self.failures.over(&subject);
                if let (Effect::Install { input, .. }, Outcome::Refused(refused)) = (&effect, &outcome) {
                    for Refused { relay, error, until } in refused {
                        self.failed(now, Subject::Relay(relay.clone(), input.datapath), error.clone(), *until);
                    }
                }
                self.actual.record(effect, outcome);
                match subject {
                    Subject::Output(_) | Subject::NextHop(..) => self.world_changed(),
                    Subject::Proof(_) => self.wish_changed(),
                    Subject::Input(input) if had_failed || input.datapath == Datapath::Xdp => self.wish_changed(),
                    Subject::Table(_) if had_failed => self.wish_changed(),
                    _ => {}
                }
            }
            Err(error) => {
                self.actual.record_failed(&effect);
                if matches!(effect, Effect::CloseOutput { .. }) {
                    self.world_changed();
                }
                self.failed(now, subject, error, Until::Pause);
            }
        }
        self.unsettle();
    }

    fn failed(&mut self, now: Duration, subject: Subject, error: EffectError, until: Until) {
        if matches!(subject, Subject::Input(_) | Subject::Table(_) | Subject::Proof(_) | Subject::Relay(..)) {
            // Another datapath may have to serve.
            self.wish_changed();
        }
        self.failures.add(now, subject, error, until);
    }

    /// When [`Engine::reconcile`] should be asked although no event came.
    pub fn next_retry(&self) -> Option<Duration> {
        self.failures.next_retry()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            facts: &self.facts,
            neighbours: &self.neighbours,
            actual: &self.actual,
            failures: &self.failures,
            datapath: self.datapath,
            listeners: &self.listeners,
        }
    }

    fn indexes(&self) -> BTreeSet<Ifindex> {
        self.facts.values().map(|facts| facts.index).collect()
    }

    fn due(&self, effects: Vec<Effect>, now: Duration) -> Vec<Effect> {
        effects.into_iter().filter(|effect| !self.failures.holds_up(&effect.subject(), now)).collect()
    }

    fn openings(&self, desired: &Desired) -> Vec<Effect> {
        let inputs = desired.inputs.iter().filter(|(key, _)| !self.actual.inputs.contains_key(key));
        let inputs = inputs.map(|(&input, (name, mtu))| Effect::OpenInput { input, name: name.clone(), mtu: *mtu });
        let outputs = desired.outputs.iter().filter(|(index, _)| !self.actual.outputs.contains(index));
        let outputs = outputs.map(|(&interface, name)| Effect::OpenOutput { interface, name: name.clone() });
        let proofs = desired.proofs.iter().filter(|(interface, _)| {
            let is_proven = self.actual.proven.contains(interface) && !self.actual.doubted.contains(interface);
            self.actual.outputs.contains(interface) && !is_proven
        });
        let proofs = proofs.map(|(&interface, &mac)| Effect::Prove { interface, mac });
        let routes = desired.routed.iter().filter(|key| !self.actual.next_hops.contains_key(key));
        let routes = routes.map(|&(interface, destination)| Effect::FindNextHop { interface, destination });
        let hops = desired.neighbours.iter().filter(|key| !self.actual.kept.contains(key));
        let hops = hops.map(|&(interface, next_hop)| Effect::Resolve { interface, next_hop });
        inputs.chain(outputs).chain(proofs).chain(routes).chain(hops).collect()
    }

    fn installs(&self, desired: &Desired) -> Vec<Effect> {
        // An input that no relay wants any more gets an empty table before its groups are left.
        let empty = InputPlan::default();
        // One whose interface has left is closed, no more.
        let here = self.indexes();
        let open = self.actual.inputs.iter().filter(|(input, _)| here.contains(&input.interface));
        let changed = open.filter_map(|(&input, table)| {
            let plan = desired.plans.get(&input).unwrap_or(&empty);
            if table.as_ref() == Some(plan) {
                return None;
            }
            let plan = self.with_leaving(input, table.as_ref(), plan);
            (table.as_ref() != Some(&plan)).then_some(Effect::Install { input, plan })
        });
        changed.collect()
    }

    /// The plan, and the relays that are in force and on their way to another datapath: they leave when they have
    /// arrived there, so that what is not taken there is still taken here.
    fn with_leaving(&self, input: InputKey, in_force: Option<&InputPlan>, plan: &InputPlan) -> InputPlan {
        let mut plan = plan.clone();
        let gone = in_force.into_iter().flat_map(|table| table.names_beyond(&plan));
        let leaving: Vec<_> = gone.filter(|relay| self.is_on_its_way(input, relay)).cloned().collect();
        if let (false, Some(table)) = (leaving.is_empty(), in_force) {
            if plan.relays.is_empty() {
                plan.our_macs.clone_from(&table.our_macs);
            }
            plan.relays.extend(leaving);
            plan.relays.sort_by(|a, b| a.relay.cmp(&b.relay));
        }
        plan
    }

    /// Whether the relay is to be served by another datapath, which does not serve it yet but may.
    fn is_on_its_way(&self, from: InputKey, relay: &RelayPlan) -> bool {
        let Some(entry) = self.relays.get(&relay.relay) else { return false };
        let Serving { datapath, .. } = entry.serving;
        let to = InputKey { datapath, ..from };
        let is_there =
            self.facts.get(&entry.relay.input().interface).is_some_and(|facts| facts.index == from.interface);
        let may = !self.failures.stands(&Subject::Input(to)) && !self.failures.stands(&Subject::Table(to));
        let may = may && !self.view().is_refused(entry, datapath) && !self.view().is_unproven(entry, datapath);
        to != from && is_there && may && !self.actual.serves(to, &relay.relay, entry.incarnation)
    }

    fn joins(&self, desired: &Desired) -> Vec<Effect> {
        let open = self.actual.inputs.iter().filter(|(_, table)| table.is_some());
        let open: BTreeSet<Ifindex> = open.map(|(input, _)| input.interface).collect();
        let listening = |interface: Ifindex| open.contains(&interface);
        let wanted = desired
            .groups
            .iter()
            .filter(|(key, sources)| listening(key.0) && self.actual.groups.get(key) != Some(sources));
        wanted
            .map(|(&(interface, group), sources)| {
                Effect::Join(Membership { interface, group, sources: sources.clone() })
            })
            .collect()
    }

    fn endings(&self, desired: &Desired) -> Vec<Effect> {
        let groups = self.actual.groups.iter().filter(|(key, _)| !desired.groups.contains_key(key));
        let groups = groups.map(|(&(interface, group), sources)| {
            Effect::Leave(Membership { interface, group, sources: sources.clone() })
        });
        let hops = self.actual.kept.iter().filter(|key| !desired.neighbours.contains(key));
        let hops = hops.map(|&(interface, next_hop)| Effect::Forget { interface, next_hop });
        let inputs = self.actual.inputs.keys().chain(&self.actual.leftover_inputs);
        let inputs = inputs.filter(|input| !desired.inputs.contains_key(input));
        let inputs = inputs.map(|&input| Effect::CloseInput { input });
        let outputs = self.actual.outputs.iter().chain(&self.actual.leftover_outputs);
        let outputs = outputs.filter(|index| !desired.outputs.contains_key(index));
        let outputs = outputs.map(|&interface| Effect::CloseOutput { interface });
        groups.chain(hops).chain(inputs).chain(outputs).collect()
    }

    // ---- what people see

    /// How many relays there are.
    pub fn relay_count(&self) -> usize {
        self.relays.len()
    }

    /// Whether there is a relay of that name that a caller with `grant` may know of.
    pub fn is_within(&self, name: &RelayName, grant: &Grant) -> bool {
        self.relays.get(name).is_some_and(|entry| grant.has(&entry.relay))
    }

    /// Whether there is a relay of that name.
    pub fn has_relay(&self, name: &RelayName) -> bool {
        self.relays.contains_key(name)
    }

    /// The relays that somebody has to count for.
    pub fn wanted(&self) -> impl Iterator<Item = Wanted> {
        self.relays.values().map(|entry| Wanted {
            name: entry.relay.name().clone(),
            incarnation: entry.incarnation,
            outputs: entry.relay.outputs().len(),
        })
    }

    /// All relays, by name.
    pub fn statuses(&self, now: Duration) -> Vec<RelayStatus> {
        self.relays.values().map(|entry| self.status_of(entry, now)).collect()
    }

    /// One relay.
    pub fn status(&self, name: &RelayName, now: Duration) -> Option<RelayStatus> {
        self.relays.get(name).map(|entry| self.status_of(entry, now))
    }

    /// What a relay carried, as far back as it is remembered.
    pub fn history(&self, name: &RelayName, step: Step) -> Option<Track> {
        let entry = self.relays.get(name)?;
        let nothing = Track { first: self.recorded, samples: Vec::new() };
        Some(entry.recorder.as_ref().map_or(nothing, |recorder| recorder.track(step)))
    }

    /// Whether a packet that arrives now is received by that relay; `None`: there is no such relay.
    pub fn is_listening(&self, name: &RelayName) -> Option<bool> {
        let standing = self.standing_state(self.relays.get(name)?);
        Some(standing.is_none_or(RelayState::is_listening))
    }

    /// Packets of that relay so far, and whether they came and have stopped; `None`: there is no such relay.
    pub fn flow(&self, now: Duration, name: &RelayName) -> Option<Flow> {
        let entry = self.relays.get(name)?;
        let silent = entry.meter.is_silent(now, entry.relay.watch());
        Some(Flow { received_packets: entry.meter.totals.received.packets, silent })
    }

    /// The condition of each relay, without the rest of its status.
    pub fn conditions(&self, now: Duration) -> impl Iterator<Item = (&RelayName, Condition)> {
        self.relays.iter().map(move |(name, entry)| (name, self.condition(entry, now)))
    }

    fn status_of(&self, entry: &Entry, now: Duration) -> RelayStatus {
        let condition = self.condition(entry, now);
        let serving = entry.serving.clone();
        RelayStatus {
            name: entry.relay.name().to_string(),
            origin: entry.origin,
            state: condition.state,
            reason: condition.reason,
            remedy: condition.remedy,
            datapath: serving.datapath.to_string(),
            datapath_reason: serving.because,
            from: entry.relay.input().to_string(),
            lease: self.leases.status(entry.relay.name(), now),
            breaker: entry.relay.watch().breaker().map(|_| entry.fuse.status()),
            received: entry.meter.received(),
            last_packet_seconds: entry.meter.quiet_for(now).map(|quiet| quiet.as_secs_f64()),
            outputs: (0..entry.relay.outputs().len()).map(|i| self.output_status(entry, i)).collect(),
            relay: entry.relay.as_ref().into(),
        }
    }

    fn output_status(&self, entry: &Entry, index: usize) -> OutputStatus {
        let output = &entry.relay.outputs()[index];
        let (ok, reason, remedy) = match self.output_health(entry, index) {
            OutputHealth::Sending => (true, None, None),
            OutputHealth::Waiting { reason, remedy }
            | OutputHealth::Failing { reason, remedy }
            | OutputHealth::Refused { reason, remedy } => (false, Some(reason), Some(remedy)),
        };
        let source = match self.view().action(output) {
            Action::Send(plan) => plan.source,
            Action::Drop(_) => None,
        };
        let totals = entry.meter.totals.outputs.get(index).cloned().unwrap_or_default();
        OutputStatus {
            to: output.to_string(),
            ok,
            reason,
            remedy,
            source,
            sent: entry.meter.sent(index),
            dropped_packets: totals.dropped_packets(),
            dropped: by_name(&totals.dropped),
        }
    }

    /// All interfaces, by name.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        let status = |facts: &InterfaceFacts| InterfaceStatus {
            name: facts.name.to_string(),
            index: facts.index.0,
            up: facts.up,
            carrier: facts.carrier,
            multicast: facts.multicast,
            mtu: facts.mtu,
            mac: facts.mac.map(|byte| format!("{byte:02x}")).join(":"),
            addresses: facts
                .addresses
                .iter()
                .map(|address| format!("{}/{}", address.ip, address.prefix_length))
                .collect(),
            input_of: self.relays.values().filter(|entry| entry.relay.input().interface == facts.name).count(),
            output_of: self
                .relays
                .values()
                .flat_map(|entry| entry.relay.outputs())
                .filter(|output| output.interface == facts.name)
                .count(),
            unattributed: self.ledgers.get(&facts.index).map(|ledger| by_name(&ledger.dropped)),
        };
        self.facts.values().map(status).collect()
    }
}

fn by_name(dropped: &[u64; DropReason::COUNT]) -> BTreeMap<String, u64> {
    let named = DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), dropped[reason.index()]));
    named.filter(|(_, count)| *count > 0).collect()
}
