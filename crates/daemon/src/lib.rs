//! The MCR daemon: a control thread that owns every decision, an API in front of it, and no privilege.
//!
//! [`run`] is the daemon of `mcr run`; [`foreground`] is one relay without an API, for `mcr relay`. Both connect to
//! (or start) the keeper first, then drop every capability, and only then start threads and read requests.

pub mod access;
pub mod api;
pub mod config;
mod confinement;
pub mod control;
mod datapath;
mod doors;
mod ears;
pub mod events;
mod lifecycle;
mod listeners;
pub mod log;
pub mod lookout;
pub mod metrics;
mod netlink;
pub mod notify;
#[cfg(feature = "otlp")]
mod otlp;
pub mod serve;
mod state;
pub mod store;
mod troubles;

pub use control::{Control, Waited};
pub use datapath::workers::Workers;
pub use doors::check_access;
pub use lifecycle::{Foreground, ForegroundOptions, KeeperChoice, RunOptions, clean, foreground, run};

/// What the fuzz targets reach; `cargo fuzz` sets the condition.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use crate::api::relay_body;
}
