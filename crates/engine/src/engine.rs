//! The engine itself: the relays that are wanted, and what is known.

mod reconcile;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mcr_model::relay::Relay;
use mcr_model::span::Offset;
use mcr_model::status::Origin;
use mcr_model::{DatapathChoice, EventKind, InterfaceName, RelayName};

use crate::actual::{Actual, Inventory};
use crate::breaker::Fuse;
use crate::datapath::Serving;
use crate::fact::{Ifindex, InterfaceFacts, Neighbour};
use crate::failures::Failures;
use crate::happening::Happenings;
use crate::history::Recorder;
use crate::lease::Leases;
use crate::members::Members;
use crate::plan::{Desired, RelayPlan};
use crate::querier::Queriers;
use crate::rulebook::{Refusal, Rulebook};
use crate::sightings::Sightings;
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
    /// Its plan, and the epoch of the [`View`](crate::plan::View) that it was made from.
    pub(crate) plan: Option<(u64, Arc<RelayPlan>)>,
    /// What moves its packets, as decided last.
    pub(crate) serving: Serving,
    /// Whether another relay takes the same packets.
    pub(crate) shares_destination: bool,
    /// Of a range, the pairs that others take which name them more exactly; in order.
    pub(crate) ceded: Vec<Offset>,
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
    pub(crate) queriers: Queriers,
    pub(crate) members: Members,
    pub(crate) sightings: Sightings,
    /// The version that is spoken on each interface.
    pub(crate) igmp_versions: BTreeMap<Ifindex, u8>,
    /// The second up to which history is written.
    pub(crate) recorded: u64,
    /// Whether some relay has a breaker; asked at every look, and found when it is worked out what is wanted.
    pub(crate) has_breakers: bool,
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
            queriers: Queriers::default(),
            members: Members::default(),
            sightings: Sightings::default(),
            igmp_versions: BTreeMap::new(),
            recorded: 0,
            has_breakers: false,
        }
    }

    /// Takes over what a living keeper holds.
    pub fn adopt(&mut self, inventory: Inventory) {
        let joined = inventory.memberships.iter().map(|m| (m.interface, m.group));
        self.members.inherit(joined.clone());
        self.sightings.inherit(joined);
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
        self.lose_addresses();
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
            ceded: Vec::new(),
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
        let is_news = !facts.values().map(InterfaceFacts::of_host).eq(self.facts.values().map(InterfaceFacts::of_host));
        self.facts = facts;
        if is_news {
            // Whatever failed may have failed because of what changed just now. What was added for relays mends nothing.
            self.failures.clear();
        }
        let known = self.indexes();
        self.neighbours.retain(|(interface, _), _| known.contains(interface));
        self.ledgers.retain(|interface, _| known.contains(interface));
        self.actual.next_hops.clear();
        self.actual.proven.retain(|interface| known.contains(interface));
        self.lose_addresses();
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
}
