//! `mcr explain` against sabotage: each test breaks one thing on the way of a packet, in network namespaces, and the culprit that
//! is named first has to be that thing. The controls break nothing, and nothing may be called wrong. Needs root.

mod bridges;
mod driver;
mod host;
mod ipv6;
mod local;
mod readme;
mod relays;
mod stand;

#[path = "../network/service.rs"]
#[allow(dead_code, reason = "shared with the network tests, which use all of it")]
mod service;
