//! Bytes to headers and back: what MCR does to a frame, without IO, allocation or `unsafe`.
//!
//! [`parse`] turns a frame into a [`Datagram`] or names the reason why not; a [`Rewrite`] turns a datagram into the
//! frame that leaves on an output. Neither ever panics, on any bytes.

#![no_std]
#![forbid(unsafe_code)]

pub mod checksum;
pub mod drop_reason;
pub mod ethernet;
pub mod field;
pub mod frame;
pub mod ipv4;
pub mod ipv6;
pub mod listing;
pub mod prefix;
pub mod rate;
pub mod rewrite;
pub mod snapshot;
pub mod split;
pub mod udp;

pub use drop_reason::DropReason;
pub use ethernet::{MacAddr, VlanId, VlanTag};
pub use field::{CodePoint, CodePointMap, Oversize, TimeToLive};
pub use frame::{
    ChecksumState, Datagram, Destination, FragmentKey, FrameMeta, Part, Refused, Reject, UdpChecksum, parse,
    parse_following,
};
pub use listing::Listing;
pub use prefix::Prefix;
pub use rate::{Bucket, RateCap};
pub use rewrite::{Completion, Headers, Rewrite};
pub use snapshot::{DroppedSnapshot, OutputSnapshot, RelaySnapshot};
pub use split::Pieces;
