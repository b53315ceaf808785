//! Addresses of this host's interfaces that a keeper has added (rtnetlink(7), `struct ifaddrmsg`).
//!
//! A keeper that starts again has to know its own. The kernel remembers who made an address (`IFA_PROTO`, Linux 5.18), and the
//! metric of the route to its network (`IFA_RT_PRIORITY`), which is the keeper's number here: no such route is made
//! (`IFA_F_NOPREFIXROUTE`), so that it means nothing else.
//!
//! Nothing else of this host leaves with them. Of IPv4 they are of scope host, which the kernel chooses for no packet that leaves
//! (`net/ipv4/devinet.c: inet_select_addr`), and alone in their network (a length of 32): one that shares a network with the
//! interface's first address would go with that one, or be the first in its place (`__inet_del_ifa`). Their label keeps them from
//! being taken for the interface's address by programs that ask for one by its name (`devinet_ioctl`). Of IPv6 they are deprecated
//! from the beginning, so that any other is preferred (RFC 6724 section 5).

use std::io;
use std::net::IpAddr;

use crate::netlink::{Message, Read, Socket, attributes, messages};

/// Who made an address of ours (`IFA_PROTO`); the kernel itself has the first few numbers.
pub const MAKER: u8 = 0x4d;

/// Bytes of `struct ifaddrmsg` (`include/uapi/linux/if_addr.h`).
const ADDRESS_BYTES: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// Scopes of `include/uapi/linux/rtnetlink.h`.
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_HOST: u8 = 254;
/// The end of the label of an IPv4 address, behind the interface's name or its beginning (`IFNAMSIZ`).
const LABEL_END: &str = ":mcr";
const NAME_CHARACTERS: usize = libc::IFNAMSIZ - 1 - LABEL_END.len();
/// `INFINITY_LIFE_TIME`.
const FOR_EVER: u32 = u32::MAX;

/// A connection to rtnetlink.
#[derive(Debug)]
pub(crate) struct HostAddresses {
    socket: Socket,
    sequence: u32,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostAddress {
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    /// The number of the keeper that added it; `None`: it is of somebody else.
    pub(crate) owner: Option<u32>,
    pub(crate) standing: Standing,
}

/// Whether another host has an address, as far as the kernel knows; of IPv4 it does not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None has.
    Good,
    /// It is being asked (RFC 4862 section 5.4).
    Tentative,
    /// One has.
    Duplicate,
}

impl HostAddresses {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(libc::NETLINK_ROUTE)?, sequence: 0 })
    }

    /// Every address of every interface.
    pub(crate) fn all(&mut self) -> io::Result<Vec<HostAddress>> {
        let request = Message::new(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; ADDRESS_BYTES]);
        self.send(request)?;
        let mut found = Vec::new();
        loop {
            let answer = self.socket.receive()?;
            for read in messages(&answer).filter(|read| read.sequence == self.sequence) {
                match read.outcome() {
                    Some(outcome) => outcome?,
                    None if i32::from(read.kind) == libc::NLMSG_DONE => return Ok(found),
                    None => found.extend(host_address(&read)),
                }
            }
        }
    }

    /// Adds an address to an interface of that name, for the keeper of that number.
    pub(crate) fn add(&mut self, (interface, name): (u32, &str), address: IpAddr, owner: u32) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = request(libc::RTM_NEWADDR, flags, interface, address);
        message.attribute(IFA_FLAGS, &IFA_F_NOPREFIXROUTE.to_ne_bytes());
        message.attribute(IFA_RT_PRIORITY, &owner.to_ne_bytes());
        message.attribute(IFA_PROTO, &[MAKER]);
        if address.is_ipv4() {
            let name: String = name.chars().take(NAME_CHARACTERS).collect();
            message.text(IFA_LABEL, &format!("{name}{LABEL_END}"));
        } else {
            // `struct ifa_cacheinfo`: preferred for how long, valid for how long, and two times of the kernel's.
            let lifetimes = [0, FOR_EVER, 0, 0].map(u32::to_ne_bytes);
            message.attribute(IFA_CACHEINFO, lifetimes.as_flattened());
        }
        self.order(message)
    }

    /// Removes one that was added so.
    pub(crate) fn remove(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        self.order(request(libc::RTM_DELADDR, 0, interface, address))
    }

    fn order(&mut self, mut message: Message) -> io::Result<()> {
        message.acknowledge();
        self.send(message)?;
        loop {
            let answer = self.socket.receive()?;
            let ours = messages(&answer).filter(|read| read.sequence == self.sequence);
            if let Some(outcome) = ours.filter_map(|read| read.outcome()).next() {
                return outcome;
            }
        }
    }

    fn send(&mut self, message: Message) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&message.finish(self.sequence))
    }
}

fn request(kind: u16, flags: libc::c_int, interface: u32, address: IpAddr) -> Message {
    let (family, length, scope) = match address {
        IpAddr::V4(_) => (libc::AF_INET, 32, SCOPE_HOST),
        IpAddr::V6(_) => (libc::AF_INET6, 128, SCOPE_UNIVERSE),
    };
    let [a, b, c, d] = interface.to_ne_bytes();
    let mut message = Message::new(kind, flags as u16, &[family as u8, length, 0, scope, a, b, c, d]);
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    message.attribute(IFA_LOCAL, &octets).attribute(IFA_ADDRESS, &octets);
    message
}

fn host_address(read: &Read<'_>) -> Option<HostAddress> {
    let (body, rest) = read.body.split_at_checked(ADDRESS_BYTES)?;
    let interface = u32::from_ne_bytes(body[4..8].try_into().ok()?);
    let find = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let number = |wanted| find(wanted).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes);
    // Of a link with one peer `IFA_ADDRESS` is the peer's.
    let address = ip(find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?)?;
    let flags = number(IFA_FLAGS).unwrap_or(0);
    let is_ours = find(IFA_PROTO).is_none_or(|maker| *maker == [MAKER]) && flags & IFA_F_NOPREFIXROUTE != 0;
    let standing = match address {
        IpAddr::V6(_) if flags & IFA_F_DADFAILED != 0 => Standing::Duplicate,
        IpAddr::V6(_) if flags & IFA_F_TENTATIVE != 0 => Standing::Tentative,
        IpAddr::V4(_) | IpAddr::V6(_) => Standing::Good,
    };
    Some(HostAddress { interface, address, owner: number(IFA_RT_PRIORITY).filter(|_| is_ours), standing })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attributes: &[(u16, &[u8])]) -> Option<HostAddress> {
        let mut message = Message::new(libc::RTM_NEWADDR, 0, &[libc::AF_INET as u8, 32, 0, 0, 7, 0, 0, 0]);
        for (kind, value) in attributes {
            message.attribute(*kind, value);
        }
        let bytes = message.finish(1);
        let read = messages(&bytes).next()?;
        host_address(&read)
    }

    #[test]
    fn only_what_bears_all_marks_is_a_keepers() {
        let (address, number) = ((IFA_LOCAL, &[10, 1, 0, 77][..]), 9_u32.to_ne_bytes());
        let priority = (IFA_RT_PRIORITY, &number[..]);
        let (flags, none) = (IFA_F_NOPREFIXROUTE.to_ne_bytes(), [0; 4]);
        let maker = |maker: &'static [u8]| (IFA_PROTO, maker);
        let owner = |more: &[(u16, &[u8])]| told(&[&[address], more].concat()).unwrap().owner;
        assert_eq!(owner(&[(IFA_FLAGS, &flags), priority, maker(&[MAKER])]), Some(9));
        assert_eq!(owner(&[(IFA_FLAGS, &flags), priority]), Some(9), "an older kernel keeps no maker");
        assert_eq!(owner(&[(IFA_FLAGS, &flags), priority, maker(&[4])]), None);
        assert_eq!(owner(&[(IFA_FLAGS, &none), priority, maker(&[MAKER])]), None);
        assert_eq!(owner(&[(IFA_FLAGS, &flags), maker(&[MAKER])]), None);
        assert_eq!(told(&[priority]), None);
    }
}
