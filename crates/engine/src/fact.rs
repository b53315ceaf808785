//! What is known of the machine's interfaces, as netlink tells it.

use std::fmt;
use std::net::Ipv4Addr;

use mcr_model::InterfaceName;

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
            addresses: vec![([10, 0, 0, 1].into(), 24)],
        };
        assert!(eth0.is_on_link([10, 0, 0, 200].into()));
        assert!(!eth0.is_on_link([10, 0, 1, 1].into()));
        eth0.addresses = vec![([10, 0, 0, 1].into(), 32), ([1, 1, 1, 1].into(), 0)];
        assert!(eth0.is_on_link([9, 9, 9, 9].into()));
        assert_eq!(eth0.first_address(), Some([10, 0, 0, 1].into()));
    }
}
