//! What multicast was seen on a wire, for whoever asks: one definition for the API, `mcr discover` and its JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// Everything that was seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowReport {
    /// The interfaces that were looked at.
    pub interfaces: Vec<String>,
    /// How long the looks took, in all.
    pub seconds: f64,
    /// The flows, by interface, VLAN, group, port and source.
    pub flows: Vec<FlowStatus>,
    /// What was announced by SAP.
    pub sessions: Vec<AnnouncedSession>,
    /// Packets to groups that make no flow here, by the reason.
    pub refused_packets: BTreeMap<String, u64>,
    /// Packets that came too fast to be looked at.
    pub missed_packets: u64,
    /// Packets of more flows than are kept.
    pub unlisted_packets: u64,
    /// What to do when there is nothing to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Packets with one interface, VLAN, source, group and port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowStatus {
    /// Where it came in.
    pub interface: String,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The tag around that one, if there are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer_vlan: Option<u16>,
    /// Who sends it.
    #[schema(value_type = String, example = "192.168.168.55")]
    pub source: IpAddr,
    /// The port that it came from last.
    pub source_port: u16,
    /// Where it is sent.
    #[schema(value_type = String, example = "239.1.1.1")]
    pub group: IpAddr,
    /// Its port.
    pub port: u16,
    /// The link-layer address that it came from: of the sender, or of the router before it.
    pub source_mac: String,
    /// Who made that interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<String>,
    /// Time to live or hop limit, as it arrived last.
    pub ttl: u8,
    /// Its code point.
    pub dscp: u8,
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// Bytes of the largest IP packet.
    pub largest_packet_bytes: u64,
    /// Datagrams per second over the last seconds; absent of too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<f64>,
    /// Bits of their IP packets per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<f64>,
    /// When the first came.
    pub first_seen: Timestamp,
    /// When the last came.
    pub last_seen: Timestamp,
    /// Seconds since then.
    pub last_packet_seconds: f64,
    /// The session that was announced for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What it is, in a word or two.
    pub name: String,
    /// What more is known of it, in words; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What it is: its `kind`, and what is known of that kind.
    #[schema(value_type = Object, example = json!({"kind": "plain"}))]
    pub what: serde_json::Value,
}

/// A session that was announced by SAP (RFC 2974).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnnouncedSession {
    /// Where it is sent.
    #[schema(value_type = String, example = "239.69.1.1")]
    pub group: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its name.
    pub session: String,
    /// Its encoding, as `L24/48000/2`.
    pub encoding: String,
}

impl FlowStatus {
    /// Whether a session was announced for it.
    pub fn is_of(&self, session: &AnnouncedSession) -> bool {
        (self.group, self.port) == (session.group, session.port)
    }
}

impl FlowReport {
    /// Leaves out the flows that are not to be shown; sessions go by their groups alone.
    pub fn keep(&mut self, is_shown: impl Fn(&FlowStatus) -> bool, is_group_shown: impl Fn(IpAddr) -> bool) {
        self.flows.retain(|flow| is_shown(flow));
        self.sessions.retain(|session| is_group_shown(session.group));
    }

    /// What was announced for a group and port.
    pub fn session(&self, group: IpAddr, port: u16) -> Option<&AnnouncedSession> {
        self.sessions.iter().find(|session| (session.group, session.port) == (group, port))
    }
}
