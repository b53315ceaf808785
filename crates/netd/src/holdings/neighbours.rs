//! Neighbours that are kept resolved.

use std::net::{IpAddr, Ipv4Addr};

use super::Holdings;
use super::refusal::{full, invalid, system};
use crate::interface::label;
use crate::policy::Use;
use crate::protocol::Failure;

/// Most neighbour entries that are kept fresh; each costs a request on the link every few seconds.
const MAX_NEIGHBOURS: usize = 4_096;

impl Holdings {
    pub(super) fn resolve(&mut self, interface: u32, address: IpAddr) -> Result<(), Failure> {
        let name = self.permit(Use::Output, interface)?;
        if address.is_multicast() || address.is_unspecified() {
            return Err(invalid(&format!("a neighbour {address}, which is no address of a host")));
        }
        if self.neighbours.len() >= MAX_NEIGHBOURS && !self.neighbours.contains(&(interface, address)) {
            let what = format!("can not resolve {address} on {name}: {MAX_NEIGHBOURS} neighbours are kept already");
            return Err(full(what, "send to multicast groups, or through a router"));
        }
        self.kernel_neighbours.resolve(interface, address).map_err(|error| {
            let what = format!("can not resolve {address} on {name}");
            system(what, &error, "check that the interface is up and has an address of that network")
        })?;
        self.neighbours.insert((interface, address));
        Ok(())
    }

    pub(super) fn forget(&mut self, interface: u32, address: IpAddr) -> Result<(), Failure> {
        if !self.neighbours.remove(&(interface, address)) {
            return Ok(());
        }
        self.kernel_neighbours.forget(interface, address).map_err(|error| {
            let what = format!("can not give up the neighbour {address} on {}", label(interface));
            system(what, &error, "nothing: the entry goes when it is not used any more")
        })
    }

    pub(super) fn neighbours_on(&self, interface: u32) -> impl Iterator<Item = IpAddr> {
        let from = (interface, Ipv4Addr::UNSPECIFIED.into());
        self.neighbours.range(from..).take_while(move |(index, _)| *index == interface).map(|(_, address)| *address)
    }
}
