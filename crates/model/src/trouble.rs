//! What is wrong with the daemon as a whole, and stays so until somebody does something.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that is wrong with the daemon, or with what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// What kind.
    pub kind: TroubleKind,
    /// The relay that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    /// What should outlive the daemon is in memory: its folder can't be used.
    StoreInMemory,
    /// The store was damaged, and an empty one was begun.
    StoreDamaged,
    /// A stored relay of the API was left out at the start.
    RelayLeftOut,
    /// The configuration that was applied was left out at the start, and the file is in force.
    RevisionLeftOut,
    /// A configuration was not confirmed in time, and the one before can't come back.
    RollbackOverdue,
    /// The keeper has ended, and there is no other.
    KeeperLost,
    /// Nobody reads the log, and messages are lost.
    LogUnread,
    /// Somebody has changed or removed the one-way rules of the keeper's policy.
    OneWayDisturbed,
    /// The keeper hears no IGMP and MLD, and a relay was configured for them.
    MembershipsUnheard,
}

impl TroubleKind {
    /// Every kind.
    pub const ALL: [TroubleKind; 9] = [
        Self::StoreInMemory,
        Self::StoreDamaged,
        Self::RelayLeftOut,
        Self::RevisionLeftOut,
        Self::RollbackOverdue,
        Self::KeeperLost,
        Self::LogUnread,
        Self::OneWayDisturbed,
        Self::MembershipsUnheard,
    ];

    /// The word that the API and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::StoreInMemory => "store-in-memory",
            Self::StoreDamaged => "store-damaged",
            Self::RelayLeftOut => "relay-left-out",
            Self::RevisionLeftOut => "revision-left-out",
            Self::RollbackOverdue => "rollback-overdue",
            Self::KeeperLost => "keeper-lost",
            Self::LogUnread => "log-unread",
            Self::OneWayDisturbed => "one-way-disturbed",
            Self::MembershipsUnheard => "memberships-unheard",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_in_json() {
        for kind in TroubleKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
