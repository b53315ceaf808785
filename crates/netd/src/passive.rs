//! Inputs on which nothing is joined: MCR sends no membership report there, and takes what the network brings.
//!
//! The interface is told to take every group (`PACKET_MR_ALLMULTI`), because its filter lets only joined ones through. A switch
//! that snoops brings none of them unless somebody else has joined, or it floods.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use crate::membership::Joined;
use crate::packet_socket;

/// Groups that are wanted and not joined.
#[derive(Debug, Default)]
pub(crate) struct Passive {
    /// What keeps an interface taking every group.
    open: BTreeMap<u32, OwnedFd>,
    wanted: BTreeMap<Joined, Vec<IpAddr>>,
}

impl Passive {
    /// Takes in a group as it comes; sources are for the datapath to look at.
    pub(crate) fn take(&mut self, joined: Joined, sources: &[IpAddr]) -> io::Result<()> {
        if let Entry::Vacant(place) = self.open.entry(joined.interface) {
            place.insert(packet_socket::all_groups(joined.interface)?);
        }
        let sources: BTreeSet<IpAddr> = sources.iter().copied().collect();
        self.wanted.insert(joined, sources.into_iter().collect());
        Ok(())
    }

    pub(crate) fn leave(&mut self, joined: Joined) {
        self.wanted.remove(&joined);
        if self.on(joined.interface).next().is_none() {
            self.open.remove(&joined.interface);
        }
    }

    /// The groups of one interface.
    pub(crate) fn on(&self, interface: u32) -> impl Iterator<Item = Joined> {
        self.wanted.keys().copied().filter(move |joined| joined.interface == interface)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Joined, Vec<IpAddr>)> {
        self.wanted.iter().map(|(joined, sources)| (*joined, sources.clone()))
    }
}
