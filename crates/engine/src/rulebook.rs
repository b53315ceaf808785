//! Whether a relay fits beside the others: no name twice, no output fed twice from one input, no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_model::header::SourceRule;
use mcr_model::place::Rivalry;
use mcr_model::relay::{Input, Output, Relay};
use mcr_model::span::Offset;
use mcr_model::status::SharedPairs;
use mcr_model::{InterfaceName, Place, Prefix, RelayName, VlanId};

/// Why a change to the set of relays was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A relay of that name exists.
    #[error("there is already a relay {name}; choose another name, or replace it (`mcr add --replace`, or PUT)")]
    Exists {
        /// The name.
        name: RelayName,
    },
    /// No relay has that name.
    #[error("there is no relay {name}; `mcr list` shows those there are")]
    NotFound {
        /// The name.
        name: RelayName,
    },
    /// The relay belongs to the configuration file.
    #[error("relay {name} belongs to the configuration file {file}; change it there and reload, or use another name")]
    OwnedByFile {
        /// The name.
        name: RelayName,
        /// The file.
        file: String,
    },
    /// The file defines a relay that the API made.
    #[error(
        "relay {name} was made through the API; rename the one in the file, or remove the other with `mcr rm {name}`"
    )]
    OwnedByApi {
        /// The name.
        name: RelayName,
    },
    /// The relay of that name is none of the caller's business.
    #[error("the name {name} is that of a relay outside of what this access is limited to; choose another")]
    Foreign {
        /// The name.
        name: RelayName,
    },
    /// The relay is not the one that the change is meant for.
    #[error(
        "relay {name} is not what `If-Match` asks for: somebody changed or removed it since; look at it \
         (GET /api/v1/relays/{name}), then try again"
    )]
    Superseded {
        /// The name.
        name: RelayName,
    },
    /// There is such a relay, where the change is meant for a name that is free.
    #[error(
        "there is already a relay {name}, and `If-None-Match: *` asks for none; look at it (GET /api/v1/relays/{name}), \
         or leave the header out"
    )]
    Unexpected {
        /// The name.
        name: RelayName,
    },
    /// The relay has no lease to renew.
    #[error("relay {name} has no lease and lives for good; PUT it with a lease to give it one, or leave it alone")]
    NoLease {
        /// The name.
        name: RelayName,
    },
    /// Another relay feeds the same output from the same input.
    #[error(
        "relay {name} sends {input} to {output}, which relay {other} does already: receivers would get each packet twice; remove one of the two outputs"
    )]
    AlreadyFed {
        /// The refused relay.
        name: RelayName,
        /// The relay that feeds it.
        other: RelayName,
        /// The shared input.
        input: String,
        /// The shared output.
        output: String,
    },
    /// Another relay takes some of the same packets, and neither says more exactly which.
    #[error(
        "relay {name} takes {input} and relay {other} {other_input}: the ports overlap, and neither has the longer prefix or all its ports within the other's; let one lie within the other, or keep them apart"
    )]
    Ambiguous {
        /// The refused relay.
        name: RelayName,
        /// The other one.
        other: RelayName,
        /// What the refused one takes.
        input: String,
        /// What the other takes.
        other_input: String,
    },
    /// One of two relays names packets of the other's more exactly, but not from all of its sources.
    #[error(
        "relay {name} takes {input} and relay {other} {other_input}: relay {exact} names the packets of both more exactly, but does not accept every source that the other does, whose packets would be lost; let relay {exact} accept those, or let the two accept no source in common"
    )]
    FewerSources {
        /// The refused relay.
        name: RelayName,
        /// The other one.
        other: RelayName,
        /// What the refused one takes.
        input: String,
        /// What the other takes.
        other_input: String,
        /// That of the two which names it more exactly.
        exact: RelayName,
    },
    /// The relay would take packets of one that is none of the caller's business.
    #[error(
        "relay {name} takes {input}, which a relay takes outside of what this access is limited to; choose other groups or ports"
    )]
    TakesForeign {
        /// The refused relay.
        name: RelayName,
        /// What it takes.
        input: String,
    },
    /// The relay would close a cycle.
    #[error(
        "relay {name} would close a cycle, in which packets never stop: {path}; break it at one of these relays, or limit an input to its real sources"
    )]
    Cycle {
        /// The refused relay.
        name: RelayName,
        /// The places of the cycle and the relays between them.
        path: String,
    },
}

/// What kind of refusal it is, for the status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The name is taken.
    Exists,
    /// The name is unknown.
    NotFound,
    /// Somebody else owns the relay.
    Owned,
    /// The caller's access is not about the relay.
    Foreign,
    /// The relay is another one by now.
    Superseded,
    /// There is no lease to renew.
    NoLease,
    /// The relay does not fit beside the others.
    Conflict,
}

impl Refusal {
    /// Its kind.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Exists { .. } => RefusalKind::Exists,
            Self::NotFound { .. } => RefusalKind::NotFound,
            Self::OwnedByFile { .. } | Self::OwnedByApi { .. } => RefusalKind::Owned,
            Self::Foreign { .. } | Self::TakesForeign { .. } => RefusalKind::Foreign,
            Self::Superseded { .. } | Self::Unexpected { .. } => RefusalKind::Superseded,
            Self::NoLease { .. } => RefusalKind::NoLease,
            Self::AlreadyFed { .. } | Self::Ambiguous { .. } | Self::FewerSources { .. } | Self::Cycle { .. } => {
                RefusalKind::Conflict
            }
        }
    }

    /// The relay that was refused.
    pub fn name(&self) -> &RelayName {
        match self {
            Self::Exists { name }
            | Self::NotFound { name }
            | Self::OwnedByFile { name, .. }
            | Self::OwnedByApi { name }
            | Self::Foreign { name }
            | Self::Superseded { name }
            | Self::Unexpected { name }
            | Self::NoLease { name }
            | Self::AlreadyFed { name, .. }
            | Self::Ambiguous { name, .. }
            | Self::FewerSources { name, .. }
            | Self::TakesForeign { name, .. }
            | Self::Cycle { name, .. } => name,
        }
    }
}

/// The relays by the places they take from and send to.
#[derive(Debug, Default)]
pub(crate) struct Rulebook {
    wires: BTreeMap<(InterfaceName, Option<VlanId>), Wire>,
}

/// The relays that take from one interface, with one tag.
#[derive(Debug, Default)]
struct Wire {
    /// Those of one group or host and one port, by name. Mostly there is one: a map for each would take ten times the room.
    exact: BTreeMap<(IpAddr, u16), Vec<(RelayName, Rule)>>,
    ranges: BTreeMap<RelayName, Rule>,
}

#[derive(Debug)]
struct Rule {
    input: Input,
    place: Place,
    outputs: Vec<Output>,
}

impl Rulebook {
    /// Adds `relay` if it fits; the book is unchanged when it does not.
    pub(crate) fn admit(&mut self, relay: &Relay) -> Result<(), Refusal> {
        self.check_rivals(relay)?;
        self.check_cycle(relay)?;
        self.restore(relay);
        Ok(())
    }

    /// Puts back a relay that was in the book before.
    pub(crate) fn restore(&mut self, relay: &Relay) {
        let place = relay.input().place();
        let rule = Rule { input: relay.input().clone(), place: place.clone(), outputs: relay.outputs().to_vec() };
        let wire = self.wires.entry((place.interface.clone(), place.vlan)).or_default();
        if !place.span.is_one() {
            wire.ranges.insert(relay.name().clone(), rule);
            return;
        }
        let key = (place.target.ip(), place.port.get());
        let rules = wire.exact.entry(key).or_insert_with(|| Vec::with_capacity(1));
        match rules.binary_search_by(|(name, _)| name.cmp(relay.name())) {
            Ok(known) => rules[known].1 = rule,
            Err(place) => rules.insert(place, (relay.name().clone(), rule)),
        }
    }

    /// Takes `relay` out.
    pub(crate) fn strike(&mut self, relay: &Relay) {
        let Place { interface, vlan, target, port, span } = relay.input().place();
        let (wire_key, key) = ((interface, vlan), (target.ip(), port.get()));
        let Some(wire) = self.wires.get_mut(&wire_key) else { return };
        if !span.is_one() {
            wire.ranges.remove(relay.name());
        } else if let Some(rules) = wire.exact.get_mut(&key) {
            rules.retain(|(name, _)| name != relay.name());
            if rules.is_empty() {
                wire.exact.remove(&key);
            }
        }
        if wire.exact.is_empty() && wire.ranges.is_empty() {
            self.wires.remove(&wire_key);
        }
    }

    /// The relays that take any of a place.
    fn meeting<'b>(&'b self, place: &Place) -> impl Iterator<Item = (&'b RelayName, &'b Rule)> {
        let wire = self.wires.get(&(place.interface.clone(), place.vlan));
        let (first, port) = (place.target.ip(), place.port.get());
        let last = (place.span.last_address(first), place.span.last_port(port));
        wire.into_iter().flat_map(move |wire| {
            let rules = wire.exact.range((first, port)..=last).flat_map(|(_, rules)| rules);
            let exact = rules.map(|(name, rule)| (name, rule));
            exact.chain(&wire.ranges).filter(|(_, rule)| rule.place.meets(place))
        })
    }

    /// Several relays may share an input, but not an output then; and of those that share some of it, it has to be clear
    /// which takes that.
    fn check_rivals(&self, relay: &Relay) -> Result<(), Refusal> {
        let (input, place) = (relay.input(), relay.input().place());
        for (other, rule) in self.meeting(&place) {
            if !rule.input.shares_sources(input) {
                continue;
            }
            match rule.place.rivalry(&place) {
                Rivalry::Apart => {}
                Rivalry::Yields if input.accepts_all_of(&rule.input) => {}
                Rivalry::Wins if rule.input.accepts_all_of(input) => {}
                rivalry @ (Rivalry::Yields | Rivalry::Wins) => {
                    return Err(Refusal::FewerSources {
                        name: relay.name().clone(),
                        other: other.clone(),
                        input: input.to_string(),
                        other_input: rule.input.to_string(),
                        exact: if rivalry == Rivalry::Yields { relay.name().clone() } else { other.clone() },
                    });
                }
                Rivalry::Unclear => {
                    return Err(Refusal::Ambiguous {
                        name: relay.name().clone(),
                        other: other.clone(),
                        input: input.to_string(),
                        other_input: rule.input.to_string(),
                    });
                }
                Rivalry::Same => {
                    if let Some(shared) = rule.outputs.iter().find(|output| is_fed(relay, output)) {
                        return Err(Refusal::AlreadyFed {
                            name: relay.name().clone(),
                            other: other.clone(),
                            input: input.to_string(),
                            output: shared.to_string(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The relays of which `input` takes some packets, as it names them more exactly.
    pub(crate) fn yielding_to<'b>(&'b self, input: &Input) -> impl Iterator<Item = &'b RelayName> {
        let place = input.place();
        let yielding: Vec<_> = self.meeting(&place).filter(|(_, rule)| rule.input.yields_to(input)).collect();
        yielding.into_iter().map(|(name, _)| name)
    }

    /// The pairs of an input that relays take which name them more exactly; in order.
    pub(crate) fn ceded(&self, input: &Input) -> Vec<Offset> {
        let place = input.place();
        let rivals = self.meeting(&place).filter(|(_, rule)| input.yields_to(&rule.input));
        let pairs: BTreeSet<Offset> = rivals.flat_map(|(_, rule)| place.shared_with(&rule.place)).collect();
        pairs.into_iter().collect()
    }

    /// The relays that share packets with one that takes from `input`, with what both name: those that take it, and those that
    /// leave it.
    pub(crate) fn shared(&self, input: &Input) -> (Vec<SharedPairs>, Vec<SharedPairs>) {
        let place = input.place();
        let (mut left_to, mut taken_from) = (Vec::new(), Vec::new());
        for (name, rule) in self.meeting(&place).filter(|(_, rule)| rule.input.shares_sources(input)) {
            let list = match place.rivalry(&rule.place) {
                Rivalry::Yields => &mut left_to,
                Rivalry::Wins => &mut taken_from,
                Rivalry::Apart | Rivalry::Same | Rivalry::Unclear => continue,
            };
            let shared = place.overlap(&rule.place);
            list.extend(shared.map(|shared| SharedPairs {
                relay: name.to_string(),
                what: shared.to_string(),
                pairs: shared.span.pairs() as u64,
            }));
        }
        (left_to, taken_from)
    }

    /// Follows every output of `relay` through the book; a path that comes back to its input is a cycle.
    fn check_cycle(&self, relay: &Relay) -> Result<(), Refusal> {
        let input = relay.input();
        let mut seen = BTreeSet::new();
        let begin = |output| (output, leaving(output, &input.sources), format!("{input} → {output}"));
        let mut paths: Vec<(&Output, Vec<Prefix>, String)> = relay.outputs().iter().map(begin).collect();
        while let Some((output, sources, path)) = paths.pop() {
            let place = output.place();
            if input.place().meets(&place) && any_passes(&sources, input) {
                return Err(Refusal::Cycle { name: relay.name().clone(), path });
            }
            if !seen.insert((place.clone(), sources.clone())) {
                continue;
            }
            for (name, rule) in self.meeting(&place).filter(|(_, rule)| any_passes(&sources, &rule.input)) {
                // Those that were listed on the way here, or else those that are listed here.
                let arriving = if sources.is_empty() { &rule.input.sources } else { &sources };
                let next = |next| (next, leaving(next, arriving), format!("{path} → ({name}) {next}"));
                paths.extend(rule.outputs.iter().map(next));
            }
        }
        Ok(())
    }
}

/// The sources that a copy can have, of packets with these; none named: any. One that is taken from the interface can change.
fn leaving(output: &Output, arriving: &[Prefix]) -> Vec<Prefix> {
    match output.source {
        SourceRule::Set(address) | SourceRule::Own(address) => vec![address.into()],
        SourceRule::Keep => arriving.to_vec(),
        SourceRule::OfInterface => Vec::new(),
    }
}

/// Whether an input accepts packets with one of these sources (none named: with any).
fn any_passes(sources: &[Prefix], input: &Input) -> bool {
    sources.is_empty() || sources.iter().any(|source| input.accepts_some_of(*source))
}

fn is_fed(relay: &Relay, output: &Output) -> bool {
    let place = output.place();
    relay.outputs().iter().any(|wanted| wanted.place().meets(&place))
}

#[cfg(test)]
mod tests {
    use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

    use super::*;

    fn relay(name: &str, from: &str, to: &[&str]) -> Relay {
        let spec = RelaySpec {
            name: name.into(),
            input: InputSpec::from_endpoint(from).unwrap(),
            output: to.iter().map(|to| OutputSpec::from_endpoint(to).unwrap()).collect(),
            ..RelaySpec::default()
        };
        spec.check().unwrap()
    }

    #[test]
    fn several_relays_share_an_input_but_not_an_output() {
        let mut book = Rulebook::default();
        book.admit(&relay("a", "eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).unwrap();
        book.admit(&relay("b", "eth0:239.1.1.1:5001", &["eth1:239.2.2.3:6001"])).unwrap();
        let again = relay("c", "eth0:239.1.1.1:5001", &["eth2:239.9.9.9:1", "eth1:239.2.2.2:6001,ttl=3"]);
        assert!(matches!(book.admit(&again), Err(Refusal::AlreadyFed { other, .. }) if other.as_str() == "a"));
        // The refusal left no trace: the same output of another input is no conflict.
        book.admit(&relay("c", "eth0:239.1.1.1:5002", &["eth1:239.2.2.2:6001"])).unwrap();
    }

    #[test]
    fn ranges_share_what_one_of_them_says_more_exactly() {
        let mut book = Rulebook::default();
        book.admit(&relay("range", "eth0:239.1.0.0/24:5000-5010", &["eth1:239.2.0.0/24:6000-6010"])).unwrap();
        book.admit(&relay("exact", "eth0:239.1.0.7:5003", &["eth1:239.2.0.7:6003"])).unwrap();
        book.admit(&relay("within", "eth0:239.1.0.0/24:5009-5010", &["eth1:239.3.0.0/24:6009-6010"])).unwrap();
        let across = relay("across", "eth0:239.1.0.0/24:5010-5011", &["eth2:239.2.0.0/24:5010-5011"]);
        let refusal = book.admit(&across).unwrap_err();
        assert!(matches!(&refusal, Refusal::Ambiguous { other, .. } if other.as_str() == "range"), "{refusal}");
        let same = relay("same", "eth0:239.1.0.0/24:5000-5010", &["eth1:239.2.0.9:6000-6010"]);
        assert!(matches!(book.admit(&same), Err(Refusal::AlreadyFed { other, .. }) if other.as_str() == "range"));
        book.admit(&relay("same", "eth0:239.1.0.0/24:5000-5010", &["eth2:239.2.0.9:6000-6010"])).unwrap();
        // Of different sources, so that there is nothing to be unclear about.
        let apart = |name: &str, source: &str, ports: &str| {
            relay(name, &format!("eth0:{source}@239.4.0.0/24:{ports}"), &[&format!("eth1:239.5.0.0/24:{ports}")])
        };
        book.admit(&apart("one", "10.0.0.1", "1-5")).unwrap();
        book.admit(&apart("two", "10.0.0.2", "5-9")).unwrap();
        book.strike(&relay("range", "eth0:239.1.0.0/24:5000-5010", &["eth1:239.2.0.0/24:6000-6010"]));
        assert!(matches!(book.admit(&across), Err(Refusal::Ambiguous { other, .. }) if other.as_str() == "same"));
    }

    #[test]
    fn who_takes_packets_of_a_range_takes_them_of_all_its_sources() {
        let named = |name: &str, from: &str| relay(name, from, &["eth1:239.2.0.9:6001"]);
        let range = |name: &str, from: &str| relay(name, from, &["eth2:239.2.0.0/24:6000"]);
        for (wide, exact, fits) in [
            ("eth0:239.1.0.0/24:5000", "eth0:239.1.0.7:5000", true),
            ("eth0:239.1.0.0/24:5000", "eth0:10.0.0.1@239.1.0.7:5000", false),
            ("eth0:239.1.0.0/24:5000", "eth0:239.1.0.7:5000,exclude=10.0.0.1", false),
            ("eth0:239.1.0.0/24:5000,exclude=10.0.0.1", "eth0:239.1.0.7:5000,exclude=10.0.0.1", true),
            ("eth0:239.1.0.0/24:5000,exclude=10.0.0.1", "eth0:10.0.0.1@239.1.0.7:5000", true),
            ("eth0:10.0.0.1@239.1.0.0/24:5000", "eth0:239.1.0.7:5000,exclude=10.0.0.2", true),
            ("eth0:10.0.0.1@239.1.0.0/24:5000", "eth0:10.0.0.2@239.1.0.7:5000", true),
            ("eth0:10.0.0.0/24@239.1.0.0/24:5000", "eth0:10.0.0.0/8@239.1.0.7:5000", true),
            ("eth0:10.0.0.0/24@239.1.0.0/24:5000", "eth0:10.0.0.0/25@239.1.0.7:5000", false),
            ("eth0:10.0.0.0/24@239.1.0.0/24:5000", "eth0:239.1.0.7:5000,source=10.0.0.0/25,source=10.0.0.128/25", true),
            ("eth0:10.0.0.0/24@239.1.0.0/24:5000", "eth0:239.1.0.7:5000,exclude=10.0.0.99", false),
            ("eth0:10.0.0.0/24@239.1.0.0/24:5000", "eth0:239.1.0.7:5000,exclude=10.0.0.0/8", true),
            ("eth0:239.1.0.0/24:5000,exclude=10.0.0.0/24", "eth0:239.1.0.7:5000,exclude=10.0.0.0/25", true),
            ("eth0:239.1.0.0/24:5000,exclude=10.0.0.0/25", "eth0:239.1.0.7:5000,exclude=10.0.0.0/24", false),
        ] {
            let (wide, exact) = (range("wide", wide), named("exact", exact));
            for [first, second] in [[&wide, &exact], [&exact, &wide]] {
                let mut book = Rulebook::default();
                book.admit(first).unwrap();
                match book.admit(second) {
                    Ok(()) => assert!(fits, "{} {}", wide.input(), exact.input()),
                    Err(Refusal::FewerSources { exact, other, .. }) if !fits => {
                        assert_eq!((exact.as_str(), &other), ("exact", first.name()));
                    }
                    Err(other) => panic!("{} {}: {other}", wide.input(), exact.input()),
                }
            }
        }
    }

    #[test]
    fn a_cycle_through_a_range_is_found() {
        let mut book = Rulebook::default();
        book.admit(&relay("a", "eth0:239.1.0.0/24:5000-5010", &["eth1:239.2.0.0/24:6000-6010"])).unwrap();
        let back = relay("b", "eth1:239.2.0.7:6003", &["eth0:239.1.0.9:5004"]);
        assert!(matches!(book.admit(&back), Err(Refusal::Cycle { path, .. }) if path.contains("(a)")));
        book.admit(&relay("b", "eth1:239.2.0.7:6003", &["eth0:239.1.0.9:5011"])).unwrap();
    }

    #[test]
    fn relays_of_different_sources_may_share_both() {
        let mut book = Rulebook::default();
        book.admit(&relay("a", "eth0:10.0.0.1@239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).unwrap();
        book.admit(&relay("b", "eth0:10.0.0.2@239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).unwrap();
        assert!(book.admit(&relay("c", "eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).is_err());
    }

    #[test]
    fn what_one_excludes_another_may_have() {
        let mut book = Rulebook::default();
        book.admit(&relay("a", "eth0:239.1.1.1:5001,exclude=10.0.0.1", &["eth1:239.2.2.2:6001"])).unwrap();
        book.admit(&relay("b", "eth0:10.0.0.1@239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).unwrap();
        assert!(book.admit(&relay("c", "eth0:10.0.0.2@239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).is_err());
        assert!(book.admit(&relay("d", "eth0:239.1.1.1:5001,exclude=10.0.0.9", &["eth1:239.2.2.2:6001"])).is_err());
    }

    #[test]
    fn cycles_of_any_length_are_refused_and_named() {
        let mut book = Rulebook::default();
        book.admit(&relay("a", "eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001"])).unwrap();
        book.admit(&relay("b", "eth1:239.2.2.2:6001", &["eth2:239.3.3.3:7001", "eth3:239.3.3.3:7001"])).unwrap();
        let closing = relay("c", "eth3:239.3.3.3:7001", &["eth0:239.1.1.1:5001"]);
        let refusal = book.admit(&closing).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Cycle { path, .. } if path.contains("(a)") && path.contains("(b)")),
            "{refusal}"
        );
        let near = relay("c", "eth3:239.3.3.3:7001", &["eth0:239.1.1.1:5002"]);
        book.admit(&near).unwrap();
        book.strike(&near);
        book.strike(&relay("b", "eth1:239.2.2.2:6001", &["eth2:239.3.3.3:7001"]));
        book.admit(&closing).unwrap();
    }

    #[test]
    fn a_source_list_breaks_a_cycle() {
        let mut book = Rulebook::default();
        book.admit(&relay("a", "eth0:192.168.168.55@239.1.1.1:5001", &["eth1:239.2.2.2:6001,source=10.0.0.9"]))
            .unwrap();
        book.admit(&relay("b", "eth1:239.2.2.2:6001", &["eth0:239.1.1.1:5001,source=10.0.0.8"])).unwrap();
        assert!(
            book.admit(&relay("c", "eth1:239.2.2.2:6001", &["eth4:239.1.1.1:5001", "eth1:239.2.2.2:6002"])).is_ok()
        );
    }

    /// Discovery goes both ways with the same group, and each side is told by its sources.
    #[test]
    fn sources_that_are_kept_break_a_cycle_where_they_are_listed() {
        let mut book = Rulebook::default();
        let (there, back) = ("eth1:239.255.0.251:5353,source=keep", "eth0:239.255.0.251:5353,source=keep");
        book.admit(&relay("answers", "eth0:192.168.168.55@239.255.0.251:5353", &[there])).unwrap();
        book.admit(&relay("questions", "eth1:10.0.1.2@239.255.0.251:5353", &[back])).unwrap();
        book.strike(&relay("questions", "eth1:10.0.1.2@239.255.0.251:5353", &[back]));
        for listens_to_all in ["eth1:239.255.0.251:5353", "eth1:192.168.168.55@239.255.0.251:5353"] {
            let refusal = book.admit(&relay("third", listens_to_all, &[back])).unwrap_err();
            assert!(matches!(refusal, Refusal::Cycle { .. }), "{refusal}");
        }
    }
}
