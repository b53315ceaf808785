//! Names of the kernel's code addresses, from `/proc/kallsyms`.

use std::collections::BTreeMap;
use std::fs;

/// The functions that the addresses lie in; those without a known one are left out. Without privilege the kernel shows
/// zeros for addresses (`kptr_restrict`), and nothing is found.
pub(super) fn functions(addresses: &[u64]) -> BTreeMap<u64, String> {
    let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    nearest(&text, addresses)
}

/// The file is sorted in parts only (modules and programs come after the kernel), so each line is looked at once.
fn nearest(text: &str, addresses: &[u64]) -> BTreeMap<u64, String> {
    let mut found: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    for line in text.lines() {
        let Some((address, rest)) = line.split_once(' ') else { continue };
        let Some((kind, name)) = rest.split_once(' ') else { continue };
        if !matches!(kind, "t" | "T" | "w" | "W") {
            continue;
        }
        let Ok(start) = u64::from_str_radix(address, 16) else { continue };
        for &wanted in addresses.iter().filter(|&&wanted| start != 0 && start <= wanted) {
            let nearest = found.entry(wanted).or_insert((start, name));
            if start > nearest.0 {
                *nearest = (start, name);
            }
        }
    }
    let plain = |name: &str| name.split(['\t', ' ']).next().unwrap_or(name).to_owned();
    found.into_iter().map(|(address, (_, name))| (address, plain(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_the_function_before_it() {
        let text = "1000 T ip_rcv\n1800 d table\n2000 t nf_hook_slow\n3000 T last\t[module]\n";
        let found = nearest(text, &[0x0fff, 0x1a00, 0x2000, 0x9000]);
        let names: Vec<&str> = found.values().map(String::as_str).collect();
        assert_eq!(names, ["ip_rcv", "nf_hook_slow", "last"]);
        assert!(nearest("0 T hidden\n", &[5]).is_empty());
    }
}
