//! One mistake and where it is.

use std::ops::Range;

use mcr_model::FieldError;

/// A mistake in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where: bytes of the text.
    pub(super) span: Range<usize>,
    /// The field, as `relay[0].input.port`; empty where the text is no TOML.
    pub(super) field: String,
    /// What is wrong.
    pub(super) message: String,
    /// What stands at the span, in a few words; may be empty.
    pub(super) label: String,
    /// What to do; may be empty.
    pub(super) remedy: String,
    /// The other place that it clashes with.
    pub(super) earlier: Option<Earlier>,
}

/// A place that was fine until the mistake came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Earlier {
    /// Where: bytes of the text.
    pub(super) span: Range<usize>,
    /// What stands there.
    pub(super) label: String,
}

/// The mistakes so far, and the fields that they are about.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    /// Of every wrong field: its path and those of the tables around it.
    touched: std::collections::HashSet<String>,
    fields: std::collections::HashSet<String>,
    /// Whether what is read now was filled into a template, which has texts only.
    numbers_may_be_text: bool,
}

/// How messages of the TOML parser begin, what they mean to somebody who does not know its grammar, and what to do.
const REMEDIES: [(&str, &str, &str); 9] = [
    ("string values must be quoted", "text must be in quotes", "write it as name = \"camera-3\""),
    ("invalid boolean", "this is neither true nor false", "write true or false, without quotes"),
    ("duplicate key", "this key stands twice in its table", "remove or rename one of the two"),
    ("invalid basic string", "this text is not closed", "end it with a quote in the same line"),
    ("unclosed array table", "this heading is not closed", "write it as [[relay]]"),
    ("unclosed inline table", "this table is not closed", "end it with } before the next key"),
    ("unclosed array", "this list is not closed", "end it with ] before the next key"),
    ("missing comma", "there is no comma before this", "put one between any two"),
    ("key with no value", "this key has no value", "write key = value"),
];

/// After so many mistakes no more are looked for.
const MOST_FOUND: usize = 1000;

impl Finding {
    /// What the TOML grammar says.
    pub(super) fn of_grammar(error: &toml::de::Error) -> Self {
        let message = error.message();
        let known = REMEDIES.iter().find(|(start, _, _)| message.starts_with(start));
        let (message, remedy) = known.map_or((message, ""), |(_, plain, remedy)| (plain, remedy));
        Self {
            span: error.span().unwrap_or(0..0),
            field: String::new(),
            message: message.to_owned(),
            label: String::new(),
            remedy: remedy.to_owned(),
            earlier: None,
        }
    }
}

impl Findings {
    /// Says whether what is read from now on was filled into a template.
    pub(super) fn numbers_may_be_text(&mut self, they_may: bool) {
        self.numbers_may_be_text = they_may;
    }

    /// Whether a number may stand as text.
    pub(super) fn may_numbers_be_text(&self) -> bool {
        self.numbers_may_be_text
    }

    /// Adds a mistake of the field that `error` names.
    pub(super) fn add(&mut self, span: Range<usize>, label: impl Into<String>, error: FieldError) {
        let FieldError { field, message, remedy } = error;
        self.touch(&field);
        self.found.push(Finding { span, field, message, label: label.into(), remedy, earlier: None });
    }

    /// Adds a mistake that two places make together.
    pub(super) fn add_clash(&mut self, span: Range<usize>, label: &str, earlier: Earlier, error: FieldError) {
        self.add(span, label, error);
        if let Some(last) = self.found.last_mut() {
            last.earlier = Some(earlier);
        }
    }

    /// Whether a mistake of `field`, of a part of it, or of the part that it is in was found: what else is wrong
    /// with it may be a consequence, and would be told twice.
    pub(super) fn concern(&self, field: &str) -> bool {
        self.touched.contains(field) || ancestors(field).any(|outer| self.fields.contains(outer))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether it is time to stop looking.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MOST_FOUND
    }

    pub(super) fn into_result(self) -> Result<(), Vec<Finding>> {
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }

    /// Notes that a mistake of `field` is told as part of another one.
    pub(super) fn touch(&mut self, field: &str) {
        self.fields.insert(field.to_owned());
        self.touched.insert(field.to_owned());
        self.touched.extend(ancestors(field).map(str::to_owned));
    }
}

/// The paths of everything around `field`: of `relay[0].input.port`, `relay[0].input`, `relay[0]` and `relay`.
fn ancestors(field: &str) -> impl Iterator<Item = &str> {
    field.char_indices().rev().filter(|(_, c)| matches!(c, '.' | '[')).map(move |(i, _)| &field[..i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_field() {
        let outer: Vec<_> = ancestors("relay[0].input.port").collect();
        assert_eq!(outer, ["relay[0].input", "relay[0]", "relay"]);
    }

    #[test]
    fn a_mistake_concerns_what_is_around_it_and_in_it() {
        let mut findings = Findings::default();
        findings.add(0..1, "", FieldError::new("relay[0].input.port", "", ""));
        for concerned in ["relay[0].input.port", "relay[0].input", "relay[0]"] {
            assert!(findings.concern(concerned), "{concerned}");
        }
        for other in ["relay[0].input.group", "relay[0].output", "relay[1]"] {
            assert!(!findings.concern(other), "{other}");
        }
        findings.add(0..1, "", FieldError::new("relay[0].output", "", ""));
        assert!(findings.concern("relay[0].output[3].ttl"));
    }
}
