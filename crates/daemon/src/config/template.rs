//! Templates: a relay with `for_each` stands for as many relays as there are items.
//!
//! In the texts of its other keys `{item}` stands for the item and `{index}` for its place, from 0 on; a number may be
//! added to either, as in `{index+10}`.

use std::borrow::Cow;

use mcr_model::FieldError;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Findings;

/// The key that makes a relay a template.
pub(super) const KEY: &str = "for_each";
/// The most relays that one template may stand for.
const MOST_ITEMS: usize = 4096;
const WANTED: &str = "write {item}, {index}, or one of them with a number added, as {index+10}";

/// Whether a relay is a template.
pub(super) fn is_template(relay: &Spanned<DeValue<'_>>) -> bool {
    relay.get_ref().as_table().is_some_and(|table| table.contains_key(KEY))
}

/// The relays that the template at `path` stands for, as if they had been written out; none when it is wrong.
pub(super) fn expand<'d>(
    template: &Spanned<DeValue<'d>>,
    path: &str,
    findings: &mut Findings,
) -> Vec<Spanned<DeValue<'d>>> {
    let Some(table) = template.get_ref().as_table() else { return Vec::new() };
    let items = items(table, &format!("{path}.{KEY}"), findings);
    let mut relays = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let mut relay = template.clone();
        if let DeValue::Table(table) = relay.get_mut() {
            table.remove(KEY);
        }
        let blank = Blank { item, index };
        if let Err((span, what)) = blank.fill(&mut relay) {
            findings.add(span, "", FieldError::new(path, what, WANTED));
            return Vec::new();
        }
        relays.push(relay);
    }
    relays
}

/// The items of a template, as texts.
fn items(table: &DeTable<'_>, path: &str, findings: &mut Findings) -> Vec<String> {
    let Some(value) = table.get(KEY) else { return Vec::new() };
    if let Some(range) = value.get_ref().as_str().and_then(range) {
        return range;
    }
    let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let items: Option<Vec<String>> = value.get_ref().as_array().and_then(|items| items.iter().map(text).collect());
    let (what, remedy) = match items {
        None => (
            "for_each must be a list of texts or whole numbers, or a range".to_owned(),
            "write for_each = [\"port1\", \"port2\"], or for_each = \"1-100\"",
        ),
        Some(items) if items.is_empty() => ("for_each has no items".to_owned(), "add some, or remove the relay"),
        Some(items) if items.len() > MOST_ITEMS => {
            let what = format!("for_each has {} items, and may have {MOST_ITEMS}", items.len());
            (what, "write several such relays")
        }
        Some(items) => return items,
    };
    findings.add(value.span(), "", FieldError::new(path, what, remedy));
    Vec::new()
}

/// The numbers of a range, as `1-100`, when it is one of not too many.
fn range(text: &str) -> Option<Vec<String>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
    let is_sound = first <= last && (last - first) < MOST_ITEMS as u32;
    is_sound.then(|| (first..=last).map(|number| number.to_string()).collect())
}

/// What the placeholders of one relay stand for.
struct Blank<'a> {
    item: &'a str,
    index: usize,
}

type Wrong = (std::ops::Range<usize>, String);

impl Blank<'_> {
    /// Fills in every text of a value.
    fn fill(&self, value: &mut Spanned<DeValue<'_>>) -> Result<(), Wrong> {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains(['{', '}']) => {
                *text = Cow::Owned(self.filled(text).map_err(|what| (span, what))?);
                Ok(())
            }
            DeValue::Array(items) => items.iter_mut().try_for_each(|item| self.fill(item)),
            DeValue::Table(table) => table.iter_mut().try_for_each(|(_, inner)| self.fill(inner)),
            _ => Ok(()),
        }
    }

    fn filled(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inner, behind) = after.split_once('}').ok_or_else(|| format!("a {{ in {text:?} is not closed"))?;
            filled.push_str(before);
            filled.push_str(&self.meaning(inner)?);
            rest = behind;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// What stands between two braces.
    fn meaning(&self, inner: &str) -> Result<String, String> {
        let unknown = || format!("{{{inner}}} stands for nothing");
        let (word, added) = match inner.split_once('+') {
            Some((word, added)) => (word, Some(added.trim().parse::<u32>().map_err(|_| unknown())?)),
            None => (inner, None),
        };
        let value = match word.trim() {
            "item" => self.item.to_owned(),
            "index" => self.index.to_string(),
            _ => return Err(unknown()),
        };
        let Some(added) = added else { return Ok(value) };
        let number = value.parse::<u32>().map_err(|_| format!("{{{inner}}} adds to {value:?}, which is no number"))?;
        number.checked_add(added).map(|sum| sum.to_string()).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let blank = Blank { item: "port3", index: 2 };
        for (text, filled) in [
            ("plain", Ok("plain")),
            ("{item}", Ok("port3")),
            ("plc-{index}.{item}", Ok("plc-2.port3")),
            ("10.0.0.{index+10}", Ok("10.0.0.12")),
            ("{ index + 1 }", Ok("3")),
            ("{}", Err("stands for nothing")),
            ("{items}", Err("stands for nothing")),
            ("{index-1}", Err("stands for nothing")),
            ("{index+x}", Err("stands for nothing")),
            ("{index+4294967295}", Err("stands for nothing")),
            ("{item+1}", Err("which is no number")),
            ("{item", Err("is not closed")),
        ] {
            match (blank.filled(text), filled) {
                (Ok(got), Ok(filled)) => assert_eq!(got, filled),
                (Err(got), Err(wanted)) => assert!(got.contains(wanted), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        assert_eq!(Blank { item: "100", index: 0 }.filled("{item+1}"), Ok("101".to_owned()));
    }
}
