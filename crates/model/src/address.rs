//! Addresses, ports and the header values that an output may set.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::span::address_after;

/// Why an address or a header value was refused; each text says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Text that is no IP address.
    #[error("{given:?} is not an IP address")]
    NotAnAddress {
        /// What was typed.
        given: String,
    },
    /// A group was wanted.
    #[error("{given} is not a multicast group")]
    NotMulticast {
        /// What was typed.
        given: IpAddr,
    },
    /// A unicast address was wanted.
    #[error("{given} is not a unicast address of a host")]
    NotUnicast {
        /// What was typed.
        given: IpAddr,
    },
    /// An IPv6 group that never leaves its host (RFC 4291 section 2.7).
    #[error("{given} is of a scope that never leaves its host")]
    NeverOnWire {
        /// What was typed.
        given: IpAddr,
    },
    /// An IPv4 address in the clothes of IPv6 (RFC 4291 section 2.5.5.2).
    #[error("{given} is {ipv4} written as IPv6, which is on no wire")]
    Mapped {
        /// What was typed.
        given: IpAddr,
        /// What it stands for.
        ipv4: Ipv4Addr,
    },
    /// An address with a zone (RFC 4007).
    #[error("{given:?} names a zone")]
    Zone {
        /// What was typed.
        given: String,
    },
    /// A number outside of its range.
    #[error("{what} {given} is out of range")]
    OutOfRange {
        /// The name of the value.
        what: &'static str,
        /// What was typed.
        given: i64,
    },
}

/// What to do about a zone.
pub(crate) const NO_ZONE: &str = "leave out the % and what follows: the interface says it already";

impl ValueError {
    /// What to write instead of an address that was refused; `wanted`, when nothing better is known.
    pub(crate) fn remedy(&self, wanted: &str) -> String {
        match self {
            Self::Zone { .. } => NO_ZONE.to_owned(),
            Self::Mapped { ipv4, .. } => format!("write {ipv4}"),
            Self::NotAnAddress { .. }
            | Self::NotMulticast { .. }
            | Self::NotUnicast { .. }
            | Self::NeverOnWire { .. }
            | Self::OutOfRange { .. } => wanted.to_owned(),
        }
    }
}

/// Where packets are addressed to: a multicast group or one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Target(IpAddr);

impl Target {
    /// A multicast group: 224.0.0.0/4 (RFC 5771), or ff00::/8 of a scope that is on a wire (RFC 7346).
    ///
    /// # Errors
    /// [`ValueError::NotMulticast`], [`ValueError::NeverOnWire`], [`ValueError::Mapped`].
    pub fn group(given: IpAddr) -> Result<Self, ValueError> {
        match given {
            IpAddr::V6(address) => not_mapped(address)?,
            IpAddr::V4(_) => {}
        }
        if !given.is_multicast() {
            return Err(ValueError::NotMulticast { given });
        }
        match scope_of(given) {
            Some(0 | 1) => Err(ValueError::NeverOnWire { given }),
            _ => Ok(Self(given)),
        }
    }

    /// The unicast address of one host.
    ///
    /// # Errors
    /// [`ValueError::NotUnicast`], [`ValueError::Mapped`].
    pub fn unicast(given: IpAddr) -> Result<Self, ValueError> {
        host(given).map(Self)
    }

    /// The limited broadcast address (RFC 919 section 7), which every host of a network takes.
    ///
    /// # Errors
    /// [`ValueError::NotUnicast`].
    pub fn broadcast(given: IpAddr) -> Result<Self, ValueError> {
        if given == IpAddr::V4(Ipv4Addr::BROADCAST) { Ok(Self(given)) } else { Err(ValueError::NotUnicast { given }) }
    }

    /// The one that comes so many later, in a range that was checked.
    pub(crate) fn after(self, more: u32) -> Self {
        Self(address_after(self.0, more))
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Whether it is a group that must be joined.
    pub fn is_group(self) -> bool {
        self.0.is_multicast()
    }

    /// Whether it is the limited broadcast address.
    pub fn is_broadcast(self) -> bool {
        self.0 == IpAddr::V4(Ipv4Addr::BROADCAST)
    }

    /// Whether it is a link-local group, which routers never forward and routing protocols live in: 224.0.0.0/24 (RFC
    /// 5771 section 4), or IPv6 of link-local scope, ff02::/16 with any flags (RFC 4291 section 2.7).
    pub fn is_link_local_group(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(_) => scope_of(self.0) == Some(2),
        }
    }

    /// Whether it is a group for source-specific multicast: 232.0.0.0/8, or ff3x::/32 (RFC 4607 section 1).
    pub fn is_source_specific(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => address.octets()[0] == 232,
            IpAddr::V6(address) => address.segments()[0] & 0xfff0 == 0xff30 && address.segments()[1] == 0,
        }
    }

    /// Whether it is no address beyond this link: a link-local group or host.
    pub fn is_link_local(self) -> bool {
        let is_host = matches!(self.0, IpAddr::V6(address) if address.is_unicast_link_local());
        is_host || self.is_link_local_group()
    }
}

/// The scope of an IPv6 group (RFC 7346 section 2).
fn scope_of(group: IpAddr) -> Option<u8> {
    match group {
        IpAddr::V6(group) if group.is_multicast() => Some(group.octets()[1] & 0x0f),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// A unicast address that a host can have on a wire: of IPv4 not 0.0.0.0/8, multicast, reserved or broadcast; of IPv6
/// not ::, ::1 or multicast.
///
/// # Errors
/// [`ValueError::NotUnicast`], [`ValueError::Mapped`].
pub fn host(given: IpAddr) -> Result<IpAddr, ValueError> {
    let is_host = match given {
        IpAddr::V4(address) => (1..224).contains(&address.octets()[0]),
        IpAddr::V6(address) => {
            not_mapped(address)?;
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        }
    };
    if is_host { Ok(given) } else { Err(ValueError::NotUnicast { given }) }
}

fn not_mapped(address: Ipv6Addr) -> Result<(), ValueError> {
    match address.to_ipv4_mapped() {
        Some(ipv4) => Err(ValueError::Mapped { given: address.into(), ipv4 }),
        None => Ok(()),
    }
}

/// Text to an IP address. IPv6 may be in brackets; a zone (`%eth0`) is refused, because the interface says it already.
///
/// # Errors
/// [`ValueError::NotAnAddress`], [`ValueError::Zone`].
pub fn parse_ip(given: &str) -> Result<IpAddr, ValueError> {
    let shown = || given.chars().take(80).collect();
    let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|bare| bare.contains(':'));
    let bare = bare.unwrap_or(given);
    match bare.split_once('%') {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_ok() => Err(ValueError::Zone { given: shown() }),
        _ => bare.parse().map_err(|_| ValueError::NotAnAddress { given: shown() }),
    }
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $what:literal, $range:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The number, in host byte order.
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = ValueError;

            fn try_from(given: i64) -> Result<Self, ValueError> {
                let range: std::ops::RangeInclusive<i64> = $range;
                match <$inner>::try_from(given) {
                    Ok(value) if range.contains(&given) => Ok(Self(value)),
                    _ => Err(ValueError::OutOfRange { what: $what, given }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ranged!(
    /// A UDP port, 1 to 65535 (port 0 means "none", RFC 768).
    Port, u16, "port", 1..=65535
);
ranged!(
    /// A time to live or hop limit, 1 to 255. 0 would never leave the host (RFC 1122 section 3.2.1.7).
    Ttl, u8, "ttl", 1..=255
);
ranged!(
    /// A differentiated services code point, 0 to 63 (RFC 2474).
    Dscp, u8, "dscp", 0..=63
);

ranged!(
    /// A priority in a VLAN tag, 0 to 7 (IEEE 802.1Q).
    Priority, u8, "priority", 0..=7
);

impl Ttl {
    /// 16, the old "site" scope: devices send TTL 1, and what came in is never a good guess.
    pub const DEFAULT: Ttl = Ttl(16);
}

impl Port {
    /// The one that comes so many later, in a range that was checked.
    pub(crate) fn after(self, more: u16) -> Self {
        Self(self.0 + more)
    }

    /// Those of PTP over UDP: event and general (IEEE 1588-2019 annex C).
    pub const PTP: [u16; 2] = [319, 320];
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert!(Target::group("239.1.1.1".parse().unwrap()).is_ok());
        assert!(Target::group("10.1.1.1".parse().unwrap()).is_err());
        assert!(Target::unicast("10.1.1.1".parse().unwrap()).is_ok());
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(Target::unicast(bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert!(Target::group("224.0.0.251".parse().unwrap()).unwrap().is_link_local_group());
        assert!(!Target::group("224.0.1.1".parse().unwrap()).unwrap().is_link_local_group());
    }

    #[test]
    fn targets_of_ipv6() {
        let group = |text: &str| Target::group(text.parse().unwrap());
        for (good, link_local) in [("ff3e::1", false), ("ff02::fb", true), ("ff12::1", true), ("ff05::1:3", false)] {
            assert_eq!(group(good).unwrap().is_link_local_group(), link_local, "{good}");
        }
        for bad in ["ff01::1", "ff00::1", "ff11::5"] {
            assert!(matches!(group(bad), Err(ValueError::NeverOnWire { .. })), "{bad}");
        }
        assert!(matches!(group("fd00::1"), Err(ValueError::NotMulticast { .. })));
        assert!(matches!(group("::ffff:239.1.1.1"), Err(ValueError::Mapped { .. })));
        for good in ["fd00::1", "2001:db8::1", "fe80::1"] {
            let target = Target::unicast(good.parse().unwrap()).unwrap();
            assert_eq!((target.is_group(), target.is_link_local()), (false, good == "fe80::1"));
        }
    }

    #[test]
    fn text_of_addresses() {
        assert_eq!(parse_ip("ff3e::1").unwrap(), parse_ip("[ff3e::1]").unwrap());
        assert!(matches!(parse_ip("fe80::1%eth0"), Err(ValueError::Zone { .. })));
        for bad in ["[239.1.1.1]", "239.1.1", "[ff3e::1", "ff3e::1%", "", "%eth0"] {
            assert!(parse_ip(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(Port::try_from(1).unwrap().get(), 1);
        assert_eq!(Port::try_from(65535).unwrap().get(), 65535);
        for bad in [0, -1, 65536, i64::MAX] {
            assert_eq!(Port::try_from(bad).unwrap_err().to_string(), format!("port {bad} is out of range"));
        }
        assert!(Ttl::try_from(0).is_err() && Ttl::try_from(256).is_err() && Ttl::try_from(255).is_ok());
        assert!(Dscp::try_from(64).is_err() && Dscp::try_from(0).is_ok());
    }
}
