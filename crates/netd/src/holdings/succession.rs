//! What outlives this process, and how the next keeper goes on with it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{Holdings, Input};
use crate::fd_store::{FdStore, Left, LeftRing};
use crate::membership::Joined;
use crate::packet_socket;
use crate::policy::Use;
use crate::protocol::{Item, Reply};

impl Holdings {
    /// Goes on with what a keeper before this one left in the store, as far as it is there still and the policy allows
    /// it: as many memberships and rings as that were.
    pub(crate) fn restore(&mut self, left: Left) -> (usize, usize) {
        let Left { items, rings, memberships } = left;
        let mut restored = (0, 0);
        self.last_opening = rings.iter().map(|ring| ring.opening).max().unwrap_or(0);
        let mut of: BTreeMap<u32, (u32, Vec<OwnedFd>)> = BTreeMap::new();
        for LeftRing { interface, opening, socket } in rings {
            let is_bound = matches!(packet_socket::bound_interface(&socket), Ok(Some(index)) if index == interface);
            if is_bound && self.permit(Use::Input, interface).is_ok() {
                let latest = of.entry(interface).or_default();
                match opening.cmp(&latest.0) {
                    // It was about to be taken from the store.
                    Ordering::Less => {}
                    Ordering::Equal => latest.1.push(socket),
                    Ordering::Greater => *latest = (opening, vec![socket]),
                }
            }
        }
        for item in items {
            match item {
                Item::Input { interface, geometry } => {
                    let latest = of.remove(&interface).filter(|(_, rings)| self.guard.admit(rings).is_ok());
                    if let Some((opening, rings)) = latest {
                        restored.1 += rings.len();
                        self.inputs.insert(interface, Input { opening, rings, geometry });
                    }
                }
                Item::Membership { interface, group, sources } => {
                    restored.0 += usize::from(self.join(interface, group, &sources).is_ok());
                }
                // These are opened again, and resolved again, by the daemon.
                Item::Output { .. } | Item::Neighbour { .. } | Item::Attached { .. } | Item::Address { .. } => {}
            }
        }
        // Now that the groups are joined anew.
        drop(memberships);
        restored
    }

    /// Has the service manager keep what is to outlive this process.
    pub(crate) fn store_in(&self, store: &mut FdStore) -> io::Result<()> {
        let sockets = self.memberships.sockets().map(|(number, socket)| (store.membership(number), socket));
        let rings = self.inputs.iter().flat_map(|(&interface, input)| {
            let rings = input.rings.iter().enumerate();
            rings.map(move |(number, ring)| (FdStore::ring(interface, input.opening, number), ring.as_fd()))
        });
        let descriptors: Vec<_> = sockets.chain(rings).collect();
        let items: Vec<Item> = self.storable().collect();
        store.hold(&items, &descriptors)
    }

    pub(super) fn inventory(&self, start: u32) -> Reply {
        let outputs = self.outputs().into_iter().map(|interface| Item::Output { interface });
        let neighbours = self.neighbours.iter();
        let neighbours = neighbours.map(|&(interface, address)| Item::Neighbour { interface, address });
        let attached = self.kernel_path.attached().map(|(interface, hook)| Item::Attached { interface, hook });
        let addresses = self.own_addresses.iter().map(|(interface, address)| Item::Address { interface, address });
        let items = self.storable().chain(outputs).chain(neighbours).chain(attached).chain(addresses);
        let items: Vec<Item> = items.collect();
        Reply::held_from(&items, start)
    }

    /// What lives in descriptors of this process.
    pub(super) fn storable(&self) -> impl Iterator<Item = Item> {
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|(&interface, input)| Item::Input { interface, geometry: input.geometry });
        let memberships = self.memberships().map(|(joined, sources)| {
            let Joined { interface, group } = joined;
            Item::Membership { interface, group, sources }
        });
        inputs.chain(memberships)
    }
}
