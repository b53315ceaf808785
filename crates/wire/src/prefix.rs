//! Addresses that begin alike, as `192.168.168.0/24`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses of one family whose first bits are the same; of the longest length there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    // In this order: sorted, a prefix comes before those within it.
    first: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of that length which begins at `first`; `None` when bits are set beyond it, or it is longer than the address.
    pub fn new(first: IpAddr, length: u8) -> Option<Self> {
        let is_short = length <= width(first);
        (is_short && masked(first, length) == first).then_some(Self { first, length })
    }

    /// The prefix of that length, or of the longest, that `address` is in.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let length = length.min(width(address));
        Self { first: masked(address, length), length }
    }

    /// The first address.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | !mask_v4(self.length)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | !mask_v6(self.length)).into(),
        }
    }

    /// How many bits are the same.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// How many bits may be either: there are as many addresses as these can count.
    pub const fn free_bits(&self) -> u8 {
        width(self.first) - self.length
    }

    /// Whether it is one address.
    pub const fn is_host(&self) -> bool {
        self.free_bits() == 0
    }

    /// Whether `address` is one of them.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && masked(address, self.length) == self.first
    }

    /// Whether all of `inner` are among them.
    pub fn covers(&self, inner: &Self) -> bool {
        self.length <= inner.length && self.contains(inner.first)
    }
}

impl From<IpAddr> for Prefix {
    /// That address alone.
    fn from(address: IpAddr) -> Self {
        Self { first: address, length: width(address) }
    }
}

/// Bits of an address.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first address of the prefix of that length which `address` is in.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & mask_v4(length)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & mask_v6(length)).into(),
    }
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn what_is_in_a_prefix() {
        let prefix = Prefix::new(v4(64), 26).unwrap();
        assert!(prefix.contains(v4(64)) && prefix.contains(v4(127)));
        assert!(
            !prefix.contains(v4(63)) && !prefix.contains(v4(128)) && !prefix.contains(Ipv6Addr::UNSPECIFIED.into())
        );
        assert_eq!((prefix.last(), prefix.free_bits(), prefix.is_host()), (v4(127), 6, false));
        assert_eq!((Prefix::new(v4(65), 26), Prefix::new(v4(64), 33)), (None, None));
        assert_eq!(Prefix::around(v4(99), 26), prefix);
        let all = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
        assert!(all.contains(v4(1)) && all.covers(&prefix) && !prefix.covers(&all));
        assert_eq!(all.last(), IpAddr::from(Ipv4Addr::BROADCAST));
        let all = Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
        assert!(all.contains(Ipv6Addr::LOCALHOST.into()) && !all.contains(v4(1)));
    }

    #[test]
    fn an_address_is_a_prefix_alone() {
        let host = Prefix::from(v4(7));
        assert!(host.is_host() && host.contains(v4(7)) && !host.contains(v4(6)));
        assert_eq!((host.last(), Prefix::new(v4(7), 32)), (v4(7), Some(host)));
        let host = Prefix::from(IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!((host.length(), host.is_host()), (128, true));
    }
}
