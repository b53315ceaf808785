//! What packets come for, of relays that want it noted.

use mcr_wire::Destination;
use rustc_hash::FxHashMap;

use super::error::WriteError;
use super::{DestinationKey, Installed, TableWriter};
use crate::counters::RelayCounters;
use crate::layout::RelayRecord;
use crate::maps::Table;
use crate::sys;

/// What packets have come for, of each relay whose arrivals are noted.
#[derive(Debug, Default)]
pub struct Arrivals(FxHashMap<u32, Vec<Destination>>);

impl Arrivals {
    /// Of the relay that counts with these.
    #[must_use]
    pub fn of(&self, counters: &RelayCounters) -> &[Destination] {
        self.0.get(&counters.slot()).map_or(&[], Vec::as_slice)
    }
}

impl TableWriter {
    /// What packets have come for since then (of `CLOCK_MONOTONIC`, to half a second), of all relays whose arrivals are noted: read in
    /// one pass over the tables.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn arrivals(&self, since_nanoseconds: u64) -> Result<Arrivals, WriteError> {
        let of_key = |(key, relays): (&'_ DestinationKey, &'_ Vec<Installed>)| {
            let noting = relays.iter().filter(|relay| relay.notes_arrivals());
            noting.map(|relay| (relay.record, relay.counters.slot(), *key)).collect::<Vec<_>>()
        };
        let mut noting: Vec<(u32, u32, DestinationKey)> = self.installed.iter().flat_map(of_key).collect();
        noting.sort_unstable_by_key(|(record, ..)| *record);
        let mut arrivals = Arrivals::default();
        for run in noting.chunk_by(|(record, ..), (next, ..)| record + 1 == *next) {
            let records: Vec<RelayRecord> = sys::lookup_run(self.maps.table(Table::Relays), run[0].0, run.len())
                .map_err(|error| self.refused(Table::Relays, error))?;
            let is_late = |record: &RelayRecord| record.arrived >= since_nanoseconds && record.arrived != 0;
            for ((_, slot, key), _) in run.iter().zip(&records).filter(|(_, record)| is_late(record)) {
                arrivals.0.entry(*slot).or_default().push(key.destination());
            }
        }
        Ok(arrivals)
    }
}
