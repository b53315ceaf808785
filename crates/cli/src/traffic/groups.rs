//! Many groups in one endpoint: `eth0:239.1.1.1+100:5001` names a hundred, each one after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Each is a socket of `mcr listen`, and a file of this process.
const MOST_GROUPS: u32 = 1000;

/// The endpoints that the text stands for, each as text; only itself without a number.
///
/// # Errors
/// A sentence that says how to write it.
pub(crate) fn expand(endpoint: &str) -> Result<Vec<String>, String> {
    let (place, options) = match endpoint.find(',') {
        Some(comma) => endpoint.split_at(comma),
        None => (endpoint, ""),
    };
    let Some((before, number, port)) = numbered(place) else { return Ok(vec![endpoint.to_owned()]) };
    let count =
        number.parse().ok().filter(|count| (1..=MOST_GROUPS).contains(count)).ok_or_else(|| {
            format!("{endpoint:?}: +{number} is out of range; it is how many groups, 1 to {MOST_GROUPS}")
        })?;
    let (head, first) = before.split_at(before.rfind(['@', '[']).or_else(|| before.rfind(':')).map_or(0, |at| at + 1));
    let first: IpAddr = first.trim_end_matches(']').parse().map_err(|_| {
        format!("{endpoint:?}: +{number} has to follow the first group, as in eth0:239.1.1.1+{number}:5001")
    })?;
    let text = |address: IpAddr| format!("{head}{address}{}:{port}{options}", if address.is_ipv6() { "]" } else { "" });
    let groups = (0..count).map(|step| after(first, step).filter(IpAddr::is_multicast).map(text));
    groups.collect::<Option<_>>().ok_or_else(|| format!("{endpoint:?}: not all of these {count} addresses are groups"))
}

/// What stands before the number, the number, and the port.
fn numbered(place: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = place.rsplit_once('+')?;
    let (number, port) = after.split_once(':')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((before, number, port))
}

fn after(first: IpAddr, step: u32) -> Option<IpAddr> {
    match first {
        IpAddr::V4(first) => first.to_bits().checked_add(step).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(first) => first.to_bits().checked_add(step.into()).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_groups() {
        let table: [(&str, &[&str]); 6] = [
            ("eth0:239.1.1.1:5001", &["eth0:239.1.1.1:5001"]),
            ("eth0:239.1.1.1+1:5001", &["eth0:239.1.1.1:5001"]),
            ("eth0:239.1.1.255+2:5001,ttl=3", &["eth0:239.1.1.255:5001,ttl=3", "eth0:239.1.2.0:5001,ttl=3"]),
            ("eth0:10.0.0.1@232.1.1.1+2:5", &["eth0:10.0.0.1@232.1.1.1:5", "eth0:10.0.0.1@232.1.1.2:5"]),
            ("eth0:[ff3e::ff]+2:5001", &["eth0:[ff3e::ff]:5001", "eth0:[ff3e::100]:5001"]),
            ("a+b:239.1.1.1:5001", &["a+b:239.1.1.1:5001"]),
        ];
        for (given, expected) in table {
            assert_eq!(
                expand(given).as_deref(),
                Ok(&expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()[..])
            );
        }
        for (bad, told) in [
            ("eth0:239.1.1.1+0:5001", "1 to 1000"),
            ("eth0:239.1.1.1+99999999999:5001", "1 to 1000"),
            ("eth0:camera+5:5001", "has to follow the first group"),
            ("eth0:10.0.0.1+5:5001", "not all of these 5 addresses are groups"),
            ("eth0:239.255.255.250+9:5001", "not all of these 9 addresses are groups"),
        ] {
            assert!(expand(bad).unwrap_err().contains(told), "{bad}: {:?}", expand(bad));
        }
    }
}
