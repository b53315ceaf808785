//! Inputs on which nothing is joined: MCR sends no membership report there, and takes what the network brings.
//!
//! The interface is told to take every group (`PACKET_MR_ALLMULTI`), because its filter lets only joined ones through. A switch
//! that snoops brings none of them unless somebody else has joined, or it floods.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use crate::membership::{self, Joined};
use crate::packet_socket;

/// Groups that are wanted and not joined.
#[derive(Debug, Default)]
pub(crate) struct Passive {
    /// What keeps an interface taking every group.
    open: BTreeMap<u32, OwnedFd>,
    wanted: BTreeMap<Joined, Vec<IpAddr>>,
    /// What the groups count as, all together.
    count: usize,
}

impl Passive {
    /// Takes in a group as it comes; sources are for the datapath to look at.
    pub(crate) fn take(&mut self, joined: Joined, sources: &[IpAddr]) -> io::Result<()> {
        if let Entry::Vacant(place) = self.open.entry(joined.interface) {
            place.insert(packet_socket::all_groups(joined.interface)?);
        }
        let sources: BTreeSet<IpAddr> = sources.iter().copied().collect();
        let sources: Vec<IpAddr> = sources.into_iter().collect();
        self.count = self.count_beside(joined) + membership::count(&sources);
        self.wanted.insert(joined, sources);
        Ok(())
    }

    pub(crate) fn leave(&mut self, joined: Joined) {
        self.count = self.count_beside(joined);
        self.wanted.remove(&joined);
        if self.on(joined.interface).next().is_none() {
            self.open.remove(&joined.interface);
        }
    }

    /// As [`Memberships::count_beside`](membership::Memberships::count_beside).
    pub(crate) fn count_beside(&self, joined: Joined) -> usize {
        self.count - self.wanted.get(&joined).map_or(0, |sources| membership::count(sources))
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn each_source_counts_once() {
        let mut passive = Passive::default();
        let joined = |last| Joined { interface: 1, group: Ipv4Addr::new(239, 1, 1, last).into() };
        let source = |last| IpAddr::from([10, 0, 0, last]);
        passive.open.insert(1, std::fs::File::open("/dev/null").unwrap().into());
        for (last, sources, count) in [
            (1, vec![], 1),
            (2, vec![source(1), source(2), source(2)], 3),
            (2, vec![source(3)], 2),
            (1, vec![source(1), source(2)], 3),
        ] {
            passive.take(joined(last), &sources).unwrap();
            assert_eq!(passive.count_beside(joined(9)), count, "{last} {sources:?}");
        }
        assert_eq!(passive.count_beside(joined(1)), 1);
        passive.leave(joined(1));
        passive.leave(joined(1));
        assert_eq!(passive.count_beside(joined(9)), 1);
        assert!(passive.open.contains_key(&1));
        passive.leave(joined(2));
        assert_eq!((passive.count, passive.open.len()), (0, 0));
    }
}
