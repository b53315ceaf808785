//! What a user writes, before it is checked: the TOML and JSON form of a relay and of a configuration file.
//!
//! These types accept anything that has the right shape; [`RelaySpec::check`] is the one door to a [`Relay`].

use mcr_wire::Oversize;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::address::{Priority, Target, ValueError, parse_ip};
use crate::breaker::{Breaker, BreakerSpec};
use crate::cap::RateCaps;
use crate::datapath::DatapathChoice;
use crate::header::{DscpRule, DscpSpec, SourcePortSpec, SourceRule, TtlRule, TtlSpec};
use crate::joining::Joining;
use crate::name::InterfaceName;
use crate::prefix::{Prefix, PrefixError};
use crate::problem::FieldError;
use crate::querier::QuerierSpec;
use crate::relay::{Input, Output, Relay, Scope};
use crate::source;
use crate::span::{PortSpec, Span, parse_groups};
use crate::vlan;
use crate::watch::{ExpectSpec, Watch};

/// A configuration file: relays, and where the daemon talks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigSpec {
    /// What moves the packets of relays that do not say: `auto`, `xdp`, `tcx` or `packet`; none: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<String>,
    /// The relays of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay: Vec<RelaySpec>,
}

/// A relay as a user writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelaySpec {
    /// Its id: `[a-z0-9][a-z0-9._-]{0,62}`.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$", example = "camera-3")]
    pub name: String,
    /// Where it listens.
    pub input: InputSpec,
    /// Where its copies go.
    #[schema(min_items = 1, max_items = 64)]
    pub output: Vec<OutputSpec>,
    /// What moves its packets: `auto`, `xdp`, `tcx` or `packet`; none: what the daemon's configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<String>,
    /// Allow 224.0.0.0/24 and ff02::/16.
    #[serde(default, skip_serializing_if = "is_false")]
    pub link_local: bool,
    /// Allow 255.255.255.255 as an input.
    #[serde(default, skip_serializing_if = "is_false")]
    pub broadcast: bool,
    /// Join the input's groups only while a receiver wants what the outputs send.
    #[serde(default, skip_serializing_if = "is_false")]
    pub on_demand: bool,
    /// Which groups of a range are joined: `all`, or those that are `seen` on the input; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "seen")]
    pub join: Option<String>,
    /// Allow ports 319 and 320.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_ptp: bool,
    /// After this long without a packet the flow is silent, as `500ms`; none: `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_after: Option<String>,
    /// The bit rates that are as they should be; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectSpec>,
    /// What takes the relay out of the way of a storm; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSpec>,
    /// What is expected of the querier on the network of its input; none: one query in 260 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub querier: Option<QuerierSpec>,
    /// More packets than so many a second are dropped as `rate_limited`; none: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000i64)]
    pub max_packets_per_second: Option<i64>,
    /// The same for the bits of their IP packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 1_000_000_000_000i64)]
    pub max_bits_per_second: Option<i64>,
}

/// An input as a user writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The interface that the packets arrive on.
    #[schema(min_length = 1, max_length = 15, example = "eth0")]
    pub interface: String,
    /// The multicast group that they are sent to, or the prefix of several as `239.1.0.0/24`; this or `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "239.1.1.1")]
    pub group: Option<String>,
    /// The unicast address that they are sent to; this or `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The UDP port that they are sent to, or several as `5000-5010`.
    #[schema(example = 5001)]
    pub port: PortSpec,
    /// The only sources that are relayed, or prefixes of them; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["192.168.168.55", "10.1.0.0/24"]))]
    pub sources: Vec<String>,
    /// Sources that are not relayed, or prefixes of them, where any other is; not with `sources`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_sources: Vec<String>,
    /// The 802.1Q tag of the frames, 1 to 4094; none: untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4094)]
    pub vlan: Option<i64>,
    /// The tag around that one, where frames have two; none: they have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4094)]
    pub outer_vlan: Option<i64>,
}

/// An output as a user writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The interface that the copy leaves on.
    #[schema(min_length = 1, max_length = 15, example = "eth1")]
    pub interface: String,
    /// The multicast group that it is sent to, or the prefix of as many as the input has, as `239.2.0.0/24`; this or
    /// `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "239.2.2.2")]
    pub group: Option<String>,
    /// The host that it is sent to; this or `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The UDP port that it is sent to, or as many as the input has, as `6000-6010`.
    #[schema(example = 6001)]
    pub port: PortSpec,
    /// Its source address, or `keep` for the one that it arrived with; none: an address of the interface that fits the
    /// destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10.1.0.1")]
    pub source: Option<String>,
    /// Add that source to the interface for as long as the relay is in force: the host answers ARP and neighbour discovery for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub own_source: bool,
    /// Its source port, or `keep` for the one that it arrived with; none: that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 6000)]
    pub source_port: Option<SourcePortSpec>,
    /// Its time to live or hop limit: 1 to 255, `keep` (as it arrived) or `decrement` (one less); none: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 16)]
    pub ttl: Option<TtlSpec>,
    /// Its code point: 0 to 63, `keep` (as it arrived), or what some become, as `{"46": 34, "*": 0}`; none: as it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 34)]
    pub dscp: Option<DscpSpec>,
    /// The 802.1Q tag that it leaves with, 1 to 4094; none: untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4094)]
    pub vlan: Option<i64>,
    /// The 802.1ad tag around that one; none: there is one at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4094)]
    pub outer_vlan: Option<i64>,
    /// The priority in that tag, 0 to 7; none: as it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 7)]
    pub priority: Option<i64>,
    /// What is larger than the interface's MTU leaves in fragments; else it is dropped as `too_big`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fragment: bool,
    /// More packets than so many a second are dropped as `rate_limited`; none: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000i64)]
    pub max_packets_per_second: Option<i64>,
    /// The same for the bits of their IP packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 1_000_000_000_000i64)]
    pub max_bits_per_second: Option<i64>,
}

impl RelaySpec {
    /// The checked relay.
    ///
    /// # Errors
    /// Every field that is wrong, in the order of the fields.
    pub fn check(&self) -> Result<Relay, Vec<FieldError>> {
        let Self {
            name,
            input,
            output,
            datapath,
            link_local,
            broadcast,
            on_demand,
            join,
            allow_ptp,
            silent_after,
            expect,
            breaker,
            querier,
            max_packets_per_second,
            max_bits_per_second,
        } = self;
        let mut errors = Errors::default();
        let name = errors.take("name", name.parse(), "");
        let input = errors.absorb(input.check("input"));
        let outputs: Vec<Option<Output>> =
            output.iter().enumerate().map(|(i, spec)| errors.absorb(spec.check(&format!("output[{i}]")))).collect();
        let datapath = errors.absorb(check_datapath("datapath", datapath.as_deref()));
        let scope = Scope { link_local: *link_local, ptp: *allow_ptp, broadcast: *broadcast };
        let watch = errors.absorb(Watch::check(silent_after.as_deref(), expect.as_ref()));
        let breaker = breaker.as_ref().and_then(|breaker| errors.absorb(breaker.check()));
        let querier = querier.as_ref().map_or_else(|| Some(Default::default()), |spec| errors.absorb(spec.check()));
        let watch = watch.zip(querier).map(|(watch, querier)| watch.with_breaker(breaker).with_querier(querier));
        let caps = errors.absorb(RateCaps::check("", *max_packets_per_second, *max_bits_per_second));
        match (name, input, outputs.into_iter().collect::<Option<Vec<_>>>(), datapath, watch, caps) {
            (Some(name), Some(input), Some(outputs), Some(datapath), Some(watch), Some(caps))
                if errors.0.is_empty() =>
            {
                let joining = Joining::check(*on_demand, join.as_deref(), &input, &outputs);
                match (Relay::new(name, input, outputs, scope), joining) {
                    (Ok(relay), Ok(joining)) => {
                        Ok(relay.moved_by(datapath).watched(watch).capped(caps).joined(joining))
                    }
                    (relay, joining) => Err(relay.err().into_iter().chain(joining.err()).flatten().collect()),
                }
            }
            _ => Err(errors.0),
        }
    }
}

impl InputSpec {
    /// The checked input; `part` is where it stands in the relay.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(&self, part: &str) -> Result<Input, Vec<FieldError>> {
        let Self { interface, group, address, port, sources, exclude_sources, vlan, outer_vlan } = self;
        let mut errors = Errors::default();
        let field = |name: &str| format!("{part}.{name}");
        let interface = errors.take(field("interface"), interface.parse::<InterfaceName>(), "");
        let target = errors.absorb(check_input_target(part, group.as_deref(), address.as_deref()));
        let port = errors.keep(port.check(field("port")));
        let checked = errors.absorb(source::check(&field("sources"), sources));
        let excluded = errors.absorb(source::check(&field("exclude_sources"), exclude_sources));
        if !sources.is_empty() && !exclude_sources.is_empty() {
            let remedy = "keep one of the two: nobody but those in sources is relayed anyway";
            errors.0.push(FieldError::new(field("exclude_sources"), "it has both sources and exclude_sources", remedy));
        }
        if let (Some(interface), Some(sources)) = (&interface, &checked) {
            errors.0.extend(source::check_loopback(&field("sources"), sources, interface));
        }
        let vlan = errors.absorb(vlan::check(part, *vlan, *outer_vlan));
        match (interface, target, port, checked, excluded, vlan) {
            (
                Some(interface),
                Some((target, group_bits)),
                Some((port, ports)),
                Some(sources),
                Some(excluded),
                Some(vlan),
            ) if errors.0.is_empty() => {
                let span = Span::new(group_bits, ports);
                Ok(Input { interface, target, port, span, sources, excluded, vlan })
            }
            _ => Err(errors.0),
        }
    }
}

impl OutputSpec {
    /// The checked output; `part` is where it stands in the relay.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(&self, part: &str) -> Result<Output, Vec<FieldError>> {
        let Self { interface, group, address, port, source, source_port, ttl, dscp, vlan, outer_vlan, .. } = self;
        let Self { own_source, priority, fragment, max_packets_per_second, max_bits_per_second, .. } = self;
        let mut errors = Errors::default();
        let field = |name: &str| format!("{part}.{name}");
        let interface = errors.take(field("interface"), interface.parse::<InterfaceName>(), "");
        let target = errors.absorb(check_target(part, group.as_deref(), address.as_deref()));
        let port = errors.keep(port.check(field("port")));
        let mut source = errors.keep(SourceRule::check(field("source"), source.as_deref()));
        if *own_source {
            source = source.and_then(|source| errors.keep(source.owned(field("own_source"))));
        }
        let kept = Ok(None);
        let source_port = source_port.as_ref().map_or(kept, |spec| spec.check(field("source_port")));
        let source_port = errors.keep(source_port);
        let ttl = errors.keep(TtlRule::check(field("ttl"), ttl.as_ref()));
        let dscp = errors.keep(DscpRule::check(field("dscp"), dscp.as_ref()));
        let vlan = errors.absorb(vlan::check(part, *vlan, *outer_vlan));
        let priority = errors.optional(field("priority"), *priority, Priority::try_from, "use 0 to 7");
        if priority.flatten().is_some() && vlan == Some(None) {
            let remedy = "add vlan, or leave priority out";
            errors.0.push(FieldError::new(field("priority"), "a priority stands in a tag, and none is sent", remedy));
        }
        if *own_source && matches!(vlan, Some(Some(_))) {
            let remedy = "name the VLAN's own interface as the output's, without vlan, or leave own_source out";
            let message =
                "the host answers for its addresses on the interface, not behind a tag that the output pushes itself";
            errors.0.push(FieldError::new(field("own_source"), message, remedy));
        }
        let caps = RateCaps::check(&field(""), *max_packets_per_second, *max_bits_per_second);
        let caps = errors.absorb(caps);
        match (interface, target, port, source, source_port, ttl, dscp, (vlan, priority), caps) {
            (
                Some(interface),
                Some((target, group_bits)),
                Some((port, ports)),
                Some(source),
                Some(source_port),
                Some(ttl),
                Some(dscp),
                (Some(vlan), Some(priority)),
                Some(caps),
            ) if errors.0.is_empty() => {
                let span = Span::new(group_bits, ports);
                let oversize = if *fragment { Oversize::Fragment } else { Oversize::Drop };
                Ok(Output {
                    interface,
                    target,
                    port,
                    span,
                    source,
                    source_port,
                    ttl,
                    dscp,
                    vlan,
                    priority,
                    oversize,
                    caps,
                })
            }
            _ => Err(errors.0),
        }
    }
}

impl From<&Relay> for RelaySpec {
    fn from(relay: &Relay) -> Self {
        let Scope { link_local, ptp, broadcast } = relay.scope();
        let (silent_after, expect) = relay.watch().spec();
        let (max_packets_per_second, max_bits_per_second) = relay.caps().spec();
        Self {
            name: relay.name().to_string(),
            input: relay.input().into(),
            output: relay.outputs().iter().map(OutputSpec::from).collect(),
            datapath: relay.datapath().map(|choice| choice.to_string()),
            link_local,
            broadcast,
            on_demand: relay.joining().is_on_demand(),
            join: relay.joining().word(),
            allow_ptp: ptp,
            silent_after,
            expect,
            breaker: relay.watch().breaker().map(Breaker::spec),
            querier: relay.watch().querier().spec(),
            max_packets_per_second,
            max_bits_per_second,
        }
    }
}

impl From<&Input> for InputSpec {
    fn from(input: &Input) -> Self {
        let Input { interface, target, port, span, sources, excluded, vlan } = input;
        let (vlan, outer_vlan) = vlan::spec(*vlan);
        let (group, address) = group_or_address(*target, *span);
        Self {
            interface: interface.to_string(),
            group,
            address,
            port: span.port_spec(*port),
            sources: sources.iter().map(Prefix::to_string).collect(),
            exclude_sources: excluded.iter().map(Prefix::to_string).collect(),
            vlan,
            outer_vlan,
        }
    }
}

impl From<&Output> for OutputSpec {
    fn from(output: &Output) -> Self {
        let Output { interface, target, port, span, source, source_port, ttl, dscp, vlan, .. } = output;
        let Output { priority, oversize, caps, .. } = output;
        let (vlan, outer_vlan) = vlan::spec(*vlan);
        let (max_packets_per_second, max_bits_per_second) = caps.spec();
        let (group, address) = group_or_address(*target, *span);
        Self {
            interface: interface.to_string(),
            group,
            address,
            port: span.port_spec(*port),
            source: source.spec(),
            own_source: source.is_own(),
            source_port: source_port.map(|port| SourcePortSpec::Number(port.get().into())),
            ttl: Some(ttl.spec()),
            dscp: dscp.spec(),
            vlan,
            outer_vlan,
            priority: priority.map(|priority| priority.get().into()),
            fragment: *oversize == Oversize::Fragment,
            max_packets_per_second,
            max_bits_per_second,
        }
    }
}

const GROUP_WANTED: &str =
    "groups are 224.0.0.0 to 239.255.255.255 and ff00::/8; for local use take one in 239.0.0.0/8 or ff35::/16";

/// The choice that a text means; `None` when there is none.
///
/// # Errors
/// A word that is no datapath.
pub fn check_datapath(field: &str, given: Option<&str>) -> Result<Option<DatapathChoice>, Vec<FieldError>> {
    let parsed = given.map(str::parse::<DatapathChoice>).transpose();
    parsed.map_err(|error| vec![FieldError::new(field, error.to_string(), DatapathChoice::WANTED)])
}

/// An input may be the limited broadcast address, too.
fn check_input_target(part: &str, group: Option<&str>, address: Option<&str>) -> Result<(Target, u8), Vec<FieldError>> {
    match (group, address.map(|address| parse_ip(address).and_then(Target::broadcast))) {
        (None, Some(Ok(broadcast))) => Ok((broadcast, 0)),
        _ => check_target(part, group, address),
    }
}

/// The group, the first of several, or the host; and how many groups there are, as a power of two.
fn check_target(part: &str, group: Option<&str>, address: Option<&str>) -> Result<(Target, u8), Vec<FieldError>> {
    let field = |name: &str| format!("{part}.{name}");
    let one = |error: FieldError| Err(vec![error]);
    match (group, address) {
        (Some(group), None) => check_groups(field("group"), group).map_err(|error| vec![error]),
        (None, Some(address)) => match parse_ip(address).and_then(Target::unicast) {
            Ok(target) => Ok((target, 0)),
            Err(ValueError::NotAnAddress { .. }) if address.parse::<Prefix>().is_ok() => one(FieldError::new(
                field("address"),
                format!("{address:?} is a prefix, and hosts have none here"),
                "write one host; a prefix is for groups, as group = \"239.1.0.0/24\"",
            )),
            Err(error) => one(FieldError::new(
                field("address"),
                error.to_string(),
                error.remedy("write a host's address; for a multicast group write group = \"…\""),
            )),
        },
        (None, None) => one(FieldError::new(
            part,
            "it has no destination",
            "write group = \"239.…\" for multicast or address = \"…\" for one host",
        )),
        (Some(_), Some(_)) => one(FieldError::new(
            field("address"),
            "it has both a group and an address",
            "keep one of the two, and use a second relay or output for the other",
        )),
    }
}

fn check_groups(field: String, group: &str) -> Result<(Target, u8), FieldError> {
    let (what, remedy) = match parse_groups(group) {
        Ok(groups) => return Ok(groups),
        Err(Err(error @ PrefixError::HostBits { .. })) => {
            (error.to_string(), "write the prefix with its first group".to_owned())
        }
        Err(Err(error @ PrefixError::Shape { .. })) => {
            (error.to_string(), "write a prefix of groups as 239.1.0.0/24 or ff35::/120".to_owned())
        }
        Err(Ok(error @ ValueError::NotMulticast { .. })) if group.contains('/') => {
            (error.to_string(), GROUP_WANTED.to_owned())
        }
        Err(Ok(error @ ValueError::NotMulticast { .. })) => {
            (error.to_string(), format!("{GROUP_WANTED}; for one host write address = {group:?}"))
        }
        Err(Ok(error @ ValueError::NeverOnWire { .. })) => {
            (error.to_string(), "use a group of a wider scope, as ff35::1".to_owned())
        }
        Err(Ok(error)) => (error.to_string(), error.remedy(GROUP_WANTED)),
    };
    Err(FieldError::new(field, what, remedy))
}

fn group_or_address(target: Target, span: Span) -> (Option<String>, Option<String>) {
    let text = Some(span.group_text(target));
    if target.is_group() { (text, None) } else { (None, text) }
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Collects what is wrong while the checking goes on, so that a user sees every mistake at once.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn take<T, E: std::fmt::Display>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
        remedy: &str,
    ) -> Option<T> {
        result.map_err(|error| self.0.push(FieldError::new(field, error.to_string(), remedy))).ok()
    }

    /// `Some(None)` when nothing was given, `None` when what was given is wrong.
    fn optional<G, T>(
        &mut self,
        field: String,
        given: Option<G>,
        check: impl Fn(G) -> Result<T, ValueError>,
        remedy: &str,
    ) -> Option<Option<T>> {
        match given {
            None => Some(None),
            Some(given) => self.take(field, check(given), remedy).map(Some),
        }
    }

    fn keep<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    fn absorb<T>(&mut self, result: Result<T, Vec<FieldError>>) -> Option<T> {
        result.map_err(|errors| self.0.extend(errors)).ok()
    }
}
