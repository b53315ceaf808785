//! Places on the wire: where packets are sent to or taken from. Cycles, shared outputs and rivals are found by them.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use mcr_wire::VlanId;

use crate::address::{Port, Target};
use crate::name::InterfaceName;
use crate::span::{Offset, Span};

/// Some groups, or one host, and some ports on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The interface.
    pub interface: InterfaceName,
    /// Its 802.1Q tag.
    pub vlan: Option<VlanId>,
    /// The first group, or the host.
    pub target: Target,
    /// The first port.
    pub port: Port,
    /// How many of both there are.
    pub span: Span,
}

/// How it stands between two places, as to the pairs of a group and a port that are in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rivalry {
    /// There is none.
    Apart,
    /// They are the same pairs.
    Same,
    /// They are the other place's, which says more exactly what it means.
    Yields,
    /// They are this place's.
    Wins,
    /// It can not be told.
    Unclear,
}

impl Place {
    /// Whether any group and port are in both.
    pub fn meets(&self, other: &Self) -> bool {
        (&self.interface, self.vlan) == (&other.interface, other.vlan)
            && meet(&self.addresses(), &other.addresses())
            && meet(&self.ports(), &other.ports())
    }

    /// Whether every group and port of `other` is in it.
    pub fn holds(&self, other: &Self) -> bool {
        (&self.interface, self.vlan) == (&other.interface, other.vlan)
            && within(&other.addresses(), &self.addresses())
            && within(&other.ports(), &self.ports())
    }

    /// Who takes what is in both: the longer prefix wins, and with equal ones the ports that lie within the other's.
    pub fn rivalry(&self, other: &Self) -> Rivalry {
        if !self.meets(other) {
            return Rivalry::Apart;
        }
        // Prefixes that meet lie one within the other.
        match self.span.groups().cmp(&other.span.groups()) {
            std::cmp::Ordering::Less => return Rivalry::Wins,
            std::cmp::Ordering::Greater => return Rivalry::Yields,
            std::cmp::Ordering::Equal => {}
        }
        match (within(&self.ports(), &other.ports()), within(&other.ports(), &self.ports())) {
            (true, true) => Rivalry::Same,
            (true, false) => Rivalry::Wins,
            (false, true) => Rivalry::Yields,
            (false, false) => Rivalry::Unclear,
        }
    }

    /// The place of the pairs that are in both; `None`: there are none.
    pub fn overlap(&self, other: &Self) -> Option<Self> {
        if !self.meets(other) {
            return None;
        }
        // Prefixes that meet lie one within the other.
        let inner = if self.span.groups() <= other.span.groups() { self } else { other };
        let last = *self.ports().end().min(other.ports().end());
        let port = self.port.max(other.port);
        let span = inner.span.with_ports(u32::from(last - port.get()) + 1);
        Some(Self { target: inner.target, port, span, ..self.clone() })
    }

    /// The pairs of this place that are in `other`, too.
    pub fn shared_with(&self, other: &Self) -> impl Iterator<Item = Offset> {
        let shared = self.overlap(other).map(|shared| {
            let before = Offset {
                group: distance(self.target.ip(), shared.target.ip()),
                port: shared.port.get() - self.port.get(),
            };
            let at = move |Offset { group, port }| Offset { group: group + before.group, port: port + before.port };
            shared.span.offsets().map(at)
        });
        shared.into_iter().flatten()
    }

    fn addresses(&self) -> RangeInclusive<IpAddr> {
        let first = self.target.ip();
        first..=self.span.last_address(first)
    }

    fn ports(&self) -> RangeInclusive<u16> {
        let first = self.port.get();
        first..=self.span.last_port(first)
    }
}

impl fmt::Display for Place {
    /// The groups and ports, as they stand in endpoint text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.span.write_address(self.target.ip(), f)?;
        f.write_str(":")?;
        self.span.write_port(self.port, f)
    }
}

/// How many addresses `address` comes after `first`, of the same family.
fn distance(first: IpAddr, address: IpAddr) -> u32 {
    match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => address.to_bits() - first.to_bits(),
        (IpAddr::V6(first), IpAddr::V6(address)) => (address.to_bits() - first.to_bits()) as u32,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

fn meet<T: Ord>(a: &RangeInclusive<T>, b: &RangeInclusive<T>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

fn within<T: Ord>(inner: &RangeInclusive<T>, outer: &RangeInclusive<T>) -> bool {
    outer.start() <= inner.start() && inner.end() <= outer.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::InputSpec;

    fn place(text: &str) -> Place {
        InputSpec::from_endpoint(text).unwrap().check("input").unwrap().place()
    }

    #[test]
    fn the_longer_prefix_wins_then_the_ports_within() {
        use Rivalry::{Apart, Same, Unclear, Wins, Yields};
        let range = "eth0:239.1.0.0/24:5000-5010";
        for (other, expected) in [
            (range, Same),
            ("eth0:239.1.0.7:5003", Yields),
            ("eth0:239.1.0.7:5000-6000", Yields),
            ("eth0:239.1.0.0/25:5000-5010", Yields),
            ("eth0:239.1.0.0/24:5010", Yields),
            ("eth0:239.1.0.0/23:5003", Wins),
            ("eth0:239.1.0.0/24:5000-5011", Wins),
            ("eth0:239.1.0.0/24:5005-5011", Unclear),
            ("eth0:239.1.0.0/24:5011", Apart),
            ("eth0:239.1.1.0/24:5000-5010", Apart),
            ("eth1:239.1.0.7:5003", Apart),
            ("eth0:239.1.0.7:5003,vlan=5", Apart),
            ("eth0:[ff3e::/120]:5000-5010", Apart),
        ] {
            assert_eq!(place(range).rivalry(&place(other)), expected, "{other}");
            let reverse = match expected {
                Yields => Wins,
                Wins => Yields,
                other => other,
            };
            assert_eq!(place(other).rivalry(&place(range)), reverse, "{other}");
        }
    }

    #[test]
    fn what_is_in_both() {
        let range = place("eth0:239.1.0.0/24:5000-5010");
        let shared = |other: &str| range.shared_with(&place(other)).map(|at| (at.group, at.port)).collect::<Vec<_>>();
        assert_eq!(shared("eth0:239.1.0.7:5003"), [(7, 3)]);
        assert_eq!(shared("eth0:239.1.0.254/31:5009-6000"), [(254, 9), (254, 10), (255, 9), (255, 10)]);
        assert_eq!(shared("eth0:239.1.0.0/23:5010").len(), 256);
        assert_eq!(shared("eth0:239.1.1.0:5010"), []);
        let overlap = |other: &str| range.overlap(&place(other)).map(|shared| shared.to_string());
        assert_eq!(overlap("eth0:239.1.0.254/31:5009-6000").as_deref(), Some("239.1.0.254/31:5009-5010"));
        assert_eq!(overlap("eth0:239.0.0.0/8:5003").as_deref(), Some("239.1.0.0/24:5003"));
        assert_eq!(overlap("eth0:239.1.1.0:5010"), None);
    }
}
