//! What is known of the machine's interfaces, as netlink tells it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use mcr_model::{EventKind, InterfaceName};

use crate::address::HostAddress;
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
    /// Its frames have an Ethernet header, as those of the loopback interface have; those of a tun device or of a tunnel of
    /// IP have none.
    pub ethernet: bool,
    /// The kernel's name of what queues the packets that leave.
    pub queueing: String,
    /// Its addresses: those of IPv4, primary ones first, then those of IPv6, the oldest first.
    pub addresses: Vec<HostAddress>,
}

impl InterfaceFacts {
    /// What it is without the addresses that it has for the sake of relays.
    pub(crate) fn of_host(&self) -> Self {
        Self { addresses: self.host_addresses().copied().collect(), ..self.clone() }
    }

    /// Whether it is the loopback interface. Others have no link-layer address either.
    pub fn is_loopback(&self) -> bool {
        self.name.as_str() == "lo"
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
}

/// What the kernel's neighbour table says of one address on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface.
    pub interface: Ifindex,
    /// The neighbour's address.
    pub address: IpAddr,
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
                let addresses = facts.addresses.iter().map(|address| address.ip).collect();
                self.happened(EventKind::InterfaceAddresses { interface, addresses });
            }
        }
    }
}
