//! The in-kernel datapath: eBPF programs at tcx ingress and at the driver (XDP) that rewrite and copy frames, the tables that
//! tell them what to do, and the counters that tell what they did.
//!
//! [`load()`] and [`Loaded::attach`] need privileges (`CAP_BPF`, `CAP_NET_ADMIN`, `CAP_PERFMON`); a [`TableWriter`] and every
//! counter need only the descriptors of the [`Maps`]. Linux 6.6 or newer, with BTF.
//!
//! The program at tcx ingress can serve every relay. The one at the driver serves those that have an [`Exit`], and passes on
//! what it does not take, so both stay attached; a relay changes from one to the other with one word. It is used only where
//! [`Xdp`] has proven that it works, because a driver may drop what it gets without a word.
//!
//! Where frames may go is not for the writer to say: outputs name an interface by its number in [`Ports`], which the keeper
//! fills in and whose descriptor it keeps to itself.
//!
//! Verdicts, bytes and drop reasons are those of `mcr-wire`. What differs, because the kernel decides it:
//! - an aggregate that is no run of UDP datagrams with checksums left to complete is dropped as `gso_unsupported`;
//! - a super-frame whose segments are too big for an output is dropped whole, with a last segment that would have fitted;
//! - at the driver a checksum counts as left to be completed when it is the sum of the pseudo header, which one wrong checksum
//!   in 65,536 is, too;
//! - at the driver a copy that the kernel dropped before the way out (no memory, or the interface went down) is counted as
//!   `send_failed` when the next one comes on the same CPU; [`Crossings`] tell of it before.

#![warn(unsafe_op_in_unsafe_fn)]

mod counters;
mod crossings;
mod ethtool;
mod layout;
mod load;
mod maps;
mod pinned;
mod ports;
mod slots;
pub mod sys;
mod table;
mod writer;
mod xdp;

pub use counters::{InputCounters, InputSnapshot, OutputCounters, RelayCounters};
pub use crossings::Crossings;
pub use load::{LoadError, Loaded, Sizes, load};
pub use maps::{Maps, NotOurMaps};
pub use mcr_wire::{DroppedSnapshot, OutputSnapshot, RelaySnapshot};
pub use pinned::{NotReopened, interface_of, layout};
pub use ports::Ports;
pub use table::{Exit, InputTable, NotAtDriver, OutputAction, OutputEntry, RelayEntry, not_at_driver};
pub use writer::{Arrivals, TableWriter, WriteError};
pub use xdp::{Unproven, Xdp};
