//! What the program and the table writer share: the twins of `bpf/relay.h`, with the same sizes and offsets asserted.
//!
//! Addresses and ports are in network order, kept as bytes; everything else is in host order.

use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mcr_wire::{
    CodePoint, CodePointMap, Destination, DropReason, Listing, Oversize, Prefix, RateCap, Rewrite, TimeToLive, VlanId,
};

use crate::table::{Exit, OutputAction, OutputEntry};

/// Most outputs of one relay (`MCR_MOST_OUTPUTS`).
pub(crate) const MOST_OUTPUTS: usize = 64;
/// In the number of a list whose sources are refused (`MCR_LIST_REFUSES`).
pub(crate) const LIST_REFUSES: u32 = 1 << 31;
/// Most relays that share a destination (`MCR_MOST_SHARING`).
pub(crate) const MOST_SHARING: usize = 1024;

/// A structure that is only bytes to the kernel.
///
/// # Safety
/// `#[repr(C)]`, without padding, and valid with any bytes.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($type:ty, $bytes:expr $(, $field:ident at $at:expr)*) => {
        // SAFETY: declared below as `repr(C)` of integers and arrays of integers; the assertion leaves no room for padding.
        unsafe impl Plain for $type {}
        const _: () = assert!(size_of::<$type>() == $bytes);
        $(const _: () = assert!(offset_of!($type, $field) == $at);)*
    };
}

/// `struct mcr_destination`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct DestinationKey {
    pub(crate) ifindex: u32,
    pub(crate) address: Address,
    pub(crate) port: [u8; 2],
    /// And [`KEY_IPV6`].
    pub(crate) vlan: u16,
    pub(crate) outer_vlan: u16,
    pub(crate) unused: u16,
}
plain!(DestinationKey, 28, vlan at 22, outer_vlan at 24);

/// `struct mcr_address`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Address([u8; 16]);
plain!(Address, 16);

/// Which of both an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// `MCR_KEY_IPV6`.
const KEY_IPV6: u16 = 0x8000;

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                Self([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            IpAddr::V6(address) => Self(address.octets()),
        }
    }
}

impl Address {
    pub(crate) fn of(self, family: Family) -> IpAddr {
        let [a, b, c, d, ..] = self.0;
        match family {
            Family::V4 => Ipv4Addr::new(a, b, c, d).into(),
            Family::V6 => Ipv6Addr::from(self.0).into(),
        }
    }
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// `struct mcr_cap`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CapRecord {
    pub(crate) packet_cost: u64,
    pub(crate) byte_cost: u64,
}
plain!(CapRecord, 16, byte_cost at 8);

impl From<RateCap> for CapRecord {
    fn from(cap: RateCap) -> Self {
        Self { packet_cost: cap.packet_cost(), byte_cost: cap.byte_cost() }
    }
}

/// `struct mcr_relay`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RelayRecord {
    pub(crate) destination: DestinationKey,
    pub(crate) next: u32,
    pub(crate) first_output: u32,
    pub(crate) source_list: u32,
    pub(crate) slot: u32,
    pub(crate) exit: u32,
    pub(crate) mtu: u32,
    pub(crate) least_ttl: u32,
    pub(crate) flags: u32,
    pub(crate) free_bits: FreeBits,
    pub(crate) identity: u64,
    pub(crate) cap: CapRecord,
    /// With [`NOTES_ARRIVALS`] when packets came last, on `CLOCK_MONOTONIC`.
    pub(crate) arrived: u64,
}
plain!(RelayRecord, 96, slot at 40, flags at 56, free_bits at 60, identity at 64, cap at 72, arrived at 88);

/// Of the prefixes in a relay's list, each once; 0: none.
pub(crate) type FreeBits = [u8; Listing::MOST_LENGTHS];

/// `enum mcr_relay_flags`.
const NEEDS_CHECKSUM: u32 = 1;
pub(crate) const NOTES_ARRIVALS: u32 = 2;

impl RelayRecord {
    /// What the program at the driver has to know of `outputs`, for packets that come to `destination`: the largest that
    /// all of them can send, and the flags.
    pub(crate) fn demands(destination: &DestinationKey, outputs: &[OutputEntry]) -> (u32, u32) {
        let rewrites = || outputs.iter().filter_map(|output| output.action.sent());
        let family = destination.family();
        let mtu = rewrites().map(|(rewrite, mtu)| {
            // Headers of another family may take more room, and a driver allows for one tag beyond its MTU, not for two
            // (veth_xdp_xmit, which leaves the rest of the batch as well). They may take less, too, but the kernel compares
            // a frame with the MTU of its output as it came (kernel/bpf/devmap.c: `xdp_ok_fwd_dev`), and drops it unseen.
            let tag = rewrite.vlan.and_then(VlanId::outer).map_or(0, |_| TAG_BYTES);
            let grows = header_bytes(Family::of(rewrite.destination.ip())) - header_bytes(family) + tag;
            mtu.saturating_add_signed(-grows.max(0))
        });
        let is_ipv6 = |(rewrite, _): (&Rewrite, u32)| rewrite.destination.is_ipv6();
        let needs_checksum = family == Family::V4 && rewrites().any(is_ipv6);
        (mtu.min().unwrap_or(0), if needs_checksum { NEEDS_CHECKSUM } else { 0 })
    }

    /// The word that tells the program at the driver where the frames of `outputs` go (`enum mcr_exit`).
    pub(crate) fn exit(exit: Exit, outputs: &[OutputEntry]) -> u32 {
        let ports: Vec<u32> = outputs.iter().filter_map(|output| output.action.port()).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let (kind, number) = match (exit, ports.as_slice()) {
            (Exit::Tcx, _) | (_, []) => (0, 0),
            (Exit::Port, &[port, ..]) => (1, port),
            (Exit::FanOut(number), _) if distinct.len() == ports.len() => (2, number),
            (Exit::FanOut(number), _) => (3, number),
        };
        kind << 24 | number
    }
}

/// `struct mcr_output`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OutputRecord {
    pub(crate) next: u32,
    pub(crate) slot: u32,
    pub(crate) port: u32,
    pub(crate) mtu: u32,
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source_mac: [u8; 6],
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) destination_port: [u8; 2],
    pub(crate) source_port: [u8; 2],
    pub(crate) vlan: u16,
    pub(crate) ttl: u8,
    pub(crate) dscp: u8,
    pub(crate) flags: u8,
    pub(crate) drop: u8,
    pub(crate) ttl_mask: u8,
    pub(crate) least_ttl: u8,
    pub(crate) dscp_from: [u8; CodePointMap::MOST],
    pub(crate) dscp_to: [u8; CodePointMap::MOST],
    pub(crate) identity: u64,
    pub(crate) cap: CapRecord,
    pub(crate) outer_vlan: u16,
    pub(crate) unused: [u16; 3],
}
plain!(OutputRecord, 120, source at 28, vlan at 64, drop at 69, dscp_to at 80, identity at 88, cap at 96, outer_vlan at 112);

/// `enum mcr_output_flags`.
const SET_SOURCE_PORT: u8 = 1;
const SET_DSCP: u8 = 2;
const MAP_DSCP: u8 = 4;
const KEEP_SOURCE: u8 = 8;
const OUTPUT_IPV6: u8 = 16;
const SET_PRIORITY: u8 = 32;
const CUTS: u8 = 64;

/// `struct mcr_source`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SourceKey {
    pub(crate) list: u32,
    pub(crate) address: Address,
}
plain!(SourceKey, 20);

impl SourceKey {
    /// The key of a source, or of the first one of a prefix.
    pub(crate) fn new(list: u32, prefix: &Prefix) -> Self {
        Self { list, address: prefix.first().into() }
    }

    /// What stands under it.
    pub(crate) fn value(prefix: &Prefix) -> u32 {
        u32::from(free_bits(prefix)) + 1
    }

    /// The prefix that a key and value of that family were made of.
    pub(crate) fn prefix(address: Address, value: u32, family: Family) -> Prefix {
        let length = 128_u32.saturating_sub(value.saturating_sub(1)) as u8;
        let address = address.of(family);
        match family {
            Family::V4 if length == 128 => address.into(),
            Family::V4 | Family::V6 => Prefix::around(address, length),
        }
    }
}

/// How many bits at the end of `struct mcr_address` may be either; 0 of a single source.
fn free_bits(prefix: &Prefix) -> u8 {
    match (prefix.first(), prefix.free_bits()) {
        (IpAddr::V4(_), 1..) => prefix.free_bits() + 96,
        (IpAddr::V4(_) | IpAddr::V6(_), free_bits) => free_bits,
    }
}

/// Those of the prefixes in a list, each once; `None` when there are more than a record has room for.
pub(crate) fn free_bits_of(list: &[Prefix]) -> Option<FreeBits> {
    let distinct: BTreeSet<u8> = list.iter().map(free_bits).filter(|free| *free != 0).collect();
    let mut record = FreeBits::default();
    record.get_mut(..distinct.len())?.iter_mut().zip(distinct).for_each(|(place, free)| *place = free);
    Some(record)
}

/// `struct mcr_own_mac`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OwnMacKey {
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) unused: u16,
}
plain!(OwnMacKey, 12);

/// `struct mcr_watched`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct WatchedKey {
    pub(crate) ifindex: u32,
    pub(crate) address: Address,
    family: u32,
}
plain!(WatchedKey, 24, family at 20);

impl From<&DestinationKey> for WatchedKey {
    fn from(key: &DestinationKey) -> Self {
        Self { ifindex: key.ifindex, address: key.address, family: u32::from(key.vlan & KEY_IPV6) }
    }
}

/// `struct bpf_devmap_val` (include/uapi/linux/bpf.h), as it is written.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceSlot {
    pub(crate) ifindex: u32,
    /// Descriptor of the program that every frame passes on its way out.
    pub(crate) program: i32,
}
plain!(DeviceSlot, 8, program at 4);

plain!(u32, 4);
plain!(u64, 8);
plain!(i32, 4);

/// Bytes of `struct mcr_received`: packets, bytes, last seen, crossings.
pub(crate) const RECEIVED_BYTES: usize = 32;
/// Bytes of `struct mcr_sent`: packets, bytes, crossing.
pub(crate) const SENT_BYTES: usize = 24;
/// Bytes of `struct mcr_dropped`: packets by reason.
pub(crate) const DROPPED_BYTES: usize = 8 * DropReason::COUNT;

/// Bytes of `struct mcr_bucket`.
pub(crate) const BUCKET_BYTES: usize = 16;

/// Bytes of `struct mcr_state`, and its words.
pub(crate) const STATE_BYTES: usize = 16;
pub(crate) const STATE_OWN_MAC_BITS: usize = 0;
pub(crate) const STATE_GENERATION: usize = 1;

impl DestinationKey {
    pub(crate) fn new(ifindex: u32, destination: &Destination) -> Self {
        let Destination { vlan, address, port } = *destination;
        let family = match Family::of(address) {
            Family::V4 => 0,
            Family::V6 => KEY_IPV6,
        };
        let outer_vlan = vlan.and_then(VlanId::outer).unwrap_or(0);
        let vlan = vlan.map_or(0, VlanId::get) | family;
        Self { ifindex, address: address.into(), port: port.to_be_bytes(), vlan, outer_vlan, unused: 0 }
    }

    pub(crate) fn family(&self) -> Family {
        if self.vlan & KEY_IPV6 == 0 { Family::V4 } else { Family::V6 }
    }

    pub(crate) fn destination(&self) -> Destination {
        Destination {
            vlan: vlan(self.outer_vlan, self.vlan & !KEY_IPV6),
            address: self.address.of(self.family()),
            port: u16::from_be_bytes(self.port),
        }
    }
}

impl OutputRecord {
    /// The record of an action, not linked yet.
    pub(crate) fn new(action: &OutputAction, slot: u32, identity: u64) -> Self {
        let counted = Self { slot, identity, ..Self::default() };
        let (port, rewrite, mtu) = match action {
            OutputAction::Drop(reason) => return Self { drop: reason.index() as u8 + 1, ..counted },
            OutputAction::Send { port, rewrite, mtu } => (*port, rewrite, *mtu),
        };
        let Rewrite {
            source_mac, destination_mac, vlan, source, destination, source_port, ttl, dscp, priority, ..
        } = *rewrite;
        let port_flag = source_port.map_or(0, |_| SET_SOURCE_PORT);
        let priority_bits = u16::from(priority.unwrap_or(0)) << 13;
        let priority_flag = priority.map_or(0, |_| SET_PRIORITY);
        let source_flag = source.map_or(KEEP_SOURCE, |_| 0);
        let (ttl_mask, added) = match ttl {
            TimeToLive::Set(ttl) => (0, ttl),
            TimeToLive::Keep => (0xff, 0),
            TimeToLive::Decrement => (0xff, 0xff),
        };
        let (map_flag, map, dscp) = match dscp {
            CodePoint::Keep => (0, None, None),
            CodePoint::Set(dscp) => (0, None, Some(dscp)),
            CodePoint::Map(map) => (MAP_DSCP, Some(map), map.other()),
        };
        let dscp_flag = dscp.map_or(0, |_| SET_DSCP);
        let family_flag = if destination.is_ipv6() { OUTPUT_IPV6 } else { 0 };
        let cuts_flag = if rewrite.oversize == Oversize::Fragment { CUTS } else { 0 };
        Self {
            port,
            mtu: rewrite.room(mtu),
            destination_mac: destination_mac.octets(),
            source_mac: source_mac.octets(),
            source: source.map_or_else(Address::default, Address::from),
            destination: destination.ip().into(),
            destination_port: destination.port().to_be_bytes(),
            source_port: source_port.unwrap_or(0).to_be_bytes(),
            vlan: vlan.map_or(0, |vlan| vlan.get() | priority_bits),
            outer_vlan: vlan.and_then(VlanId::outer).map_or(0, |outer| outer | priority_bits),
            ttl: added,
            dscp: dscp.unwrap_or(0),
            flags: port_flag | dscp_flag | map_flag | source_flag | family_flag | priority_flag | cuts_flag,
            ttl_mask,
            least_ttl: ttl.least(),
            dscp_from: map.map_or_else(Default::default, |map| map.from()),
            dscp_to: map.map_or_else(Default::default, |map| map.to()),
            ..counted
        }
    }

    /// The action that the record was made of.
    #[cfg(test)]
    fn action(&self) -> OutputAction {
        if let Some(index) = self.drop.checked_sub(1) {
            let reason = DropReason::ALL.get(usize::from(index)).copied();
            return OutputAction::Drop(reason.unwrap_or(DropReason::SendFailed));
        }
        let family = if self.flags & OUTPUT_IPV6 == 0 { Family::V4 } else { Family::V6 };
        let destination =
            std::net::SocketAddr::new(self.destination.of(family), u16::from_be_bytes(self.destination_port));
        let ttl = match self.least_ttl {
            0 => TimeToLive::Set(self.ttl),
            1 => TimeToLive::Keep,
            _ => TimeToLive::Decrement,
        };
        let other = (self.flags & SET_DSCP != 0).then_some(self.dscp);
        let pairs = self.dscp_from.into_iter().zip(self.dscp_to).filter(|(from, _)| *from != CodePointMap::NONE);
        let dscp = match CodePointMap::new(pairs, other).filter(|_| self.flags & MAP_DSCP != 0) {
            Some(map) => CodePoint::Map(map),
            None => other.map_or(CodePoint::Keep, CodePoint::Set),
        };
        let rewrite = Rewrite {
            source_mac: mcr_wire::MacAddr::new(self.source_mac),
            destination_mac: mcr_wire::MacAddr::new(self.destination_mac),
            vlan: vlan(self.outer_vlan & 0x0fff, self.vlan & 0x0fff),
            source: (self.flags & KEEP_SOURCE == 0).then(|| self.source.of(family)),
            destination,
            source_port: (self.flags & SET_SOURCE_PORT != 0).then(|| u16::from_be_bytes(self.source_port)),
            ttl,
            dscp,
            priority: (self.flags & SET_PRIORITY != 0).then_some((self.vlan >> 13) as u8),
            oversize: if self.flags & CUTS == 0 { Oversize::Drop } else { Oversize::Fragment },
        };
        OutputAction::Send { port: self.port, rewrite, mtu: self.mtu }
    }
}

/// The VLAN of these numbers; 0 is none.
fn vlan(outer: u16, number: u16) -> Option<VlanId> {
    let only = VlanId::new(number)?;
    Some(only.within(outer).unwrap_or(only))
}

/// Bytes of a VLAN tag.
const TAG_BYTES: i32 = 4;

/// Bytes of the IP header of a relayed datagram.
fn header_bytes(family: Family) -> i32 {
    match family {
        Family::V4 => mcr_wire::ipv4::HEADER_BYTES as i32,
        Family::V6 => mcr_wire::ipv6::HEADER_BYTES as i32,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use mcr_wire::MacAddr;

    use super::*;

    #[test]
    fn keys_tell_the_destination_that_they_were_made_of() {
        let keys = ["239.1.1.1:5001", "[ff3e::1]:5001", "[ef01:101::]:5001"].map(|text| {
            let place: SocketAddr = text.parse().unwrap();
            [None, VlanId::new(4094), VlanId::new(1).and_then(|id| id.within(4094))].map(|vlan| {
                let destination = Destination { vlan, address: place.ip(), port: place.port() };
                let key = DestinationKey::new(7, &destination);
                assert_eq!(key.destination(), destination);
                key
            })
        });
        // Of the same bytes, and yet another.
        let [v4, _, v6] = keys.map(|[key, ..]| key);
        assert!(v4.address == v6.address && v4 != v6 && WatchedKey::from(&v4) != WatchedKey::from(&v6));
    }

    #[test]
    fn source_lists_tell_the_prefixes_that_they_were_made_of() {
        let prefix = |first: &str, length| Prefix::new(first.parse().unwrap(), length).unwrap();
        let lists = [
            [prefix("10.0.0.0", 8), prefix("10.0.0.0", 32), prefix("128.0.0.0", 1), prefix("10.0.0.4", 31)],
            [prefix("fd00::", 8), prefix("fd00::", 128), prefix("8000::", 1), prefix("fd00::4", 127)],
        ];
        for (list, free) in lists.into_iter().zip([[97, 120, 127, 0], [1, 120, 127, 0]]) {
            for prefix in list {
                let key = SourceKey::new(7, &prefix);
                let told = SourceKey::prefix(key.address, SourceKey::value(&prefix), Family::of(prefix.first()));
                assert_eq!(told, prefix);
            }
            assert_eq!(free_bits_of(&list), Some(free));
        }
        assert_eq!(SourceKey::value(&prefix("10.0.0.0", 32)), 1);
        let many: Vec<Prefix> = (1..=5).map(|length| Prefix::around([255; 4].into(), length)).collect();
        assert_eq!(
            (free_bits_of(&many), free_bits_of(&many[1..])),
            (None, Some([124, 125, 126, 127].map(|b: u8| b - 1)))
        );
    }

    #[test]
    fn records_tell_the_action_that_they_were_made_of() {
        let rewrite = Rewrite {
            source_mac: mcr_wire::MacAddr::new([2, 0, 0, 0, 0, 9]),
            destination_mac: MacAddr::for_group([239, 2, 2, 2].into()),
            vlan: VlanId::new(100),
            source: Some([10, 0, 1, 1].into()),
            destination: "239.2.2.2:6001".parse().unwrap(),
            source_port: Some(0),
            ttl: TimeToLive::Set(8),
            dscp: CodePoint::Keep,
            priority: Some(7),
            oversize: Oversize::Drop,
        };
        let other = Rewrite {
            vlan: None,
            priority: None,
            source_port: None,
            ttl: TimeToLive::Keep,
            dscp: CodePoint::Set(34),
            ..rewrite
        };
        let map = CodePointMap::new([(46, 34), (0, 1)], Some(9)).unwrap();
        let mapped = Rewrite {
            source: None,
            ttl: TimeToLive::Decrement,
            dscp: CodePoint::Map(map),
            oversize: Oversize::Fragment,
            ..rewrite
        };
        let ipv6 = Rewrite {
            vlan: VlanId::new(7).and_then(|id| id.within(9)),
            source: Some("fd00:1::1".parse().unwrap()),
            destination: "[ff3e::2]:6001".parse().unwrap(),
            ..rewrite
        };
        for action in [
            OutputAction::Send { port: 7, rewrite, mtu: 1500 },
            OutputAction::Send { port: 8, rewrite: other, mtu: 9000 },
            OutputAction::Send { port: 9, rewrite: mapped, mtu: 9000 },
            OutputAction::Send { port: 10, rewrite: ipv6, mtu: 1500 },
            OutputAction::Drop(DropReason::Truncated),
            OutputAction::Drop(DropReason::SendFailed),
        ] {
            assert_eq!(OutputRecord::new(&action, 3, 4).action(), action);
        }
    }
}
