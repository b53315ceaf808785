//! The network that the relay is for: a device whose address nobody can answer, the relay's host, and the networks that want to
//! hear the device.
//!
//! ```text
//!  device                     relay                         lan 1 .. lan n
//!  eth0 192.168.168.55/32 --- dev0 10.0.0.1/24
//!       224.0.0.0/4 dev eth0  lan1 10.0.1.1/24 ------------ eth0 10.0.1.2/24
//!                             lan2 10.0.2.1/24 ------------ eth0 10.0.2.2/24
//! ```
//!
//! The relay's host and the lans check sources strictly (`rp_filter=1`) and have no route to the device: a plain UDP socket in any
//! of them never receives what the device sends.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::interface::Interface;
use crate::namespace::Namespace;
use crate::veth::Veth;

/// The device's address: outside every network that the relay has a route to.
pub const DEVICE: Ipv4Addr = Ipv4Addr::new(192, 168, 168, 55);

/// Its address of IPv6, when it has one ([`Topology::with_ipv6`]).
pub const DEVICE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xdead, 0, 0, 0, 0, 0, 0x55);

/// A device, a relay host and its lans, all joined by cables.
#[derive(Debug)]
pub struct Topology {
    device: Namespace,
    relay: Namespace,
    input: Veth,
    lans: Vec<Lan>,
}

/// A network behind the relay, with one host in it.
#[derive(Debug)]
pub struct Lan {
    namespace: Namespace,
    cable: Veth,
    number: u8,
}

impl Topology {
    /// Makes the device, the relay host and `outputs` lans.
    ///
    /// # Panics
    /// Without root, `ip` and `ethtool`; with more than 254 outputs.
    #[track_caller]
    pub fn device_relay_lan(outputs: usize) -> Topology {
        Topology::device_relay_lan_with_queues(outputs, 1)
    }

    /// As [`Topology::device_relay_lan`], with several queues, in both directions, on the cable from the device.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn device_relay_lan_with_queues(outputs: usize, queues: u32) -> Topology {
        assert!(outputs <= 254, "lans are numbered by one byte, from 1 to 254");
        let device = Namespace::new("device");
        let relay = strict_host("relay");
        let input = Veth::with_queues(&device, "eth0", &relay, "dev0", queues);
        device.ip(&format!("address add {DEVICE}/32 dev eth0\nroute add 224.0.0.0/4 dev eth0"));
        input.far().add_address("10.0.0.1/24");
        let lans = (1..=outputs).map(|number| Lan::new(&relay, u8::try_from(number).unwrap_or(u8::MAX))).collect();
        Topology { device, relay, input, lans }
    }

    /// Gives every host IPv6 besides, with addresses that are good at once: the device fd00:dead::55/128, the relay fd00::1
    /// towards it and fd00:n::1 towards lan n, whose host has fd00:n::2. Nobody has a route to the device. From now on
    /// there is IPv6's own traffic on the cables.
    #[must_use]
    #[track_caller]
    pub fn with_ipv6(self) -> Topology {
        self.device_interface().add_ipv6(&format!("{DEVICE6}/128"));
        self.relay_input().add_ipv6("fd00::1/64");
        for lan in &self.lans {
            lan.relay_side().add_ipv6(&format!("{}/64", lan.relay_ipv6()));
            lan.host_side().add_ipv6(&format!("{}/64", lan.host_ipv6()));
        }
        self
    }

    /// Where the device is.
    pub fn device(&self) -> &Namespace {
        &self.device
    }

    /// Where the relay is to run.
    pub fn relay(&self) -> &Namespace {
        &self.relay
    }

    /// The cable from the device (near) to the relay (far).
    pub fn input(&self) -> &Veth {
        &self.input
    }

    /// The relay's interface towards the device: `dev0`.
    pub fn relay_input(&self) -> &Interface {
        self.input.far()
    }

    /// The device's interface: `eth0`.
    pub fn device_interface(&self) -> &Interface {
        self.input.near()
    }

    /// A lan, counted from 1, as its names and addresses are.
    ///
    /// # Panics
    /// When there is no such lan.
    #[track_caller]
    pub fn lan(&self, number: usize) -> &Lan {
        number
            .checked_sub(1)
            .and_then(|index| self.lans.get(index))
            .unwrap_or_else(|| panic!("there are lans 1 to {}, and no {number}", self.lans.len()))
    }

    /// All lans, the first first.
    pub fn lans(&self) -> &[Lan] {
        &self.lans
    }
}

impl Lan {
    #[track_caller]
    fn new(relay: &Namespace, number: u8) -> Lan {
        let namespace = strict_host(&format!("lan{number}"));
        let cable = Veth::between(relay, &format!("lan{number}"), &namespace, "eth0");
        // Many copies of a burst, one to each lan, would overflow the one backlog that they share otherwise.
        cable.near().queue_at_peer();
        let lan = Lan { namespace, cable, number };
        lan.relay_side().add_address(&format!("{}/24", lan.relay_address()));
        lan.host_side().add_address(&format!("{}/24", lan.host_address()));
        lan
    }

    /// Where the listening host is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The cable from the relay (near) to the host (far).
    pub fn cable(&self) -> &Veth {
        &self.cable
    }

    /// The relay's interface: `lan1` for the first lan.
    pub fn relay_side(&self) -> &Interface {
        self.cable.near()
    }

    /// The host's interface: `eth0`.
    pub fn host_side(&self) -> &Interface {
        self.cable.far()
    }

    /// 10.0.n.1, which what is relayed should come from.
    pub fn relay_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.number, 1)
    }

    /// 10.0.n.2.
    pub fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.number, 2)
    }

    /// fd00:n::1, which what is relayed as IPv6 should come from.
    pub fn relay_ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, self.number.into(), 0, 0, 0, 0, 0, 1)
    }

    /// fd00:n::2.
    pub fn host_ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, self.number.into(), 0, 0, 0, 0, 0, 2)
    }
}

/// A host that forwards nothing and drops what it has no route back to. `default` is set before there are interfaces, which take
/// their own value from it.
#[track_caller]
fn strict_host(name: &str) -> Namespace {
    let host = Namespace::new(name);
    for (path, value) in [
        ("ip_forward", "0"),
        ("conf/all/rp_filter", "1"),
        ("conf/default/rp_filter", "1"),
        ("conf/all/log_martians", "0"),
    ] {
        host.sysctl(&format!("net/ipv4/{path}"), value);
    }
    host
}
