//! An event as a line.

use mcr_model::{Event, EventKind};

use crate::view::quantity::{count, packets, seconds};

/// The line of an event, with its end.
pub(crate) fn line(event: &Event) -> String {
    let Event { id: _, time, kind } = event;
    format!("{time}  {:<21}  {}\n", kind.name(), words(kind))
}

fn words(kind: &EventKind) -> String {
    match kind {
        EventKind::RelayCreated { relay, .. } | EventKind::RelayChanged { relay, .. } => relay.clone(),
        EventKind::RelayRemoved { relay, .. } => relay.clone(),
        EventKind::RelayState { relay, from, to, reason, remedy } => {
            let from = from.map(|from| format!("{from} to ")).unwrap_or_default();
            let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            format!("{relay}: {from}{to}: {reason}{remedy}")
        }
        EventKind::FlowSilent { relay, quiet_seconds } => format!("{relay}: no packet for {}", seconds(*quiet_seconds)),
        EventKind::FlowRecovered { relay, gap_seconds } => {
            format!("{relay}: packets come again after {}", seconds(*gap_seconds))
        }
        EventKind::BreakerTripped { relay, packets_per_second, max_packets_per_second } => format!(
            "{relay}: {} packets per second came, more than {}; it is out of force",
            count(*packets_per_second),
            count(*max_packets_per_second)
        ),
        EventKind::BreakerRecovered { relay } => format!("{relay}: it is in force again"),
        EventKind::DropsStarted { relay, output, reason, packets: some } => {
            format!("{relay} to {output}: {reason}: {} so far", packets(*some))
        }
        EventKind::DropsEnded { relay, output, reason, packets: all } => {
            format!("{relay} to {output}: {reason}: {} in all", packets(*all))
        }
        EventKind::LeaseExpired { relay, lease_seconds } => {
            format!("{relay}: nobody renewed it for {}", seconds(*lease_seconds))
        }
        EventKind::QuerierHeard { interface, protocol, querier } => {
            format!("{interface}: {querier} asks for memberships ({protocol})")
        }
        EventKind::QuerierMissing { interface, protocol } => {
            format!("{interface}: nobody asks for memberships ({protocol})")
        }
        EventKind::QuerierOurs { interface, protocol } => {
            format!("{interface}: this host asks for memberships ({protocol})")
        }
        EventKind::InterfaceAppeared { interface }
        | EventKind::InterfaceLeft { interface }
        | EventKind::InterfaceUp { interface }
        | EventKind::InterfaceDown { interface } => interface.clone(),
        EventKind::InterfaceAddresses { interface, addresses } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let all = if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") };
            format!("{interface}: {all}")
        }
        EventKind::ConfigurationLoaded { added, changed, removed, unchanged } => {
            format!("{added} added, {changed} changed, {removed} removed, {unchanged} as before")
        }
        EventKind::ConfigurationRefused { reason } => reason.clone(),
        EventKind::RollbackFailed { revision, previous, reason } => {
            format!("revision {revision} stays in force, {previous} can't come back yet: {reason}")
        }
        EventKind::KeeperLost { pid } | EventKind::KeeperFound { pid } => {
            pid.map(|pid| format!("process {pid}")).unwrap_or_default()
        }
        EventKind::OneWayDisturbed { times: 1, mended: true } => {
            "somebody has removed the one-way rules; they were made anew".to_owned()
        }
        EventKind::OneWayDisturbed { times, mended: true } => {
            format!("somebody has removed the one-way rules; they were made anew ({times} times so far)")
        }
        EventKind::OneWayDisturbed { times: _, mended: false } => {
            "somebody has removed the one-way rules, and they can't be made anew".to_owned()
        }
        EventKind::Missed { events: Some(events) } => format!("{} events are no longer kept", count(*events)),
        EventKind::Missed { events: None } => "the daemon was started again; nobody knows what was missed".to_owned(),
    }
}
