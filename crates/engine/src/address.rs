//! The addresses of an interface, and which of them packets leave with.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

use mcr_model::address::Target;

use crate::fact::InterfaceFacts;

/// The least MTU with which an interface has IPv6 (RFC 8200 section 5; Linux takes the addresses away below it).
pub(crate) const LEAST_MTU_OF_IPV6: u32 = 1280;

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of it that are the same on the whole link.
    pub prefix_length: u8,
    /// Whether packets may leave with it.
    pub standing: Standing,
    /// Whether it is there for a while only, for the sake of privacy (RFC 8981).
    pub lasting: Lasting,
}

/// Whether packets may leave with an address. Of IPv4 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They may.
    Good,
    /// They may, but there should be a better one (RFC 4862 section 5.5.4).
    Deprecated,
    /// Not yet: it is being found out whether another host has it (RFC 4862 section 5.4).
    Tentative,
    /// Another host has it.
    Duplicate,
}

/// How long an address is meant to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// As long as the interface.
    Permanent,
    /// Until the next one is made.
    Temporary,
    /// As long as a relay sends with it: nobody else does.
    WithRelay,
}

/// Why there is no source address for a target on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSource {
    /// It has none of the target's family.
    None,
    /// Its MTU is too small for IPv6.
    MtuBelowIpv6,
    /// The only one that would do is not to be used yet.
    Tentative(IpAddr),
    /// The only one that would do belongs to another host.
    Duplicate(IpAddr),
    /// It has none but for this link, which packets to that target may leave.
    OnlyLinkLocal,
}

impl From<(IpAddr, u8)> for HostAddress {
    /// A lasting one in good standing.
    fn from((ip, prefix_length): (IpAddr, u8)) -> Self {
        Self { ip, prefix_length, standing: Standing::Good, lasting: Lasting::Permanent }
    }
}

impl Standing {
    fn is_usable(self) -> bool {
        match self {
            Self::Good | Self::Deprecated => true,
            Self::Tentative | Self::Duplicate => false,
        }
    }
}

impl InterfaceFacts {
    /// The source address for packets that leave here for `target` and were given none. Of IPv4 the first; of IPv6 the one
    /// that RFC 6724 section 5 prefers: as far-reaching as the target, not deprecated, of its kind, lasting, and near.
    pub(crate) fn source_for(&self, target: Target) -> Result<IpAddr, NoSource> {
        let candidates = || self.host_addresses().filter(|address| address.ip.is_ipv4() == target.ip().is_ipv4());
        let IpAddr::V6(to) = target.ip() else {
            return candidates().next().map(|address| address.ip).ok_or(NoSource::None);
        };
        let reaches = |address: &&HostAddress| target.is_link_local() || !is_link_local(address.ip);
        let usable = candidates().filter(reaches).filter(|address| address.standing.is_usable());
        usable.min_by_key(|address| rank(address, target, to)).map(|address| address.ip).ok_or_else(|| {
            let mut hindered = candidates().filter(reaches);
            match hindered.next() {
                Some(HostAddress { ip, standing: Standing::Tentative, .. }) => NoSource::Tentative(*ip),
                Some(HostAddress { ip, .. }) => NoSource::Duplicate(*ip),
                None if self.mtu < LEAST_MTU_OF_IPV6 => NoSource::MtuBelowIpv6,
                None if candidates().next().is_some() => NoSource::OnlyLinkLocal,
                None => NoSource::None,
            }
        })
    }

    /// Those that it does not have for the sake of relays.
    pub(crate) fn host_addresses(&self) -> impl Iterator<Item = &HostAddress> {
        self.addresses.iter().filter(|address| address.lasting != Lasting::WithRelay)
    }

    /// Whether it has that address, and packets may leave with it.
    pub(crate) fn has_in_use(&self, ip: IpAddr) -> bool {
        self.standing(ip).is_some_and(Standing::is_usable)
    }

    /// How it stands with an address; `None`: it does not have it.
    pub(crate) fn standing(&self, ip: IpAddr) -> Option<Standing> {
        self.addresses.iter().find(|address| address.ip == ip).map(|address| address.standing)
    }

    /// Whether `destination` is on this link, so that it needs no router.
    pub fn is_on_link(&self, destination: IpAddr) -> bool {
        is_link_local(destination) || self.addresses.iter().any(|address| address.shares_link_with(destination))
    }
}

impl HostAddress {
    fn shares_link_with(&self, other: IpAddr) -> bool {
        common_bits(self.ip, other).is_some_and(|bits| bits >= u32::from(self.prefix_length))
    }
}

/// What to prefer: the least comes first, and among equals the first of the interface.
fn rank(address: &HostAddress, target: Target, to: Ipv6Addr) -> (bool, bool, bool, bool, Reverse<u32>) {
    let of_other_kind = match address.ip {
        IpAddr::V6(from) => from.is_unique_local() != to.is_unique_local(),
        IpAddr::V4(_) => false,
    };
    let near = if target.is_group() { 0 } else { common_bits(address.ip, target.ip()).unwrap_or(0) };
    (
        is_link_local(address.ip) != target.is_link_local(),
        address.standing == Standing::Deprecated,
        of_other_kind,
        address.lasting == Lasting::Temporary,
        Reverse(near),
    )
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// How many bits two addresses of one family have in common, from the first on.
fn common_bits(a: IpAddr, b: IpAddr) -> Option<u32> {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Ifindex;

    fn eth0(addresses: Vec<HostAddress>) -> InterfaceFacts {
        InterfaceFacts {
            index: Ifindex(2),
            name: "eth0".parse().unwrap(),
            mac: [2; 6],
            mtu: 1500,
            up: true,
            carrier: true,
            multicast: true,
            ethernet: true,
            queueing: "noqueue".to_owned(),
            addresses,
        }
    }

    fn address(text: &str) -> HostAddress {
        let (ip, prefix) = text.split_once('/').unwrap();
        (ip.parse().unwrap(), prefix.parse().unwrap()).into()
    }

    fn target(text: &str) -> Target {
        let ip: IpAddr = text.parse().unwrap();
        Target::group(ip).or_else(|_| Target::unicast(ip)).unwrap()
    }

    #[test]
    fn on_link() {
        let mut facts = eth0(vec![address("10.0.0.1/24"), address("fd00:1::1/64")]);
        for (there, on_link) in [
            ("10.0.0.200", true),
            ("10.0.1.1", false),
            ("fd00:1::ffff", true),
            ("fd00:1:0:1::1", false),
            ("fe80::9", true),
        ] {
            assert_eq!(facts.is_on_link(there.parse().unwrap()), on_link, "{there}");
        }
        facts.addresses = vec![address("10.0.0.1/32"), address("1.1.1.1/0")];
        assert!(facts.is_on_link([9, 9, 9, 9].into()));
        assert_eq!(facts.source_for(target("239.1.1.1")), Ok([10, 0, 0, 1].into()));
    }

    #[test]
    fn the_source_reaches_as_far_as_the_target() {
        let temporary = HostAddress { lasting: Lasting::Temporary, ..address("2001:db8::7/64") };
        let deprecated = HostAddress { standing: Standing::Deprecated, ..address("2001:db8::8/64") };
        let all = vec![
            address("10.0.0.1/24"),
            address("fe80::1/64"),
            address("fd00:1::1/64"),
            deprecated,
            temporary,
            address("2001:db8::9/64"),
            address("2001:db8:5::a/64"),
        ];
        for (to, from) in [
            ("ff02::fb", "fe80::1"),
            ("ff3e::1", "2001:db8::9"),
            ("ff05::1", "2001:db8::9"),
            ("fd00:2::2", "fd00:1::1"),
            ("2001:db8:5::1", "2001:db8:5::a"),
            ("fe80::9", "fe80::1"),
            ("239.1.1.1", "10.0.0.1"),
        ] {
            assert_eq!(eth0(all.clone()).source_for(target(to)), Ok(from.parse().unwrap()), "{to}");
        }
        assert_eq!(eth0(vec![deprecated]).source_for(target("ff3e::1")), Ok(deprecated.ip));
        assert_eq!(
            eth0(vec![address("fd00:1::1/64")]).source_for(target("ff02::1")).ok(),
            Some("fd00:1::1".parse().unwrap())
        );
    }

    #[test]
    fn why_there_is_none() {
        let tentative = HostAddress { standing: Standing::Tentative, ..address("fd00:1::1/64") };
        let duplicate = HostAddress { standing: Standing::Duplicate, ..tentative };
        let link_local = address("fe80::1/64");
        let group = target("ff3e::1");
        for (addresses, why) in [
            (vec![], NoSource::None),
            (vec![address("10.0.0.1/24")], NoSource::None),
            (vec![link_local], NoSource::OnlyLinkLocal),
            (vec![link_local, tentative], NoSource::Tentative(tentative.ip)),
            (vec![duplicate], NoSource::Duplicate(duplicate.ip)),
        ] {
            assert_eq!(eth0(addresses.clone()).source_for(group), Err(why), "{addresses:?}");
        }
        let narrow = InterfaceFacts { mtu: 1279, ..eth0(vec![address("10.0.0.1/24")]) };
        assert_eq!(narrow.source_for(group), Err(NoSource::MtuBelowIpv6));
        assert_eq!(narrow.source_for(target("239.1.1.1")), Ok([10, 0, 0, 1].into()));
    }
}
