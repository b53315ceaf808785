//! Links that packets leave on: how much each carries, and which groups are wanted behind a bridge.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use crate::doctor::link_speed;
use crate::facts::Link;
use crate::observe::bridges;

/// What is known of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// The interface.
    pub name: String,
    /// What it carries, where the driver says.
    pub bits_per_second: Option<u64>,
    /// The groups that somebody behind it has joined; `None`: nobody can tell. Only a bridge can that listens to
    /// memberships, has a querier, and has no router behind it, which would get every group.
    pub joined: Option<BTreeSet<IpAddr>>,
}

/// Every interface of this host. Needs no privilege.
///
/// # Errors
/// When the kernel does not answer.
pub fn egress() -> io::Result<Vec<Egress>> {
    let (links, groups) = bridges()?;
    let joined = |bridge: &Link| {
        let knows =
            bridge.bridge.as_ref().is_some_and(|own| own.snooping && (own.asks || !own.heard_queriers.is_empty()));
        let mut ports = links.iter().filter(|link| link.master == Some(bridge.index));
        let has_router = ports.any(|port| port.port.as_ref().is_some_and(|port| port.router));
        let wanted = groups.iter().filter(|group| group.bridge == bridge.index && group.port != bridge.index);
        (knows && !has_router).then(|| wanted.map(|group| group.group).collect())
    };
    let egress =
        |link: &Link| Egress { name: link.name.clone(), bits_per_second: link_speed(&link.name), joined: joined(link) };
    Ok(links.iter().map(egress).collect())
}
