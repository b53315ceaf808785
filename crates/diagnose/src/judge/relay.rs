//! Which relay takes the packets, or which comes nearest and in what it differs.

use mcr_model::status::RelayStatus;
use mcr_model::{Input, Output, RelayState};

use super::{Case, counted, listed};
use crate::facts::Relays;
use crate::report::{Mark, Step};
use crate::{Question, Subject};

const STEP: &str = "relay";
const PENDING: &str = "relay_pending";
const FAILED: &str = "relay_failed";

/// The relays that take what is asked for: of those of several groups or ports, the ones that no other is before.
pub(crate) fn takers<'a>(relays: &'a [RelayStatus], question: &Question) -> Vec<&'a RelayStatus> {
    let place = question.input.place();
    let inputs = relays.iter().filter_map(|relay| Some((relay, input(relay)?)));
    let candidates: Vec<_> = inputs.filter(|(_, input)| input.place().holds(&place)).collect();
    let is_asked_about = |relay: &RelayStatus| match &question.subject {
        Subject::Endpoint => true,
        Subject::Relay(name) => *name == relay.name,
    };
    let is_first = |input: &Input| !candidates.iter().any(|(_, other)| input.yields_to(other));
    let takers = candidates.iter().filter(|(relay, input)| is_asked_about(relay) && is_first(input));
    takers.map(|(relay, _)| *relay).collect()
}

/// Where an output of a relay sends what is asked for.
pub(crate) fn output(relay: &RelayStatus, place: usize, question: &Question) -> Option<Output> {
    let output = relay.relay.output.get(place)?.check("output").ok()?;
    let offset = input(relay)?.place().shared_with(&question.input.place()).next()?;
    Some(output.at(offset))
}

fn input(relay: &RelayStatus) -> Option<Input> {
    relay.relay.input.check("input").ok()
}

pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    if case.is_way_out() {
        return Vec::new();
    }
    match &case.facts.relays {
        Relays::Unknown(blind) => vec![Step::blind(STEP, blind)],
        Relays::NoDaemon => foreground(case).into_iter().collect(),
        Relays::Known(relays) if case.relays.is_empty() => {
            foreground(case).or_else(|| none(case, relays)).into_iter().collect()
        }
        Relays::Known(_) => case.relays.iter().map(|relay| state(case, relay)).collect(),
    }
}

/// A relay that waits or failed is a fault only where no other step says why.
pub(super) fn yield_to_causes(steps: &mut [Step]) {
    let is_consequence = |step: &Step| step.mark == Mark::Fault && matches!(&*step.code, PENDING | FAILED);
    if steps.iter().any(|step| step.mark == Mark::Fault && !is_consequence(step)) {
        for step in steps.iter_mut().filter(|step| is_consequence(step)) {
            (step.mark, step.remedy) = (Mark::Unknown, None);
        }
    }
}

fn foreground(case: &Case<'_>) -> Option<Step> {
    let relay = case.foreground_relay()?;
    let line = relay.arguments.join(" ");
    let fact = format!("a relay in the foreground takes them (pid {}): mcr relay {line}", relay.owner.pid);
    Some(Step::unknown(STEP, "foreground", fact).advise("it has no API: look at what it prints"))
}

/// No relay takes them. That is a fault only where nobody else does.
fn none(case: &Case<'_>, relays: &[RelayStatus]) -> Option<Step> {
    let fact = format!("no relay takes {}", case.question.input);
    if case.has_taker() {
        let is_told = !relays.is_empty();
        return is_told.then(|| Step::ok(STEP, "not_wanted", format!("{fact}, and a socket of this host does")));
    }
    let addition = format!("mcr add NAME --from {} --to OUTPUT", case.question.input);
    let Some((relay, differences)) = nearest(relays, &case.question.input) else {
        let fact = format!("{fact}, and no socket is bound to port {}", case.port());
        return Some(Step::fault(STEP, "no_relay", fact, addition));
    };
    let fact = format!("{fact}; the nearest is {}, which differs in its {}", relay.name, listed(&differences, 2));
    // What differs in more is there for something else.
    let remedy = match &differences[..] {
        [_] => format!("correct relay {}, or add one: {addition}", relay.name),
        _ => addition,
    };
    Some(
        Step::fault(STEP, "no_relay", fact, remedy)
            .of(relay.name.clone())
            .because([format!("{} takes {}", relay.name, relay.from)]),
    )
}

/// The relay of the same family that is another in the least important fields, of two fields at most, and in which.
fn nearest<'a>(relays: &'a [RelayStatus], wanted: &Input) -> Option<(&'a RelayStatus, Vec<String>)> {
    let inputs = relays.iter().filter_map(|relay| Some((relay, input(relay)?)));
    let related = inputs.filter(|(_, has)| has.target.ip().is_ipv6() == wanted.target.ip().is_ipv6());
    let differing = related.map(|(relay, has)| (relay, differences(&has, wanted)));
    let near = differing.filter(|(_, fields)| fields.iter().flatten().count() <= 2);
    let (relay, fields) = near.min_by_key(|(_, fields)| fields.each_ref().map(Option::is_some))?;
    Some((relay, fields.into_iter().flatten().collect()))
}

/// In which fields a relay's input is another, as `port (5002, not 5001)`; the most important first.
fn differences(has: &Input, wanted: &Input) -> [Option<String>; 4] {
    let vlan = |vlan: Option<mcr_model::VlanId>| vlan.map_or("untagged".to_owned(), |vlan| vlan.to_string());
    let (first, last) = (has.target.ip(), has.span.last_address(has.target.ip()));
    let (port, last_port) = (has.port.get(), has.span.last_port(has.port.get()));
    let has_group = (first..=last).contains(&wanted.target.ip());
    let has_port = (port..=last_port).contains(&wanted.port.get());
    let ports = if port == last_port { port.to_string() } else { format!("{port}-{last_port}") };
    let fields = [
        (has_group, "group", has.group(), wanted.group()),
        (has_port, "port", ports, wanted.port.to_string()),
        (has.vlan == wanted.vlan, "VLAN", vlan(has.vlan), vlan(wanted.vlan)),
        (has.interface == wanted.interface, "interface", has.interface.to_string(), wanted.interface.to_string()),
    ];
    fields.map(|(is_same, field, has, wanted)| (!is_same).then(|| format!("{field} ({has}, not {wanted})")))
}

/// Packets that a relay received while we looked.
pub(super) fn received_meanwhile(case: &Case<'_>, relay: &RelayStatus) -> u64 {
    let before = earlier(case, relay).map_or(relay.received.packets, |earlier| earlier.received.packets);
    relay.received.packets.saturating_sub(before)
}

/// The same relay as it was before the look.
pub(super) fn earlier<'a>(case: &Case<'a>, relay: &RelayStatus) -> Option<&'a RelayStatus> {
    let Relays::Known(relays) = &case.facts.earlier_relays else { return None };
    relays.iter().find(|earlier| earlier.name == relay.name)
}

fn state(case: &Case<'_>, relay: &RelayStatus) -> Step {
    let RelayStatus { name, state, reason, remedy, .. } = relay;
    let step = match unlisted(case, relay) {
        Some(step) => step,
        None if matches!(state, RelayState::Failed | RelayState::Pending) => {
            let code = if *state == RelayState::Failed { FAILED } else { PENDING };
            let remedy = remedy.clone().unwrap_or_else(|| format!("mcr show {name}"));
            Step::fault(STEP, code, format!("{name} is {state}: {reason}"), remedy)
        }
        None if is_passed_by(case, relay) => {
            let fact = format!("{} came on the wire and {name} received none of them", counted(case.wanted_packets()));
            Step::unknown(STEP, "not_received", fact)
                .advise("mcr stats, and the daemon's log: does it read this interface?")
        }
        None => {
            let received = received_meanwhile(case, relay);
            let fact = format!(
                "{name} takes them ({}) and is {state}; it received {} meanwhile",
                relay.datapath,
                counted(received)
            );
            Step::ok(STEP, "taken", fact)
        }
    };
    step.of(name.clone())
}

/// The relay lists sources, and none of those that send.
fn unlisted(case: &Case<'_>, relay: &RelayStatus) -> Option<Step> {
    let sources = &input(relay)?.sources;
    let seen = case.wanted();
    let is_listed =
        |source: std::net::IpAddr| sources.is_empty() || sources.iter().any(|prefix| prefix.contains(source));
    if seen.is_empty() || seen.iter().any(|flow| is_listed(flow.source)) {
        return None;
    }
    let sends = listed(seen.iter().map(|flow| flow.source), 3);
    let fact = format!("{} lists {} as its sources, and {sends} sends", relay.name, listed(sources, 3));
    Some(Step::fault(STEP, "source_not_listed", fact, format!("add {sends} to the sources of {}", relay.name)))
}

/// What is wrong in itself is not received under that name either.
fn is_passed_by(case: &Case<'_>, relay: &RelayStatus) -> bool {
    let whole: u64 = case.wanted().iter().map(|flow| flow.packets - flow.wrong.values().sum::<u64>()).sum();
    whole > 0 && received_meanwhile(case, relay) == 0
}
