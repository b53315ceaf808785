//! Test traffic over ordinary sockets: what [`send`](crate::verbs) writes and what `listen` makes of it.

pub(crate) mod capture;
pub(crate) mod ears;
pub(crate) mod foreign;
pub(crate) mod frame;
pub(crate) mod groups;
pub(crate) mod map;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod payload;
pub(crate) mod reverse_path;
pub(crate) mod sequence;
pub(crate) mod socket;
mod source;
pub(crate) mod spread;
pub(crate) mod tally;

/// Bytes of the IP and UDP headers before each payload to or from an address of this family: totals are those of IP
/// packets, as everywhere in MCR.
pub(crate) fn header_bytes(address: std::net::IpAddr) -> u64 {
    if address.is_ipv4() { 28 } else { 48 }
}

/// The largest payload that fits an IPv4 packet (RFC 768, RFC 791).
pub(crate) const MAX_PAYLOAD_BYTES: usize = 65_507;
