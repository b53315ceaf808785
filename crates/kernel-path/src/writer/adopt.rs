//! Taking over from another writer.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use mcr_wire::Prefix;
use rustc_hash::{FxHashMap, FxHashSet};

use super::installed::{Installed, InstalledOutput, sorted};
use super::{TableWriter, WriteError};
use crate::counters::{InputCounters, OutputCounters, Pool, RelayCounters};
use crate::layout::{
    Address, DestinationKey, LIST_REFUSES, MOST_OUTPUTS, MOST_SHARING, OutputRecord, Plain, RelayRecord, SourceKey,
    WatchedKey,
};
use crate::maps::{Table, Totals};
use crate::slots::Slots;
use crate::sys;

/// Counters by their slots: a relay of several destinations has one record for each, which count together.
#[derive(Default)]
struct Found {
    relays: FxHashMap<u32, Arc<RelayCounters>>,
    outputs: FxHashMap<u32, Arc<OutputCounters>>,
}

impl Found {
    fn relay(&mut self, pool: &Arc<Pool>, record: &RelayRecord) -> Arc<RelayCounters> {
        let adopt = || RelayCounters::adopt(pool, record.slot, record.identity);
        Arc::clone(self.relays.entry(record.slot).or_insert_with(adopt))
    }

    fn output(&mut self, pool: &Arc<Pool>, record: &OutputRecord) -> Arc<OutputCounters> {
        let adopt = || OutputCounters::adopt(pool, record.slot, record.identity);
        Arc::clone(self.outputs.entry(record.slot).or_insert_with(adopt))
    }
}

impl TableWriter {
    pub(super) fn read_back(&mut self) -> Result<(), WriteError> {
        let keys = |map: BorrowedFd<'_>| sys::keys(map);
        let listed: Vec<SourceKey> = self.keys(Table::Sources)?;
        self.last_source_list = listed.iter().map(|key| key.list & !LIST_REFUSES).max().unwrap_or(0);
        let mut by_list: FxHashMap<u32, Vec<(Address, u32)>> = FxHashMap::default();
        for key in &listed {
            let value = self.lookup(Table::Sources, key)?;
            by_list.entry(key.list).or_default().push((key.address, value));
        }
        self.own_macs = keys(self.maps.table(Table::OwnMacs))
            .map_err(|error| self.refused(Table::OwnMacs, error))?
            .into_iter()
            .collect();
        let mut watched: FxHashSet<WatchedKey> = self.keys(Table::Watched)?.into_iter().collect();
        for key in &watched {
            let slot: u32 = self.lookup(Table::Watched, key)?;
            let pool = &self.counters.inputs;
            self.inputs.entry(key.ifindex).or_insert_with(|| InputCounters::adopt(pool, slot));
        }
        let mut found = Found::default();
        for key in self.keys::<DestinationKey>(Table::Destinations)? {
            let relays = self.read_relays(&key, &mut by_list, &mut found)?;
            self.installed.insert(key, relays);
            let address = WatchedKey::from(&key);
            *self.watched.entry(address).or_insert(0) += 1;
            if !self.inputs.contains_key(&key.ifindex) {
                // The writer before was stopped between two writes.
                watched.remove(&address);
            }
        }
        self.forget_strays(&watched, &by_list)?;
        let lists = self.installed.values().flatten().map(|relay| relay.sources.len());
        self.sources = lists.sum::<usize>() as u32;
        Ok(())
    }

    /// Removes what the writer before left without use when it was stopped between two writes.
    fn forget_strays(
        &mut self,
        watched: &FxHashSet<WatchedKey>,
        lists: &FxHashMap<u32, Vec<(Address, u32)>>,
    ) -> Result<(), WriteError> {
        for key in watched.iter().filter(|key| !self.watched.contains_key(*key)) {
            self.delete(Table::Watched, key)?;
        }
        for (&list, addresses) in lists {
            for (address, _) in addresses {
                self.delete(Table::Sources, &SourceKey { list, address: *address })?;
            }
        }
        Ok(())
    }

    fn read_relays(
        &mut self,
        key: &DestinationKey,
        by_list: &mut FxHashMap<u32, Vec<(Address, u32)>>,
        found: &mut Found,
    ) -> Result<Vec<Installed>, WriteError> {
        let mut relays: Vec<Installed> = Vec::new();
        let mut number: u32 = self.lookup(Table::Destinations, key)?;
        while number != 0 && relays.len() < MOST_SHARING {
            let record: RelayRecord = self.lookup(Table::Relays, &number)?;
            let listed = by_list.remove(&record.source_list).unwrap_or_default();
            let prefix = |(address, value)| SourceKey::prefix(address, value, key.family());
            let sources: Vec<Prefix> = listed.into_iter().map(prefix).collect();
            relays.push(Installed {
                record: number,
                counters: found.relay(&self.counters.relays, &record),
                sources: sorted(&sources),
                source_list: record.source_list,
                outputs: self.read_outputs(record.first_output, found)?,
                exit: record.exit,
                cap: record.cap,
                flags: record.flags,
            });
            number = record.next;
        }
        Ok(relays)
    }

    fn read_outputs(&self, first: u32, found: &mut Found) -> Result<Vec<InstalledOutput>, WriteError> {
        let mut outputs: Vec<InstalledOutput> = Vec::new();
        let mut number = first;
        while number != 0 && outputs.len() < MOST_OUTPUTS {
            let record: OutputRecord = self.lookup(Table::Outputs, &number)?;
            let counters = found.output(&self.counters.outputs, &record);
            outputs.push(InstalledOutput { record: number, counters, image: OutputRecord { next: 0, ..record } });
            number = record.next;
        }
        Ok(outputs)
    }

    /// Counters in force can be found by their identity.
    pub(super) fn know(&mut self) {
        for relay in self.installed.values().flatten().filter(|relay| relay.counters.identity() != 0) {
            self.known_relays.insert(relay.counters.identity(), Arc::downgrade(&relay.counters));
        }
        for output in self.installed.values().flatten().flat_map(|relay| &relay.outputs) {
            if output.counters.identity() != 0 {
                self.known_outputs.insert(output.counters.identity(), Arc::downgrade(&output.counters));
            }
        }
    }

    /// Numbers that are not in use can be taken.
    pub(super) fn number(&mut self) {
        let relays = || self.installed.values().flatten();
        let outputs = || relays().flat_map(|relay| &relay.outputs);
        let relay_records: FxHashSet<u32> = relays().map(|relay| relay.record).collect();
        let relay_counters: FxHashSet<u32> = relays().map(|relay| relay.counters.slot()).collect();
        let output_records: FxHashSet<u32> = outputs().map(|output| output.record).collect();
        let output_counters: FxHashSet<u32> = outputs().map(|output| output.counters.slot()).collect();
        let input_counters: FxHashSet<u32> = self.inputs.values().map(|input| input.slot()).collect();
        let maps = &self.maps;
        // Record 0 ends a list.
        self.relay_records = Slots::new(1..maps.entries(Table::Relays), |n| relay_records.contains(&n));
        self.output_records = Slots::new(1..maps.entries(Table::Outputs), |n| output_records.contains(&n));
        self.relay_counters = Slots::new(0..maps.slots(Totals::Received), |n| relay_counters.contains(&n));
        self.output_counters = Slots::new(0..maps.slots(Totals::Sent), |n| output_counters.contains(&n));
        self.input_counters = Slots::new(0..maps.slots(Totals::InputDropped), |n| input_counters.contains(&n));
    }

    fn keys<K: Plain>(&self, table: Table) -> Result<Vec<K>, WriteError> {
        sys::keys(self.maps.table(table)).map_err(|error| self.refused(table, error))
    }

    pub(super) fn lookup<K: Plain, V: Plain>(&self, table: Table, key: &K) -> Result<V, WriteError> {
        sys::lookup(self.maps.table(table), key).map_err(|error| self.refused(table, error))
    }
}
