//! Ranges of addresses as a user writes them, `192.168.168.0/24`, and what lists of them say together.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use mcr_wire::listing::put_in_order;

/// A range of addresses, as `239.2.0.0/16`; or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(mcr_wire::Prefix);

/// Text that is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Neither an address nor an address with a length.
    #[error("{given:?} is no range of addresses")]
    Shape {
        /// What was typed.
        given: String,
    },
    /// Bits are set that the length leaves out.
    #[error("{given:?} has bits after its length; the range that it is in begins at {}", range.first())]
    HostBits {
        /// What was typed.
        given: String,
        /// The range of that length that it is in.
        range: Prefix,
    },
}

impl Prefix {
    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether all of `inner` are among them.
    pub fn covers(&self, inner: &Prefix) -> bool {
        self.0.covers(&inner.0)
    }

    /// Whether it is one address.
    pub fn is_host(&self) -> bool {
        self.0.is_host()
    }

    /// The first and the last address, when they are of IPv4.
    pub fn ipv4_range(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        match (self.first(), self.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Some((first, last)),
            _ => None,
        }
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.0.first()
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.0.last()
    }

    /// How many bits of its addresses are the same.
    pub fn length(&self) -> u8 {
        self.0.length()
    }

    /// How many bits of its addresses may be either: there are as many addresses as these can count.
    pub fn free_bits(&self) -> u8 {
        self.0.free_bits()
    }

    /// As the datapaths know it.
    pub fn on_wire(&self) -> mcr_wire::Prefix {
        self.0
    }

    /// How many addresses there are, as far as a number can say.
    fn size(&self) -> u128 {
        1_u128.checked_shl(self.free_bits().into()).unwrap_or(u128::MAX)
    }
}

/// The same addresses, sorted, with no prefix within another.
pub(crate) fn outermost(prefixes: Vec<Prefix>) -> Vec<Prefix> {
    let mut prefixes: Vec<mcr_wire::Prefix> = prefixes.into_iter().map(|prefix| prefix.0).collect();
    let kept = put_in_order(&mut prefixes);
    prefixes.truncate(kept);
    prefixes.into_iter().map(Prefix).collect()
}

/// Whether every address of `prefix` is in one of `list`, of which none is within another.
pub(crate) fn is_covered(prefix: &Prefix, list: &[Prefix]) -> bool {
    let within = list.iter().filter(|listed| prefix.covers(listed));
    list.iter().any(|listed| listed.covers(prefix))
        || within.fold(0, |sum: u128, listed| sum.saturating_add(listed.size())) == prefix.size()
}

/// What is in both lists, each without prefixes that lie within another; an empty list is all addresses.
pub(crate) fn common(a: &[Prefix], b: &[Prefix]) -> Vec<Prefix> {
    match (a, b) {
        (list, []) | ([], list) => list.to_vec(),
        // Prefixes that meet lie one within the other.
        (a, b) => a.iter().flat_map(|a| b.iter().filter_map(|b| meet(a, b))).collect(),
    }
}

/// What is in both.
pub(crate) fn meet(a: &Prefix, b: &Prefix) -> Option<Prefix> {
    match (a.covers(b), b.covers(a)) {
        (true, _) => Some(*b),
        (false, true) => Some(*a),
        (false, false) => None,
    }
}

impl From<IpAddr> for Prefix {
    /// That address alone.
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(given: &str) -> Result<Self, PrefixError> {
        let shape = || PrefixError::Shape { given: given.chars().take(60).collect() };
        let (address, length) =
            given.split_once('/').map_or((given, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| shape())?;
        let Some(length) = length else { return Ok(address.into()) };
        let length: u8 = length.parse().map_err(|_| shape())?;
        let range = mcr_wire::Prefix::around(address, length);
        if range.length() != length {
            return Err(shape());
        }
        if range.first() == address {
            Ok(Self(range))
        } else {
            Err(PrefixError::HostBits { given: given.to_owned(), range: Self(range) })
        }
    }
}

impl fmt::Display for Prefix {
    /// One address stands by itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_host() {
            true => write!(f, "{}", self.first()),
            false => write!(f, "{}/{}", self.first(), self.length()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<Prefix> {
        outermost(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn prefixes() {
        for (text, inside, outside) in [
            ("239.2.0.0/16", "239.2.255.1", "239.3.0.0"),
            ("239.2.3.4", "239.2.3.4", "239.2.3.5"),
            ("0.0.0.0/0", "10.0.0.1", "ff3e::1"),
            ("ff3e::/16", "ff3e::1", "ff05::1"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert!(prefix.contains(inside.parse().unwrap()) && !prefix.contains(outside.parse().unwrap()), "{text}");
            assert_eq!(prefix.to_string(), text);
        }
        assert_eq!("10.0.0.1/32".parse::<Prefix>().unwrap().to_string(), "10.0.0.1");
        for wrong in ["", "239", "239.2.0.0/33", "239.2.0.0/-1", "239.2.1.0/16", "a/8", "239.0.0.0/8/8"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_prefixes_within_another_the_outer_one_stays() {
        let outer = list(&["10.0.0.0/24", "10.0.0.7", "10.0.1.0", "10.0.0.0/8", "9.0.0.0/8", "10.0.0.0/24"]);
        assert_eq!(outer, list(&["9.0.0.0/8", "10.0.0.0/8"]));
    }

    #[test]
    fn parts_cover_together_what_none_covers_alone() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let parts = list(&["10.0.0.0/25", "10.0.0.128/26", "10.0.0.192/26"]);
        assert!(is_covered(&prefix("10.0.0.0/24"), &parts) && is_covered(&prefix("10.0.0.200"), &parts));
        assert!(!is_covered(&prefix("10.0.0.0/23"), &parts) && !is_covered(&prefix("10.0.0.0/24"), &parts[..2]));
        assert!(is_covered(&prefix("::/0"), &list(&["::/1", "8000::/1"])));
    }

    #[test]
    fn what_two_lists_have_in_common() {
        let (a, b) = (list(&["10.0.0.0/8", "192.168.0.7"]), list(&["10.1.0.0/16", "192.168.0.0/24", "9.0.0.1"]));
        assert_eq!(common(&a, &b), list(&["10.1.0.0/16", "192.168.0.7"]));
        assert_eq!((common(&a, &[]), common(&[], &b)), (a, b));
    }
}
