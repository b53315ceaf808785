//! What was seen, as relays that carry it on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_model::flow::{FlowReport, FlowStatus};
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

use crate::discover::scene::place;
use crate::import::Draft;

/// What one relay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    interface: &'a str,
    vlan: Option<u16>,
    outer_vlan: Option<u16>,
    group: IpAddr,
    port: u16,
}

/// A `[[relay]]` for each group and port that was seen, from its sources to the same group on `to`; `mcr check` accepts the text.
/// What should not be relayed is a comment.
pub(crate) fn draft(report: &FlowReport, to: &str) -> Draft {
    let mut places = BTreeMap::<Place<'_>, Vec<&FlowStatus>>::new();
    for flow in &report.flows {
        let FlowStatus { interface, vlan, outer_vlan, group, port, .. } = flow;
        let place = Place { interface, vlan: *vlan, outer_vlan: *outer_vlan, group: *group, port: *port };
        places.entry(place).or_default().push(flow);
    }
    let mut draft = Draft::default();
    let mut sent = BTreeSet::new();
    for (at, flows) in places {
        let Some(flow) = flows.first() else { continue };
        let Place { interface, group, port, .. } = at;
        match why_not(at, flow, interface == to, sent.insert((group, port))) {
            Some(why) => {
                draft.comment(format!("{interface}: {} ({}) is left out: {why}\n", place(group, port), flow.name));
            }
            None => {
                let about = flow.session.as_ref().unwrap_or(&flow.detail);
                draft.comment(format!("{} {about}", flow.name).trim_end());
                let sources = flows.iter().map(|flow| flow.source.to_string()).collect();
                draft.relay(&name(&flow.name, flow.session.as_deref(), at), relay(at, sources, to));
            }
        }
    }
    draft
}

fn why_not(place: Place<'_>, flow: &FlowStatus, is_at_output: bool, is_first: bool) -> Option<&'static str> {
    let is_of_one_link = match place.group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        // RFC 4291 section 2.7: the scopes of an interface and of a link.
        IpAddr::V6(group) => matches!(group.octets()[1] & 0x0f, 1 | 2),
    };
    match () {
        () if is_at_output => Some("it comes from where it would be sent to"),
        () if is_of_one_link => Some("a link-local group belongs to one link"),
        () if flow.what["kind"] == "ptp" => Some("a relay falsifies the clock"),
        () if !is_first => Some("the same group and port of another interface goes there already"),
        () => None,
    }
}

fn relay(place: Place<'_>, sources: Vec<String>, to: &str) -> RelaySpec {
    let Place { interface, vlan, outer_vlan, group, port } = place;
    let group = Some(group.to_string());
    let input = InputSpec {
        interface: interface.to_owned(),
        group: group.clone(),
        port: port.into(),
        sources,
        vlan: vlan.map(i64::from),
        outer_vlan: outer_vlan.map(i64::from),
        ..InputSpec::default()
    };
    let output = OutputSpec { interface: to.to_owned(), group, port: port.into(), ..OutputSpec::default() };
    RelaySpec { input, output: vec![output], ..RelaySpec::default() }
}

/// From the session's name, or from what it is and where it goes.
fn name(kind: &str, session: Option<&str>, place: Place<'_>) -> String {
    const MOST_CHARACTERS: usize = 40;
    let Place { group, port, .. } = place;
    let words = session.map_or_else(|| format!("{kind} {group} {port}"), str::to_owned);
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = words.chars().map(kept).take(MOST_CHARACTERS).collect();
    let name: Vec<&str> = name.split(['-']).filter(|word| !word.is_empty()).collect();
    let name = name.join("-").trim_matches('.').to_owned();
    if name.is_empty() { format!("flow-{group}-{port}").replace(':', "-") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_relays() {
        let place =
            Place { interface: "eth0", vlan: None, outer_vlan: None, group: "239.1.1.1".parse().unwrap(), port: 5001 };
        let table = [
            (Some("Studio A : 3"), "studio-a-3"),
            (Some("…"), "flow-239.1.1.1-5001"),
            (None, "ethernet-ip-239.1.1.1-5001"),
        ];
        for (session, expected) in table {
            let name = name("EtherNet/IP", session, place);
            assert_eq!(name, expected);
            assert!(name.parse::<mcr_model::RelayName>().is_ok());
        }
    }
}
