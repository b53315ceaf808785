//! Which version of IGMP the kernel speaks on each interface, as `/proc/net/igmp` lists it (`net/ipv4/igmp.c`,
//! `igmp_mc_seq_show`): an older one as long as an older querier is heard (RFC 3376 section 7.2.1), or when
//! `force_igmp_version` says so.

use std::collections::BTreeMap;
use std::{fs, io};

/// The version on each interface that has an IPv4 address, by index.
///
/// # Errors
/// When the list can not be read.
pub fn igmp_versions() -> io::Result<BTreeMap<u32, u8>> {
    // `/proc/net` is hidden where a service sees of `/proc` its own processes alone (`ProcSubset=pid`).
    let list = fs::read_to_string("/proc/self/net/igmp")?;
    Ok(list.lines().filter_map(version).collect())
}

/// The line of an interface: its number, a tab, its name, and last `V3`; those of its groups begin with a tab.
fn version(line: &str) -> Option<(u32, u8)> {
    let index = line.split_once('\t')?.0.parse().ok()?;
    let version = line.rsplit_once('V')?.1.trim().parse().ok()?;
    Some((index, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_interfaces_are_told_from_those_of_groups() {
        assert_eq!(version("2\teth0      :     3      V2"), Some((2, 2)));
        assert_eq!(version("12\tV1eth     :     1      V3"), Some((12, 3)));
        for other in
            ["\t\t\t\t010000E0     1 0:00000000\t\t0", "Idx\tDevice    : Count Querier\tGroup    Users Timer", ""]
        {
            assert_eq!(version(other), None, "{other}");
        }
    }
}
