//! Whether a relay fits beside the others: no name twice, no output fed twice from one input, no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_model::RelayName;
use mcr_model::header::SourceRule;
use mcr_model::relay::{Input, Output, Place, Relay};

/// Why a change to the set of relays was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A relay of that name exists.
    #[error("there is already a relay {name}; choose another name, or replace it with PUT or by `mcr rm {name}` first")]
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
            Self::Foreign { .. } => RefusalKind::Foreign,
            Self::Superseded { .. } => RefusalKind::Superseded,
            Self::NoLease { .. } => RefusalKind::NoLease,
            Self::AlreadyFed { .. } | Self::Cycle { .. } => RefusalKind::Conflict,
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
            | Self::NoLease { name }
            | Self::AlreadyFed { name, .. }
            | Self::Cycle { name, .. } => name,
        }
    }
}

/// The relays by the places they take from and send to.
#[derive(Debug, Default)]
pub(crate) struct Rulebook {
    by_input: BTreeMap<Place, BTreeMap<RelayName, Rule>>,
}

#[derive(Debug)]
struct Rule {
    sources: Vec<IpAddr>,
    excluded: Vec<IpAddr>,
    outputs: Vec<Output>,
}

impl Rulebook {
    /// Adds `relay` if it fits; the book is unchanged when it does not.
    pub(crate) fn admit(&mut self, relay: &Relay) -> Result<(), Refusal> {
        self.check_shared_outputs(relay)?;
        self.check_cycle(relay)?;
        self.restore(relay);
        Ok(())
    }

    /// Puts back a relay that was in the book before.
    pub(crate) fn restore(&mut self, relay: &Relay) {
        let Input { sources, excluded, .. } = relay.input().clone();
        let rule = Rule { sources, excluded, outputs: relay.outputs().to_vec() };
        self.by_input.entry(relay.input().place()).or_default().insert(relay.name().clone(), rule);
    }

    /// Takes `relay` out.
    pub(crate) fn strike(&mut self, relay: &Relay) {
        let place = relay.input().place();
        if let Some(rules) = self.by_input.get_mut(&place) {
            rules.remove(relay.name());
            if rules.is_empty() {
                self.by_input.remove(&place);
            }
        }
    }

    fn check_shared_outputs(&self, relay: &Relay) -> Result<(), Refusal> {
        let wanted: BTreeSet<Place> = relay.outputs().iter().map(Output::place).collect();
        for (other, rule) in self.by_input.get(&relay.input().place()).into_iter().flatten() {
            let input = relay.input();
            if !overlap((&rule.sources, &rule.excluded), (&input.sources, &input.excluded)) {
                continue;
            }
            if let Some(shared) = rule.outputs.iter().find(|output| wanted.contains(&output.place())) {
                return Err(Refusal::AlreadyFed {
                    name: relay.name().clone(),
                    other: other.clone(),
                    input: relay.input().to_string(),
                    output: shared.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Follows every output of `relay` through the book; a path that comes back to its input is a cycle.
    fn check_cycle(&self, relay: &Relay) -> Result<(), Refusal> {
        let input = relay.input();
        let mut seen = BTreeSet::new();
        let begin = |output| (output, leaving(output, &input.sources), format!("{input} → {output}"));
        let mut paths: Vec<(&Output, Vec<IpAddr>, String)> = relay.outputs().iter().map(begin).collect();
        while let Some((output, sources, path)) = paths.pop() {
            if input.place() == output.place() && any_passes(&sources, &input.sources, &input.excluded) {
                return Err(Refusal::Cycle { name: relay.name().clone(), path });
            }
            if !seen.insert((output.place(), sources.clone())) {
                continue;
            }
            for (name, rule) in self.by_input.get(&output.place()).into_iter().flatten() {
                if any_passes(&sources, &rule.sources, &rule.excluded) {
                    // Those that were listed on the way here, or else those that are listed here.
                    let arriving = if sources.is_empty() { &rule.sources } else { &sources };
                    let next = |next| (next, leaving(next, arriving), format!("{path} → ({name}) {next}"));
                    paths.extend(rule.outputs.iter().map(next));
                }
            }
        }
        Ok(())
    }
}

/// The sources that a copy can have, of packets with these; none named: any. One that is taken from the interface can change.
fn leaving(output: &Output, arriving: &[IpAddr]) -> Vec<IpAddr> {
    match output.source {
        SourceRule::Set(address) => vec![address],
        SourceRule::Keep => arriving.to_vec(),
        SourceRule::OfInterface => Vec::new(),
    }
}

/// Whether packets with one of these sources (none named: with any) pass a list of wanted sources.
fn any_passes(sources: &[IpAddr], wanted: &[IpAddr], excluded: &[IpAddr]) -> bool {
    sources.is_empty() || sources.iter().any(|source| source_passes(wanted, excluded, *source))
}

/// Whether packets with this source pass a list of wanted sources.
fn source_passes(wanted: &[IpAddr], excluded: &[IpAddr], source: IpAddr) -> bool {
    (wanted.is_empty() || wanted.contains(&source)) && !excluded.contains(&source)
}

/// Whether any source passes both, each given by those that it wants and those that it excludes.
fn overlap(a: (&[IpAddr], &[IpAddr]), b: (&[IpAddr], &[IpAddr])) -> bool {
    let named = if a.0.is_empty() { b.0 } else { a.0 };
    let passes = |list: (&[IpAddr], &[IpAddr]), source| source_passes(list.0, list.1, source);
    named.is_empty() || named.iter().any(|source| passes(a, *source) && passes(b, *source))
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
