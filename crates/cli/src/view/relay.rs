//! Texts about one relay that several verbs share.

use std::collections::BTreeSet;

use mcr_model::DropReason;
use mcr_model::status::{OutputStatus, RelayStatus, SharedPairs, Traffic};

use crate::view::quantity::{bit_rate, bytes, count, packet_rate, packets};

/// What went one way, as part of a sentence: totals, then what it is now.
pub(crate) fn traffic(traffic: &Traffic) -> String {
    let Traffic { packets: total, bytes: total_bytes, packets_per_second, bits_per_second } = *traffic;
    let mut text = format!("{}, {}", packets(total), bytes(total_bytes));
    if let (Some(packets), Some(bits)) = (packets_per_second, bits_per_second) {
        text.push_str(&format!("; now {}, {}", packet_rate(packets), bit_rate(bits)));
    }
    text
}

/// The drops of an output by reason, most first: `5 too_big, 2 no_neighbour`.
pub(crate) fn drops(output: &OutputStatus) -> String {
    let mut reasons: Vec<(&String, &u64)> = output.dropped.iter().filter(|(_, packets)| **packets > 0).collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let texts: Vec<String> = reasons.iter().map(|(reason, packets)| format!("{} {reason}", count(**packets))).collect();
    texts.join(", ")
}

/// What each drop reason that occurs in `relays` means and what to do about it, one line each.
pub(crate) fn drop_legend<'a>(relays: impl IntoIterator<Item = &'a RelayStatus>) -> String {
    let outputs = relays.into_iter().flat_map(|relay| &relay.outputs);
    let dropped = outputs.flat_map(|output| &output.dropped).filter(|(_, packets)| **packets > 0);
    let names: BTreeSet<&str> = dropped.map(|(reason, _)| reason.as_str()).collect();
    let known = names.iter().filter_map(|name| DropReason::from_name(name));
    known.map(|reason| format!("{}: {}; {}\n", reason.name(), reason.meaning(), reason.remedy())).collect()
}

/// Lines about a relay and its outputs that somebody has to look at: why, and what to do.
pub(crate) fn trouble(relay: &RelayStatus) -> String {
    let mut text = String::new();
    if let Some(remedy) = &relay.remedy {
        text.push_str(&format!("{} is {}: {}; {remedy}\n", relay.name, relay.state, relay.reason));
    }
    for output in relay.outputs.iter().filter(|output| !output.ok) {
        let why = because(output.reason.as_deref(), output.remedy.as_deref());
        // A relay with one output says the same itself.
        if !text.contains(&why) {
            text.push_str(&format!("{} to {}: {why}\n", relay.name, output.to));
        }
    }
    text
}

/// What a relay shares with others that name it more or less exactly, a sentence each; of many the first few.
pub(crate) fn shared(relay: &RelayStatus) -> impl Iterator<Item = String> {
    const MOST: usize = 4;
    let sentences = |verb: &'static str, shared: &[SharedPairs]| {
        let told =
            shared.iter().take(MOST).map(move |SharedPairs { relay, what, .. }| format!("{what} {verb} relay {relay}"));
        let pairs: u64 = shared.iter().skip(MOST).map(|shared| shared.pairs).sum();
        let more = shared.len().saturating_sub(MOST);
        let rest = (more > 0).then(|| format!("{pairs} pairs of a group and a port {verb} {more} relays more"));
        told.chain(rest).collect::<Vec<_>>()
    };
    let left = sentences("is left to", &relay.left_to);
    left.into_iter().chain(sentences("is taken from", &relay.taken_from))
}

/// A reason and its remedy as one sentence.
pub(crate) fn because(reason: Option<&str>, remedy: Option<&str>) -> String {
    match (reason, remedy) {
        (Some(reason), Some(remedy)) => format!("{reason}; {remedy}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "it fails".to_owned(),
    }
}
