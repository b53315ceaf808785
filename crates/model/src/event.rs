//! What happens, for those who want to hear of it: one definition of every kind of event.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::querier::QueryProtocol;
use crate::state::RelayState;
use crate::status::Origin;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its id: `RUN-NUMBER`, where numbers go up by one within a run of the daemon. What was missed has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When, as RFC 3339 in UTC to the millisecond.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. `kind` in JSON is the name of the variant, as `relay-created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// A relay was made.
    RelayCreated {
        /// Its name.
        relay: String,
        /// By whom.
        origin: Origin,
    },
    /// A relay got another definition.
    RelayChanged {
        /// Its name.
        relay: String,
        /// By whom.
        origin: Origin,
    },
    /// A relay is gone.
    RelayRemoved {
        /// Its name.
        relay: String,
        /// Whose it was.
        origin: Origin,
    },
    /// A relay does something else than before.
    RelayState {
        /// Its name.
        relay: String,
        /// What it did; absent when it is new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<RelayState>,
        /// What it does.
        to: RelayState,
        /// Why.
        reason: String,
        /// What to do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    },
    /// Packets of a relay stopped coming.
    FlowSilent {
        /// The relay.
        relay: String,
        /// Seconds since the last packet.
        quiet_seconds: f64,
    },
    /// Packets come again.
    FlowRecovered {
        /// The relay.
        relay: String,
        /// Seconds between the last packet before the gap and the first ones after it, to about a tenth.
        gap_seconds: f64,
    },
    /// More packets came than the breaker of a relay allows: it is out of force.
    BreakerTripped {
        /// The relay.
        relay: String,
        /// How many came.
        packets_per_second: u64,
        /// How many are allowed.
        max_packets_per_second: u64,
    },
    /// The breaker let the relay in force again.
    BreakerRecovered {
        /// The relay.
        relay: String,
    },
    /// An output of a relay began to drop packets.
    DropsStarted {
        /// The relay.
        relay: String,
        /// The output, as endpoint text.
        output: String,
        /// The drop reason.
        reason: String,
        /// How many it were when that was seen.
        packets: u64,
    },
    /// It has dropped none of that reason for a second.
    DropsEnded {
        /// The relay.
        relay: String,
        /// The output, as endpoint text.
        output: String,
        /// The drop reason.
        reason: String,
        /// How many it were in all since they started.
        packets: u64,
    },
    /// Nobody renewed the lease of a relay in time: the relay is removed.
    LeaseExpired {
        /// The relay.
        relay: String,
        /// How long the lease was, in seconds.
        lease_seconds: f64,
    },
    /// An interface is there that was not.
    InterfaceAppeared {
        /// Its name.
        interface: String,
    },
    /// An interface is gone.
    InterfaceLeft {
        /// Its name.
        interface: String,
    },
    /// An interface is up and has a link.
    InterfaceUp {
        /// Its name.
        interface: String,
    },
    /// An interface was switched off or lost its link.
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// The addresses of an interface changed.
    InterfaceAddresses {
        /// Its name.
        interface: String,
        /// All that it has now.
        #[schema(value_type = Vec<String>)]
        addresses: Vec<IpAddr>,
    },
    /// Another host asks for memberships on the network of an interface.
    QuerierHeard {
        /// The interface.
        interface: String,
        /// How.
        protocol: QueryProtocol,
        /// Who asks.
        querier: String,
    },
    /// Nobody asks there any more, or did so far.
    QuerierMissing {
        /// The interface.
        interface: String,
        /// By this protocol.
        protocol: QueryProtocol,
    },
    /// This host asks there.
    QuerierOurs {
        /// The interface.
        interface: String,
        /// How.
        protocol: QueryProtocol,
    },
    /// Relays of a configuration were put in force.
    ConfigurationLoaded {
        /// How many are new.
        added: usize,
        /// How many have another definition.
        changed: usize,
        /// How many are gone.
        removed: usize,
        /// How many were not touched.
        unchanged: usize,
    },
    /// A configuration is wrong; the one in force stays.
    ConfigurationRefused {
        /// What is wrong.
        reason: String,
    },
    /// A configuration was not confirmed in time, and the one before can't come back yet: it is tried again.
    RollbackFailed {
        /// The revision that stays in force meanwhile.
        revision: u64,
        /// The revision that is to come back.
        previous: u64,
        /// What is in its way.
        reason: String,
    },
    /// The keeper has ended.
    KeeperLost {
        /// Its process id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    /// Another keeper is there.
    KeeperFound {
        /// Its process id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    /// Somebody has changed or removed the one-way rules of the keeper's policy.
    OneWayDisturbed {
        /// How often, since the keeper started.
        times: u64,
        /// Whether they were made anew; if not, nothing is opened any more.
        mended: bool,
    },
    /// Said to one reader only, and not kept: it read too slowly, or came too late, for these.
    Missed {
        /// How many; absent when the daemon was started again meanwhile, so that nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        events: Option<u64>,
    },
}

/// What an event is about: it is the business of those whose access has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// The relay of that name.
    Relay(&'a str),
    /// The interface of that name.
    Interface(&'a str),
    /// All relays of the configuration.
    Configuration,
    /// The daemon, as everybody who may look at it sees it.
    Daemon,
}

impl EventKind {
    /// The relay that it is about, if it is about one.
    pub fn relay(&self) -> Option<&str> {
        match self.about() {
            About::Relay(name) => Some(name),
            About::Interface(_) | About::Configuration | About::Daemon => None,
        }
    }

    /// What it is about.
    pub fn about(&self) -> About<'_> {
        match self {
            Self::RelayCreated { relay, .. }
            | Self::RelayChanged { relay, .. }
            | Self::RelayRemoved { relay, .. }
            | Self::RelayState { relay, .. }
            | Self::FlowSilent { relay, .. }
            | Self::FlowRecovered { relay, .. }
            | Self::BreakerTripped { relay, .. }
            | Self::BreakerRecovered { relay }
            | Self::DropsStarted { relay, .. }
            | Self::DropsEnded { relay, .. }
            | Self::LeaseExpired { relay, .. } => About::Relay(relay),
            Self::InterfaceAppeared { interface }
            | Self::InterfaceLeft { interface }
            | Self::InterfaceUp { interface }
            | Self::InterfaceDown { interface }
            | Self::QuerierHeard { interface, .. }
            | Self::QuerierMissing { interface, .. }
            | Self::QuerierOurs { interface, .. }
            | Self::InterfaceAddresses { interface, .. } => About::Interface(interface),
            Self::ConfigurationLoaded { .. } | Self::ConfigurationRefused { .. } | Self::RollbackFailed { .. } => {
                About::Configuration
            }
            Self::KeeperLost { .. } | Self::KeeperFound { .. } | Self::OneWayDisturbed { .. } | Self::Missed { .. } => {
                About::Daemon
            }
        }
    }

    /// The name of the variant as JSON has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RelayCreated { .. } => "relay-created",
            Self::RelayChanged { .. } => "relay-changed",
            Self::RelayRemoved { .. } => "relay-removed",
            Self::RelayState { .. } => "relay-state",
            Self::FlowSilent { .. } => "flow-silent",
            Self::FlowRecovered { .. } => "flow-recovered",
            Self::BreakerTripped { .. } => "breaker-tripped",
            Self::BreakerRecovered { .. } => "breaker-recovered",
            Self::DropsStarted { .. } => "drops-started",
            Self::DropsEnded { .. } => "drops-ended",
            Self::LeaseExpired { .. } => "lease-expired",
            Self::InterfaceAppeared { .. } => "interface-appeared",
            Self::InterfaceLeft { .. } => "interface-left",
            Self::InterfaceUp { .. } => "interface-up",
            Self::InterfaceDown { .. } => "interface-down",
            Self::InterfaceAddresses { .. } => "interface-addresses",
            Self::QuerierHeard { .. } => "querier-heard",
            Self::QuerierMissing { .. } => "querier-missing",
            Self::QuerierOurs { .. } => "querier-ours",
            Self::ConfigurationLoaded { .. } => "configuration-loaded",
            Self::ConfigurationRefused { .. } => "configuration-refused",
            Self::RollbackFailed { .. } => "rollback-failed",
            Self::KeeperLost { .. } => "keeper-lost",
            Self::KeeperFound { .. } => "keeper-found",
            Self::OneWayDisturbed { .. } => "one-way-disturbed",
            Self::Missed { .. } => "missed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_in_json() {
        let missed = EventKind::Missed { events: Some(7) };
        let state = EventKind::RelayState {
            relay: "camera".into(),
            from: Some(RelayState::Flowing),
            to: RelayState::Silent,
            reason: "no packet".into(),
            remedy: None,
        };
        for kind in [missed, state, EventKind::KeeperLost { pid: None }] {
            let event = Event { id: Some("1f-7".into()), time: "2026-01-01T00:00:00.000Z".into(), kind };
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["kind"], event.kind.name());
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        }
    }
}
