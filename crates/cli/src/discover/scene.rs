//! What was seen, as a table and as JSON.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use mcr_diagnose::Link;
use mcr_inspect::{Flow, Flows, Key, Kind, maker};
use mcr_model::grant::Prefix;
use mcr_model::time::Timestamp;
use serde::Serialize;

use crate::view::quantity::{bit_rate, count, packet_rate, packets, seconds};
use crate::view::screen::Ink;
use crate::view::table::{Align, Table};

/// What was seen so far.
pub(crate) struct Scene {
    names: BTreeMap<u32, String>,
    /// The interfaces with an XDP program, which takes packets before they can be seen.
    hidden: Vec<String>,
    groups: Vec<Prefix>,
    started: Instant,
    began: Timestamp,
    /// What came.
    pub(crate) flows: Flows,
    /// Frames that came while this program was too slow.
    pub(crate) missed: u64,
}

impl Scene {
    /// Nothing yet, from now on. Only flows to `groups` are shown, or all when there are none.
    pub(crate) fn new(links: &[Link], groups: Vec<Prefix>) -> Self {
        let names = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let hidden = links.iter().filter(|link| link.xdp).map(|link| link.name.clone()).collect();
        let (started, began) = (Instant::now(), Timestamp::now());
        Self { names, hidden, groups, started, began, flows: Flows::default(), missed: 0 }
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The flows that are shown.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&Key, &Flow)> {
        self.flows.iter().filter(|(key, _)| self.is_shown(key.group))
    }

    /// The name of an interface that is looked at.
    pub(crate) fn interface(&self, key: &Key) -> &str {
        self.names.get(&key.interface).map_or("", String::as_str)
    }

    fn is_shown(&self, group: Ipv4Addr) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|prefix| prefix.contains(IpAddr::V4(group)))
    }

    /// For people: a line for each flow, and what there is to say beside.
    pub(crate) fn table(&self, ink: Ink) -> String {
        let mut table = Table::new([
            ("FLOW", Align::Left),
            ("KIND", Align::Left),
            ("RATE", Align::Right),
            ("PACKETS", Align::Right),
            ("BYTES", Align::Right),
            ("TTL", Align::Right),
            ("DSCP", Align::Right),
            ("SEEN", Align::Right),
            ("MAKER", Align::Left),
            ("DETAIL", Align::Left),
        ]);
        for (key, flow) in self.shown() {
            let (packet, bit) = flow.rates().unzip();
            let ago = self.started.elapsed().saturating_sub(flow.last).as_secs_f64();
            let kind = flow.kind();
            table.push([
                self.endpoint(key).into(),
                kind.name().into(),
                bit.map(bit_rate).unwrap_or_default().into(),
                packet.map_or_else(|| count(flow.packets), packet_rate).into(),
                flow.largest_bytes.to_string().into(),
                flow.ttl.to_string().into(),
                flow.dscp.to_string().into(),
                if ago < 1.0 { "now".to_owned() } else { format!("{} ago", seconds(ago)) }.into(),
                maker(flow.source_mac).unwrap_or_default().into(),
                self.detail(key, &kind).into(),
            ]);
        }
        let flows = if self.shown().next().is_none() { self.nothing() } else { table.render(ink) };
        flows + &self.notes().concat()
    }

    fn nothing(&self) -> String {
        let joins = "`--probe-groups PREFIX` joins, which a snooping switch wants to see\n";
        if self.hidden.is_empty() {
            return format!("nothing was sent to a group; {joins}");
        }
        format!(
            "nothing was seen to be sent to a group; packets that XDP takes on {} (relays with the xdp datapath do) are \
             not seen here, `mcr list` counts those of relays; {joins}",
            self.hidden.join(", ")
        )
    }

    /// As `mcr relay` takes it.
    fn endpoint(&self, key: &Key) -> String {
        let Key { interface: _, vlan, group, port, source } = key;
        let vlan = vlan.map(|vlan| format!(",vlan={vlan}")).unwrap_or_default();
        format!("{}:{source}@{group}:{port}{vlan}", self.interface(key))
    }

    fn detail(&self, key: &Key, kind: &Kind) -> String {
        match self.flows.session(key.group, key.port) {
            Some((session, encoding)) => format!("“{session}” {encoding} {}", kind.detail()).trim_end().to_owned(),
            None => kind.detail(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let unseen =
            |group: Ipv4Addr, port: u16| !self.flows.iter().any(|(key, _)| (key.group, key.port) == (group, port));
        let announced =
            self.flows.sessions().filter(|(group, port, ..)| self.is_shown(*group) && unseen(*group, *port));
        let mut notes: Vec<String> = announced
            .map(|(group, port, session, encoding)| {
                let line = format!("announced, not seen: {group}:{port} “{session}” {encoding}");
                line.trim_end().to_owned() + "\n"
            })
            .collect();
        notes.extend(
            self.flows
                .refused()
                .iter()
                .map(|(reason, number)| format!("{} to groups that no relay takes: {reason}\n", packets(*number))),
        );
        if self.missed > 0 {
            notes
                .push(format!("{} came too fast to be looked at: rates are higher than shown\n", packets(self.missed)));
        }
        if self.flows.beyond() > 0 {
            notes.push(format!("{} of more flows than are kept\n", packets(self.flows.beyond())));
        }
        notes
    }

    /// For scripts: one object on one line.
    pub(crate) fn json(&self) -> String {
        let sessions =
            self.flows.sessions().map(|(group, port, session, encoding)| Session { group, port, session, encoding });
        let report = Report {
            interfaces: self.names.values().map(String::as_str).collect(),
            seconds: self.started.elapsed().as_secs_f64(),
            flows: self.shown().map(|(key, flow)| self.row(key, flow)).collect(),
            sessions: sessions.collect(),
            refused_packets: self.flows.refused(),
            missed_packets: self.missed,
            unlisted_packets: self.flows.beyond(),
        };
        serde_json::to_string(&report).unwrap_or_default() + "\n"
    }

    fn row<'a>(&'a self, key: &Key, flow: &Flow) -> Row<'a> {
        let (packets_per_second, bits_per_second) = flow.rates().unzip();
        Row {
            interface: self.interface(key),
            vlan: key.vlan,
            source: key.source,
            source_port: flow.source_port,
            group: key.group,
            port: key.port,
            source_mac: flow.source_mac.map(|byte| format!("{byte:02x}")).join(":"),
            maker: maker(flow.source_mac),
            ttl: flow.ttl,
            dscp: flow.dscp,
            packets: flow.packets,
            bytes: flow.bytes,
            largest_packet_bytes: flow.largest_bytes,
            packets_per_second,
            bits_per_second,
            first_seen: self.began.after(flow.first),
            last_seen: self.began.after(flow.last),
            session: self.flows.session(key.group, key.port).map(|(session, _)| session),
            name: flow.kind().name(),
            what: flow.kind(),
        }
    }
}

/// What a script reads.
#[derive(Debug, Serialize)]
struct Report<'a> {
    interfaces: Vec<&'a str>,
    seconds: f64,
    flows: Vec<Row<'a>>,
    /// What was announced by SAP.
    sessions: Vec<Session<'a>>,
    /// Packets to groups that no relay takes, by the reason.
    refused_packets: &'a BTreeMap<&'static str, u64>,
    /// Packets that came too fast to be looked at.
    missed_packets: u64,
    /// Packets of more flows than are kept.
    unlisted_packets: u64,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    interface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    source: Ipv4Addr,
    source_port: u16,
    group: Ipv4Addr,
    port: u16,
    source_mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    maker: Option<&'static str>,
    ttl: u8,
    dscp: u8,
    packets: u64,
    bytes: u64,
    largest_packet_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_second: Option<f64>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    /// What it is, as the table says it.
    name: &'static str,
    /// What it is, in detail.
    what: Kind,
}

#[derive(Debug, Serialize)]
struct Session<'a> {
    group: Ipv4Addr,
    port: u16,
    session: &'a str,
    encoding: &'a str,
}
