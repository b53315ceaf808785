//! What was seen, as relays that carry it on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use mcr_inspect::{Flow, Key, Kind};
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

use crate::discover::scene::Scene;
use crate::import::Draft;

/// What one relay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    interface: u32,
    vlan: Option<u16>,
    group: Ipv4Addr,
    port: u16,
}

/// A `[[relay]]` for each group and port that was seen, from its sources to the same group on `to`; `mcr check` accepts the text.
/// What should not be relayed is a comment.
pub(crate) fn draft(scene: &Scene, to: &str) -> Draft {
    let mut places = BTreeMap::<Place, Vec<(&Key, &Flow)>>::new();
    for (key, flow) in scene.shown() {
        let Key { interface, vlan, group, port, .. } = *key;
        places.entry(Place { interface, vlan, group, port }).or_default().push((key, flow));
    }
    let mut draft = Draft::default();
    let mut sent = BTreeSet::new();
    for (place, flows) in places {
        let Some(&(key, flow)) = flows.first() else { continue };
        let kind = flow.kind();
        let interface = scene.interface(key);
        let Place { group, port, .. } = place;
        match why_not(place, &kind, interface == to, sent.insert((group, port))) {
            Some(why) => draft.comment(format!("{interface}: {group}:{port} ({}) is left out: {why}\n", kind.name())),
            None => {
                let session = scene.flows.session(group, port).map(|(session, _)| session);
                draft.comment(format!("{} {}", kind.name(), session.map_or(kind.detail(), str::to_owned)).trim_end());
                let sources = flows.iter().map(|(key, _)| key.source.to_string()).collect();
                draft.relay(&name(&kind, session, place), relay(interface, place, sources, to));
            }
        }
    }
    draft
}

fn why_not(place: Place, kind: &Kind, is_at_output: bool, is_first: bool) -> Option<&'static str> {
    match kind {
        _ if is_at_output => Some("it comes from where it would be sent to"),
        _ if place.group.octets()[..3] == [224, 0, 0] => Some("a link-local group belongs to one link"),
        Kind::Ptp { .. } => Some("a relay falsifies the clock"),
        _ if !is_first => Some("the same group and port of another interface goes there already"),
        _ => None,
    }
}

fn relay(interface: &str, place: Place, sources: Vec<String>, to: &str) -> RelaySpec {
    let Place { interface: _, vlan, group, port } = place;
    let group = Some(group.to_string());
    let input = InputSpec {
        interface: interface.to_owned(),
        group: group.clone(),
        port: port.into(),
        sources,
        vlan: vlan.map(i64::from),
        ..InputSpec::default()
    };
    let output = OutputSpec { interface: to.to_owned(), group, port: port.into(), ..OutputSpec::default() };
    RelaySpec { input, output: vec![output], ..RelaySpec::default() }
}

/// From the session's name, or from what it is and where it goes.
fn name(kind: &Kind, session: Option<&str>, place: Place) -> String {
    const MOST_CHARACTERS: usize = 40;
    let Place { group, port, .. } = place;
    let words = session.map_or_else(|| format!("{} {group} {port}", kind.name()), str::to_owned);
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = words.chars().map(kept).take(MOST_CHARACTERS).collect();
    let name: Vec<&str> = name.split(['-']).filter(|word| !word.is_empty()).collect();
    let name = name.join("-").trim_matches('.').to_owned();
    if name.is_empty() { format!("flow-{group}-{port}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_relays() {
        let place = Place { interface: 1, vlan: None, group: Ipv4Addr::new(239, 1, 1, 1), port: 5001 };
        let table = [
            (Some("Studio A : 3"), "studio-a-3"),
            (Some("…"), "flow-239.1.1.1-5001"),
            (None, "ethernet-ip-239.1.1.1-5001"),
        ];
        for (session, expected) in table {
            let name = name(&Kind::EthernetIp, session, place);
            assert_eq!(name, expected);
            assert!(name.parse::<mcr_model::RelayName>().is_ok());
        }
    }
}
