//! Ethernet II headers and 802.1Q tags (IEEE 802.3 clause 3.2, IEEE 802.1Q-2022 clause 9).

use core::fmt;
use core::net::IpAddr;

/// Bytes of two addresses and an EtherType.
pub const HEADER_BYTES: usize = 14;
/// Bytes of one 802.1Q tag.
pub const TAG_BYTES: usize = 4;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Tag protocol identifier of a customer tag (802.1Q).
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol identifier of a service tag (802.1ad).
pub const TPID_8021AD: u16 = 0x88a8;

/// A link-layer address, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// An address from its six octets.
    #[inline]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Its octets.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address that frames of a group are sent to: 01:00:5e and the low 23 bits (RFC 1112 section 6.4), which 32
    /// groups share, or 33:33 and the low 32 bits (RFC 2464 section 7).
    #[inline]
    pub const fn for_group(group: IpAddr) -> Self {
        match group {
            IpAddr::V4(group) => {
                let [_, b, c, d] = group.octets();
                Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                Self([0x33, 0x33, a, b, c, d])
            }
        }
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A VLAN identifier, 1 to 4094 (0 means "priority only", 4095 is reserved: IEEE 802.1Q-2022 table 9-2), and that of the
/// outer tag where frames have two (IEEE 802.1ad).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId {
    /// 0: there is one tag.
    outer: u16,
    id: u16,
}

impl VlanId {
    /// The identifier of the only tag, when it is one.
    #[inline]
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 1 && id <= 4094 { Some(Self { outer: 0, id }) } else { None }
    }

    /// The same as the inner tag, within an outer one.
    #[inline]
    pub const fn within(self, outer: u16) -> Option<Self> {
        if outer >= 1 && outer <= 4094 { Some(Self { outer, ..self }) } else { None }
    }

    /// The number, of the inner tag where there are two, in host byte order.
    #[inline]
    pub const fn get(self) -> u16 {
        self.id
    }

    /// That of the outer tag, where there are two.
    #[inline]
    pub const fn outer(self) -> Option<u16> {
        if self.outer == 0 { None } else { Some(self.outer) }
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outer() {
            Some(outer) => write!(f, "{outer}.{}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// One tag: the protocol identifier and the tag control information, in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority (3 bits), drop eligibility (1 bit), identifier (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// The identifier; `None` for a priority tag, which belongs to no VLAN.
    #[inline]
    pub const fn id(self) -> Option<VlanId> {
        VlanId::new(self.number())
    }

    /// The identifier, whatever it is.
    #[inline]
    pub const fn number(self) -> u16 {
        self.tci & 0x0fff
    }

    /// Whether the identifier is the one that no frame may carry, 4095.
    #[inline]
    pub const fn is_reserved(self) -> bool {
        self.number() == 0x0fff
    }

    /// Priority and drop eligibility: the upper four bits of the control information, in place.
    #[inline]
    pub const fn priority_bits(self) -> u16 {
        self.tci & 0xf000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_map_to_their_low_23_bits() {
        let mac = |group: [u8; 4]| MacAddr::for_group(group.into()).octets();
        assert_eq!(mac([239, 1, 2, 3]), [1, 0, 0x5e, 1, 2, 3]);
        assert_eq!(mac([239, 129, 2, 3]), [1, 0, 0x5e, 1, 2, 3]);
        assert_eq!(mac([224, 255, 255, 255]), [1, 0, 0x5e, 0x7f, 255, 255]);
    }

    #[test]
    fn groups_of_ipv6_map_to_their_low_32_bits() {
        let group = "ff3e:1:2:3:4:5:8001:fe".parse().unwrap();
        assert_eq!(MacAddr::for_group(group).octets(), [0x33, 0x33, 0x80, 0x01, 0, 0xfe]);
    }

    #[test]
    fn vlan_identifiers() {
        assert!(VlanId::new(0).is_none() && VlanId::new(4095).is_none());
        assert_eq!(VlanId::new(4094).unwrap().get(), 4094);
        let two = VlanId::new(4094).unwrap().within(7).unwrap();
        assert_eq!((two.get(), two.outer(), VlanId::new(7).unwrap().outer()), (4094, Some(7), None));
        assert!(two.within(0).is_none() && two.within(4095).is_none() && VlanId::new(4094) != Some(two));
        assert_eq!(VlanTag { tpid: TPID_8021Q, tci: 0xe064 }.id(), VlanId::new(100));
        assert_eq!(VlanTag { tpid: TPID_8021Q, tci: 0xe000 }.id(), None);
        assert!(VlanTag { tpid: TPID_8021Q, tci: 0x0fff }.is_reserved());
        assert!(!VlanTag { tpid: TPID_8021Q, tci: 0xeffe }.is_reserved());
    }
}
