//! Which interface lies on which (rtnetlink(7)): a VLAN on the one that it tags, a bridge on its ports.

use std::collections::BTreeSet;
use std::io;

use crate::netlink::{Message, Socket, attributes, messages};

/// Bytes of `struct ifinfomsg` (`include/uapi/linux/rtnetlink.h`).
const LINK_BYTES: usize = 16;
/// Where the index is in it.
const INDEX_AT: std::ops::Range<usize> = 4..8;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;

/// An interface of this namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The one that it lies on, in this namespace.
    below: Option<u32>,
    /// The bridge, bond or VRF that it is a port of.
    master: Option<u32>,
}

/// All interfaces.
pub(crate) fn all() -> io::Result<Vec<Link>> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let request = Message::new(libc::RTM_GETLINK, libc::NLM_F_DUMP as u16, &[0; LINK_BYTES]);
    socket.send(&request.finish(1))?;
    let mut links = Vec::new();
    loop {
        let answer = socket.receive()?;
        for read in messages(&answer) {
            match read.outcome() {
                Some(outcome) => outcome?,
                None if i32::from(read.kind) == libc::NLMSG_DONE => return Ok(links),
                None => links.extend(link(read.body)),
            }
        }
    }
}

/// The kernel's name for the kind of an interface (`veth`, `bridge`, `tun`); `None`: it is hardware, or gone.
pub(crate) fn kind(index: u32) -> io::Result<Option<String>> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let mut body = [0; LINK_BYTES];
    body[INDEX_AT].copy_from_slice(&index.to_ne_bytes());
    socket.send(&Message::new(libc::RTM_GETLINK, 0, &body).finish(1))?;
    let answer = socket.receive()?;
    let link = messages(&answer).find(|read| read.kind == libc::RTM_NEWLINK);
    let info = link.and_then(|link| attributes(link.body.get(LINK_BYTES..)?).find(|(kind, _)| *kind == IFLA_LINKINFO));
    let kind = info.and_then(|(_, info)| attributes(info).find(|(kind, _)| *kind == IFLA_INFO_KIND));
    Ok(kind.map(|(_, kind)| String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned()))
}

/// The names of all other interfaces whose frames pass where this one's do: those below it, and whatever lies on any of
/// them.
pub(crate) fn neighbours(links: &[Link], index: u32) -> Vec<String> {
    let mut shared = reach(wire(links, index), |next| {
        let above = links.iter().filter(|link| link.below == Some(next)).map(|link| link.index);
        let master = links.iter().find(|link| link.index == next).and_then(|link| link.master);
        above.chain(master).collect()
    });
    shared.remove(&index);
    links.iter().filter(|link| shared.contains(&link.index)).map(|link| link.name.clone()).collect()
}

/// All interfaces that frames of this one pass, itself among them.
pub(crate) fn wire(links: &[Link], index: u32) -> BTreeSet<u32> {
    reach(BTreeSet::from([index]), |next| {
        let ports = links.iter().filter(|link| link.master == Some(next)).map(|link| link.index);
        let below = links.iter().find(|link| link.index == next).and_then(|link| link.below);
        ports.chain(below).collect()
    })
}

/// What is reached by such steps.
fn reach(mut reached: BTreeSet<u32>, step: impl Fn(u32) -> Vec<u32>) -> BTreeSet<u32> {
    let mut ahead: Vec<u32> = reached.iter().copied().collect();
    while let Some(next) = ahead.pop() {
        ahead.extend(step(next).into_iter().filter(|index| reached.insert(*index)));
    }
    reached
}

fn link(body: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(body.get(INDEX_AT)?.try_into().ok()?);
    let find = |wanted| attributes(body.get(LINK_BYTES..).unwrap_or_default()).find(|(kind, _)| *kind == wanted);
    let number = |wanted| find(wanted).and_then(|(_, value)| Some(u32::from_ne_bytes(value.try_into().ok()?)));
    let (_, name) = find(IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    // What lies on the other side of a cable, or in another namespace, is not below.
    let is_elsewhere = find(IFLA_LINK_NETNSID).is_some() || find(IFLA_LINKINFO).is_some_and(|(_, info)| is_veth(info));
    let below = number(IFLA_LINK).filter(|below| !is_elsewhere && *below != 0 && *below != index);
    Some(Link { index, name, below, master: number(IFLA_MASTER) })
}

fn is_veth(info: &[u8]) -> bool {
    attributes(info).any(|(kind, value)| kind == IFLA_INFO_KIND && value.starts_with(b"veth\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_shared_by_what_lies_on_it() {
        let link = |index, name: &str, below, master| Link { index, name: name.to_owned(), below, master };
        let links = [
            link(1, "lo", None, None),
            link(2, "eth0", None, Some(5)),
            link(3, "eth1", None, Some(5)),
            link(4, "eth2", None, None),
            link(5, "br0", None, None),
            link(6, "br0.7", Some(5), None),
            link(7, "odd", Some(7), Some(7)),
            link(8, "eth2.5", Some(4), None),
            link(9, "eth2.6", Some(4), None),
        ];
        assert_eq!(wire(&links, 6), BTreeSet::from([2, 3, 5, 6]));
        assert_eq!(wire(&links, 7), BTreeSet::from([7]));
        assert_eq!(neighbours(&links, 6), ["eth0", "eth1", "br0"]);
        assert_eq!(neighbours(&links, 2), ["br0", "br0.7"], "one port of a bridge does not lie on the other");
        assert_eq!(neighbours(&links, 4), ["eth2.5", "eth2.6"]);
        assert_eq!(neighbours(&links, 8), ["eth2", "eth2.6"]);
        assert_eq!(neighbours(&links, 1), [] as [&str; 0]);
        assert_eq!(neighbours(&links, 7), [] as [&str; 0]);
    }

    #[test]
    fn the_loopback_is_among_all() {
        let links = all().unwrap();
        assert!(links.iter().any(|link| (link.index, link.name.as_str()) == (1, "lo")), "{links:?}");
        assert_eq!(kind(1).unwrap(), None, "the kernel does not say of which kind that is");
    }
}
