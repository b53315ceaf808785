//! Facts about the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::ethtool::{self, Card};
use crate::facts::{Blind, Forwarded, Link, Membership, Owner, Relays, Settings};
use crate::observe;

/// What is known of the host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// The kernel's version as it tells it.
    pub(super) kernel: String,
    /// The kernel tells the types of its data (BTF).
    pub(super) has_btf: bool,
    /// Whether a program could be loaded and attached.
    pub(super) ebpf: Result<(), Blind>,
    /// `/sys/fs/bpf` is a bpffs.
    pub(super) has_bpffs: bool,
    /// eBPF is compiled; `None`: not told.
    pub(super) compiles: Option<bool>,
    /// Effective capabilities of this process.
    pub(super) capabilities: u64,
    /// `net.ipv4.igmp_max_msf`.
    pub(super) most_sources: u32,
    /// `net.core.netdev_max_backlog`.
    pub(super) backlog: u32,
    /// Packets that CPUs had no room for since the start (`/proc/net/softnet_stat`).
    pub(super) backlog_drops: u64,
    /// How many CPUs.
    pub(super) cpus: usize,
    /// The interfaces.
    pub(super) links: Vec<Link>,
    /// What their cards do, by name.
    pub(super) cards: BTreeMap<String, Card>,
    /// How their receive queues are spread over CPUs, by name.
    pub(super) queues: BTreeMap<String, Queues>,
    /// Drops since the start, by index: of queues, and of devices.
    pub(super) losses: BTreeMap<u32, (u64, u64)>,
    /// Settings of IPv4.
    pub(super) settings: Settings,
    /// Groups joined.
    pub(super) memberships: Vec<Membership>,
    /// Queriers heard: interface, address and version.
    pub(super) queriers: Result<BTreeMap<(u32, IpAddr), u8>, Blind>,
    /// How long was listened for them.
    pub(super) look: Duration,
    /// Who owns the kernel's multicast forwarding, if anybody; and what is forwarded.
    pub(super) routing: Option<Vec<Owner>>,
    /// Groups that are forwarded.
    pub(super) forwarded: Vec<Forwarded>,
    /// The relays.
    pub(super) relays: Relays,
}

/// Receive queues of a card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Queues {
    /// How many.
    pub(super) number: usize,
    /// Whether any of them spreads packets over CPUs (RPS).
    pub(super) spread: bool,
    /// CPUs that its interrupts may come to.
    pub(super) interrupt_cpus: BTreeSet<String>,
}

/// Collects them.
pub(super) fn look(look: Duration, relays: &Relays) -> Host {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let number = |path: &str| text(path).parse().unwrap_or_default();
    let survey = observe::survey(look);
    let links = survey.links;
    let shown = links.iter().filter(|link| link.up && link.kind != "bridge" && link.name != "lo");
    let names: Vec<&str> = shown.map(|link| link.name.as_str()).collect();
    Host {
        kernel: text("/proc/sys/kernel/osrelease"),
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        ebpf: survey.ebpf,
        has_bpffs: text("/proc/self/mounts").lines().any(|line| line.contains(" /sys/fs/bpf bpf ")),
        compiles: text("/proc/sys/net/core/bpf_jit_enable").parse::<u8>().ok().map(|value| value != 0),
        capabilities: capabilities(&text("/proc/thread-self/status")),
        most_sources: number("/proc/sys/net/ipv4/igmp_max_msf"),
        backlog: number("/proc/sys/net/core/netdev_max_backlog"),
        backlog_drops: backlog_drops(&text("/proc/thread-self/net/softnet_stat")),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        cards: names.iter().map(|name| ((*name).to_owned(), ethtool::card(name))).collect(),
        queues: links.iter().filter_map(|link| Some((link.name.clone(), queues(link)?))).collect(),
        losses: survey.losses,
        settings: survey.settings,
        memberships: survey.memberships,
        queriers: survey.queries,
        look,
        routing: survey.routing,
        forwarded: survey.forwarded,
        relays: relays.clone(),
        links,
    }
}

/// `CapEff` of a status file.
fn capabilities(status: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    value.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or_default()
}

/// The second column of each CPU's line, hexadecimal (`net/core/net-procfs.c`, `softnet_seq_show`).
fn backlog_drops(text: &str) -> u64 {
    let of = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(of).sum()
}

/// Hardware queues only. `/sys` shows the interfaces of the namespace that it was mounted in, which may be another.
fn queues(link: &Link) -> Option<Queues> {
    let folder = Path::new("/sys/class/net").join(&link.name);
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let is_it = read(&folder.join("ifindex")).parse() == Ok(link.index) && folder.join("device").exists();
    if !is_it {
        return None;
    }
    let queues = fs::read_dir(folder.join("queues")).ok()?.flatten();
    let receive: Vec<_> = queues.filter(|q| q.file_name().to_string_lossy().starts_with("rx-")).collect();
    let is_set = |mask: &str| mask.chars().any(|c| c != '0' && c != ',');
    let interrupts = fs::read_dir(folder.join("device/msi_irqs")).into_iter().flatten().flatten();
    let cpus = interrupts.map(|irq| read(&Path::new("/proc/irq").join(irq.file_name()).join("smp_affinity_list")));
    Some(Queues {
        number: receive.len(),
        spread: receive.iter().any(|queue| is_set(&read(&queue.path().join("rps_cpus")))),
        interrupt_cpus: cpus.filter(|cpus| !cpus.is_empty()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hexadecimal() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t0000000000003000\n"), 0x3000);
        assert_eq!(backlog_drops("00000010 0000000a 0\n00000001 00000001 0\n"), 11);
    }
}
