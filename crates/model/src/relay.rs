//! A relay: one input, one or more outputs, every value checked.

use std::fmt;
use std::net::IpAddr;

use mcr_wire::{Oversize, VlanId};

use crate::address::{Port, Priority, Target};
use crate::cap::RateCaps;
use crate::datapath::DatapathChoice;
use crate::header::{DscpRule, SourceRule, TtlRule};
use crate::joining::Joining;
use crate::name::{InterfaceName, RelayName};
use crate::place::{Place, Rivalry};
use crate::prefix::{Prefix, common, is_covered, meet, outermost};
use crate::problem::FieldError;
use crate::span::{Offset, Span};
use crate::vlan;
use crate::watch::Watch;

/// Where a relay listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Input {
    /// The interface that the packets arrive on.
    pub interface: InterfaceName,
    /// The group (joined) or unicast address that they are sent to; of several the first.
    pub target: Target,
    /// The UDP port that they are sent to; of several the first.
    pub port: Port,
    /// How many groups and ports there are.
    pub span: Span,
    /// The only sources that are relayed, none within another; empty: any source.
    pub sources: Vec<Prefix>,
    /// Sources that are not relayed, where any other is; none within another.
    pub excluded: Vec<Prefix>,
    /// The 802.1Q tag that the frames carry on `interface`; `None`: untagged frames only.
    pub vlan: Option<VlanId>,
}

/// Where a copy of each packet goes, and what it looks like there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Output {
    /// The interface that the copy leaves on.
    pub interface: InterfaceName,
    /// The group or host that it is sent to; of several the first.
    pub target: Target,
    /// The UDP port that it is sent to; of several the first.
    pub port: Port,
    /// How many groups and ports there are: as many as at the input, each for its own, or one for all.
    pub span: Span,
    /// Its source address, of the target's family.
    pub source: SourceRule,
    /// Its source port; `None`: as it arrived.
    pub source_port: Option<Port>,
    /// Its time to live or hop limit.
    pub ttl: TtlRule,
    /// Its code point.
    pub dscp: DscpRule,
    /// The 802.1Q tag that it leaves with; `None`: untagged.
    pub vlan: Option<VlanId>,
    /// The priority in that tag; `None`: as it arrived.
    pub priority: Option<Priority>,
    /// What becomes of copies that are larger than the interface's MTU.
    pub oversize: Oversize,
    /// How much of what arrives it sends.
    pub caps: RateCaps,
}

/// One named rule. It is valid on its own: no output feeds its own input, none is named twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    name: RelayName,
    input: Input,
    outputs: Vec<Output>,
    scope: Scope,
    datapath: Option<DatapathChoice>,
    watch: Watch,
    caps: RateCaps,
    joining: Joining,
}

/// Which special addresses and ports a relay was explicitly allowed to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// 224.0.0.0/24 and ff02::/16 may be an input or output.
    pub link_local: bool,
    /// Ports 319 and 320 may be.
    pub ptp: bool,
    /// 255.255.255.255 may be an input.
    pub broadcast: bool,
}

impl Relay {
    /// The most outputs that one relay may have.
    pub const MAX_OUTPUTS: usize = 64;

    /// A relay, when its parts fit together.
    ///
    /// # Errors
    /// Every field that does not fit, not only the first.
    pub fn new(name: RelayName, input: Input, outputs: Vec<Output>, scope: Scope) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        errors.extend(check_scope(scope, "input", &input.place()));
        for (i, output) in outputs.iter().enumerate() {
            errors.extend(check_scope(scope, &format!("output[{i}]"), &output.place()));
        }
        errors.extend(check_spans(&input, &outputs));
        errors.extend(check_families(&input, &outputs));
        errors.extend(check_joined(&input));
        errors.extend(check_outputs(&input, &outputs));
        if errors.is_empty() {
            let (watch, caps, joining) = Default::default();
            Ok(Self { name, input, outputs, scope, datapath: None, watch, caps, joining })
        } else {
            Err(errors)
        }
    }

    /// The same relay, with what is to move its packets; `None`: as the daemon's configuration says.
    #[must_use]
    pub fn moved_by(self, datapath: Option<DatapathChoice>) -> Self {
        Self { datapath, ..self }
    }

    /// The same relay, with other expectations of its flow.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// The same relay, which takes no more than that.
    #[must_use]
    pub fn capped(self, caps: RateCaps) -> Self {
        Self { caps, ..self }
    }

    /// The same relay, whose groups are joined then.
    #[must_use]
    pub(crate) fn joined(self, joining: Joining) -> Self {
        Self { joining, ..self }
    }

    /// Whether both do the same to each packet: they may differ in what moves it, in what is expected of the flow, and in when
    /// its groups are joined.
    pub fn relays_as(&self, other: &Self) -> bool {
        let Self { name, input, outputs, scope, datapath: _, watch: _, joining: _, caps } = self;
        (name, input, outputs, scope, caps) == (&other.name, &other.input, &other.outputs, &other.scope, &other.caps)
    }

    /// Its id.
    pub fn name(&self) -> &RelayName {
        &self.name
    }

    /// Where it listens.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Where its copies go; never empty.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// What is to move its packets; `None`: as the daemon's configuration says.
    pub fn datapath(&self) -> Option<DatapathChoice> {
        self.datapath
    }

    /// What is expected of its flow.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// How much it takes, all outputs together.
    pub fn caps(&self) -> RateCaps {
        self.caps
    }

    /// When its groups are joined.
    pub fn joining(&self) -> Joining {
        self.joining
    }

    /// What it was explicitly allowed.
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

impl Input {
    /// The group or address, or the prefix of groups, as a user writes it.
    pub fn group(&self) -> String {
        self.span.group_text(self.target)
    }

    /// Whether packets of that source are relayed.
    pub fn accepts(&self, source: IpAddr) -> bool {
        let lists = |list: &[Prefix]| list.iter().any(|prefix| prefix.contains(source));
        (self.sources.is_empty() || lists(&self.sources)) && !lists(&self.excluded)
    }

    /// Whether packets of some source in `range` are relayed.
    pub fn accepts_some_of(&self, range: Prefix) -> bool {
        common(&[range], &self.sources).iter().any(|part| !is_covered(part, &self.excluded))
    }

    /// Whether there may be a source that both accept.
    pub fn shares_sources(&self, other: &Self) -> bool {
        if self.sources.is_empty() && other.sources.is_empty() {
            return true;
        }
        let excluded = outermost([&self.excluded[..], &other.excluded].concat());
        common(&self.sources, &other.sources).iter().any(|part| !is_covered(part, &excluded))
    }

    /// Whether it accepts every source that `other` accepts.
    pub fn accepts_all_of(&self, other: &Self) -> bool {
        let accepts_all = |range: &Prefix| {
            (self.sources.is_empty() || is_covered(range, &self.sources))
                && !self.excluded.iter().any(|excluded| meet(range, excluded).is_some())
        };
        match &other.sources[..] {
            [] => self.sources.is_empty() && self.excluded.iter().all(|prefix| is_covered(prefix, &other.excluded)),
            listed => listed.iter().all(|range| is_covered(range, &other.excluded) || accepts_all(range)),
        }
    }

    /// The sources that its group is joined for (RFC 4607); empty: any source, as where prefixes are among those that are relayed,
    /// which no membership can name.
    pub fn joined_sources(&self) -> Vec<IpAddr> {
        if self.sources.iter().all(Prefix::is_host) { self.single_sources().collect() } else { Vec::new() }
    }

    /// The sources that are named by themselves.
    pub fn single_sources(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().filter(|source| source.is_host()).map(Prefix::first)
    }

    /// Whether what both take is the other's, which names it more exactly.
    pub fn yields_to(&self, other: &Self) -> bool {
        self.place().rivalry(&other.place()) == Rivalry::Yields && self.shares_sources(other)
    }

    /// The place that this input takes packets from.
    pub fn place(&self) -> Place {
        Place {
            interface: self.interface.clone(),
            vlan: self.vlan,
            target: self.target,
            port: self.port,
            span: self.span,
        }
    }
}

impl Output {
    /// The group or host, or the prefix of groups, as a user writes it.
    pub fn group(&self) -> String {
        self.span.group_text(self.target)
    }

    /// Where it sends what came to the group and port of the input at this offset.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Self {
        let Offset { group, port } = self.span.of(offset);
        Self { target: self.target.after(group), port: self.port.after(port), span: Span::ONE, ..self.clone() }
    }

    /// The place that this output sends packets to.
    pub fn place(&self) -> Place {
        Place {
            interface: self.interface.clone(),
            vlan: self.vlan,
            target: self.target,
            port: self.port,
            span: self.span,
        }
    }
}

fn check_scope(scope: Scope, part: &str, place: &Place) -> Vec<FieldError> {
    let Place { target, port, span, .. } = *place;
    let mut errors = Vec::new();
    if target.is_link_local_group() && !scope.link_local {
        let (range, instead) = match target.ip() {
            IpAddr::V4(_) => ("in 224.0.0.0/24", "in 239.0.0.0/8"),
            IpAddr::V6(_) => ("of link-local scope", "of a wider scope, as ff35::1"),
        };
        errors.push(FieldError::new(
            format!("{part}.group"),
            format!("{target} is {range}, the link-local groups that routing protocols and discovery use and no router forwards"),
            format!("use a group {instead}, or set link_local = true (--link-local) if it must cross"),
        ));
    }
    if target.is_broadcast() && !scope.broadcast {
        errors.push(FieldError::new(
            format!("{part}.address"),
            format!("{target} is what every host of a network takes, this one included: DHCP and discovery use it"),
            "set broadcast = true (--broadcast) if that is meant",
        ));
    }
    let ptp = Port::PTP.into_iter().find(|ptp| (port.get()..=span.last_port(port.get())).contains(ptp));
    if let (Some(port), false) = (ptp, scope.ptp) {
        errors.push(FieldError::new(
            format!("{part}.port"),
            format!("port {port} is PTP: a relay delays its packets by a varying time and would falsify the clock"),
            "use a boundary clock, or set allow_ptp = true (--allow-ptp) if the time does not matter",
        ));
    }
    errors
}

/// A source is of the family of what it sends to.
fn check_families(input: &Input, outputs: &[Output]) -> Vec<FieldError> {
    let prefixes = |field: &'static str, list: &[Prefix]| {
        let named = |(i, source): (usize, &Prefix)| (format!("input.{field}[{i}]"), source.first(), input.target);
        list.iter().enumerate().map(named).collect::<Vec<_>>()
    };
    let of_input = prefixes("sources", &input.sources).into_iter().chain(prefixes("exclude_sources", &input.excluded));
    // What is kept is of the input's family.
    let source = |output: &Output| match output.source {
        SourceRule::OfInterface => None,
        SourceRule::Set(source) | SourceRule::Own(source) => Some(source),
        SourceRule::Keep => Some(input.target.ip()),
    };
    let of_outputs = outputs
        .iter()
        .enumerate()
        .filter_map(|(i, output)| Some((format!("output[{i}].source"), source(output)?, output.target)));
    let differ = of_input.chain(of_outputs).filter(|(_, source, target)| source.is_ipv4() != target.ip().is_ipv4());
    let error = |(field, source, target): (String, IpAddr, Target)| {
        let family = if target.ip().is_ipv4() { "an IPv4" } else { "an IPv6" };
        FieldError::new(
            field,
            format!("{source} can not send to {target}: they are of different IP families"),
            format!("write {family} address, or leave it out"),
        )
    };
    differ.map(error).collect()
}

/// Groups for source-specific multicast are joined for single sources or not at all.
fn check_joined(input: &Input) -> Option<FieldError> {
    let (at, prefix) = input.sources.iter().enumerate().find(|(_, source)| !source.is_host())?;
    input.target.is_source_specific().then(|| {
        FieldError::new(
            format!("input.sources[{at}]"),
            format!(
                "{} is a group for single sources (RFC 4607): it can not be joined for all of {prefix}",
                input.group()
            ),
            "list the sources one by one, or use a group outside of 232.0.0.0/8 and ff3x::/32",
        )
    })
}

/// There is a bound, and each output has as many groups and ports as the input, or one for all.
fn check_spans(input: &Input, outputs: &[Output]) -> Vec<FieldError> {
    let taken = input.span;
    if taken.pairs() > Span::MOST_PAIRS.into() {
        let most = Span::MOST_PAIRS;
        let (groups, ports, pairs) = (taken.groups(), taken.ports(), taken.pairs());
        let what = format!("it takes {groups} groups × {ports} ports: {pairs} pairs, and a relay may take {most}");
        return vec![FieldError::new(
            "input",
            what,
            "use a longer prefix or fewer ports, and several relays if need be",
        )];
    }
    let mut errors = Vec::new();
    for (i, output) in outputs.iter().enumerate() {
        let (groups, ports) = (output.span.groups(), output.span.ports());
        if groups != 1 && groups != taken.groups() {
            let what = format!("{} has {groups} groups, and the input has {}", output.group(), taken.groups());
            let remedy = match taken.prefix_length(output.target.ip()) {
                None => "write one group".to_owned(),
                Some(length) => format!("write a prefix of length {length}, or one group for all"),
            };
            errors.push(FieldError::new(format!("output[{i}].group"), what, remedy));
        }
        if ports != 1 && ports != taken.ports() {
            let what = format!("it has {ports} ports, and the input has {}", taken.ports());
            let remedy = match taken.ports() {
                1 => "write one port".to_owned(),
                many => format!("write {many} ports, or one port for all"),
            };
            errors.push(FieldError::new(format!("output[{i}].port"), what, remedy));
        }
    }
    errors
}

fn check_outputs(input: &Input, outputs: &[Output]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if outputs.is_empty() {
        errors.push(FieldError::new("output", "a relay needs at least one output", "add one"));
    }
    if outputs.len() > Relay::MAX_OUTPUTS {
        errors.push(FieldError::new(
            "output",
            format!("{} outputs are more than the {} that a relay may have", outputs.len(), Relay::MAX_OUTPUTS),
            "spread them over several relays with the same input",
        ));
    }
    for (i, output) in outputs.iter().enumerate() {
        if output.place().meets(&input.place()) {
            errors.push(FieldError::new(
                format!("output[{i}]"),
                format!("it sends to {output}, which is the relay's own input"),
                "send to another interface, group or port",
            ));
        }
        if let Some(first) = outputs[..i].iter().position(|earlier| earlier.place().meets(&output.place())) {
            errors.push(FieldError::new(
                format!("output[{i}]"),
                format!("it sends to {output}, as output[{first}] does: receivers would get each packet twice"),
                "remove one of the two",
            ));
        }
    }
    errors
}

/// A source as it stands before a group: IPv6 in brackets.
struct Bracketed(Prefix);

impl fmt::Display for Bracketed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            IpAddr::V4(_) => self.0.fmt(f),
            IpAddr::V6(_) => write!(f, "[{}]", self.0),
        }
    }
}

impl fmt::Display for Input {
    /// Endpoint text, as a person types it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.interface)?;
        if let [only] = self.sources[..] {
            write!(f, "{}@", Bracketed(only))?;
        }
        self.span.write_address(self.target.ip(), f)?;
        f.write_str(":")?;
        self.span.write_port(self.port, f)?;
        if self.sources.len() > 1 {
            self.sources.iter().try_for_each(|source| write!(f, ",source={source}"))?;
        }
        self.excluded.iter().try_for_each(|source| write!(f, ",exclude={source}"))?;
        vlan::write_options(self.vlan, f)
    }
}

impl fmt::Display for Output {
    /// Endpoint text without the options that do not decide where the copy goes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.interface)?;
        self.span.write_address(self.target.ip(), f)?;
        f.write_str(":")?;
        self.span.write_port(self.port, f)?;
        vlan::write_options(self.vlan, f)
    }
}
