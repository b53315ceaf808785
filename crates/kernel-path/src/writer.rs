//! The table writer: from the description of an input to map entries, without a moment at which a packet could see half of
//! a change.
//!
//! Records are written where no packet can reach them, then one word of `destinations` is changed to lead to them. What it
//! led to before rests until a grace period has passed; one is waited for only when nothing else is free, so a change costs
//! a few map writes and no waiting.

mod adopt;
mod arrivals;
mod error;
mod installed;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use mcr_wire::{Destination, Listing, MacAddr, Prefix};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::counters::{InputCounters, OutputCounters, Pool, RelayCounters};
use crate::layout::{
    DestinationKey, LIST_REFUSES, MOST_OUTPUTS, MOST_SHARING, NOTES_ARRIVALS, OutputRecord, OwnMacKey, Plain,
    RelayRecord, STATE_GENERATION, STATE_OWN_MAC_BITS, SourceKey, WatchedKey, free_bits_of,
};
use crate::maps::{MappedMaps, Maps, Table, Totals};
use crate::slots::Slots;
use crate::sys;
use crate::table::{Exit, InputTable, OutputEntry, RelayEntry, not_at_driver};

pub use self::arrivals::Arrivals;
pub use self::error::WriteError;
use self::installed::{Installed, InstalledOutput, image, sorted};

/// Writes the tables; one at a time for a set of maps. Needs their descriptors and no privilege.
#[derive(Debug)]
pub struct TableWriter {
    maps: MappedMaps,
    counters: Arc<Pools>,
    relay_records: Slots,
    output_records: Slots,
    relay_counters: Slots,
    output_counters: Slots,
    input_counters: Slots,
    /// Numbers are not used twice: there are two billion.
    last_source_list: u32,
    /// Source lists that a packet in flight may still look at.
    resting_sources: Vec<SourceKey>,
    sources: u32,
    installed: FxHashMap<DestinationKey, Vec<Installed>>,
    inputs: FxHashMap<u32, Arc<InputCounters>>,
    watched: FxHashMap<WatchedKey, u32>,
    own_macs: FxHashSet<OwnMacKey>,
    /// Counters by identity, as long as somebody uses them.
    known_relays: FxHashMap<u64, Weak<RelayCounters>>,
    known_outputs: FxHashMap<u64, Weak<OutputCounters>>,
}

#[derive(Debug)]
struct Pools {
    relays: Arc<Pool>,
    outputs: Arc<Pool>,
    inputs: Arc<Pool>,
}

impl TableWriter {
    /// A writer that takes over what the maps hold: nothing when they are new, and else what another writer left. Relays
    /// that are in force stay in force, and their counters go on.
    ///
    /// # Errors
    /// When the maps can not be mapped into memory, read, or cleaned of what nothing leads to.
    pub fn adopt(maps: Maps) -> Result<Self, WriteError> {
        let maps = maps.map().map_err(WriteError::NotMapped)?;
        let pool = || Pool::new(maps.clone());
        let counters = Arc::new(Pools { relays: pool(), outputs: pool(), inputs: pool() });
        let none = || Slots::new(0..0, |_| false);
        let mut writer = Self {
            counters,
            relay_records: none(),
            output_records: none(),
            relay_counters: none(),
            output_counters: none(),
            input_counters: none(),
            last_source_list: 0,
            resting_sources: Vec::new(),
            sources: 0,
            installed: FxHashMap::default(),
            inputs: FxHashMap::default(),
            watched: FxHashMap::default(),
            own_macs: FxHashSet::default(),
            known_relays: FxHashMap::default(),
            known_outputs: FxHashMap::default(),
            maps,
        };
        writer.read_back()?;
        writer.number();
        writer.know();
        // A writer before this one may have been stopped between two writes.
        writer.begin_generation();
        writer.set_own_mac_bits(None);
        Ok(writer)
    }

    /// Counters for a relay: those that are in use under this `identity`, if it is not 0, or new ones.
    ///
    /// # Errors
    /// When there are as many relays as the maps can hold.
    pub fn relay_counters(&mut self, identity: u64) -> Result<Arc<RelayCounters>, WriteError> {
        if let Some(counters) = self.known_relays.get(&identity).and_then(Weak::upgrade) {
            return Ok(counters);
        }
        if self.relay_counters.free() == 0 {
            self.wait_for_grace_period()?;
        }
        let slot = self
            .relay_counters
            .take()
            .ok_or(WriteError::Full { what: "relays", limit: self.maps.slots(Totals::Received) })?;
        let counters = RelayCounters::new(&self.counters.relays, slot, identity);
        if identity != 0 {
            self.known_relays.insert(identity, Arc::downgrade(&counters));
        }
        Ok(counters)
    }

    /// Counters for an output: those that are in use under this `identity`, if it is not 0, or new ones.
    ///
    /// # Errors
    /// When there are as many outputs as the maps can hold.
    pub fn output_counters(&mut self, identity: u64) -> Result<Arc<OutputCounters>, WriteError> {
        if let Some(counters) = self.known_outputs.get(&identity).and_then(Weak::upgrade) {
            return Ok(counters);
        }
        if self.output_counters.free() == 0 {
            self.wait_for_grace_period()?;
        }
        let slot = self
            .output_counters
            .take()
            .ok_or(WriteError::Full { what: "outputs", limit: self.maps.slots(Totals::Sent) })?;
        let counters = OutputCounters::new(&self.counters.outputs, slot, identity);
        if identity != 0 {
            self.known_outputs.insert(identity, Arc::downgrade(&counters));
        }
        Ok(counters)
    }

    /// The counters of an input.
    ///
    /// # Errors
    /// When there are as many inputs as the maps can hold.
    pub fn input_counters(&mut self, ifindex: u32) -> Result<Arc<InputCounters>, WriteError> {
        if let Some(counters) = self.inputs.get(&ifindex) {
            return Ok(Arc::clone(counters));
        }
        if self.input_counters.free() == 0 {
            self.wait_for_grace_period()?;
        }
        let limit = self.maps.slots(Totals::InputDropped);
        let slot = self.input_counters.take().ok_or(WriteError::Full { what: "inputs", limit })?;
        let counters = InputCounters::new(&self.counters.inputs, slot);
        self.inputs.insert(ifindex, Arc::clone(&counters));
        Ok(counters)
    }

    /// Makes `table` that of an input. Only what differs from what is in force is written: destination by destination, each
    /// from one moment to the next.
    ///
    /// # Errors
    /// At the first destination that can not be written; those before it are in force.
    pub fn install(&mut self, ifindex: u32, table: InputTable) -> Result<(), WriteError> {
        let InputTable { relays, our_macs } = table;
        self.set_own_macs(ifindex, &our_macs)?;
        let mut wanted: FxHashMap<DestinationKey, Vec<RelayEntry>> = FxHashMap::default();
        for relay in relays {
            wanted.entry(DestinationKey::new(ifindex, &relay.destination)).or_default().push(relay);
        }
        let is_gone = |key: &&DestinationKey| key.ifindex == ifindex && !wanted.contains_key(*key);
        let gone: Vec<DestinationKey> = self.installed.keys().filter(is_gone).copied().collect();
        for key in gone {
            self.remove(key)?;
        }
        wanted.into_iter().try_for_each(|(key, relays)| self.write(key, relays))
    }

    /// Makes `relays` all those of one destination of an input, from one moment to the next; none removes it.
    ///
    /// # Errors
    /// When they can not be written: those before are in force still.
    pub fn replace(
        &mut self,
        ifindex: u32,
        destination: &Destination,
        relays: Vec<RelayEntry>,
    ) -> Result<(), WriteError> {
        let key = DestinationKey::new(ifindex, destination);
        if relays.is_empty() { self.remove(key) } else { self.write(key, relays) }
    }

    /// Forgets an input, with its relays and counters.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_input(&mut self, ifindex: u32) -> Result<(), WriteError> {
        self.install(ifindex, InputTable::default())?;
        self.inputs.remove(&ifindex);
        Ok(())
    }

    /// Whether any relay is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.installed.is_empty()
    }

    /// What relays in force listen to on an interface.
    #[must_use]
    pub fn destinations(&self, ifindex: u32) -> Vec<Destination> {
        let keys = self.installed.keys().filter(|key| key.ifindex == ifindex);
        keys.map(DestinationKey::destination).collect()
    }

    /// How many relays are in force at a destination.
    #[must_use]
    pub fn relays_at(&self, ifindex: u32, destination: &Destination) -> usize {
        self.installed.get(&DestinationKey::new(ifindex, destination)).map_or(0, Vec::len)
    }

    /// The interfaces of which the tables hold anything.
    #[must_use]
    pub fn inputs(&self) -> Vec<u32> {
        let relays = self.installed.keys().map(|key| key.ifindex);
        let inputs: FxHashSet<u32> = relays.chain(self.own_macs.iter().map(|key| key.ifindex)).collect();
        inputs.into_iter().collect()
    }

    /// Makes `macs` the link-layer addresses that are our own, for an input.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn set_own_macs(&mut self, ifindex: u32, macs: &[MacAddr]) -> Result<(), WriteError> {
        let key = |mac: &MacAddr| OwnMacKey { ifindex, mac: mac.octets(), unused: 0 };
        let wanted: FxHashSet<OwnMacKey> = macs.iter().map(key).collect();
        let is_gone = |key: &&OwnMacKey| key.ifindex == ifindex && !wanted.contains(*key);
        let gone: Vec<OwnMacKey> = self.own_macs.iter().filter(is_gone).copied().collect();
        for key in gone {
            self.delete(Table::OwnMacs, &key)?;
            self.own_macs.remove(&key);
            self.set_own_mac_bits(None);
        }
        for key in wanted {
            if !self.own_macs.contains(&key) {
                // The bit before the address, and after it is gone: a frame that came back is never missed.
                self.set_own_mac_bits(Some(&key));
                self.update(Table::OwnMacs, &key, &1_u32)?;
                self.own_macs.insert(key);
            }
        }
        Ok(())
    }

    /// Makes the bits those of the addresses that are in force, and of one that is to be.
    fn set_own_mac_bits(&self, next: Option<&OwnMacKey>) {
        let bits = self.own_macs.iter().chain(next).fold(0_u64, |bits, key| bits | 1 << (key.mac[5] & 63));
        self.maps.totals(Totals::State).word(STATE_OWN_MAC_BITS).store(bits, Ordering::Release);
    }

    /// After each change of `destinations`, and before what it led to before is laid to rest.
    fn begin_generation(&self) {
        self.maps.totals(Totals::State).word(STATE_GENERATION).fetch_add(1, Ordering::AcqRel);
    }

    fn remove(&mut self, key: DestinationKey) -> Result<(), WriteError> {
        let Some(relays) = self.installed.get(&key) else { return Ok(()) };
        debug_assert!(!relays.is_empty());
        self.delete(Table::Destinations, &key)?;
        self.begin_generation();
        let relays = self.installed.remove(&key).unwrap_or_default();
        for relay in relays {
            self.retire(relay);
        }
        self.unwatch(key)
    }

    fn write(&mut self, key: DestinationKey, entries: Vec<RelayEntry>) -> Result<(), WriteError> {
        self.check(&key, &entries)?;
        // Before anything is in force: there may be too many inputs.
        self.input_counters(key.ifindex)?;
        let old = self.installed.remove(&key).unwrap_or_default();
        if old.len() == entries.len() && old.iter().zip(&entries).all(|(old, entry)| old.is(entry)) {
            self.installed.insert(key, old);
            return Ok(());
        }
        let is_new = old.is_empty();
        if is_new {
            self.watch(key)?;
        }
        match self.publish(key, &entries, &old) {
            Ok(new) => {
                let kept = |new: &[Installed], record| {
                    new.iter().flat_map(|relay| &relay.outputs).any(|output: &InstalledOutput| output.record == record)
                };
                let lists: Vec<u32> = new.iter().map(|relay| relay.source_list).collect();
                for mut relay in old {
                    relay.outputs.retain(|output| !kept(&new, output.record));
                    if lists.contains(&relay.source_list) {
                        relay.sources.clear();
                    }
                    self.retire(relay);
                }
                self.installed.insert(key, new);
                Ok(())
            }
            Err(error) => {
                if is_new {
                    // It is counted for an address that nobody listens to, at worst.
                    let _ = self.unwatch(key);
                } else {
                    self.installed.insert(key, old);
                }
                Err(error)
            }
        }
    }

    fn check(&self, key: &DestinationKey, entries: &[RelayEntry]) -> Result<(), WriteError> {
        let destination = key.destination();
        if entries.len() > MOST_SHARING {
            return Err(WriteError::TooManySharing { destination, relays: entries.len() });
        }
        if let Some(outputs) = entries.iter().map(|entry| entry.outputs.len()).find(|&outputs| outputs > MOST_OUTPUTS) {
            return Err(WriteError::TooManyOutputs { destination, outputs });
        }
        let has_too_many_lengths = |entry: &RelayEntry| free_bits_of(&sorted(&entry.sources)).is_none();
        if entries.iter().any(has_too_many_lengths) {
            return Err(WriteError::TooManyLengths { destination });
        }
        let at_driver = entries.iter().any(|entry| entry.exit != Exit::Tcx);
        match at_driver.then(|| not_at_driver(entries)).flatten() {
            Some(why) => Err(WriteError::NotAtDriver { destination, why }),
            None => Ok(()),
        }
    }

    /// Writes records for `entries` and leads packets to them. What `old` has alike is shared.
    fn publish(
        &mut self,
        key: DestinationKey,
        entries: &[RelayEntry],
        old: &[Installed],
    ) -> Result<Vec<Installed>, WriteError> {
        self.make_room(entries)?;
        let mut new: Vec<Installed> = Vec::with_capacity(entries.len());
        let mut next = 0;
        // From the last to the first: each knows the record behind it.
        for entry in entries.iter().rev() {
            let before = old.iter().find(|before| before.counters.slot() == entry.counters.slot());
            let written = self.write_relay(key, entry, before, next);
            match written {
                Ok(relay) => {
                    next = relay.record;
                    new.push(relay);
                }
                Err(error) => return Err(self.abandon(new, old, error)),
            }
        }
        new.reverse();
        match self.update(Table::Destinations, &key, &next) {
            Ok(()) => {
                self.begin_generation();
                Ok(new)
            }
            Err(error) => Err(self.abandon(new, old, error)),
        }
    }

    /// Gives back what was written for nothing.
    fn abandon(&mut self, new: Vec<Installed>, old: &[Installed], error: WriteError) -> WriteError {
        for mut relay in new {
            let is_olds = |record| old.iter().flat_map(|relay| &relay.outputs).any(|output| output.record == record);
            relay.outputs.retain(|output| !is_olds(output.record));
            if old.iter().any(|old| old.source_list == relay.source_list) {
                relay.sources.clear();
            }
            self.retire(relay);
        }
        error
    }

    /// Sees to it that there are records enough; as if nothing could be shared.
    fn make_room(&mut self, entries: &[RelayEntry]) -> Result<(), WriteError> {
        let outputs: usize = entries.iter().map(|entry| entry.outputs.len()).sum();
        let sources: usize = entries.iter().map(|entry| entry.sources.len()).sum();
        let source_limit = self.maps.entries(Table::Sources);
        let is_short = |writer: &Self| {
            writer.relay_records.free() < entries.len()
                || writer.output_records.free() < outputs
                || writer.sources as usize + sources > source_limit as usize
        };
        if is_short(self) {
            self.wait_for_grace_period()?;
        }
        let full = |what, limit| Err(WriteError::Full { what, limit });
        if self.relay_records.free() < entries.len() {
            return full("relays", self.maps.slots(Totals::Received));
        }
        if self.output_records.free() < outputs {
            return full("outputs", self.maps.slots(Totals::Sent));
        }
        if self.sources as usize + sources > source_limit as usize {
            return full("sources", source_limit);
        }
        Ok(())
    }

    fn write_relay(
        &mut self,
        destination: DestinationKey,
        entry: &RelayEntry,
        before: Option<&Installed>,
        next: u32,
    ) -> Result<Installed, WriteError> {
        let sources = sorted(&entry.sources);
        let listed_before = before.filter(|before| before.lists(&sources, entry.listing));
        let sent_before = before.filter(|before| before.has_outputs(&entry.outputs));
        let source_list = match listed_before {
            Some(before) => before.source_list,
            None => self.write_sources(&sources, entry.listing)?,
        };
        let outputs = match sent_before {
            Some(before) => Ok(before.outputs.iter().map(InstalledOutput::share).collect()),
            None => self.write_outputs(&entry.outputs),
        };
        let new_sources = |sources: &[Prefix]| if listed_before.is_some() { Vec::new() } else { sources.to_vec() };
        let outputs: Vec<InstalledOutput> =
            outputs.inspect_err(|_| self.lay_to_rest(source_list, &new_sources(&sources), &[]))?;
        let counters = Arc::clone(&entry.counters);
        entry.outputs.iter().for_each(|output| output.counters.begin_with(&counters));
        let exit = RelayRecord::exit(entry.exit, &entry.outputs);
        let (mtu, demands) = RelayRecord::demands(&destination, &entry.outputs);
        let flags = demands | if counters.notes_arrivals() { NOTES_ARRIVALS } else { 0 };
        let record = RelayRecord {
            destination,
            next,
            first_output: outputs.first().map_or(0, |output| output.record),
            source_list,
            slot: counters.slot(),
            exit,
            mtu,
            least_ttl: entry.outputs.iter().filter_map(|output| output.action.least_ttl()).max().unwrap_or(0).into(),
            flags,
            free_bits: free_bits_of(&sources).unwrap_or_default(),
            identity: counters.identity(),
            cap: entry.cap.into(),
            arrived: 0,
        };
        let number = take(&mut self.relay_records, "relays")?;
        if let Err(error) = self.update(Table::Relays, &number, &record) {
            self.relay_records.rest(number);
            let new_outputs = if sent_before.is_some() { &[] } else { outputs.as_slice() };
            self.lay_to_rest(source_list, &new_sources(&sources), new_outputs);
            return Err(error);
        }
        Ok(Installed { record: number, counters, sources, source_list, outputs, exit, cap: record.cap, flags })
    }

    /// Writes the records of a relay's outputs, linked.
    fn write_outputs(&mut self, entries: &[OutputEntry]) -> Result<Vec<InstalledOutput>, WriteError> {
        let mut outputs = Vec::with_capacity(entries.len());
        let mut next = 0;
        for entry in entries.iter().rev() {
            let image = image(entry);
            let record = take(&mut self.output_records, "outputs")?;
            outputs.push(InstalledOutput { record, counters: Arc::clone(&entry.counters), image });
            if let Err(error) = self.update(Table::Outputs, &record, &OutputRecord { next, ..image }) {
                self.lay_to_rest(0, &[], &outputs);
                return Err(error);
            }
            next = record;
        }
        outputs.reverse();
        Ok(outputs)
    }

    /// Writes a source list; its number, 0 for any source.
    fn write_sources(&mut self, sources: &[Prefix], listing: Listing) -> Result<u32, WriteError> {
        if sources.is_empty() {
            return Ok(0);
        }
        self.last_source_list += 1;
        let list = match listing {
            Listing::Accepts => self.last_source_list,
            Listing::Refuses => self.last_source_list | LIST_REFUSES,
        };
        for (written, source) in sources.iter().enumerate() {
            let (key, value) = (SourceKey::new(list, source), SourceKey::value(source));
            if let Err(error) = self.update(Table::Sources, &key, &value) {
                self.lay_to_rest(list, &sources[..written], &[]);
                return Err(error);
            }
            self.sources += 1;
        }
        Ok(list)
    }

    /// Lays a relay to rest that no new packet can reach.
    fn retire(&mut self, relay: Installed) {
        let Installed { record, counters: _, sources, source_list, outputs, exit: _, cap: _, flags: _ } = relay;
        self.relay_records.rest(record);
        self.lay_to_rest(source_list, &sources, &outputs);
    }

    /// The same for parts of one.
    fn lay_to_rest(&mut self, source_list: u32, sources: &[Prefix], outputs: &[InstalledOutput]) {
        outputs.iter().for_each(|output| self.output_records.rest(output.record));
        self.resting_sources.extend(sources.iter().map(|source| SourceKey::new(source_list, source)));
    }

    /// Wakes all that rests.
    fn wait_for_grace_period(&mut self) -> Result<(), WriteError> {
        self.counters.relays.take_left().into_iter().for_each(|slot| self.relay_counters.rest(slot));
        self.counters.outputs.take_left().into_iter().for_each(|slot| self.output_counters.rest(slot));
        self.counters.inputs.take_left().into_iter().for_each(|slot| self.input_counters.rest(slot));
        self.known_relays.retain(|_, counters| counters.strong_count() > 0);
        self.known_outputs.retain(|_, counters| counters.strong_count() > 0);
        sys::wait_for_grace_period();
        self.relay_records.wake();
        self.output_records.wake();
        self.relay_counters.wake();
        self.output_counters.wake();
        self.input_counters.wake();
        while let Some(key) = self.resting_sources.last().copied() {
            self.delete(Table::Sources, &key)?;
            self.resting_sources.pop();
            self.sources -= 1;
        }
        Ok(())
    }

    /// Counts a destination for its address: frames to it that can not be read are counted on the input.
    fn watch(&mut self, key: DestinationKey) -> Result<(), WriteError> {
        let watched = WatchedKey::from(&key);
        let input = self.input_counters(key.ifindex)?.slot();
        if !self.watched.contains_key(&watched) {
            self.update(Table::Watched, &watched, &input)?;
        }
        *self.watched.entry(watched).or_insert(0) += 1;
        Ok(())
    }

    fn unwatch(&mut self, key: DestinationKey) -> Result<(), WriteError> {
        let watched = WatchedKey::from(&key);
        let Some(count) = self.watched.get_mut(&watched) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        self.watched.remove(&watched);
        self.delete(Table::Watched, &watched)
    }

    fn update<K: Plain, V: Plain>(&self, table: Table, key: &K, value: &V) -> Result<(), WriteError> {
        sys::update(self.maps.table(table), key, value).map_err(|error| self.refused(table, error))
    }

    fn delete<K: Plain>(&self, table: Table, key: &K) -> Result<(), WriteError> {
        sys::delete(self.maps.table(table), key).map_err(|error| self.refused(table, error))
    }

    fn refused(&self, table: Table, error: io::Error) -> WriteError {
        let what = Maps::NAMES[table as usize];
        // The answer of a full hash map.
        if error.raw_os_error() == Some(libc::E2BIG) {
            return WriteError::Full { what, limit: self.maps.entries(table) };
        }
        WriteError::Refused { what, error }
    }
}

fn take(slots: &mut Slots, what: &'static str) -> Result<u32, WriteError> {
    slots.take().ok_or(WriteError::Full { what, limit: 0 })
}
