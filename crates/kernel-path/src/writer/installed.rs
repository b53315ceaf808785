//! What is in force, as the writer remembers it.

use std::sync::Arc;

use mcr_wire::listing::put_in_order;
use mcr_wire::{Listing, Prefix};

use crate::counters::{OutputCounters, RelayCounters};
use crate::layout::{CapRecord, LIST_REFUSES, NOTES_ARRIVALS, OutputRecord, RelayRecord};
use crate::table::{OutputEntry, RelayEntry};

/// A relay that is in force.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) record: u32,
    pub(super) counters: Arc<RelayCounters>,
    /// Sorted, none within another.
    pub(super) sources: Vec<Prefix>,
    pub(super) source_list: u32,
    pub(super) outputs: Vec<InstalledOutput>,
    /// As written.
    pub(super) exit: u32,
    /// As written.
    pub(super) cap: CapRecord,
    /// As written.
    pub(super) flags: u32,
}

#[derive(Debug)]
pub(super) struct InstalledOutput {
    pub(super) record: u32,
    pub(super) counters: Arc<OutputCounters>,
    /// As written, but for `next`.
    pub(super) image: OutputRecord,
}

impl Installed {
    pub(super) fn is(&self, entry: &RelayEntry) -> bool {
        self.counters.slot() == entry.counters.slot()
            && self.lists(&entry.sources, entry.listing)
            && self.has_outputs(&entry.outputs)
            && self.exit == RelayRecord::exit(entry.exit, &entry.outputs)
            && self.cap == entry.cap.into()
            && self.notes_arrivals() == entry.counters.notes_arrivals()
    }

    pub(super) fn notes_arrivals(&self) -> bool {
        self.flags & NOTES_ARRIVALS != 0
    }

    pub(super) fn lists(&self, sources: &[Prefix], listing: Listing) -> bool {
        self.sources == sorted(sources) && (sources.is_empty() || listing_of(self.source_list) == listing)
    }

    pub(super) fn has_outputs(&self, entries: &[OutputEntry]) -> bool {
        self.outputs.len() == entries.len()
            && self.outputs.iter().zip(entries).all(|(installed, entry)| installed.image == image(entry))
    }
}

pub(super) fn image(entry: &OutputEntry) -> OutputRecord {
    let record = OutputRecord::new(&entry.action, entry.counters.slot(), entry.counters.identity());
    OutputRecord { cap: entry.cap.into(), ..record }
}

fn listing_of(list: u32) -> Listing {
    if list & LIST_REFUSES == 0 { Listing::Accepts } else { Listing::Refuses }
}

pub(super) fn sorted(sources: &[Prefix]) -> Vec<Prefix> {
    let mut sources = sources.to_vec();
    let kept = put_in_order(&mut sources);
    sources.truncate(kept);
    sources
}

impl InstalledOutput {
    pub(super) fn share(&self) -> Self {
        Self { record: self.record, counters: Arc::clone(&self.counters), image: self.image }
    }
}
