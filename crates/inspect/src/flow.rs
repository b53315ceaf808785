//! Frames, sorted into flows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mcr_wire::{Datagram, FrameMeta, Refused, Reject, parse};

use crate::announcement::Announcement;
use crate::kind::{Kind, Recogniser};
use crate::recent::Recent;

/// More flows than this are counted, but not told apart: a flood of sources takes no memory.
const MOST_FLOWS: usize = 4096;
/// More sessions than this are left.
const MOST_SESSIONS: usize = 1024;

/// What makes a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The index of the interface.
    pub interface: u32,
    /// The tag; `None` without.
    pub vlan: Option<u16>,
    /// The tag around that one, if there are two.
    pub outer_vlan: Option<u16>,
    /// Where it is sent.
    pub group: IpAddr,
    /// Its port.
    pub port: u16,
    /// Who sends it.
    pub source: IpAddr,
}

/// A flow, as far as it was seen. Times are since the beginning of the look.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The link-layer address it came from: of the sender, or of the router before it.
    pub source_mac: [u8; 6],
    /// The port it came from last.
    pub source_port: u16,
    /// Its time to live, as it arrived last.
    pub ttl: u8,
    /// Its code point.
    pub dscp: u8,
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// Bytes of the largest IP packet.
    pub largest_bytes: u64,
    /// When the first came.
    pub first: Duration,
    /// When the last came.
    pub last: Duration,
    recent: Recent,
    recogniser: Recogniser,
}

impl Flow {
    fn begin(datagram: &Datagram<'_>, source_mac: [u8; 6], at: Duration) -> Self {
        Self {
            source_mac,
            source_port: datagram.source.port(),
            ttl: datagram.ttl,
            dscp: datagram.traffic_class >> 2,
            packets: 0,
            bytes: 0,
            largest_bytes: 0,
            first: at,
            last: at,
            recent: Recent::starting_at(at),
            recogniser: Recogniser::default(),
        }
    }

    fn count(&mut self, datagram: &Datagram<'_>, at: Duration) {
        (self.source_port, self.ttl) = (datagram.source.port(), datagram.ttl);
        self.packets += datagram.packets();
        self.bytes += datagram.ip_bytes();
        self.largest_bytes = self.largest_bytes.max(datagram.largest_ip_bytes());
        self.last = at;
        self.recent.count(datagram.packets(), datagram.ip_bytes(), at);
        for segment in datagram.segments() {
            self.recogniser.see(segment.destination.port, segment.payload, at);
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.recogniser.kind()
    }

    /// Packets and bits per second over the last seconds, as of `now`; of what comes more rarely, from the first packet to the
    /// last. `None` of fewer than two.
    pub fn rates(&self, now: Duration) -> Option<(f64, f64)> {
        /// Fewer packets in the window than this say more of its edges than of the flow.
        const ENOUGH: u64 = 5;
        let (packets, bytes, span) = self.recent.sums(now);
        if self.packets < 2 {
            return None;
        }
        let length = self.last.saturating_sub(self.first);
        let is_over = now.saturating_sub(self.last) > span.max(length * 3 / self.packets.min(1 << 20) as u32);
        if packets >= ENOUGH || is_over {
            let seconds = span.as_secs_f64();
            return (seconds > 0.0).then(|| (packets as f64 / seconds, bytes as f64 * 8.0 / seconds));
        }
        let seconds = length.as_secs_f64();
        // n packets span n - 1 intervals.
        let share = (self.packets - 1) as f64 / self.packets as f64;
        (seconds > 0.0).then(|| (self.packets as f64 * share / seconds, self.bytes as f64 * 8.0 * share / seconds))
    }
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    flows: BTreeMap<Key, Flow>,
    sessions: BTreeMap<(IpAddr, u16), (String, String)>,
    beyond: u64,
    refused: BTreeMap<&'static str, u64>,
}

impl Flows {
    /// Counts a frame that came in on `interface`, `at` after the beginning. What is no UDP to a group is left.
    pub fn see(&mut self, interface: u32, frame: &[u8], beside: &FrameMeta, at: Duration) {
        match parse(frame, beside) {
            Ok(datagram) if datagram.destination.address.is_multicast() => self.count(interface, frame, &datagram, at),
            Err(Reject::Drop { reason, destination: Some(destination) }) if destination.address.is_multicast() => {
                *self.refused.entry(reason.name()).or_default() += Refused::of(frame, beside).packets;
            }
            Ok(_) | Err(Reject::Drop { .. } | Reject::NotOurs) => {}
        }
    }

    fn count(&mut self, interface: u32, frame: &[u8], datagram: &Datagram<'_>, at: Duration) {
        let destination = datagram.destination;
        let key = Key {
            interface,
            vlan: destination.vlan.map(|vlan| vlan.get()),
            outer_vlan: destination.vlan.and_then(|vlan| vlan.outer()),
            group: destination.address,
            port: destination.port,
            source: datagram.source.ip(),
        };
        if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&key) {
            self.beyond += datagram.packets();
            return;
        }
        let source_mac = frame.get(6..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or_default();
        let flow = self.flows.entry(key).or_insert_with(|| Flow::begin(datagram, source_mac, at));
        flow.count(datagram, at);
        if let Some(Kind::Sap(announcement)) = crate::message::recognise(key.port, datagram.payload) {
            self.announced(announcement);
        }
    }

    fn announced(&mut self, announcement: Announcement) {
        let Announcement { session, streams, is_deletion } = announcement;
        for stream in streams {
            let place = (stream.group.into(), stream.port);
            if is_deletion {
                self.sessions.remove(&place);
            } else if self.sessions.len() < MOST_SESSIONS || self.sessions.contains_key(&place) {
                self.sessions.insert(place, (session.clone(), stream.encoding));
            }
        }
    }

    /// Forgets the flows that were not seen since.
    pub fn forget_before(&mut self, since: Duration) {
        self.flows.retain(|_, flow| flow.last >= since);
    }

    /// The flows, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Flow)> {
        self.flows.iter()
    }

    /// What was announced for a group and port: the session's name, and its encoding.
    pub fn session(&self, group: IpAddr, port: u16) -> Option<(&str, &str)> {
        self.sessions.get(&(group, port)).map(|(session, encoding)| (session.as_str(), encoding.as_str()))
    }

    /// Everything that was announced: group, port, session and encoding.
    pub fn sessions(&self) -> impl Iterator<Item = (IpAddr, u16, &str, &str)> {
        self.sessions
            .iter()
            .map(|((group, port), (session, encoding))| (*group, *port, session.as_str(), encoding.as_str()))
    }

    /// Packets of flows for which there was no more room.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Packets to groups that no relay would take, by the reason.
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }
}
