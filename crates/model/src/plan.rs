//! What a configuration would change, before it does: for a person to read and a script to check.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::RelayState;
use crate::status::Traffic;

/// What a configuration would change. Relays of the API are not part of it and stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// New relays.
    pub added: Vec<AddedRelay>,
    /// Relays with another definition: their counters begin at zero, packets in between may be lost.
    pub changed: Vec<ChangedRelay>,
    /// Relays that are gone.
    pub removed: Vec<RemovedRelay>,
    /// How many relays are not touched: they lose no packet.
    pub unchanged: usize,
    /// What is allowed and may not be meant.
    pub warnings: Vec<Warning>,
    /// Outputs of which nobody can tell whether anybody receives them: only a bridge that listens to IGMP knows.
    pub outputs_with_unknown_receivers: usize,
}

/// A new relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AddedRelay {
    /// Its name.
    pub name: String,
    /// Its input, as endpoint text.
    pub from: String,
    /// Its outputs, as endpoint text.
    pub to: Vec<String>,
}

/// A relay that gets another definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedRelay {
    /// Its name.
    pub name: String,
    /// Every field that is different.
    pub fields: Vec<FieldChange>,
    /// What it carries now, if it carries anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<TouchedFlow>,
}

/// A relay that goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RemovedRelay {
    /// Its name.
    pub name: String,
    /// Its input, as endpoint text.
    pub from: String,
    /// What it carries now, if it carries anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<TouchedFlow>,
}

/// One field that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Where it is, as `input.port`, or `output[eth1:239.2.2.2:6001].ttl`.
    pub field: String,
    /// What it is now; absent: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it becomes; absent: it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A flow that is running and would be touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TouchedFlow {
    /// What the relay does.
    pub state: RelayState,
    /// What arrives for it.
    pub received: Traffic,
}

/// Something that is allowed and may not be meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// What kind of warning.
    pub kind: WarningKind,
    /// The relays that it is about.
    pub relays: Vec<String>,
    /// What is the matter, in a sentence without a final stop.
    pub message: String,
    /// What to do if it is not meant.
    pub remedy: String,
}

/// The kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// Two groups on one interface have the same link-layer address (RFC 1112 section 6.4: 32 groups share each).
    SharedMac,
    /// What is to leave on an interface, at the rates of now, is more than its link carries.
    Oversubscribed,
    /// The group of an output is not in 239.0.0.0/8 (RFC 2365) nor in 232.0.0.0/8 (RFC 4607).
    PublicGroup,
    /// An output has a TTL of 1.
    ShortTtl,
    /// The bridge that an output leaves on knows of no receiver.
    NoReceiver,
    /// A relay takes some of the groups and ports of another, for it names them more exactly.
    TakesPairs,
}

impl Plan {
    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}
