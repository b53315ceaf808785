//! Addresses that output interfaces have for as long as relays send with them, so that this host answers for them.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::arp::{Arp, Verdict};
use crate::host_address::{HostAddress, HostAddresses};
use crate::identity;

/// What this keeper has added.
#[derive(Debug)]
pub(crate) struct OwnAddresses {
    kernel: HostAddresses,
    /// This keeper's number, by which it knows its own.
    number: u32,
    held: BTreeSet<(u32, IpAddr)>,
    /// Where it is being asked whether another host has an address.
    asking: BTreeMap<u32, Arp>,
}

/// What became of an address that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was added now.
    Added,
    /// The interface has it already.
    There,
    /// It is being checked: to be asked for again.
    Checking,
    /// The host with that link-layer address has it.
    ByAnother([u8; 6]),
}

impl OwnAddresses {
    /// Goes on with what a keeper of this number left, and removes what keepers left who are gone for good.
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        let mut own = Self { kernel: HostAddresses::open()?, number, held: BTreeSet::new(), asking: BTreeMap::new() };
        for HostAddress { interface, address, owner } in own.kernel.all()? {
            match owner {
                Some(owner) if owner == number => drop(own.held.insert((interface, address))),
                // One that is gone by now is no trouble, and for another reason the next keeper tries again.
                Some(owner) if identity::is_abandoned(owner) => drop(own.kernel.remove(interface, address)),
                Some(_) | None => {}
            }
        }
        Ok(own)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.held.iter().copied()
    }

    pub(crate) fn on(&self, interface: u32) -> impl Iterator<Item = IpAddr> {
        self.iter().filter(move |(index, _)| *index == interface).map(|(_, address)| address)
    }

    /// Adds an address to the interface of that name, once no other host has it. What is there already stays what it is.
    pub(crate) fn take(&mut self, (interface, name): (u32, &str), address: IpAddr) -> io::Result<Taken> {
        let there = self.find(interface, address)?;
        match there.map(|there| there.owner) {
            Some(Some(owner)) if owner == self.number => {
                self.held.insert((interface, address));
                return Ok(Taken::There);
            }
            // Somebody else's, who also removes it.
            Some(_) => return Ok(Taken::There),
            None => drop(self.held.remove(&(interface, address))),
        }
        if let IpAddr::V4(address) = address {
            match self.ask(interface, address)? {
                Verdict::Open => return Ok(Taken::Checking),
                Verdict::Taken(rival) => return Ok(Taken::ByAnother(rival)),
                Verdict::Free => {}
            }
        }
        self.kernel.add((interface, name), address, self.number)?;
        self.held.insert((interface, address));
        if let (IpAddr::V4(address), Some(arp)) = (address, self.asking.get(&interface)) {
            // Who does not hear of it asks when its own knowledge is old.
            let _ = arp.announce(address);
        }
        self.stop_asking(interface);
        Ok(Taken::Added)
    }

    /// Removes an address of ours; whether it was one.
    pub(crate) fn give_back(&mut self, interface: u32, address: IpAddr) -> io::Result<bool> {
        if let (IpAddr::V4(address), Some(arp)) = (address, self.asking.get_mut(&interface)) {
            arp.forget(address);
            self.stop_asking(interface);
        }
        if !self.held.remove(&(interface, address)) {
            return Ok(false);
        }
        // It may have gone with its link, and somebody may have added it since.
        let there = self.find(interface, address)?;
        if there.is_some_and(|there| there.owner == Some(self.number)) {
            self.kernel.remove(interface, address)?;
        }
        Ok(true)
    }

    /// Removes all; what can not be removed is for the next keeper.
    pub(crate) fn clear(&mut self) {
        for (interface, address) in std::mem::take(&mut self.held) {
            let _ = self.kernel.remove(interface, address);
        }
        self.asking.clear();
    }

    /// The interface is gone, and its addresses with it.
    pub(crate) fn forget(&mut self, interface: u32) {
        self.held.retain(|(index, _)| *index != interface);
        self.asking.remove(&interface);
    }

    fn find(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<HostAddress>> {
        let all = self.kernel.all()?;
        Ok(all.into_iter().find(|found| (found.interface, found.address) == (interface, address)))
    }

    fn ask(&mut self, interface: u32, address: Ipv4Addr) -> io::Result<Verdict> {
        let arp = match self.asking.entry(interface) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => match Arp::open(interface)? {
                Some(arp) => place.insert(arp),
                None => return Ok(Verdict::Free),
            },
        };
        let verdict = arp.ask(address);
        if matches!(verdict, Ok(Verdict::Taken(_)) | Err(_)) {
            self.stop_asking(interface);
        }
        verdict
    }

    fn stop_asking(&mut self, interface: u32) {
        if self.asking.get(&interface).is_some_and(Arp::is_idle) {
            self.asking.remove(&interface);
        }
    }
}
