//! UDP sockets of this host that take datagrams from anybody, as `/proc/net/udp` and `udp6` list them (proc(5)).

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;

/// The state of a socket that is connected to nobody (`TCP_CLOSE`, `include/net/tcp_states.h`).
const UNCONNECTED: &str = "07";

/// The address and port of each; the unspecified address stands for any. None where the lists can not be read.
pub(crate) fn udp() -> BTreeSet<(Ipv4Addr, u16)> {
    let lists = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    lists.iter().flat_map(|list| list.lines()).filter_map(listener).collect()
}

/// A line: `  sl  local_address rem_address   st …`, addresses in hexadecimal, as the host's words of network order.
fn listener(line: &str) -> Option<(Ipv4Addr, u16)> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == UNCONNECTED).then_some((v4(address)?, port))
}

/// An IPv4 address, or the unspecified one of IPv6, which takes IPv4 as well.
fn v4(address: &str) -> Option<Ipv4Addr> {
    match address.len() {
        8 => u32::from_str_radix(address, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes())),
        _ => address.bytes().all(|digit| digit == b'0').then_some(Ipv4Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_connected_listens_to_nobody_else() {
        let line = |local: &str, state: &str| {
            listener(&format!(
                "  412: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 17 2 0 0"
            ))
        };
        let any = Ipv4Addr::UNSPECIFIED;
        assert_eq!(line("00000000:1389", "07"), Some((any, 5001)));
        assert_eq!(line("00000000:1389", "01"), None);
        assert_eq!(line("00000000000000000000000000000000:1389", "07"), Some((any, 5001)));
        assert_eq!(line("00000000000000000000000001000000:1389", "07"), None);
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(udp().contains(&(Ipv4Addr::LOCALHOST, port)));
    }
}
