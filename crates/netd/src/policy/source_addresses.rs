//! Which addresses an output interface may get for as long as a relay sends with them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use mcr_wire::Prefix;

use super::matches;

/// Networks by the interface that may get their addresses; names may have the wildcards of the lists. Empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct SourceAddresses(BTreeMap<String, Vec<Network>>);

/// A network, as `10.1.0.64/26`; a single address without a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
struct Network(Prefix);

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NoNetwork {
    #[error("`source_addresses`: {given:?} is no network; write it as 10.1.0.64/26 or fd00:1::/64")]
    Shape { given: String },
    #[error("`source_addresses`: {given:?} has bits after its length; the network that it is in begins at {begins}")]
    HostBits { given: String, begins: IpAddr },
}

impl SourceAddresses {
    /// Whether the interface may get that address.
    pub(super) fn allow(&self, interface: &str, address: IpAddr) -> bool {
        self.on(interface).any(|network| network.0.contains(address))
    }

    /// What the interface may get, for a sentence.
    pub(super) fn allowed_on(&self, interface: &str) -> String {
        let networks: Vec<String> = self.on(interface).map(Network::to_string).collect();
        if networks.is_empty() { "none".to_owned() } else { networks.join(", ") }
    }

    fn on(&self, interface: &str) -> impl Iterator<Item = &Network> {
        let fits = move |pattern: &String| matches(pattern.as_bytes(), interface.as_bytes());
        self.0.iter().filter(move |(pattern, _)| fits(pattern)).flat_map(|(_, networks)| networks)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// For the log: `eth1 10.1.0.64/26, fd00:1::/64; it* 10.2.0.0/24`.
impl fmt::Display for SourceAddresses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (pattern, networks)) in self.0.iter().enumerate() {
            let networks: Vec<String> = networks.iter().map(Network::to_string).collect();
            write!(out, "{}{pattern} {}", if number == 0 { "" } else { "; " }, networks.join(", "))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Network {
    type Error = NoNetwork;

    fn try_from(given: String) -> Result<Self, NoNetwork> {
        let (address, length) =
            given.split_once('/').map_or((&*given, None), |(address, length)| (address, Some(length)));
        let shape = || NoNetwork::Shape { given: given.clone() };
        let address: IpAddr = address.parse().map_err(|_| shape())?;
        let whole = Prefix::from(address);
        let length = length.map_or(Ok(whole.length()), str::parse).map_err(|_| shape())?;
        if length > whole.length() {
            return Err(shape());
        }
        let begins = Prefix::around(address, length).first();
        Prefix::new(address, length).map(Self).ok_or(NoNetwork::HostBits { given, begins })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.0.first(), self.0.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Result<Network, NoNetwork> {
        Network::try_from(text.to_owned())
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        for (text, inside, outside) in [
            ("10.1.0.64/26", "10.1.0.127", "10.1.0.128"),
            ("10.1.0.77", "10.1.0.77", "10.1.0.78"),
            ("0.0.0.0/0", "255.1.1.1", "fd00::1"),
            ("fd00:1::/64", "fd00:1::77", "fd00:1:0:1::77"),
            ("fd00:1::77", "fd00:1::77", "fd00:1::78"),
            ("::/0", "fd00::1", "10.0.0.1"),
        ] {
            let network = network(text).unwrap();
            assert!(network.0.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.0.contains(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "eth1", "10.1.0.0/33", "10.1.0.0/", "10.1.0.0/-1", "fd00::/129", "10.1.0/24", "10.1.0.0/24/8"]
        {
            assert_eq!(network(text), Err(NoNetwork::Shape { given: text.to_owned() }));
        }
        let begins = "10.1.0.64".parse().unwrap();
        assert_eq!(network("10.1.0.65/26"), Err(NoNetwork::HostBits { given: "10.1.0.65/26".to_owned(), begins }));
    }
}
