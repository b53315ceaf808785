//! What the values mean: each relay on its own, names against each other, and how the relays fit together.

use std::collections::HashMap;
use std::ops::Range;

use mcr_engine::{Engine, Refusal};
use mcr_model::relay::Relay;
use mcr_model::spec::{self, ConfigSpec};
use mcr_model::{FieldError, RelayName};
use toml::de::{DeTable, DeValue};

use super::finding::{Earlier, Findings};
use super::shape::Shaped;

/// The relays of a configuration, complete only when nothing was found.
pub(super) fn relays(document: &DeTable<'_>, shaped: &Shaped, findings: &mut Findings) -> Vec<Relay> {
    let Shaped { config: ConfigSpec { datapath, relay }, written, is_whole } = shaped;
    let datapath = spec::check_datapath("datapath", datapath.as_deref()).unwrap_or_else(|errors| {
        errors.into_iter().for_each(|error| findings.add(locate(document, "datapath"), "", error));
        None
    });
    // Where a relay was left out, the indices of the later ones are not those of the text.
    if !is_whole {
        return Vec::new();
    }
    names(document, shaped, findings);
    let mut relays = Vec::with_capacity(relay.len());
    for (spec, &place) in relay.iter().zip(written) {
        match spec.check() {
            Ok(relay) => {
                let choice = relay.datapath().or(datapath);
                relays.push(relay.moved_by(choice));
            }
            Err(errors) => errors.into_iter().for_each(|error| add(document, place, &spec.name, error, findings)),
        }
    }
    if findings.is_empty() {
        fit(document, &relays, written, findings);
    }
    relays
}

fn add(document: &DeTable<'_>, index: usize, name: &str, error: FieldError, findings: &mut Findings) {
    let label = match name.parse::<RelayName>() {
        Ok(name) if !error.field.is_empty() => format!("{} of relay {name}", error.field),
        _ => String::new(),
    };
    let error = error.within(&format!("relay[{index}]"));
    if !findings.concern(&error.field) {
        findings.add(locate(document, &error.field), label, error);
    }
}

/// No name may stand twice.
fn names(document: &DeTable<'_>, shaped: &Shaped, findings: &mut Findings) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (spec, &i) in shaped.config.relay.iter().zip(&shaped.written) {
        let field = format!("relay[{i}].name");
        if findings.concern(&field) {
            continue;
        }
        let Some(earlier) = first.insert(&spec.name, i) else { continue };
        first.insert(&spec.name, earlier);
        let short: String = spec.name.chars().take(80).collect();
        if earlier == i {
            let what = format!("several relays of this template are named {short:?}");
            let error = FieldError::new(&field, what, "put {item} or {index} into the name");
            findings.add(locate(document, &field), "", error);
            continue;
        }
        let earlier = Earlier {
            span: locate(document, &format!("relay[{earlier}].name")),
            label: "the name is taken here".to_owned(),
        };
        let error =
            FieldError::new(&field, format!("two relays are named {short:?}"), "give each its own name, or remove one");
        findings.add_clash(locate(document, &field), "and used again here", earlier, error);
    }
}

/// How the relays fit beside each other is the engine's question; an engine of our own answers it.
fn fit(document: &DeTable<'_>, relays: &[Relay], written: &[usize], findings: &mut Findings) {
    let Err(refusals) = Engine::new("").load_file(relays.to_vec()) else { return };
    for refusal in refusals {
        let index = relays.iter().position(|relay| relay.name() == refusal.name()).unwrap_or_default();
        let index = written.get(index).copied().unwrap_or_default();
        let place = locate(document, &format!("relay[{index}].name"));
        let (message, remedy) = split(&refusal);
        findings.add(place, "", FieldError::new(format!("relay[{index}]"), message, remedy));
    }
}

/// A refusal is one sentence, its remedy after the last semicolon.
fn split(refusal: &Refusal) -> (String, String) {
    let text = refusal.to_string();
    match text.rsplit_once("; ") {
        Some((message, remedy)) => (message.to_owned(), remedy.to_owned()),
        None => (text, String::new()),
    }
}

/// The bytes of the text that the field at `path` (as `relay[3].output[1].ttl`) has; those of the nearest part around
/// it where it is not written.
fn locate(document: &DeTable<'_>, path: &str) -> Range<usize> {
    let mut steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    let first = steps.next().and_then(|step| document.get(step));
    let Some(mut found) = first else { return 0..0 };
    for step in steps {
        let inner = match found.get_ref() {
            DeValue::Table(table) => table.get(step),
            DeValue::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        match inner {
            Some(inner) => found = inner,
            None => break,
        }
    }
    found.span()
}
