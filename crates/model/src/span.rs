//! Ranges: an endpoint that stands for consecutive groups (a prefix) and consecutive ports, as `239.1.0.0/24:5000-5010`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::address::{Port, Target, ValueError, parse_ip};
use crate::prefix::{Prefix, PrefixError};
use crate::problem::FieldError;

/// How many groups and ports an endpoint stands for, each from its first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    group_bits: u8,
    ports: u32,
}

/// One group and one port of an endpoint, by how far each is from the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset {
    /// Groups after the first.
    pub group: u32,
    /// Ports after the first.
    pub port: u16,
}

impl Span {
    /// One group or host, and one port.
    pub const ONE: Self = Self { group_bits: 0, ports: 1 };
    /// The most pairs of a group and a port that one relay may take.
    pub const MOST_PAIRS: u32 = 4096;

    pub(crate) fn new(group_bits: u8, ports: u32) -> Self {
        Self { group_bits, ports }
    }

    pub(crate) fn with_ports(self, ports: u32) -> Self {
        Self { ports, ..self }
    }

    /// How many groups; a power of two.
    pub fn groups(self) -> u128 {
        1_u128.checked_shl(self.group_bits.into()).unwrap_or(u128::MAX)
    }

    /// How many ports.
    pub fn ports(self) -> u32 {
        self.ports
    }

    /// How many pairs of a group and a port.
    pub fn pairs(self) -> u128 {
        self.groups().saturating_mul(self.ports.into())
    }

    /// Whether there is just one pair.
    pub fn is_one(self) -> bool {
        self == Self::ONE
    }

    /// All pairs, in order. Of a relay there are at most [`Span::MOST_PAIRS`].
    pub fn offsets(self) -> impl Iterator<Item = Offset> {
        let ports = 0..self.ports as u16;
        (0..self.groups() as u32).flat_map(move |group| ports.clone().map(move |port| Offset { group, port }))
    }

    /// The pair of an endpoint with this span that stands for a pair of its input: where it has one group for all, that.
    pub fn of(self, Offset { group, port }: Offset) -> Offset {
        Offset { group: if self.group_bits == 0 { 0 } else { group }, port: if self.ports == 1 { 0 } else { port } }
    }

    /// The addresses from `first` on.
    pub fn addresses(self, first: IpAddr) -> impl Iterator<Item = IpAddr> {
        (0..self.groups() as u32).map(move |group| address_after(first, group))
    }

    /// The last address, if `first` is the first.
    pub fn last_address(self, first: IpAddr) -> IpAddr {
        let more = self.groups() - 1;
        match first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | more as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | more).into(),
        }
    }

    /// The last port, if `first` is the first.
    pub fn last_port(self, first: u16) -> u16 {
        first + (self.ports - 1) as u16
    }

    pub(crate) fn write_address(self, first: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (first, self.prefix_length(first)) {
            (IpAddr::V4(first), None) => write!(f, "{first}"),
            (IpAddr::V6(first), None) => write!(f, "[{first}]"),
            (IpAddr::V4(first), Some(length)) => write!(f, "{first}/{length}"),
            (IpAddr::V6(first), Some(length)) => write!(f, "[{first}/{length}]"),
        }
    }

    pub(crate) fn write_port(self, first: Port, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            1 => write!(f, "{first}"),
            _ => write!(f, "{first}-{}", self.last_port(first.get())),
        }
    }

    /// The group as a user writes it.
    pub(crate) fn group_text(self, first: Target) -> String {
        match self.prefix_length(first.ip()) {
            None => first.to_string(),
            Some(length) => format!("{first}/{length}"),
        }
    }

    /// The port as a user writes it.
    pub(crate) fn port_spec(self, first: Port) -> PortSpec {
        match self.ports {
            1 => PortSpec::Number(first.get().into()),
            _ => PortSpec::Text(format!("{first}-{}", self.last_port(first.get()))),
        }
    }

    /// The length of a prefix of as many groups, of the family of `address`; none of one group.
    pub(crate) fn prefix_length(self, address: IpAddr) -> Option<u8> {
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        (self.group_bits > 0).then(|| bits.saturating_sub(self.group_bits))
    }
}

/// The address that comes so many after `first`.
pub fn address_after(first: IpAddr, more: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(more)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(more.into())).into(),
    }
}

/// The first group of a prefix, as `239.1.0.0/24`, or the only one, and how many there are as a power of two.
pub(crate) fn parse_groups(given: &str) -> Result<(Target, u8), Result<ValueError, PrefixError>> {
    let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(given);
    if !bare.contains('/') {
        return parse_ip(given).and_then(Target::group).map(|group| (group, 0)).map_err(Ok);
    }
    let prefix: Prefix = bare.parse().map_err(Err)?;
    Target::group(prefix.first()).map(|group| (group, prefix.free_bits())).map_err(Ok)
}

/// A port as a user writes it: a number, or the first and the last as `"5000-5010"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PortSpec {
    /// One.
    Number(i64),
    /// Several.
    Text(String),
}

/// What is accepted for one port.
const PORT_RANGE: &str = "use 1 to 65535";

impl PortSpec {
    /// As it stands in endpoint text.
    pub fn from_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Number)
    }

    /// The first port, and how many there are.
    ///
    /// # Errors
    /// What is neither a port nor a range of ports.
    pub fn check(&self, field: String) -> Result<(Port, u32), FieldError> {
        let port = |number: i64| {
            let checked = Port::try_from(number);
            checked.map_err(|error| FieldError::new(field.clone(), error.to_string(), PORT_RANGE))
        };
        let text = match self {
            Self::Number(number) => return port(*number).map(|port| (port, 1)),
            Self::Text(text) => text,
        };
        let shown: String = text.chars().take(40).collect();
        let number = |text: &str| text.trim().parse::<i64>().ok();
        if let Some(number) = number(text) {
            let remedy = format!("write it without quotes: {number}");
            return Err(FieldError::new(field, format!("port {shown:?} is a number in quotes"), remedy));
        }
        let ends = text.split_once('-').and_then(|(first, last)| number(first).zip(number(last)));
        let Some((first, last)) = ends else {
            let remedy = "write a number, as 5001, or the first and the last of several, as \"5000-5010\"";
            return Err(FieldError::new(field, format!("port {shown:?} is no port and no range of ports"), remedy));
        };
        let (first, last) = (port(first)?, port(last)?);
        match u32::from(last.get()).checked_sub(first.get().into()) {
            Some(more) => Ok((first, more + 1)),
            None => {
                let remedy = format!("write \"{last}-{first}\"");
                Err(FieldError::new(field, format!("ports {shown:?} end before they begin"), remedy))
            }
        }
    }
}

impl Default for PortSpec {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl From<i64> for PortSpec {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for PortSpec {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for PortSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = PortSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535, or several as \"5000-5010\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortSpec, E> {
                Ok(PortSpec::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortSpec, E> {
                // What does not fit is out of range, too.
                Ok(PortSpec::Number(number.try_into().unwrap_or(i64::MAX)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortSpec, E> {
                Ok(PortSpec::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl PartialSchema for PortSpec {
    fn schema() -> RefOr<Schema> {
        let one = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        let several = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        OneOfBuilder::new()
            .item(one.minimum(Some(1)).maximum(Some(65535)))
            .item(several.pattern(Some("^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}$")))
            .into()
    }
}

impl ToSchema for PortSpec {}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PortSpec {
        PortSpec::from_text(text)
    }

    #[test]
    fn ports() {
        let checked = |text: &str| spec(text).check("port".into()).map(|(first, count)| (first.get(), count));
        assert_eq!(checked("5001"), Ok((5001, 1)));
        assert_eq!(checked("5000-5010"), Ok((5000, 11)));
        assert_eq!(checked("1-65535"), Ok((1, 65535)));
        for (bad, told) in [
            ("0-5", "port 0 is out of range"),
            ("5-65536", "port 65536 is out of range"),
            ("6-5", "end before they begin"),
            ("5-", "no range of ports"),
            ("five", "no range of ports"),
            ("5-6-7", "no range of ports"),
        ] {
            let error = checked(bad).unwrap_err();
            assert!(error.to_string().contains(told), "{bad}: {error}");
        }
        let quoted = PortSpec::Text("5001".into()).check("port".into()).unwrap_err();
        assert!(quoted.to_string().contains("without quotes"), "{quoted}");
    }

    #[test]
    fn pairs_count_groups_and_ports() {
        let span = Span::new(1, 2);
        let first: IpAddr = "239.1.0.254".parse().unwrap();
        let all: Vec<_> = span
            .offsets()
            .map(|Offset { group, port }| (address_after(first, group).to_string(), 5000 + port))
            .collect();
        let expected = [("239.1.0.254", 5000), ("239.1.0.254", 5001), ("239.1.0.255", 5000), ("239.1.0.255", 5001)];
        assert_eq!(all, expected.map(|(address, port)| (address.to_owned(), port)));
        assert_eq!(span.last_address(first).to_string(), "239.1.0.255");
        assert_eq!(Span::new(0, 2).of(Offset { group: 7, port: 1 }), Offset { group: 0, port: 1 });
        assert_eq!(Span::new(8, 1).of(Offset { group: 7, port: 1 }), Offset { group: 7, port: 0 });
    }
}
