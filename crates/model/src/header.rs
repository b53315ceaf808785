//! Header fields of an output's copies that are set, kept, or made from what arrived.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use mcr_wire::{CodePoint, CodePointMap, TimeToLive};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::address::{Dscp, Port, Ttl, host, parse_ip};
use crate::problem::FieldError;

/// The word for a field that stays as it arrived.
const KEEP: &str = "keep";
/// The word for a time to live that gets one less.
const DECREMENT: &str = "decrement";
/// Stands for every code point that a table does not name.
const OTHERS: &str = "*";

/// The time to live of copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TtlRule {
    /// This one.
    Set(Ttl),
    /// As it arrived.
    Keep,
    /// One less than it arrived with; what would leave with none is dropped.
    Decrement,
}

/// The code point of copies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DscpRule {
    /// As it arrived.
    Keep,
    /// This one.
    Set(Dscp),
    /// By the one that it arrived with.
    Map(DscpMap),
}

/// Code points by code points.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DscpMap {
    pairs: BTreeMap<Dscp, Dscp>,
    others: Option<Dscp>,
}

/// The source address of copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceRule {
    /// An address of the output interface.
    OfInterface,
    /// This one, which need not be one of this host.
    Set(IpAddr),
    /// This one, which the output interface has for as long as the relay is in force.
    Own(IpAddr),
    /// As it arrived.
    Keep,
}

/// A time to live as a user writes it: 1 to 255, `"keep"` or `"decrement"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TtlSpec {
    /// A number.
    Number(i64),
    /// A word.
    Word(String),
}

/// A source port as a user writes it: 1 to 65535, or `"keep"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SourcePortSpec {
    /// A number.
    Number(i64),
    /// A word.
    Word(String),
}

/// A code point as a user writes it: 0 to 63, `"keep"`, or a table as `{ 46 = 34, "*" = 0 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DscpSpec {
    /// A number.
    Number(i64),
    /// A word.
    Word(String),
    /// What each becomes.
    Table(BTreeMap<String, i64>),
}

const TTL_WANTED: &str = "use 1 to 255, \"keep\" or \"decrement\"";
const DSCP_WANTED: &str = "use 0 to 63, \"keep\", or a table as { 46 = 34, \"*\" = 0 }";

impl TtlRule {
    /// The checked form of what a user wrote; none: [`Ttl::DEFAULT`].
    ///
    /// # Errors
    /// A number out of range or an unknown word.
    pub fn check(field: String, given: Option<&TtlSpec>) -> Result<Self, FieldError> {
        match given {
            None => Ok(Self::default()),
            Some(TtlSpec::Number(given)) => Ttl::try_from(*given).map(Self::Set).map_err(|error| {
                let remedy = "use 1 to 255; 0 would never leave the host";
                FieldError::new(field, error.to_string(), remedy)
            }),
            Some(TtlSpec::Word(word)) => match word.as_str() {
                KEEP => Ok(Self::Keep),
                DECREMENT => Ok(Self::Decrement),
                _ => Err(FieldError::new(field, format!("ttl {:?} is not known", short(word)), TTL_WANTED)),
            },
        }
    }

    /// How a user writes it.
    pub fn spec(self) -> TtlSpec {
        match self {
            Self::Set(ttl) => TtlSpec::Number(ttl.get().into()),
            Self::Keep => TtlSpec::Word(KEEP.to_owned()),
            Self::Decrement => TtlSpec::Word(DECREMENT.to_owned()),
        }
    }

    /// What the datapaths are told.
    pub fn on_wire(self) -> TimeToLive {
        match self {
            Self::Set(ttl) => TimeToLive::Set(ttl.get()),
            Self::Keep => TimeToLive::Keep,
            Self::Decrement => TimeToLive::Decrement,
        }
    }
}

impl Default for TtlRule {
    fn default() -> Self {
        Self::Set(Ttl::DEFAULT)
    }
}

impl DscpRule {
    /// The checked form of what a user wrote; none: [`DscpRule::Keep`].
    ///
    /// # Errors
    /// Numbers out of range, an unknown word, or a table that is empty or too long.
    pub fn check(field: String, given: Option<&DscpSpec>) -> Result<Self, FieldError> {
        let wrong = |what: String| FieldError::new(field.clone(), what, DSCP_WANTED);
        let code_point = |given: i64| Dscp::try_from(given).map_err(|error| wrong(error.to_string()));
        match given {
            None => Ok(Self::Keep),
            Some(DscpSpec::Number(given)) => Dscp::try_from(*given)
                .map(Self::Set)
                .map_err(|error| FieldError::new(field, error.to_string(), "use 0 to 63")),
            Some(DscpSpec::Word(word)) if word == KEEP => Ok(Self::Keep),
            Some(DscpSpec::Word(word)) => Err(wrong(format!("dscp {:?} is not known", short(word)))),
            Some(DscpSpec::Table(table)) => {
                let (mut pairs, mut others) = (BTreeMap::new(), None);
                for (from, to) in table {
                    if from == OTHERS {
                        others = Some(code_point(*to)?);
                        continue;
                    }
                    let number = from.parse().map_err(|_| wrong(format!("{:?} is no code point", short(from))))?;
                    pairs.insert(code_point(number)?, code_point(*to)?);
                }
                match (pairs.len(), others) {
                    (0, None) => Err(wrong("a table of code points names none".to_owned())),
                    (0, Some(others)) => Ok(Self::Set(others)),
                    (1..=CodePointMap::MOST, _) => Ok(Self::Map(DscpMap { pairs, others })),
                    (many, _) => {
                        let most = CodePointMap::MOST;
                        let what = format!("{many} code points are more than the {most} that a table may name");
                        Err(FieldError::new(field, what, "let \"*\" stand for those that become the same"))
                    }
                }
            }
        }
    }

    /// How a user writes it; what is as it is without a word is left out.
    pub fn spec(&self) -> Option<DscpSpec> {
        match self {
            Self::Keep => None,
            Self::Set(dscp) => Some(DscpSpec::Number(dscp.get().into())),
            Self::Map(DscpMap { pairs, others }) => {
                let others = others.iter().map(|to| (OTHERS.to_owned(), i64::from(to.get())));
                let pairs = pairs.iter().map(|(from, to)| (from.to_string(), i64::from(to.get())));
                Some(DscpSpec::Table(pairs.chain(others).collect()))
            }
        }
    }

    /// What the datapaths are told.
    pub fn on_wire(&self) -> CodePoint {
        match self {
            Self::Keep => CodePoint::Keep,
            Self::Set(dscp) => CodePoint::Set(dscp.get()),
            Self::Map(DscpMap { pairs, others }) => {
                let pairs = pairs.iter().map(|(from, to)| (from.get(), to.get()));
                let map = CodePointMap::new(pairs, others.map(Dscp::get));
                map.map_or(CodePoint::Keep, CodePoint::Map)
            }
        }
    }
}

impl SourceRule {
    /// The checked form of what a user wrote; none: [`SourceRule::OfInterface`].
    ///
    /// # Errors
    /// What is neither the address of a host nor the word.
    pub fn check(field: String, given: Option<&str>) -> Result<Self, FieldError> {
        match given {
            None => Ok(Self::OfInterface),
            Some(KEEP) => Ok(Self::Keep),
            Some(given) => match parse_ip(given).and_then(host) {
                Ok(source) if source.is_loopback() => {
                    let what = format!("{source} is a loopback address: every host drops what comes from there");
                    Err(FieldError::new(field, what, "write an address that a host of the output's network may have"))
                }
                Ok(source) => Ok(Self::Set(source)),
                Err(error) => {
                    let wanted = "write the address of one host, for example 192.168.168.55 or fd00::55, or \"keep\"";
                    Err(FieldError::new(field, error.to_string(), error.remedy(wanted)))
                }
            },
        }
    }

    /// The same source, which the host is to have itself.
    ///
    /// # Errors
    /// When none is named.
    pub(crate) fn owned(self, field: String) -> Result<Self, FieldError> {
        let why = match self {
            Self::Set(address) | Self::Own(address) => return Ok(Self::Own(address)),
            Self::OfInterface => "none is given",
            Self::Keep => "it stays as it arrived",
        };
        let message = format!("own_source adds a source that is named, and {why}");
        Err(FieldError::new(
            field,
            message,
            "add source = \"10.1.0.77\", an address that no other host has, or leave own_source out",
        ))
    }

    /// Whether the host has it for the sake of the relay.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// How a user writes it; what is as it is without a word is left out.
    pub fn spec(self) -> Option<String> {
        match self {
            Self::OfInterface => None,
            Self::Set(address) | Self::Own(address) => Some(address.to_string()),
            Self::Keep => Some(KEEP.to_owned()),
        }
    }

    /// The address, if it is known without looking.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Set(address) | Self::Own(address) => Some(address),
            Self::OfInterface | Self::Keep => None,
        }
    }
}

impl TtlSpec {
    /// As it stands in endpoint text.
    pub fn from_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Word(text.to_owned()), Self::Number)
    }
}

impl SourcePortSpec {
    /// As it stands in endpoint text.
    pub fn from_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Word(text.to_owned()), Self::Number)
    }

    /// The port, or none to keep the one that it arrived with.
    ///
    /// # Errors
    /// A number out of range or an unknown word.
    pub fn check(&self, field: String) -> Result<Option<Port>, FieldError> {
        match self {
            Self::Number(given) => {
                let port = Port::try_from(*given).map(Some);
                port.map_err(|error| FieldError::new(field, error.to_string(), "use 1 to 65535"))
            }
            Self::Word(word) if word == KEEP => Ok(None),
            Self::Word(word) => {
                let what = format!("source port {:?} is not known", short(word));
                Err(FieldError::new(field, what, "use 1 to 65535, or \"keep\": as it arrived"))
            }
        }
    }
}

impl DscpSpec {
    /// As it stands in endpoint text, which has no tables.
    pub fn from_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Word(text.to_owned()), Self::Number)
    }
}

impl fmt::Display for TtlSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
}

impl fmt::Display for SourcePortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
}

impl fmt::Display for DscpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => word.fmt(f),
            Self::Table(table) => {
                let pairs: Vec<String> = table.iter().map(|(from, to)| format!("{from} → {to}")).collect();
                f.write_str(&pairs.join(", "))
            }
        }
    }
}

/// Reads a number, a word, or a table of numbers, whichever there is.
struct Reader(&'static str);

enum Read {
    Number(i64),
    Word(String),
    Table(BTreeMap<String, i64>),
}

impl<'de> Visitor<'de> for Reader {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Read, E> {
        Ok(Read::Number(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Read, E> {
        // What does not fit is out of range, too.
        Ok(Read::Number(number.try_into().unwrap_or(i64::MAX)))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Read, E> {
        Ok(Read::Word(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Read, A::Error> {
        let mut table = BTreeMap::new();
        while let Some((from, to)) = entries.next_entry()? {
            table.insert(from, to);
        }
        Ok(Read::Table(table))
    }
}

impl<'de> Deserialize<'de> for TtlSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WANTED: &str = "a number from 1 to 255, \"keep\" or \"decrement\"";
        match deserializer.deserialize_any(Reader(WANTED))? {
            Read::Number(number) => Ok(Self::Number(number)),
            Read::Word(word) => Ok(Self::Word(word)),
            Read::Table(_) => Err(de::Error::invalid_type(de::Unexpected::Map, &WANTED)),
        }
    }
}

impl<'de> Deserialize<'de> for SourcePortSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WANTED: &str = "a port from 1 to 65535, or \"keep\"";
        match deserializer.deserialize_any(Reader(WANTED))? {
            Read::Number(number) => Ok(Self::Number(number)),
            Read::Word(word) => Ok(Self::Word(word)),
            Read::Table(_) => Err(de::Error::invalid_type(de::Unexpected::Map, &WANTED)),
        }
    }
}

impl<'de> Deserialize<'de> for DscpSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Reader("a number from 0 to 63, \"keep\" or a table of code points"))? {
            Read::Number(number) => Ok(Self::Number(number)),
            Read::Word(word) => Ok(Self::Word(word)),
            Read::Table(table) => Ok(Self::Table(table)),
        }
    }
}

fn integer(least: i64, most: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(least)).maximum(Some(most))
}

fn word<const N: usize>(words: [&str; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(words))
}

impl PartialSchema for TtlSpec {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(integer(1, 255)).item(word([KEEP, DECREMENT])).into()
    }
}

impl ToSchema for TtlSpec {}

impl PartialSchema for SourcePortSpec {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(integer(1, 65535)).item(word([KEEP])).into()
    }
}

impl ToSchema for SourcePortSpec {}

impl PartialSchema for DscpSpec {
    fn schema() -> RefOr<Schema> {
        let pattern = "^([0-9]|[1-5][0-9]|6[0-3]|\\*)$";
        let names = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).pattern(Some(pattern));
        let table = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Object))
            .property_names(Some(names))
            .min_properties(Some(1))
            .max_properties(Some(CodePointMap::MOST + 1))
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(integer(0, 63).into()))));
        OneOfBuilder::new().item(integer(0, 63)).item(word([KEEP])).item(table).into()
    }
}

impl ToSchema for DscpSpec {}

/// Enough of a text to recognise it.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
