//! Addresses that output interfaces have for as long as relays send with them, so that this host answers for them.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::announcement;
use crate::arp::{Arp, Verdict};
use crate::host_address::{HostAddress, HostAddresses, Standing};
use crate::identity;

/// So long after another host was found to have an address of IPv6 the kernel is to check it again.
const NEXT_CHECK: Duration = Duration::from_secs(3);

/// What this keeper has added.
#[derive(Debug)]
pub(crate) struct OwnAddresses {
    kernel: HostAddresses,
    /// This keeper's number, by which it knows its own.
    number: u32,
    held: BTreeSet<(u32, IpAddr)>,
    /// Those that the kernel checks, and that are announced then.
    unannounced: BTreeSet<(u32, IpAddr)>,
    /// Those that the kernel found another host to have, and when.
    rejected: BTreeMap<(u32, IpAddr), Instant>,
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
    /// Another host has it, with that link-layer address, if it is known.
    ByAnother(Option<[u8; 6]>),
}

impl OwnAddresses {
    /// Goes on with what a keeper of this number left, and removes what keepers left who are gone for good.
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        let (held, unannounced) = (BTreeSet::new(), BTreeSet::new());
        let (rejected, asking) = (BTreeMap::new(), BTreeMap::new());
        let mut own = Self { kernel: HostAddresses::open()?, number, held, unannounced, rejected, asking };
        for HostAddress { interface, address, owner, standing: _ } in own.kernel.all()? {
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
        match self.find(interface, address)? {
            Some(there) if there.owner == Some(self.number) => return self.look_at(there, name),
            // Somebody else's, who also removes it.
            Some(_) => return Ok(Taken::There),
            None => drop(self.held.remove(&(interface, address))),
        }
        self.rejected.retain(|_, since| since.elapsed() < NEXT_CHECK);
        if self.rejected.contains_key(&(interface, address)) {
            return Ok(Taken::ByAnother(None));
        }
        if let IpAddr::V4(address) = address {
            match self.ask(interface, address)? {
                Verdict::Open => return Ok(Taken::Checking),
                Verdict::Taken(rival) => return Ok(Taken::ByAnother(Some(rival))),
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
        match address {
            IpAddr::V4(_) => Ok(Taken::Added),
            // The kernel checks it now.
            IpAddr::V6(_) => {
                self.unannounced.insert((interface, address));
                Ok(Taken::Checking)
            }
        }
    }

    /// How it stands with one that was added.
    fn look_at(&mut self, there: HostAddress, name: &str) -> io::Result<Taken> {
        let HostAddress { interface, address, standing, .. } = there;
        let key = (interface, address);
        self.held.insert(key);
        match standing {
            Standing::Tentative => Ok(Taken::Checking),
            Standing::Good if self.unannounced.remove(&key) => {
                // As above.
                let _ = announcement::send(interface, name, address);
                Ok(Taken::Added)
            }
            Standing::Good => Ok(Taken::There),
            Standing::Duplicate => {
                self.give_back(interface, address)?;
                self.rejected.insert(key, Instant::now());
                Ok(Taken::ByAnother(None))
            }
        }
    }

    /// Removes an address of ours; whether it was one.
    pub(crate) fn give_back(&mut self, interface: u32, address: IpAddr) -> io::Result<bool> {
        if let (IpAddr::V4(address), Some(arp)) = (address, self.asking.get_mut(&interface)) {
            arp.forget(address);
            self.stop_asking(interface);
        }
        self.unannounced.remove(&(interface, address));
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
        self.unannounced.clear();
    }

    /// The interface is gone, and its addresses with it.
    pub(crate) fn forget(&mut self, interface: u32) {
        self.held.retain(|(index, _)| *index != interface);
        self.unannounced.retain(|(index, _)| *index != interface);
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
