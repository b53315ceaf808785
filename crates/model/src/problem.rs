//! What is wrong with a field that a user gave: where it is, what is wrong, what to do.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with one field of a relay or a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where the field is, as `output[1].ttl`; empty when it is the relay as a whole.
    pub field: String,
    /// What is wrong, in a sentence without a final stop.
    pub message: String,
    /// What to do about it, in a sentence without a final stop.
    pub remedy: String,
}

impl FieldError {
    /// An error of the field at `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), remedy: remedy.into() }
    }

    /// The same error seen from outside: the field gets `prefix` before it (`relay[3]` + `input.port`).
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let field = match (prefix.is_empty(), self.field.is_empty()) {
            (true, _) => self.field,
            (_, true) => prefix.to_owned(),
            _ => format!("{prefix}.{}", self.field),
        };
        Self { field, ..self }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldError {}
