//! What the kernel says of a namespace or a process, from `/proc`.

use std::fs;
use std::net::Ipv4Addr;

use crate::namespace::Namespace;

/// Packets that failed the check of their source (`rp_filter`) in this namespace so far.
#[track_caller]
pub fn reverse_path_filtered(namespace: &Namespace) -> u64 {
    network_counter(namespace, "TcpExt", "IPReversePathFilter")
}

/// A counter of `/proc/net/netstat`, as `("IpExt", "InMcastPkts")`.
///
/// # Panics
/// When this kernel has no such counter.
#[track_caller]
pub fn network_counter(namespace: &Namespace, table: &str, counter: &str) -> u64 {
    let text = read(namespace, "netstat");
    counter_of(&text, table, counter).unwrap_or_else(|| panic!("/proc/net/netstat has no {table} {counter}"))
}

/// The groups that are joined on an interface of the namespace, by any socket, the kernel's own 224.0.0.1 left out.
#[track_caller]
pub fn joined_groups(namespace: &Namespace, interface: &str) -> Vec<Ipv4Addr> {
    groups_of(&read(namespace, "igmp"), interface)
}

/// The sources that are asked for, as (interface, group, source), of source-specific memberships in the namespace.
#[track_caller]
pub fn joined_sources(namespace: &Namespace) -> Vec<(String, Ipv4Addr, Ipv4Addr)> {
    let text = read(namespace, "mcfilter");
    text.lines().skip(1).filter_map(source_of).collect()
}

/// A line of `/proc/<pid>/status`, as `CapEff`; `None` when the process is gone or the line is not there.
pub fn process_status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

#[track_caller]
fn read(namespace: &Namespace, file: &str) -> String {
    // `/proc/net` is that of the process, whose main thread is elsewhere.
    let read = namespace.run(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")));
    read.unwrap_or_else(|error| panic!("cannot read /proc/net/{file} in {}: {error}", namespace.name()))
}

/// The file has two lines a table: the names, then the values, each after `table:`.
fn counter_of(text: &str, table: &str, counter: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(table)?.strip_prefix(':'));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == counter)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// A line that begins with a number names an interface; the indented ones after it are its groups, as hexadecimal in memory
/// order (`net/ipv4/igmp.c`, `igmp_mc_seq_show`).
fn groups_of(text: &str, interface: &str) -> Vec<Ipv4Addr> {
    let mut groups = Vec::new();
    let mut is_in = false;
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        if line.starts_with(|first: char| first.is_ascii_digit()) {
            is_in = words.nth(1).is_some_and(|name| name.trim_end_matches(':') == interface);
        } else if let (true, Some(Ok(group))) = (is_in, words.next().map(|word| u32::from_str_radix(word, 16))) {
            groups.push(Ipv4Addr::from(group.to_ne_bytes()));
        }
    }
    groups.retain(|&group| group != Ipv4Addr::new(224, 0, 0, 1));
    groups
}

/// `Idx Device MCA SRC INC EXC`, addresses as `0xe8010101` (`net/ipv4/igmp.c`, `igmp_mcf_seq_show`).
fn source_of(line: &str) -> Option<(String, Ipv4Addr, Ipv4Addr)> {
    let mut words = line.split_whitespace().skip(1);
    let device = words.next()?.to_owned();
    let mut address = || u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok().map(Ipv4Addr::from);
    Some((device, address()?, address()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_table_and_name() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes B\nIpExt: 3 40\n";
        assert_eq!(counter_of(text, "IpExt", "B"), Some(40));
        assert_eq!(counter_of(text, "TcpExt", "B"), Some(2));
        assert_eq!(counter_of(text, "IpExt", "A"), None);
    }

    #[test]
    fn groups_are_those_of_the_interface() {
        let hexadecimal = |group: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(group.octets()));
        let (one, two) = (Ipv4Addr::new(239, 1, 1, 1), Ipv4Addr::new(239, 1, 1, 2));
        let text = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t{}     1 0:00000000\t\t0\n\
             2\teth0      :     2      V3\n\t\t\t\t{}     1 0:00000000\t\t0\n\t\t\t\t{}     1 0:00000000\t\t0\n",
            hexadecimal(one),
            hexadecimal(two),
            hexadecimal(Ipv4Addr::new(224, 0, 0, 1)),
        );
        assert_eq!(groups_of(&text, "eth0"), [two]);
        assert_eq!(groups_of(&text, "lo"), [one]);
    }
}
