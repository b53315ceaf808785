//! Relays in the foreground (`mcr relay FROM TO…`) of this network namespace: they have no API, only a command line.

use std::fs;

use crate::facts::{Foreground, Owner};

/// All that run, as far as they can be seen.
pub(super) fn look() -> Vec<Foreground> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_here(*pid)).filter_map(foreground).collect()
}

/// Whose namespace may not be known may be here.
fn is_here(pid: u32) -> bool {
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    fs::read_link(format!("/proc/{pid}/ns/net")).map_or(true, |its| Some(its) == own)
}

fn foreground(pid: u32) -> Option<Foreground> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(Foreground { owner: Owner { pid, name: "mcr".to_owned() }, arguments: arguments(&line)? })
}

/// What follows `mcr relay`, when it is one.
fn arguments(line: &[u8]) -> Option<Vec<String>> {
    let mut words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let is_ours = words.next()?.rsplit('/').next() == Some("mcr") && words.next()? == "relay";
    is_ours.then(|| words.filter(|word| !word.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relays_of_ours_count() {
        let line = b"/usr/bin/mcr\0relay\0eth0:239.1.1.1:5001\0eth1:239.2.2.2:6001\0";
        assert_eq!(arguments(line), Some(vec!["eth0:239.1.1.1:5001".to_owned(), "eth1:239.2.2.2:6001".to_owned()]));
        assert_eq!(arguments(b"mcr\0run\0"), None);
        assert_eq!(arguments(b"vim\0relay\0"), None);
        assert_eq!(arguments(b""), None);
    }
}
