//! Why a table could not be written.

use std::io;

use mcr_wire::{Destination, Listing};

use crate::layout::{MOST_OUTPUTS, MOST_SHARING};
use crate::table::NotAtDriver;

/// Why a table was not written. What was in force before still is, for the destination that failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A table is full.
    #[error(
        "the in-kernel table of {what} is full ({limit}); raise its size under [tables] in the keeper's policy (/etc/mcr/policy.toml) and restart mcr-netd"
    )]
    Full {
        /// What it holds.
        what: &'static str,
        /// How many.
        limit: u32,
    },
    /// One relay has too many outputs.
    #[error(
        "the relay of {destination} has {outputs} outputs, and the in-kernel datapath sends to {MOST_OUTPUTS} at most; split it into several relays"
    )]
    TooManyOutputs {
        /// What it listens to.
        destination: Destination,
        /// How many it has.
        outputs: usize,
    },
    /// The sources of a relay are prefixes of too many lengths.
    #[error(
        "the relay of {destination} lists prefixes of more than {} lengths, and the in-kernel datapath takes no more",
        Listing::MOST_LENGTHS
    )]
    TooManyLengths {
        /// What it listens to.
        destination: Destination,
    },
    /// Too many relays share a destination.
    #[error("{relays} relays listen to {destination}, and the in-kernel datapath takes {MOST_SHARING} at most")]
    TooManySharing {
        /// What they listen to.
        destination: Destination,
        /// How many.
        relays: usize,
    },
    /// The program at the driver does not take these relays.
    #[error("what listens to {destination} can not be served at the driver: {why}")]
    NotAtDriver {
        /// What they listen to.
        destination: Destination,
        /// Why.
        why: NotAtDriver,
    },
    /// The counters are out of reach.
    #[error(
        "the in-kernel counters can not be mapped into memory: {0}; free memory, or raise the daemon's limit of it (LimitAS)"
    )]
    NotMapped(io::Error),
    /// The kernel refused.
    #[error("the kernel refused to change the in-kernel table of {what}: {error}")]
    Refused {
        /// What it holds.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}
