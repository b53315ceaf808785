//! UDP sockets of this host that take datagrams from anybody, as `/proc/net/udp` and `udp6` list them (proc(5)).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The state of a socket that is connected to nobody (`TCP_CLOSE`, `include/net/tcp_states.h`).
const UNCONNECTED: &str = "07";

/// The address and port of each; the unspecified address of IPv4 stands for any of IPv4, that of IPv6 for any at all. None where the lists can not be read.
pub(crate) fn udp() -> BTreeSet<(IpAddr, u16)> {
    let lists = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    lists.iter().flat_map(|list| list.lines()).filter_map(listener).collect()
}

/// A line: `  sl  local_address rem_address   st …`, addresses in hexadecimal, as the host's words of network order.
fn listener(line: &str) -> Option<(IpAddr, u16)> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == UNCONNECTED).then_some((ip(address)?, port))
}

/// An address; of IPv4 also where it is written as IPv6 (`::ffff:a.b.c.d`).
fn ip(address: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match address.len() {
        8 => word(0).map(|octets| Ipv4Addr::from(octets).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, four) in octets.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *four = word(at)?;
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
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
        let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let of = |text: &str| Some((text.parse::<IpAddr>().unwrap(), 5001));
        assert_eq!(line("00000000:1389", "07"), Some((any, 5001)));
        assert_eq!(line("00000000:1389", "01"), None);
        assert_eq!(line("00000000000000000000000000000000:1389", "07"), of("::"));
        if cfg!(target_endian = "little") {
            assert_eq!(line("00000000000000000000000001000000:1389", "07"), of("::1"));
            assert_eq!(line("00003EFF000000000000000001000100:1389", "07"), of("ff3e::1:1"));
            assert_eq!(line("0000000000000000FFFF0000010101EF:1389", "07"), of("239.1.1.1"));
        }
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(udp().contains(&(Ipv4Addr::LOCALHOST.into(), port)));
    }
}
