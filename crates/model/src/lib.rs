//! The vocabulary of MCR: every word that a person types or a script reads has its checked type here.
//!
//! Text (`eth0:239.1.1.1:5001`), TOML and JSON all become the same [`spec::RelaySpec`], and one function,
//! [`spec::RelaySpec::check`], turns that into a [`Relay`]. A [`Relay`] that exists is valid on its own; whether it
//! fits beside the others is the engine's question.

pub mod address;
pub mod breaker;
pub mod cap;
pub mod datapath;
pub mod difference;
pub mod duration;
pub mod endpoint;
pub mod event;
pub mod flow;
pub mod grant;
pub mod header;
pub mod joining;
pub mod lease;
pub mod name;
pub mod place;
pub mod plan;
pub mod prefix;
pub mod problem;
pub mod querier;
pub mod rejoin;
pub mod relay;
pub mod revision;
pub mod role;
mod source;
pub mod span;
pub mod spec;
pub mod state;
pub mod status;
pub mod time;
pub mod token;
pub mod trouble;
mod vlan;
pub mod wait;
pub mod watch;

pub use address::{Dscp, Port, Priority, Target, Ttl};
pub use breaker::{Breaker, BreakerSpec};
pub use cap::RateCaps;
pub use datapath::{Datapath, DatapathChoice};
pub use event::{Event, EventKind};
pub use grant::Grant;
pub use header::{DscpRule, SourceRule, TtlRule};
pub use lease::Lease;
pub use mcr_wire::{CodePoint, DropReason, Oversize, RateCap, TimeToLive, VlanId};
pub use name::{InterfaceName, RelayName};
pub use place::Place;
pub use prefix::Prefix;
pub use problem::FieldError;
pub use relay::{Input, Output, Relay};
pub use role::Role;
pub use span::Span;
pub use state::{Condition, RelayState};
pub use wait::WaitFor;
pub use watch::Watch;

/// The link-layer address of a group (RFC 1112 section 6.4, RFC 2464 section 7).
pub fn group_mac(group: std::net::IpAddr) -> [u8; 6] {
    mcr_wire::MacAddr::for_group(group).octets()
}
