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

    /// The interfaces that have one of ours, or on which it is asked for one.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.iter().map(|(interface, _)| interface).chain(self.asking.keys().copied())
    }

    /// How many there are or are being asked for.
    pub(crate) fn count(&self) -> usize {
        self.held.len() + self.asking.values().map(Arp::count).sum::<usize>()
    }

    /// Whether that is one of them.
    pub(crate) fn knows(&self, interface: u32, address: IpAddr) -> bool {
        let is_asked = |arp: &Arp| matches!(address, IpAddr::V4(address) if arp.is_asking(address));
        self.held.contains(&(interface, address)) || self.asking.get(&interface).is_some_and(is_asked)
    }

    /// Adds an address to the interface of that name, once no other host has it. What is there already stays what it is.
    pub(crate) fn take(&mut self, (interface, name): (u32, &str), address: IpAddr) -> io::Result<Taken> {
        match self.find(interface, address)? {
            Some(there) if there.owner == Some(self.number) => return self.look_at(there, name),
            // Somebody else's, who also removes it.
            Some(_) => {
                self.lose(interface, address);
                return Ok(Taken::There);
            }
            None => self.lose(interface, address),
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

    /// Removes an address of ours, also one of which the kernel did not say in time that it was added; whether it was there.
    pub(crate) fn give_back(&mut self, interface: u32, address: IpAddr) -> io::Result<bool> {
        if let (IpAddr::V4(address), Some(arp)) = (address, self.asking.get_mut(&interface)) {
            arp.forget(address);
            self.stop_asking(interface);
        }
        // It may have gone with its link, and somebody may have added it since.
        let there = self.find(interface, address)?.is_some_and(|there| there.owner == Some(self.number));
        if there {
            self.kernel.remove(interface, address)?;
        }
        self.lose(interface, address);
        Ok(there)
    }

    /// Removes all; what can not be removed is for the next keeper.
    pub(crate) fn clear(&mut self) {
        for HostAddress { interface, address, owner, standing: _ } in self.kernel.all().unwrap_or_default() {
            if owner == Some(self.number) {
                let _ = self.kernel.remove(interface, address);
            }
        }
        self.held.clear();
        self.unannounced.clear();
        self.end_questions();
    }

    /// The interface is gone, and its addresses with it.
    pub(crate) fn forget(&mut self, interface: u32) {
        self.held.retain(|(index, _)| *index != interface);
        self.unannounced.retain(|(index, _)| *index != interface);
        self.end_questions_on(interface);
    }

    /// Nobody waits for an answer any more.
    pub(crate) fn end_questions(&mut self) {
        self.asking.clear();
    }

    pub(crate) fn end_questions_on(&mut self, interface: u32) {
        self.asking.remove(&interface);
    }

    /// It is not there any more, or not ours.
    fn lose(&mut self, interface: u32, address: IpAddr) {
        self.held.remove(&(interface, address));
        self.unannounced.remove(&(interface, address));
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
        if self.asking.get(&interface).is_some_and(|arp| arp.count() == 0) {
            self.asking.remove(&interface);
        }
    }
}
