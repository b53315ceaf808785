//! What the API answers and the CLI shows: one definition of every name and unit.
//!
//! Packets are UDP datagrams (a segmented super-frame counts as its segments); bytes are those of the IP packets,
//! headers included; rates are over the last whole second or so and absent until two totals are known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::spec::RelaySpec;
use crate::state::RelayState;
use crate::trouble::Trouble;

/// Who made a relay, and so who may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file.
    File,
    /// A call of the API.
    Api,
}

/// Totals and rates of packets that went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// Datagrams per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<f64>,
    /// Bits of their IP packets per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<f64>,
}

/// A relay and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RelayStatus {
    /// Its id.
    pub name: String,
    /// Who made it.
    pub origin: Origin,
    /// What it does.
    pub state: RelayState,
    /// Why.
    pub reason: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What moves its packets.
    pub datapath: String,
    /// Why it is this one and no faster one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath_reason: Option<String>,
    /// Its input as endpoint text.
    pub from: String,
    /// How long it lives unless it is renewed; absent: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
    /// What may go wrong although it does what it should.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<RelayWarning>,
    /// The groups that were seen and are joined, where the others are not; absent: all are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["239.1.0.7"]))]
    pub seen_groups: Option<Vec<IpAddr>>,
    /// Relays that take some of the groups and ports that it names, for they name these more exactly. Callers whose access is
    /// limited see none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_to: Vec<SharedPairs>,
    /// Relays that leave some of theirs to it in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_from: Vec<SharedPairs>,
    /// How its breaker stands; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    /// What arrived for it.
    pub received: Traffic,
    /// Seconds since the last packet; absent until one was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_packet_seconds: Option<f64>,
    /// Its outputs, in the order of its definition.
    pub outputs: Vec<OutputStatus>,
    /// Its definition: what PUT takes.
    pub relay: RelaySpec,
}

/// Groups and ports that two relays name, of which the one that names them more exactly takes the packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedPairs {
    /// The other relay.
    #[schema(example = "camera-7")]
    pub relay: String,
    /// What both name: groups and ports, as in endpoint text.
    #[schema(example = "239.1.0.7:5001")]
    pub what: String,
    /// How many pairs of a group and a port that are.
    pub pairs: u64,
}

/// Something that may go wrong with a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayWarning {
    /// What kind.
    pub kind: RelayWarningKind,
    /// What it is.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// What may go wrong with a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RelayWarningKind {
    /// Nobody asks for memberships on the network of its input.
    NoQuerier,
    /// The network of its input runs an older IGMP, in which nobody asks for sources.
    SourcesNotAsked,
    /// Its group is a source-specific one, which routers give only to who names sources, and it names none.
    SourcesNeeded,
    /// It joins on demand, and is not told who wants it.
    ReceiversUnknown,
    /// It joins what is seen, and can not look for it.
    GroupsUnknown,
}

/// The breaker of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerStatus {
    /// Whether it keeps the relay out of force.
    pub open: bool,
    /// How often it did so since the daemon started.
    pub trips: u64,
}

/// The lease of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseStatus {
    /// Its whole length.
    pub seconds: f64,
    /// What is left of it.
    pub seconds_left: f64,
}

/// An output and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutputStatus {
    /// Where it goes, as endpoint text.
    pub to: String,
    /// Whether packets can leave; the reason and remedy when not.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The source address that its packets carry now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "10.1.0.1")]
    pub source: Option<IpAddr>,
    /// What left.
    pub sent: Traffic,
    /// All that was dropped.
    pub dropped_packets: u64,
    /// Dropped by reason; reasons with none are left out.
    pub dropped: BTreeMap<String, u64>,
}

/// A network interface as MCR sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a link.
    pub carrier: bool,
    /// Can send and receive multicast.
    pub multicast: bool,
    /// Its largest IP packet, in bytes.
    pub mtu: u32,
    /// Its link-layer address.
    pub mac: String,
    /// Its IPv4 addresses with prefix length.
    pub addresses: Vec<String>,
    /// Relays that listen on it.
    pub input_of: usize,
    /// Outputs that leave on it.
    pub output_of: usize,
    /// Frames that were read from it and belong to no relay, or were lost before a relay was known, by reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattributed: Option<BTreeMap<String, u64>>,
}

/// The daemon as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// The configuration file, if it reads one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// How many relays there are in each state; every state is named.
    pub relays: BTreeMap<String, usize>,
    /// The process id of its keeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper_pid: Option<u32>,
    /// What is wrong with it, and stays so until somebody does something. Callers whose access is limited see none.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// What it has given up, so that it could not do it if it was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<ConfinementStatus>,
}

/// What a daemon has given up besides its capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfinementStatus {
    /// System calls that it does not need (seccomp).
    pub seccomp: bool,
    /// Files that it does not need (Landlock): `full`, `partial` on an older kernel, or `none`.
    pub landlock: String,
}

impl ConfinementStatus {
    /// The word for a line.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.seccomp, self.landlock.as_str()) {
            (true, "full") => "confined",
            (false, "none") => "unconfined",
            _ => "partly confined",
        }
    }
}

/// What kept a relay from being reached, as an RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem: a relative reference that names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, in words that say what to do.
    pub detail: String,
    /// The field that is wrong, as `output[1].ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every field that is wrong, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
}

/// One wrong field of a [`Problem`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemField {
    /// Where it is.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl From<crate::FieldError> for ProblemField {
    fn from(error: crate::FieldError) -> Self {
        let crate::FieldError { field, message, remedy } = error;
        Self { field, message, remedy }
    }
}

/// What a relay carried, step by step, oldest first. The three lists are equally long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayHistory {
    /// The relay.
    pub relay: String,
    /// How long a step is.
    pub step_seconds: u64,
    /// When the first step began, as RFC 3339 in UTC.
    pub start: String,
    /// Datagrams that arrived in each step.
    pub received_packets: Vec<u64>,
    /// Bytes of their IP packets.
    pub received_bytes: Vec<u64>,
    /// Copies that were dropped, on all outputs.
    pub dropped_packets: Vec<u64>,
}
