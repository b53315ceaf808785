//! What a configuration changes, as a person reads it.

use mcr_model::plan::{AddedRelay, ChangedRelay, FieldChange, Plan, RemovedRelay, TouchedFlow, Warning};
use mcr_model::revision::Applied;

use crate::view::relay::traffic;
use crate::view::screen::{HEADING, Ink, TROUBLE};

/// What would change.
pub(crate) fn plan_text(plan: &Plan, ink: Ink) -> String {
    if plan.is_empty() {
        return format!("nothing would change: {}\n{}", relays(plan.unchanged), remarks(plan, ink));
    }
    let counts = format!(
        "{} to add, {} to change, {} to remove, {} unchanged\n",
        plan.added.len(),
        plan.changed.len(),
        plan.removed.len(),
        plan.unchanged
    );
    format!("{}\n{counts}{}", changes(plan, ink), remarks(plan, ink))
}

/// What was changed.
pub(crate) fn applied_text(applied: &Applied, ink: Ink) -> String {
    let Applied { plan, revision, confirm_until } = applied;
    let number = revision.number;
    let (changed, in_force) = if plan.is_empty() {
        (String::new(), format!("revision {number} is in force; no relay is touched\n"))
    } else {
        let (added, removed) = (plan.added.len(), plan.removed.len());
        let counts =
            format!("{added} added, {} changed, {removed} removed, {} untouched", plan.changed.len(), plan.unchanged);
        (format!("{}\n", changes(plan, ink)), format!("revision {number} is in force: {counts}\n"))
    };
    let trial = match confirm_until {
        Some(until) => format!("it is on trial until {until}: `mcr confirm` keeps it, or the one before comes back\n"),
        None => String::new(),
    };
    format!("{changed}{in_force}{trial}{}", remarks(plan, ink))
}

fn relays(count: usize) -> String {
    if count == 1 { "1 relay stays as it is".to_owned() } else { format!("{count} relays stay as they are") }
}

fn changes(plan: &Plan, ink: Ink) -> String {
    let added = plan
        .added
        .iter()
        .map(|AddedRelay { name, from, to }| format!("+ {}  {from} -> {}\n", ink.paint(HEADING, name), to.join(" ")));
    let changed = plan.changed.iter().map(|ChangedRelay { name, fields, flow: running }| {
        let fields: String = fields.iter().map(field).collect();
        format!("~ {}{}\n{fields}", ink.paint(HEADING, name), flow(running.as_ref(), "its counters begin at zero"))
    });
    let removed = plan.removed.iter().map(|RemovedRelay { name, from, flow: running }| {
        format!("- {}  {from}{}\n", ink.paint(HEADING, name), flow(running.as_ref(), "it ends"))
    });
    added.chain(changed).chain(removed).collect()
}

fn flow(running: Option<&TouchedFlow>, consequence: &str) -> String {
    let Some(TouchedFlow { state, received }) = running else { return String::new() };
    format!("  ({state}: {}; {consequence})", traffic(received))
}

fn field(FieldChange { field, from, to }: &FieldChange) -> String {
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| unset(field).to_owned());
    format!("    {field}: {} -> {}\n", told(from), told(to))
}

/// What it means that a field is left out.
fn unset(field: &str) -> &'static str {
    match field {
        "join" => "all",
        "silent_after" => "1s",
        _ => "(none)",
    }
}

fn remarks(plan: &Plan, ink: Ink) -> String {
    let mut text: String = plan
        .warnings
        .iter()
        .map(|Warning { kind: _, relays, message, remedy }| {
            format!("{} {message} ({}); {remedy}\n", ink.paint(TROUBLE, "warning:"), relays.join(", "))
        })
        .collect();
    if plan.outputs_with_unknown_receivers > 0 {
        text.push_str(&format!(
            "whether anybody receives is not known for {} of the outputs: only a bridge with IGMP snooping tells\n",
            plan.outputs_with_unknown_receivers
        ));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}
