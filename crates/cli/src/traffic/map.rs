//! Where the groups of a capture are sent to.

use std::net::{IpAddr, SocketAddr};

/// From a group, or one port of it, to another. The first that fits counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map(Vec<(Place, Place)>);

/// An address, and a port where one was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    address: IpAddr,
    port: Option<u16>,
}

impl Map {
    /// Reads each as `FROM=TO`.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub(crate) fn parse(given: &[String]) -> Result<Self, String> {
        let one = |text: &String| {
            let (from, to) = text.split_once('=')?;
            Some((Place::parse(from)?, Place::parse(to)?))
        };
        let wrong = |text: &String| {
            format!("--map {text:?} is no mapping; write 239.1.1.1=239.2.2.2 or 239.1.1.1:5001=239.2.2.2:6001")
        };
        given.iter().map(|text| one(text).ok_or_else(|| wrong(text))).collect::<Result<_, _>>().map(Self)
    }

    /// Where a datagram that went to `was` is sent to; `None`: nowhere, for it went to a host and nobody mapped that.
    pub(crate) fn target(&self, was: SocketAddr) -> Option<SocketAddr> {
        let fits = |place: &Place| place.address == was.ip() && place.port.is_none_or(|port| port == was.port());
        match self.0.iter().find(|(from, _)| fits(from)) {
            Some((_, to)) => Some(SocketAddr::new(to.address, to.port.unwrap_or(was.port()))),
            None => was.ip().is_multicast().then_some(was),
        }
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let whole = text.parse::<SocketAddr>().map(|at| Self { address: at.ip(), port: Some(at.port()) });
        let address = text.trim_start_matches('[').trim_end_matches(']').parse();
        whole.ok().or(address.ok().map(|address| Self { address, port: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_fits_counts() {
        let given = ["239.1.1.1:5001=239.2.2.2:6001", "239.1.1.1=239.3.3.3", "10.0.0.1=239.4.4.4:7"].map(str::to_owned);
        let map = Map::parse(&given).unwrap();
        let table = [
            ("239.1.1.1:5001", Some("239.2.2.2:6001")),
            ("239.1.1.1:5002", Some("239.3.3.3:5002")),
            ("239.9.9.9:5001", Some("239.9.9.9:5001")),
            ("10.0.0.1:80", Some("239.4.4.4:7")),
            ("10.0.0.2:80", None),
        ];
        for (was, expected) in table {
            assert_eq!(map.target(was.parse().unwrap()), expected.map(|to| to.parse().unwrap()), "{was}");
        }
        for bad in ["", "239.1.1.1", "239.1.1.1=", "a=b", "239.1.1.1:x=239.1.1.2"] {
            assert!(Map::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
