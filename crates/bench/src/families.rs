//! Which protocol the load comes with, and which it leaves with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::ValueEnum;
use mcr_testbed::{DEVICE, DEVICE6};

use crate::path::{GROUP, Path, ROUTABLE};

/// What the device sends to as IPv6.
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 1, 1);

/// One way through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Families {
    Ipv4,
    Ipv6,
    /// The relay gives it another header.
    #[value(name = "ipv4-to-ipv6")]
    #[serde(rename = "ipv4-to-ipv6")]
    Ipv4ToIpv6,
}

impl Families {
    pub(crate) const ALL: [Families; 3] = [Self::Ipv4, Self::Ipv6, Self::Ipv4ToIpv6];

    /// As a command line has it.
    pub(crate) fn argument(self) -> String {
        self.to_possible_value().expect("none is left out").get_name().to_owned()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Ipv4ToIpv6 => "IPv4 to IPv6",
        }
    }

    /// Whether a path can do it. Rules and redirection can't change the family; smcroute and socat are measured with IPv4.
    pub(crate) fn can_go_by(self, path: Path) -> bool {
        match (self, path) {
            (Self::Ipv4, _) => true,
            (_, Path::Xdp | Path::Tcx | Path::Packet | Path::Auto | Path::Sockets) => true,
            (Self::Ipv6, Path::Nftables | Path::Redirect) => true,
            (Self::Ipv6, Path::Smcroute | Path::Socat) => false,
            (Self::Ipv4ToIpv6, Path::Nftables | Path::Redirect | Path::Smcroute | Path::Socat) => false,
        }
    }

    /// What the device sends to.
    pub(crate) fn group(self) -> SocketAddr {
        match self {
            Self::Ipv4 | Self::Ipv4ToIpv6 => GROUP.into(),
            Self::Ipv6 => SocketAddr::new(GROUP6.into(), GROUP.port()),
        }
    }

    /// The source of the load: what goes through the IP stack needs one that the reverse path does not refuse. IPv6 has no such
    /// check.
    pub(crate) fn source(self, path: Path) -> IpAddr {
        match self {
            Self::Ipv6 => DEVICE6.into(),
            Self::Ipv4 | Self::Ipv4ToIpv6 if path.goes_through_the_stack() => ROUTABLE.into(),
            Self::Ipv4 | Self::Ipv4ToIpv6 => DEVICE.into(),
        }
    }

    /// The group of an output.
    pub(crate) fn output_group(self, output: usize) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::new(239, 2, 2, output as u8).into(),
            Self::Ipv6 | Self::Ipv4ToIpv6 => Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 2, output as u16).into(),
        }
    }

    /// What an output should send from.
    pub(crate) fn output_source(self, output: usize) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::new(10, 0, output as u8, 1).into(),
            Self::Ipv6 | Self::Ipv4ToIpv6 => Ipv6Addr::new(0xfd00, output as u16, 0, 0, 0, 0, 0, 1).into(),
        }
    }
}
