//! Addresses, ports and the header values that an output may set.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

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
    /// IPv6, which relays do not carry yet.
    #[error("{given} is IPv6, which this version does not relay")]
    Ipv6 {
        /// What was typed.
        given: IpAddr,
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

/// Where packets are addressed to: a multicast group or one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Target(Ipv4Addr);

impl Target {
    /// A multicast group: 224.0.0.0/4 (RFC 5771).
    ///
    /// # Errors
    /// [`ValueError::NotMulticast`], [`ValueError::Ipv6`].
    pub fn group(given: IpAddr) -> Result<Self, ValueError> {
        let address = v4(given)?;
        if address.is_multicast() { Ok(Self(address)) } else { Err(ValueError::NotMulticast { given }) }
    }

    /// The unicast address of one host.
    ///
    /// # Errors
    /// [`ValueError::NotUnicast`], [`ValueError::Ipv6`].
    pub fn unicast(given: IpAddr) -> Result<Self, ValueError> {
        host(given).map(Self)
    }

    /// The address.
    pub fn ip(self) -> Ipv4Addr {
        self.0
    }

    /// Whether it is a group that must be joined.
    pub fn is_group(self) -> bool {
        self.0.is_multicast()
    }

    /// Whether it is in 224.0.0.0/24, the local network control block (RFC 5771 section 4), which routers never
    /// forward and routing protocols live in.
    pub fn is_link_local(self) -> bool {
        self.0.octets()[..3] == [224, 0, 0]
    }
}

/// A unicast IPv4 address that a host can have: not 0.0.0.0/8, multicast, reserved or broadcast.
///
/// # Errors
/// [`ValueError::NotUnicast`], [`ValueError::Ipv6`].
pub fn host(given: IpAddr) -> Result<Ipv4Addr, ValueError> {
    let address = v4(given)?;
    let first = address.octets()[0];
    if first == 0 || first >= 224 { Err(ValueError::NotUnicast { given }) } else { Ok(address) }
}

fn v4(given: IpAddr) -> Result<Ipv4Addr, ValueError> {
    match given {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(ValueError::Ipv6 { given }),
    }
}

/// Text to an IP address.
///
/// # Errors
/// [`ValueError::NotAnAddress`].
pub fn parse_ip(given: &str) -> Result<IpAddr, ValueError> {
    given.parse().map_err(|_| ValueError::NotAnAddress { given: given.chars().take(80).collect() })
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
    /// A time to live, 1 to 255. 0 would never leave the host (RFC 1122 section 3.2.1.7).
    Ttl, u8, "ttl", 1..=255
);
ranged!(
    /// A differentiated services code point, 0 to 63 (RFC 2474).
    Dscp, u8, "dscp", 0..=63
);

impl Ttl {
    /// 16, the old "site" scope: devices send TTL 1, and what came in is never a good guess.
    pub const DEFAULT: Ttl = Ttl(16);
}

impl Port {
    /// Whether PTP over UDP uses it: event 319 and general 320 (IEEE 1588-2019 annex C).
    pub fn is_ptp(self) -> bool {
        matches!(self.0, 319 | 320)
    }
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
        assert!(Target::group("ff3e::1".parse().unwrap()).is_err());
        assert!(Target::unicast("10.1.1.1".parse().unwrap()).is_ok());
        for bad in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1"] {
            assert!(Target::unicast(bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert!(Target::group("224.0.0.251".parse().unwrap()).unwrap().is_link_local());
        assert!(!Target::group("224.0.1.1".parse().unwrap()).unwrap().is_link_local());
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
