//! What is known of the machine's interfaces, as netlink tells it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use mcr_model::{EventKind, InterfaceName};

use crate::engine::Engine;

/// The kernel's number of an interface. An interface that is deleted and made again gets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ifindex(pub u32);

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Its number.
    pub index: Ifindex,
    /// Its name.
    pub name: InterfaceName,
    /// Its link-layer address, as on the wire.
    pub mac: [u8; 6],
    /// Its largest IP packet, in bytes.
    pub mtu: u32,
    /// `IFF_UP`: somebody switched it on.
    pub up: bool,
    /// `IFF_LOWER_UP`: it has a link.
    pub carrier: bool,
    /// `IFF_MULTICAST`.
    pub multicast: bool,
    /// The kernel's name of what queues the packets that leave.
    pub queueing: String,
    /// Its IPv4 addresses with prefix length, primary ones first, in the kernel's order.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

impl InterfaceFacts {
    /// The source address for packets that leave here and were given none.
    pub fn first_address(&self) -> Option<Ipv4Addr> {
        self.addresses.first().map(|(address, _)| *address)
    }

    /// Whether frames can leave.
    pub fn can_send(&self) -> bool {
        self.up && self.carrier
    }

    /// Whether somebody had it queue packets in a way of its own: to shape or to police them. These do not, and are there
    /// by themselves.
    pub fn is_shaped(&self) -> bool {
        !["", "noqueue", "noop", "mq", "fq", "fq_codel", "pfifo_fast", "pfifo", "bfifo"]
            .contains(&self.queueing.as_str())
    }

    /// Whether `destination` is on this link, so that it needs no router.
    pub fn is_on_link(&self, destination: Ipv4Addr) -> bool {
        self.addresses.iter().any(|(address, prefix)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            u32::from(*address) & mask == u32::from(destination) & mask
        })
    }
}

/// What the kernel's neighbour table says of one address on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface.
    pub interface: Ifindex,
    /// The neighbour's address.
    pub address: Ipv4Addr,
    /// Its link-layer address; `None`: not resolved, or the resolution failed.
    pub mac: Option<[u8; 6]>,
}

impl fmt::Display for Ifindex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Engine {
    /// Tells how the machine's interfaces differ from what was known of them. The first picture is no news.
    pub(crate) fn tell_interfaces(&mut self, now: &BTreeMap<InterfaceName, InterfaceFacts>) {
        if self.facts.is_empty() {
            return;
        }
        let before = self.facts.clone();
        let same = |a: &InterfaceFacts, b: &InterfaceFacts| a.index == b.index;
        for (name, _) in before.iter().filter(|(name, facts)| !now.get(*name).is_some_and(|now| same(now, facts))) {
            self.happened(EventKind::InterfaceLeft { interface: name.to_string() });
        }
        for (name, facts) in now {
            let interface = name.to_string();
            let known = before.get(name).filter(|known| same(known, facts));
            if known.is_none() {
                self.happened(EventKind::InterfaceAppeared { interface: interface.clone() });
            }
            match (known.is_some_and(InterfaceFacts::can_send), facts.can_send()) {
                (false, true) => self.happened(EventKind::InterfaceUp { interface: interface.clone() }),
                (true, false) => self.happened(EventKind::InterfaceDown { interface: interface.clone() }),
                (true, true) | (false, false) => {}
            }
            if known.map_or(&[][..], |known| &known.addresses) != facts.addresses {
                let addresses = facts.addresses.iter().map(|(address, _)| *address).collect();
                self.happened(EventKind::InterfaceAddresses { interface, addresses });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_link() {
        let mut eth0 = InterfaceFacts {
            index: Ifindex(2),
            name: "eth0".parse().unwrap(),
            mac: [2; 6],
            mtu: 1500,
            up: true,
            carrier: true,
            multicast: true,
            queueing: "noqueue".to_owned(),
            addresses: vec![([10, 0, 0, 1].into(), 24)],
        };
        assert!(eth0.is_on_link([10, 0, 0, 200].into()));
        assert!(!eth0.is_on_link([10, 0, 1, 1].into()));
        eth0.addresses = vec![([10, 0, 0, 1].into(), 32), ([1, 1, 1, 1].into(), 0)];
        assert!(eth0.is_on_link([9, 9, 9, 9].into()));
        assert_eq!(eth0.first_address(), Some([10, 0, 0, 1].into()));
    }
}
