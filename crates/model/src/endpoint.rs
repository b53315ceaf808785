//! Endpoint text, everywhere a person types one: `INTERFACE:[SOURCE@]ADDRESS:PORT[,option=value…]`.
//!
//! The text becomes an [`InputSpec`] or [`OutputSpec`]; the values are checked where those of a file are.

use std::net::IpAddr;

use crate::address::{NO_ZONE, Target, ValueError, parse_ip};
use crate::header::{DscpSpec, SourcePortSpec, TtlSpec};
use crate::span::PortSpec;
use crate::spec::{InputSpec, OutputSpec};

/// Why endpoint text was refused: where it stops making sense and how it should look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?}: {what}; {remedy}")]
pub struct EndpointError {
    given: String,
    what: String,
    remedy: String,
}

const SHAPE: &str = "write INTERFACE:ADDRESS:PORT, for example eth0:239.1.1.1:5001";

impl InputSpec {
    /// Reads the text of an input: `eth0:192.168.168.55@239.1.1.1:5001,vlan=100`. Options: `source` and `exclude` (may repeat), `vlan`,
    /// `outer-vlan`.
    ///
    /// # Errors
    /// [`EndpointError`] where the text has not the shape of an endpoint.
    pub fn from_endpoint(given: &str) -> Result<Self, EndpointError> {
        let parts = Parts::split(given)?;
        let (group, address) = parts.group_or_address();
        let mut spec = Self { interface: parts.interface.to_owned(), group, address, ..Self::default() };
        spec.port = parts.port.clone();
        spec.sources.extend(parts.source.map(str::to_owned));
        for (key, value) in parts.options()? {
            match key {
                "source" => spec.sources.push(value.to_owned()),
                "exclude" => spec.exclude_sources.push(value.to_owned()),
                "vlan" => spec.vlan = Some(parts.number(key, value)?),
                "outer-vlan" | "outer_vlan" => spec.outer_vlan = Some(parts.number(key, value)?),
                _ => return Err(parts.unknown_option(key, &["source", "exclude", "vlan", "outer-vlan"])),
            }
        }
        Ok(spec)
    }
}

impl OutputSpec {
    /// Reads the text of an output: `eth1:239.2.2.2:6001,ttl=8,source=10.0.0.9,dscp=34`.
    /// Options: `source`, `own-source`, `source-port`, `ttl`, `dscp`, `vlan`, `outer-vlan`, `priority`, `fragment`, `max-packets-per-second`, `max-bits-per-second`.
    ///
    /// # Errors
    /// [`EndpointError`] where the text has not the shape of an endpoint.
    pub fn from_endpoint(given: &str) -> Result<Self, EndpointError> {
        const OPTIONS: [&str; 11] = [
            "source",
            "own-source",
            "source-port",
            "ttl",
            "dscp",
            "vlan",
            "outer-vlan",
            "priority",
            "fragment",
            "max-packets-per-second",
            "max-bits-per-second",
        ];
        let parts = Parts::split(given)?;
        let (group, address) = parts.group_or_address();
        let mut spec = Self { interface: parts.interface.to_owned(), group, address, ..Self::default() };
        spec.port = parts.port.clone();
        spec.source = parts.source.map(str::to_owned);
        for (key, value) in parts.options()? {
            match key {
                "source" => spec.source = Some(value.to_owned()),
                "own-source" | "own_source" => spec.own_source = parts.flag(key, value)?,
                "source-port" | "source_port" => spec.source_port = Some(SourcePortSpec::from_text(value)),
                "ttl" => spec.ttl = Some(TtlSpec::from_text(value)),
                "dscp" => spec.dscp = Some(DscpSpec::from_text(value)),
                "vlan" => spec.vlan = Some(parts.number(key, value)?),
                "outer-vlan" | "outer_vlan" => spec.outer_vlan = Some(parts.number(key, value)?),
                "priority" => spec.priority = Some(parts.number(key, value)?),
                "fragment" => spec.fragment = parts.flag(key, value)?,
                "max-packets-per-second" => spec.max_packets_per_second = Some(parts.number(key, value)?),
                "max-bits-per-second" => spec.max_bits_per_second = Some(parts.number(key, value)?),
                _ => return Err(parts.unknown_option(key, &OPTIONS)),
            }
        }
        Ok(spec)
    }
}

/// The pieces of an endpoint, not yet checked.
struct Parts<'a> {
    given: &'a str,
    interface: &'a str,
    source: Option<&'a str>,
    address: &'a str,
    port: PortSpec,
    options: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn split(given: &'a str) -> Result<Self, EndpointError> {
        let (place, options) = match given.split_once(',') {
            Some((place, options)) => (place, Some(options)),
            None => (given, None),
        };
        let Some((interface, rest)) = place.split_once(':') else {
            return Err(error(given, "it has no interface before a ':'", SHAPE));
        };
        if interface.is_empty() || interface.starts_with('[') || parse_ip(interface).is_ok() {
            return Err(error(given, "the interface is missing", SHAPE));
        }
        let (source, rest) = match rest.split_once('@') {
            Some((source, rest)) => (Some(unbracketed(source)), rest),
            None => (None, rest),
        };
        let Some((address, port)) = rest.rsplit_once(':') else {
            return Err(error(given, "it has no port after the address", SHAPE));
        };
        match parse_ip(first_of(address)) {
            Err(ValueError::Zone { .. }) => return Err(error(given, "it names a zone", NO_ZONE)),
            Err(_) => return Err(error(given, &format!("{address:?} is not an IP address"), SHAPE)),
            // Without brackets nobody could tell the port from the address.
            Ok(IpAddr::V6(_)) if !address.starts_with('[') => {
                let remedy = format!("write {interface}:[{address}]:{port}");
                return Err(error(given, "an IPv6 address has to be in brackets", &remedy));
            }
            Ok(_) => {}
        }
        let port = match PortSpec::from_text(port) {
            PortSpec::Text(text) if !text.contains('-') || text.starts_with('-') => {
                return Err(error(given, &format!("{port:?} is not a port number"), "use 1 to 65535"));
            }
            port => port,
        };
        Ok(Self { given, interface, source, address: unbracketed(address), port, options })
    }

    fn group_or_address(&self) -> (Option<String>, Option<String>) {
        let text = Some(self.address.to_owned());
        match parse_ip(first_of(self.address)) {
            Ok(ip) if Target::unicast(ip).is_ok() || Target::broadcast(ip).is_ok() => (None, text),
            _ => (text, None),
        }
    }

    fn options(&self) -> Result<Vec<(&'a str, &'a str)>, EndpointError> {
        let pairs = self.options.into_iter().flat_map(|options| options.split(','));
        pairs
            .map(|pair| {
                pair.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(|| {
                    let remedy = match pair.trim_end_matches('=') {
                        flag @ ("own-source" | "own_source" | "fragment") => format!("write {flag}=true"),
                        _ => "write options as ttl=8,dscp=34".to_owned(),
                    };
                    error(self.given, &format!("option {pair:?} has no value"), &remedy)
                })
            })
            .collect()
    }

    fn number(&self, key: &str, value: &str) -> Result<i64, EndpointError> {
        value.parse().map_err(|_| error(self.given, &format!("{key}={value} is not a number"), "write a whole number"))
    }

    fn flag(&self, key: &str, value: &str) -> Result<bool, EndpointError> {
        let remedy = format!("write {key}=true, or leave it out");
        value.parse().map_err(|_| error(self.given, &format!("{key}={value} is neither true nor false"), &remedy))
    }

    fn unknown_option(&self, key: &str, known: &[&str]) -> EndpointError {
        let what = format!("there is no option {key:?} here");
        let remedy = match closest(key, known) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("the options are {}", known.join(", ")),
        };
        error(self.given, &what, &remedy)
    }
}

/// The known word that `given` was most probably meant to be, if one is near.
pub fn closest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|word| (strsim::jaro_winkler(given, word), *word));
    scored.filter(|(score, _)| *score >= 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// The address, without the length of a prefix.
fn first_of(address: &str) -> &str {
    unbracketed(address).split_once('/').map_or(address, |(first, _)| first)
}

fn unbracketed(address: &str) -> &str {
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address)
}

fn error(given: &str, what: &str, remedy: &str) -> EndpointError {
    EndpointError { given: given.chars().take(120).collect(), what: what.to_owned(), remedy: remedy.to_owned() }
}
