//! What the kernel itself says of the packets that it drops, through an eBPF program (`bpf/drops.bpf.c`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use aya::maps::{HashMap, MapData, StackTraceMap};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader, Pod};

use super::{btf, kallsyms};
use crate::facts::{Blind, KernelDrop};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/drops.bpf.o"));

/// `struct kind` of the program.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Kind {
    location: u64,
    reason: u32,
    stack: i32,
    source: [u8; 16],
    destination: [u8; 16],
    ifindex: u32,
    port: [u8; 2],
    pad: u16,
}
const _: () = assert!(size_of::<Kind>() == 56);
// SAFETY: integers without holes (56 bytes are the sum of its fields): any bytes are one.
unsafe impl Pod for Kind {}

/// A program that counts, until it is dropped.
pub(super) struct DropCounter {
    loaded: Ebpf,
}

impl DropCounter {
    /// Counts from now on what this network namespace drops on its way to any of these addresses.
    pub(super) fn start(destinations: &BTreeSet<IpAddr>) -> Result<Self, Blind> {
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(|error| blind(&error))?.ino() as u32;
        let mut loader = EbpfLoader::new();
        loader.override_global("NAMESPACE", &namespace, true);
        let mut loaded = loader.load(OBJECT).map_err(|error| blind(&error))?;
        let map = loaded.map_mut("watched").ok_or_else(|| blind(&"no table of addresses"))?;
        let mut watched: HashMap<&mut MapData, [u8; 16], u8> = HashMap::try_from(map).map_err(|error| blind(&error))?;
        for address in destinations {
            watched.insert(mapped(*address), 0, 0).map_err(|error| blind(&error))?;
        }
        let program = loaded.program_mut("mcr_drops").ok_or_else(|| blind(&"no program"))?;
        let program: &mut RawTracePoint = program.try_into().map_err(|error| blind(&error))?;
        program.load().map_err(|error| blind(&error))?;
        program.attach("kfree_skb").map_err(|error| blind(&error))?;
        Ok(Self { loaded })
    }

    /// What was counted.
    pub(super) fn finish(self) -> Result<Vec<KernelDrop>, Blind> {
        let (Some(drops), Some(stacks)) = (self.loaded.map("drops"), self.loaded.map("stacks")) else {
            return Err(blind(&"no table of drops"));
        };
        let drops: HashMap<_, Kind, u64> = HashMap::try_from(drops).map_err(|error| blind(&error))?;
        let stacks = StackTraceMap::try_from(stacks).map_err(|error| blind(&error))?;
        let counted: Vec<(Kind, u64)> = drops.iter().filter_map(Result::ok).collect();
        if counted.is_empty() {
            return Ok(Vec::new());
        }
        let stack = |kind: &Kind| -> Vec<u64> {
            let stack = u32::try_from(kind.stack).ok().and_then(|id| stacks.get(&id, 0).ok());
            stack.map(|stack| stack.frames().iter().map(|frame| frame.ip).collect()).unwrap_or_default()
        };
        let counted: Vec<(Kind, u64, Vec<u64>)> = counted.iter().map(|(kind, n)| (*kind, *n, stack(kind))).collect();
        Ok(named(&counted))
    }
}

/// As the program has addresses: those of IPv4 mapped into IPv6.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn named(counted: &[(Kind, u64, Vec<u64>)]) -> Vec<KernelDrop> {
    let addresses: BTreeSet<u64> =
        counted.iter().flat_map(|(kind, _, stack)| stack.iter().copied().chain([kind.location])).collect();
    let names = kallsyms::functions(&addresses.into_iter().collect::<Vec<_>>());
    let name = |address: u64| names.get(&address).cloned().unwrap_or_else(|| format!("{address:#x}"));
    let reasons = reasons();
    let drop = |(kind, packets, stack): &(Kind, u64, Vec<u64>)| KernelDrop {
        reason: reasons.get(&kind.reason).cloned().unwrap_or_else(|| format!("reason {}", kind.reason)),
        location: name(kind.location),
        way: stack.iter().map(|&address| name(address)).collect(),
        interface: kind.ifindex,
        source: IpAddr::from(kind.source).to_canonical(),
        destination: IpAddr::from(kind.destination).to_canonical(),
        port: Some(u16::from_be_bytes(kind.port)).filter(|&port| port != 0),
        packets: *packets,
    };
    counted.iter().map(drop).collect()
}

/// The kernel's reasons by number, without their common prefix.
fn reasons() -> BTreeMap<u32, String> {
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    let named = btf::enumeration(&btf, "skb_drop_reason").unwrap_or_default();
    let short = |name: String| name.strip_prefix("SKB_DROP_REASON_").map(str::to_owned).unwrap_or(name);
    named.into_iter().map(|(number, name)| (number, short(name))).collect()
}

fn blind(error: &dyn std::fmt::Display) -> Blind {
    Blind::new(
        format!("the kernel's drop reasons can not be read: {error}"),
        "run as root (CAP_BPF and CAP_PERFMON) on Linux 5.17 or newer with BTF (CONFIG_DEBUG_INFO_BTF)",
    )
}
