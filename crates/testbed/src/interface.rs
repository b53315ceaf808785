//! One network interface in one namespace, known by its index, so that a handle stays good across a rename.

use std::ffi::{CStr, CString};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::namespace::Namespace;

/// A hardware address in wire order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Where a group's frames go: 01:00:5e and the low 23 bits of the group (RFC 1112 section 6.4), or 33:33 and the low
    /// 32 bits (RFC 2464 section 7).
    pub const fn of_group(group: IpAddr) -> Mac {
        match group {
            IpAddr::V4(group) => {
                let [_, b, c, d] = group.octets();
                Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                Mac([0x33, 0x33, a, b, c, d])
            }
        }
    }

    fn from_text(text: &str) -> Option<Mac> {
        let mut bytes = [0; 6];
        let mut parts = text.trim().split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What an interface may do in place of the software above or below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Finish checksums of sent packets (`tx`). Off: local senders hand over frames whose checksums are finished.
    SendChecksum,
    /// Gather received packets (`gro`). On a veth it also switches NAPI on, and with it a queue that holds bursts.
    Gather,
    /// Gather received UDP that is only passing through (`rx-udp-gro-forwarding`): brings super-frames to packet sockets.
    GatherForwardedUdp,
    /// Cut TCP streams on sending (`tso`). Off, on a veth, it lets the peer's NAPI take what is sent: see
    /// [`Interface::queue_at_peer`].
    SegmentTcp,
    /// Cut UDP super-frames on sending (`tx-udp-segmentation`).
    SegmentUdp,
}

/// One of two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Switched on.
    On,
    /// Switched off.
    Off,
}

/// An interface of a namespace. Dropping the handle leaves the interface; it goes with [`Interface::delete`] or its namespace.
#[derive(Debug, Clone)]
pub struct Interface {
    namespace: Namespace,
    index: u32,
}

impl Interface {
    /// The interface of that name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn of(namespace: &Namespace, name: &str) -> Interface {
        let index = index_of(namespace, name);
        assert_ne!(index, 0, "no interface {name} in {}", namespace.name());
        Interface { namespace: namespace.clone(), index }
    }

    /// Where it is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The kernel's number for it in its namespace.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What it is called now.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn name(&self) -> String {
        let name = self.namespace.run(|| {
            let mut name = [0u8; libc::IF_NAMESIZE];
            // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
            let found = unsafe { libc::if_indextoname(self.index, name.as_mut_ptr().cast()) };
            (!found.is_null())
                .then(|| CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned())
        });
        name.unwrap_or_else(|| panic!("interface {} of {} is gone", self.index, self.namespace.name()))
    }

    /// Its hardware address.
    #[track_caller]
    pub fn mac(&self) -> Mac {
        let name = self.name();
        let shown = self.namespace.output("ip", &["-oneline", "link", "show", "dev", &name]);
        let text = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        text.and_then(Mac::from_text).unwrap_or_else(|| panic!("{name} has no Ethernet address: {shown}"))
    }

    /// Changes its hardware address.
    #[track_caller]
    pub fn set_mac(&self, mac: Mac) {
        self.set(&format!("address {mac}"));
    }

    /// Adds an address, as `10.0.1.2/24`.
    #[track_caller]
    pub fn add_address(&self, address_and_prefix: &str) {
        self.namespace.ip(&format!("address add {address_and_prefix} dev {}", self.name()));
    }

    /// Takes an address away, as `10.0.1.2/24`.
    #[track_caller]
    pub fn remove_address(&self, address_and_prefix: &str) {
        self.namespace.ip(&format!("address delete {address_and_prefix} dev {}", self.name()));
    }

    /// Sends what is for `prefix` (as `224.0.0.0/4`, or `default`) out here, with no gateway.
    #[track_caller]
    pub fn add_route(&self, prefix: &str) {
        self.namespace.ip(&format!("route add {prefix} dev {}", self.name()));
    }

    /// Switches IPv6 on and adds an address with its prefix length, which is good at once: no other host is asked.
    #[track_caller]
    pub fn add_ipv6(&self, address: &str) {
        let (namespace, name) = (self.namespace(), self.name());
        for scope in ["all", &name] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0");
        }
        namespace.sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0");
        namespace.ip(&format!("address add {address} dev {name} nodad"));
    }

    /// Makes `mac` the permanent neighbour entry of `address`: no ARP.
    #[track_caller]
    pub fn add_neighbour(&self, address: Ipv4Addr, mac: Mac) {
        self.namespace.ip(&format!("neighbour replace {address} lladdr {mac} nud permanent dev {}", self.name()));
    }

    /// Largest IP packet, in bytes.
    #[track_caller]
    pub fn set_mtu(&self, mtu_bytes: u32) {
        self.set(&format!("mtu {mtu_bytes}"));
    }

    /// Takes the interface down (as an administrator would, not by loss of carrier).
    #[track_caller]
    pub fn down(&self) {
        self.set("down");
    }

    /// Brings the interface up.
    #[track_caller]
    pub fn up(&self) {
        self.set("up");
    }

    /// Gives it another name. The kernel allows that while the interface is up since Linux 6.2 (`net/core/dev.c`).
    #[track_caller]
    pub fn rename(&self, name: &str) {
        self.set(&format!("name {name}"));
    }

    /// Removes it; of a veth, the peer goes too.
    #[track_caller]
    pub fn delete(self) {
        self.namespace.ip(&format!("link delete dev {}", self.name()));
    }

    /// Whether it is still there under its index.
    pub fn exists(&self) -> bool {
        self.namespace.run(|| {
            let mut name = [0u8; libc::IF_NAMESIZE];
            // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
            !unsafe { libc::if_indextoname(self.index, name.as_mut_ptr().cast()) }.is_null()
        })
    }

    /// Switches an offload.
    ///
    /// # Panics
    /// When the device refuses, with what `ethtool` said.
    #[track_caller]
    pub fn offload(&self, offload: Offload, switch: Switch) {
        let feature = match offload {
            Offload::SendChecksum => "tx",
            Offload::Gather => "gro",
            Offload::GatherForwardedUdp => "rx-udp-gro-forwarding",
            Offload::SegmentTcp => "tso",
            Offload::SegmentUdp => "tx-udp-segmentation",
        };
        let state = match switch {
            Switch::On => "on",
            Switch::Off => "off",
        };
        self.namespace.output("ethtool", &["-K", &self.name(), feature, state]);
    }

    /// Hands what is sent to the peer's own queue and its gathering, rather than to the backlog of 1,000 packets that all of a
    /// CPU's interfaces share. A veth does that for a peer with gathering on only while TCP segmentation is off here
    /// (`veth_skb_is_eligible_for_gro` in drivers/net/veth.c). Frames that came that way have had their checksum looked at.
    #[track_caller]
    pub fn queue_at_peer(&self) {
        self.offload(Offload::SegmentTcp, Switch::Off);
    }

    #[track_caller]
    fn set(&self, what: &str) {
        self.namespace.ip(&format!("link set dev {} {what}", self.name()));
    }
}

#[track_caller]
fn index_of(namespace: &Namespace, name: &str) -> u32 {
    let name = CString::new(name).expect("an interface name has no NUL");
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    namespace.run(|| unsafe { libc::if_nametoindex(name.as_ptr()) })
}
