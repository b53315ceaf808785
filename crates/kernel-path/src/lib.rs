//! The in-kernel datapath: an eBPF program at tcx ingress that rewrites and copies frames, the tables that tell it what to
//! do, and the counters that tell what it did.
//!
//! [`load()`] and [`Loaded::attach`] need privileges (`CAP_BPF`, `CAP_NET_ADMIN`, `CAP_PERFMON`); a [`TableWriter`] and every
//! counter need only the descriptors of the [`Maps`]. Linux 6.6 or newer, with BTF.
//!
//! Where frames may go is not for the writer to say: outputs name an interface by its number in [`Ports`], which the keeper
//! fills in and whose descriptor it keeps to itself.
//!
//! Verdicts, bytes and drop reasons are those of `mcr-wire`. What differs, because the kernel decides it:
//! - an aggregate that is no run of UDP datagrams with checksums left to complete is dropped as `gso_unsupported`;
//! - a super-frame whose segments are too big for an output is dropped whole, with a last segment that would have fitted;
//! - with [`LastCopy::Redirected`], the last copy of a frame counts as sent, and what the output interface then does with it
//!   is for that interface's own statistics.

#![warn(unsafe_op_in_unsafe_fn)]

mod counters;
mod layout;
mod load;
mod maps;
mod ports;
mod slots;
pub mod sys;
mod table;
mod writer;

pub use counters::{
    DroppedSnapshot, InputCounters, InputSnapshot, OutputCounters, OutputSnapshot, RelayCounters, RelaySnapshot,
};
pub use load::{LastCopy, LoadError, Loaded, Sizes, load};
pub use maps::{Maps, NotOurMaps};
pub use ports::Ports;
pub use table::{InputTable, OutputAction, OutputEntry, RelayEntry};
pub use writer::{TableWriter, WriteError};
