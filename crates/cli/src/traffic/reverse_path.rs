//! The commonest reason why nothing comes: the reverse-path check, which drops packets from a source that this host has
//! no route back to, before any socket, and tells nobody but a counter.

/// Packets of this network namespace that the check has dropped so far (RFC 3704, `net/ipv4/fib_frontend.c`);
/// `None` where the kernel does not tell.
pub(crate) fn dropped() -> Option<u64> {
    in_netstat(&std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?)
}

/// `/proc/net/netstat` has pairs of lines: names, then numbers.
fn in_netstat(text: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks_exact(2).find_map(|pair| {
        let mut columns = pair[0].split_ascii_whitespace().zip(pair[1].split_ascii_whitespace());
        columns.find(|(name, _)| *name == "IPReversePathFilter")?.1.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found() {
        let text = "TcpExt: A IPReversePathFilter B\nTcpExt: 1 42 3\nIpExt: C\nIpExt: 9\n";
        assert_eq!(in_netstat(text), Some(42));
        assert_eq!(in_netstat("TcpExt: A\nTcpExt: 1\n"), None);
        assert_eq!(in_netstat(""), None);
        assert!(dropped().is_some(), "this kernel tells");
    }
}
