//! The tables, as descriptors: all that a writer or a reader of counters needs.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::{
    BUCKET_BYTES, DROPPED_BYTES, DestinationKey, OutputRecord, OwnMacKey, RECEIVED_BYTES, RelayRecord, SENT_BYTES,
    STATE_BYTES, SourceKey, WatchedKey,
};
use crate::sys::{self, MapInfo};

/// Descriptors that are not those of our maps.
#[derive(Debug, thiserror::Error)]
pub enum NotOurMaps {
    /// Too few or too many.
    #[error("{0} descriptors were handed over instead of {expected}: the other side is of another version", expected = Maps::COUNT)]
    Count(usize),
    /// One has another layout.
    #[error("map `{name}` has another layout ({found:?}): it was made by another version; remove the pinned maps")]
    Layout {
        /// The map.
        name: &'static str,
        /// What was found, for a log.
        found: String,
    },
    /// One can not be used.
    #[error("map `{name}` can not be used: {error}")]
    Unusable {
        /// The map.
        name: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// The tables of a loaded program. Cheap to clone; handed from process to process as descriptors.
#[derive(Debug, Clone)]
pub struct Maps(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fds: [OwnedFd; Maps::COUNT],
    infos: [MapInfo; Maps::COUNT],
    cpus: u32,
}

/// The tables with their counters in our memory, for whoever writes or reads them: the keeper, which does neither, is spared
/// the megabytes.
#[derive(Debug, Clone)]
pub(crate) struct MappedMaps {
    maps: Maps,
    mapped: Arc<[Mapped; 6]>,
}

/// Places in [`Maps::NAMES`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    Destinations,
    Relays,
    Outputs,
    Sources,
    OwnMacs,
    Watched,
}

/// Counters and the state, which are mapped into memory; their places in [`Maps::NAMES`] follow those of the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Totals {
    Received,
    Sent,
    Dropped,
    InputDropped,
    State,
    Buckets,
}

/// Where the counters begin in [`Maps::NAMES`].
const FIRST_TOTALS: usize = 6;

impl Maps {
    /// How many there are.
    pub const COUNT: usize = 12;
    /// Their names in the program, in the order of [`Maps::fds`].
    pub const NAMES: [&'static str; Self::COUNT] = [
        "destinations",
        "relays",
        "outputs",
        "sources",
        "own_macs",
        "watched",
        "received",
        "sent",
        "dropped",
        "input_dropped",
        "state",
        "buckets",
    ];
    /// Bytes of key and value of each.
    const LAYOUT: [(usize, usize); Self::COUNT] = [
        (size_of::<DestinationKey>(), 4),
        (4, size_of::<RelayRecord>()),
        (4, size_of::<OutputRecord>()),
        (size_of::<SourceKey>(), 4),
        (size_of::<OwnMacKey>(), 4),
        (size_of::<WatchedKey>(), 4),
        (4, RECEIVED_BYTES),
        (4, SENT_BYTES),
        (4, DROPPED_BYTES),
        (4, DROPPED_BYTES),
        (4, STATE_BYTES),
        (4, BUCKET_BYTES),
    ];

    /// The tables that these descriptors are of, in the order of [`Maps::NAMES`]. Needs no privilege.
    ///
    /// # Errors
    /// When they are not maps of ours.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Self, NotOurMaps> {
        let fds: [OwnedFd; Self::COUNT] = fds.try_into().map_err(|fds: Vec<_>| NotOurMaps::Count(fds.len()))?;
        let mut infos = [MapInfo::default(); Self::COUNT];
        for (index, fd) in fds.iter().enumerate() {
            let name = Self::NAMES[index];
            let info = sys::map_info(fd.as_fd()).map_err(|error| NotOurMaps::Unusable { name, error })?;
            if (info.key_bytes as usize, info.value_bytes as usize) != Self::LAYOUT[index] {
                return Err(NotOurMaps::Layout { name, found: format!("{info:?}") });
            }
            infos[index] = info;
        }
        let of = |totals: Totals| infos[FIRST_TOTALS + totals as usize].max_entries;
        let cpus = of(Totals::Sent) / of(Totals::Dropped).max(1);
        if cpus == 0 || of(Totals::Received) % cpus != 0 || of(Totals::Sent) % cpus != 0 {
            return Err(NotOurMaps::Layout { name: "sent", found: format!("{infos:?}") });
        }
        Ok(Self(Arc::new(Inner { fds, infos, cpus })))
    }

    /// Maps the counters into memory.
    pub(crate) fn map(self) -> io::Result<MappedMaps> {
        let map = |totals: Totals| {
            let index = FIRST_TOTALS + totals as usize;
            let info = &self.0.infos[index];
            Mapped::new(self.0.fds[index].as_fd(), info.max_entries as usize * info.value_bytes as usize / 8)
        };
        let mapped = [
            map(Totals::Received)?,
            map(Totals::Sent)?,
            map(Totals::Dropped)?,
            map(Totals::InputDropped)?,
            map(Totals::State)?,
            map(Totals::Buckets)?,
        ];
        Ok(MappedMaps { maps: self, mapped: Arc::new(mapped) })
    }

    /// The kernel's number of the first: other tables have another.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.infos[0].id
    }

    /// The descriptors, in the order of [`Maps::NAMES`]; what [`Maps::from_fds`] takes.
    pub fn fds(&self) -> [BorrowedFd<'_>; Self::COUNT] {
        std::array::from_fn(|index| self.0.fds[index].as_fd())
    }

    pub(crate) fn table(&self, table: Table) -> BorrowedFd<'_> {
        self.0.fds[table as usize].as_fd()
    }

    /// Entries of a table.
    pub(crate) fn entries(&self, table: Table) -> u32 {
        self.0.infos[table as usize].max_entries
    }

    /// Counters of one CPU, or of all when they are shared.
    pub(crate) fn slots(&self, totals: Totals) -> u32 {
        let entries = self.0.infos[FIRST_TOTALS + totals as usize].max_entries;
        match totals {
            Totals::Received | Totals::Sent => entries / self.0.cpus,
            Totals::Dropped | Totals::InputDropped | Totals::State | Totals::Buckets => entries,
        }
    }

    /// CPUs that have counters of their own.
    pub(crate) fn cpus(&self) -> u32 {
        self.0.cpus
    }
}

impl MappedMaps {
    pub(crate) fn totals(&self, totals: Totals) -> &Mapped {
        &self.mapped[totals as usize]
    }
}

impl Deref for MappedMaps {
    type Target = Maps;

    fn deref(&self) -> &Maps {
        &self.maps
    }
}

/// An array of the kernel's, in our memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is only touched by atomic operations, and unmapped by the last owner.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; a range that is no part of the map is refused.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), words * 8, protection, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words })
    }

    /// The counter at a place.
    ///
    /// # Panics
    /// Beyond the end: slots are handed out within it.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words, "counter {index} of {}", self.words);
        // SAFETY: within the mapping, which lives as long as `self`; aligned, since the mapping starts at a page.
        unsafe { self.start.add(index).as_ref() }
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which nothing refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}
