//! Revisions: each configuration that came in force, numbered, with who put it there and when.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::plan::Plan;
use crate::time::Timestamp;

/// One configuration that came in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// Counts up from 1; no number is used twice.
    pub number: u64,
    /// When it came in force.
    pub time: Timestamp,
    /// Who put it in force: a user, or what the daemon does by itself.
    pub by: String,
    /// By what.
    pub cause: Cause,
    /// The SHA-256 of its text, in hexadecimal digits.
    pub hash: String,
    /// How many relays it has.
    pub relays: usize,
    /// What the one who applied it wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What put a configuration in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The daemon started with it.
    Start,
    /// The file was read again.
    Reload,
    /// It was applied through the API.
    Apply,
    /// Somebody went back to an earlier revision.
    Rollback,
    /// The one before was applied to be confirmed, and was not.
    Unconfirmed,
}

impl Cause {
    /// The word that the API and the CLI use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// A configuration that was applied: what changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// What it changed.
    pub plan: Plan,
    /// The revision in force now.
    pub revision: Revision,
    /// By when it has to be confirmed, or the one before comes back; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_until: Option<Timestamp>,
}

/// The configurations that were in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The number of the one in force; absent: it could not be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<u64>,
    /// By when it has to be confirmed, or the one before comes back; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_until: Option<Timestamp>,
    /// All that are kept, oldest first.
    pub revisions: Vec<Revision>,
}

/// One configuration that was in force, with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionText {
    /// The revision.
    #[serde(flatten)]
    pub revision: Revision,
    /// Its text, as TOML.
    pub text: String,
}
