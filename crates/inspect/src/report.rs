//! Flows, told to others.

use std::collections::BTreeMap;
use std::time::Duration;

use mcr_model::flow::{AnnouncedSession, FlowReport, FlowStatus};
use mcr_model::time::Timestamp;

use crate::flow::{Flow, Flows, Key};
use crate::maker::maker;

/// What a look knows beside the flows.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The interfaces that were looked at, by index.
    pub names: &'a BTreeMap<u32, String>,
    /// When it began.
    pub began: Timestamp,
    /// How long ago that is.
    pub now: Duration,
}

impl Flows {
    /// Everything that was seen.
    pub fn report(&self, look: Look<'_>) -> FlowReport {
        let session = |(group, port, session, encoding): (_, u16, &str, &str)| AnnouncedSession {
            group,
            port,
            session: session.to_owned(),
            encoding: encoding.to_owned(),
        };
        FlowReport {
            interfaces: look.names.values().cloned().collect(),
            seconds: look.now.as_secs_f64(),
            flows: self.iter().map(|(key, flow)| self.status(key, flow, look)).collect(),
            sessions: self.sessions().map(session).collect(),
            refused_packets: self.refused().iter().map(|(name, packets)| ((*name).to_owned(), *packets)).collect(),
            missed_packets: 0,
            unlisted_packets: self.beyond(),
            hint: None,
        }
    }

    fn status(&self, key: &Key, flow: &Flow, look: Look<'_>) -> FlowStatus {
        let (kind, (packets_per_second, bits_per_second)) = (flow.kind(), flow.rates(look.now).unzip());
        FlowStatus {
            interface: look.names.get(&key.interface).cloned().unwrap_or_default(),
            vlan: key.vlan,
            outer_vlan: key.outer_vlan,
            source: key.source,
            source_port: flow.source_port,
            group: key.group,
            port: key.port,
            source_mac: flow.source_mac.map(|byte| format!("{byte:02x}")).join(":"),
            maker: maker(flow.source_mac).map(str::to_owned),
            ttl: flow.ttl,
            dscp: flow.dscp,
            packets: flow.packets,
            bytes: flow.bytes,
            largest_packet_bytes: flow.largest_bytes,
            packets_per_second,
            bits_per_second,
            first_seen: look.began.after(flow.first),
            last_seen: look.began.after(flow.last),
            last_packet_seconds: look.now.saturating_sub(flow.last).as_secs_f64(),
            session: self.session(key.group, key.port).map(|(session, _)| session.to_owned()),
            name: kind.name().to_owned(),
            detail: kind.detail(),
            // A kind that can't be written would be a bug that the tests of this crate find.
            what: serde_json::to_value(&kind).unwrap_or_default(),
        }
    }
}
