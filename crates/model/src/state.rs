//! The state of a relay, with its reason and remedy in words.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a relay is doing. From the first variant to the last: what an operator has to look at, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RelayState {
    /// Packets arrive and leave.
    Flowing,
    /// Joined and installed; nothing seen yet.
    Ready,
    /// Was flowing; nothing has been seen for a while.
    Silent,
    /// An interface is missing or down; it starts by itself when that is there.
    Pending,
    /// Some output fails or drops packets.
    Degraded,
    /// It can't work until somebody does something.
    Failed,
}

impl RelayState {
    /// Every state, in the order of the variants.
    pub const ALL: [RelayState; 6] =
        [Self::Flowing, Self::Ready, Self::Silent, Self::Pending, Self::Degraded, Self::Failed];

    /// The word that the API, the CLI and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::Ready => "ready",
            Self::Silent => "silent",
            Self::Pending => "pending",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }

    /// Whether a packet that arrives now is received: the group is joined and the datapath has the rule.
    pub fn is_listening(self) -> bool {
        matches!(self, Self::Flowing | Self::Ready | Self::Silent | Self::Degraded)
    }
}

impl fmt::Display for RelayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A state with its reason and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// The state.
    pub state: RelayState,
    /// Why, in a sentence without a final stop.
    pub reason: String,
    /// What to do; none where nothing needs doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Condition {
    /// A condition that needs nobody.
    pub fn fine(state: RelayState, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), remedy: None }
    }

    /// A condition that somebody can mend.
    pub fn trouble(state: RelayState, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), remedy: Some(remedy.into()) }
    }
}
