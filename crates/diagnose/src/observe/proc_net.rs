//! What `/proc/net` and `/proc/sys/net` say. The functions that read text are pure; a line that is not understood says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::facts::{Forwarded, Link, Membership, Settings};

/// A file of the calling thread's network namespace; empty where the kernel has none.
pub(super) fn read(name: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
}

fn sysctl<T: std::str::FromStr>(name: &str) -> Option<T> {
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?.trim().parse().ok()
}

/// The settings that decide what becomes of a multicast packet.
pub(super) fn settings(links: &[Link]) -> Settings {
    let of_each = |family: &str, name: &str| -> BTreeMap<String, u8> {
        let value = |link: &Link| Some((link.name.clone(), sysctl(&format!("{family}/conf/{}/{name}", link.name))?));
        links.iter().filter_map(value).collect()
    };
    let forced = |family: &str, name: &str| {
        let mut forced = of_each(family, name);
        forced.retain(|_, version| *version != 0);
        forced
    };
    let enabled = of_each("ipv6", "disable_ipv6");
    let has_ipv6 = |link: &&Link| enabled.get(&link.name) == Some(&0);
    Settings {
        reverse_path_all: sysctl("ipv4/conf/all/rp_filter").unwrap_or_default(),
        reverse_path: of_each("ipv4", "rp_filter"),
        most_memberships: sysctl("ipv4/igmp_max_memberships").unwrap_or(20),
        most_receive_bytes: sysctl("core/rmem_max").unwrap_or_default(),
        forced_version: forced("ipv4", "force_igmp_version"),
        forced_mld_version: forced("ipv6", "force_mld_version"),
        without_ipv6: links.iter().filter(|link| !has_ipv6(link)).map(|link| link.name.clone()).collect(),
    }
}

/// Groups by interface. A line that begins with a number names an interface and the version in force there; the indented ones
/// after it are its groups, hexadecimal in memory order (`net/ipv4/igmp.c`, `igmp_mc_seq_show`).
pub(super) fn memberships(text: &str) -> Vec<Membership> {
    let mut found = Vec::new();
    let (mut interface, mut version) = (0, 3);
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            interface = first.parse().unwrap_or_default();
            version = words.last().and_then(|word| word.strip_prefix('V')?.parse().ok()).unwrap_or(3);
        } else if let Ok(group) = u32::from_str_radix(first, 16) {
            found.push(Membership { interface, group: Ipv4Addr::from(group.to_ne_bytes()).into(), version });
        }
    }
    found
}

/// Groups of IPv6: `Idx Device Group Users Flags Timer` (`net/ipv6/mcast.c`, `igmp6_mc_seq_show`). The version in force is told
/// nowhere: it is that which is forced, or 2.
pub(super) fn memberships6(text: &str, settings: &Settings) -> Vec<Membership> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [index, name, group, ..] = words[..] else { return None };
        let group = u128::from_str_radix(group, 16).ok().filter(|_| group.len() == 32)?;
        let version = settings.forced_mld_version.get(name).copied().unwrap_or(2);
        Some(Membership { interface: index.parse().ok()?, group: Ipv6Addr::from(group).into(), version })
    };
    text.lines().filter_map(line).collect()
}

/// `Idx Device Users GlobalUse Address` (`net/core/dev_addr_lists.c` and `net-procfs.c`).
pub(super) fn link_filters(text: &str) -> BTreeSet<(String, [u8; 6])> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, name, _, _, address] = words[..] else { return None };
        let number = u64::from_str_radix(address, 16).ok().filter(|_| address.len() == 12)?;
        Some((name.to_owned(), *number.to_be_bytes().last_chunk()?))
    };
    text.lines().filter_map(line).collect()
}

/// Counters of `/proc/net/netstat` and `/proc/net/snmp`: lines in pairs, names and then numbers, each after `table:`.
pub(super) fn counters(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (Some((table, names)), Some((_, numbers))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
            continue;
        };
        for (name, number) in names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace()) {
            found.extend(number.parse().ok().map(|number: u64| (format!("{table}.{name}"), number)));
        }
    }
    found
}

/// Groups that the kernel forwards: `Group Origin Iif Pkts Bytes Wrong Oifs`, where interfaces are numbers of `ip_mr_vif`
/// (`net/ipv4/ipmr.c`, `ipmr_mfc_seq_show`).
pub(super) fn forwarded(cache: &str, interfaces: &str, links: &[Link]) -> Vec<Forwarded> {
    let interface = |words: &str| {
        let mut words = words.split_ascii_whitespace();
        let (number, name) = (words.next()?, words.next()?);
        let link = links.iter().find(|link| link.name == name)?;
        Some((number.parse::<u32>().ok()?, link.index))
    };
    let interfaces: BTreeMap<u32, u32> = interfaces.lines().skip(1).filter_map(interface).collect();
    let address = |word: &str| u32::from_str_radix(word, 16).ok().map(|raw| Ipv4Addr::from(raw.to_ne_bytes()).into());
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [group, source, from, _, _, _, to @ ..] = &words[..] else { return None };
        let out = |text: &&str| {
            let (number, least) = text.split_once(':')?;
            Some((*interfaces.get(&number.parse().ok()?)?, least.parse().ok()?))
        };
        Some(Forwarded {
            group: address(group)?,
            source: address(source)?,
            from: from.parse().ok().and_then(|from: u32| interfaces.get(&from).copied()),
            to: to.iter().filter_map(out).collect(),
        })
    };
    cache.lines().skip(1).filter_map(line).collect()
}

/// Interface (0: any) and inode of each packet socket: `sk RefCnt Type Proto Iface R Rmem User Inode`.
pub(super) fn packet_sockets(text: &str) -> Vec<(Option<u32>, u64)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, protocol, interface, _, _, _, inode] = words[..] else { return None };
        // A socket of protocol 0 only sends.
        let reads = u32::from_str_radix(protocol, 16).ok()? != 0;
        let interface = interface.parse().ok().filter(|index| *index != 0);
        reads.then_some((interface, inode.parse().ok()?))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Inodes of the raw sockets of IGMP: `sl local rem st queues timer retrnsmt uid timeout inode`, the protocol in place of a port.
pub(super) fn raw_igmp_sockets(text: &str) -> BTreeSet<u64> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1).filter(|local| local.ends_with(":0002"))?;
        words.get(9)?.parse().ok()
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(address: &str) -> String {
        let address: Ipv4Addr = address.parse().expect("an address");
        format!("{:08X}", u32::from_ne_bytes(address.octets()))
    }

    fn ip(text: &str) -> std::net::IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn groups_are_those_of_the_interface_above() {
        let text = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t{}     1 0:00000000\t\t0\n\
             2\teth0      :     2      V2\n\t\t\t\t{}     1 0:00000000\t\t0\n",
            raw("224.0.0.1"),
            raw("239.1.1.1"),
        );
        let found = memberships(&text);
        assert_eq!(found[1], Membership { interface: 2, group: ip("239.1.1.1"), version: 2 });
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn groups_of_ipv6_have_the_version_that_is_forced() {
        let settings = Settings { forced_mld_version: BTreeMap::from([("eth1".to_owned(), 1)]), ..Settings::default() };
        let text = "2    eth0            ff3e0000000000000000000000010001     1 0000000C 0\n\
                    3    eth1            ff020000000000000000000000000001     1 0000000C 0\n";
        let found = memberships6(text, &settings);
        assert_eq!(found[0], Membership { interface: 2, group: ip("ff3e::1:1"), version: 2 });
        assert_eq!(found[1], Membership { interface: 3, group: ip("ff02::1"), version: 1 });
    }

    #[test]
    fn link_filters_are_read() {
        let found = link_filters("2    eth0            1     0     01005e010101\n3    eth1  1 0 33\n");
        assert_eq!(found, BTreeSet::from([("eth0".to_owned(), [1, 0, 0x5e, 1, 1, 1])]));
    }

    #[test]
    fn counters_have_their_table_before_them() {
        let found = counters("TcpExt: A IPReversePathFilter\nTcpExt: 1 42\nUdp: A\nUdp: 9\n");
        assert_eq!((found["TcpExt.IPReversePathFilter"], found["Udp.A"]), (42, 9));
    }

    #[test]
    fn forwarded_groups_name_their_interfaces() {
        let link = |index, name: &str| Link { index, name: name.to_owned(), ..Link::default() };
        let cache = format!(
            "Group    Origin   Iif     Pkts    Bytes    Wrong Oifs\n{} {} 0          3      300        0  1:1  \n",
            raw("239.1.1.1"),
            raw("10.0.0.9"),
        );
        let interfaces = "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags Local    Remote\n \
                          0 eth0              0       0         0       0 00000 0100000A 00000000\n \
                          1 eth1              0       0         0       0 00000 0101000A 00000000\n";
        let found = forwarded(&cache, interfaces, &[link(5, "eth0"), link(6, "eth1")]);
        let expected = Forwarded { group: ip("239.1.1.1"), source: ip("10.0.0.9"), from: Some(5), to: vec![(6, 1)] };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn raw_sockets_of_igmp_are_told_from_others() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref\n\
                       2: 00000000:0002 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
                       3: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0 0\n";
        assert_eq!(raw_igmp_sockets(text), BTreeSet::from([4711]));
    }

    #[test]
    fn only_packet_sockets_that_read_count() {
        let text = "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                    0000000000000000 3      3    0003   2     1 0      0      100\n\
                    0000000000000000 3      3    0000   0     1 0      0      101\n";
        assert_eq!(packet_sockets(text), [(Some(2), 100)]);
    }
}
