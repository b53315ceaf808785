//! The keeper: the one privileged part of MCR. It opens packet sockets, joins groups and keeps
//! neighbour entries for the daemon, which itself has no capability at all.
//!
//! The keeper reads no packet and no configuration of relays. It takes a dozen fixed requests
//! (`protocol`), checks each against the administrator's policy ([`PolicyChoice`]), and holds what it made
//! until the daemon gives it back, so that a daemon that crashed finds all of it again.
//!
//! The daemon's side is [`Keeper`]; the program `mcr-netd` is [`serve`].

pub mod memory;
pub mod peer;
pub mod privileges;
pub mod standard_error;

mod announcement;
mod arp;
mod board;
mod channel;
mod client;
mod departure;
mod fd_store;
mod guard;
mod holdings;
mod host_address;
mod identity;
mod igmp;
mod igmp_version;
mod interface;
mod kernel_path;
mod links;
mod listener;
mod log;
mod membership;
mod mld;
mod neighbour;
mod netlink;
mod nftables;
mod own_address;
mod packet_info;
mod packet_socket;
mod passive;
mod pins;
mod policy;
mod protocol;
mod querier;
mod report;
mod service;
mod signals;
mod socket_path;

/// What the fuzz targets reach; `cargo fuzz` sets the condition.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::protocol::{Reply, Request};

    /// Reads a message of either side. A request that is understood has exactly these bytes; a reply, once its texts are
    /// cut to their length, is read as it was written.
    pub fn message(bytes: &[u8]) {
        if let Ok(request) = Request::decode(bytes) {
            assert_eq!(request.message.encode(request.sequence), bytes);
        }
        if let Ok(reply) = Reply::decode(bytes) {
            let written = reply.message.encode(reply.sequence);
            let again = Reply::decode(&written).expect("what was written is read");
            assert_eq!(again.message.encode(again.sequence), written);
        }
    }
}

pub use board::{Board, Disturbance, HeardQuerier, Outcome as DisturbanceOutcome, Written};
pub use client::{
    Added, Held, HeldInput, HeldMembership, Keeper, KeeperError, KeeperErrorKind, KeeperWatch, MembershipChange,
    SpawnMode,
};
pub use host_address::MAKER as ADDRESS_MAKER;
pub use igmp_version::igmp_versions;
pub use listener::ListenError;
pub use membership::Family;
pub use pins::{BPFFS, is_bpffs};
pub use policy::{DEFAULT_POLICY_PATH, Objection, Policy, PolicyChoice, PolicyError, Use};
pub use protocol::{FailureKind, Hook};
pub use service::{Door, ServeError, ServeOptions, WhenReleased, serve};

/// Where the keeper listens when nothing else is said.
pub const DEFAULT_SOCKET_PATH: &str = "/run/mcr/netd.sock";
