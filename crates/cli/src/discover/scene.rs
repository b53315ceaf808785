//! What was seen, as a table and as JSON.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mcr_model::Prefix;
use mcr_model::flow::{AnnouncedSession, FlowReport, FlowStatus};

use crate::view::json;
use crate::view::quantity::{bit_rate, count, packet_rate, packets, seconds};
use crate::view::screen::Ink;
use crate::view::table::{Align, Table};

/// What was seen, and what is beside it.
pub(crate) struct Scene {
    /// What is shown.
    pub(crate) report: FlowReport,
    /// The interfaces with an XDP program, which takes packets before they can be seen.
    pub(crate) hidden: Vec<String>,
}

impl Scene {
    /// Leaves flows to `groups` only, when there are any.
    pub(crate) fn of(mut report: FlowReport, hidden: Vec<String>, groups: &[Prefix]) -> Self {
        let is_shown = |group: IpAddr| groups.is_empty() || groups.iter().any(|prefix| prefix.contains(group));
        report.keep(|flow| is_shown(flow.group), is_shown);
        Self { report, hidden }
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
        for flow in &self.report.flows {
            let ago = flow.last_packet_seconds;
            table.push([
                endpoint(flow).into(),
                flow.name.as_str().into(),
                flow.bits_per_second.map(bit_rate).unwrap_or_default().into(),
                flow.packets_per_second.map_or_else(|| count(flow.packets), packet_rate).into(),
                flow.largest_packet_bytes.to_string().into(),
                flow.ttl.to_string().into(),
                flow.dscp.to_string().into(),
                if ago < 1.0 { "now".to_owned() } else { format!("{} ago", seconds(ago)) }.into(),
                flow.maker.clone().unwrap_or_default().into(),
                self.detail(flow).into(),
            ]);
        }
        let flows = if self.report.flows.is_empty() { self.nothing() } else { table.render(ink) };
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

    fn detail(&self, flow: &FlowStatus) -> String {
        match self.report.session(flow.group, flow.port) {
            Some(AnnouncedSession { session, encoding, .. }) => {
                format!("“{session}” {encoding} {}", flow.detail).trim_end().to_owned()
            }
            None => flow.detail.clone(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let FlowReport { flows, sessions, refused_packets, missed_packets, unlisted_packets, .. } = &self.report;
        let seen: BTreeSet<(IpAddr, u16)> = flows.iter().map(|flow| (flow.group, flow.port)).collect();
        let announced = sessions.iter().filter(|session| !seen.contains(&(session.group, session.port)));
        let mut notes: Vec<String> = announced
            .map(|AnnouncedSession { group, port, session, encoding }| {
                let line = format!("announced, not seen: {} “{session}” {encoding}", place(*group, *port));
                line.trim_end().to_owned() + "\n"
            })
            .collect();
        let refused = refused_packets.iter();
        notes
            .extend(refused.map(|(reason, number)| format!("{} that make no flow here: {reason}\n", packets(*number))));
        if *missed_packets > 0 {
            let missed = packets(*missed_packets);
            notes.push(format!("{missed} came too fast to be looked at: rates are higher than shown\n"));
        }
        if *unlisted_packets > 0 {
            notes.push(format!("{} of more flows than are kept\n", packets(*unlisted_packets)));
        }
        notes
    }

    /// For scripts: one object on one line.
    pub(crate) fn json(&self) -> String {
        json::line(&self.report)
    }
}

/// As `mcr relay` takes it.
fn endpoint(flow: &FlowStatus) -> String {
    let FlowStatus { interface, vlan, outer_vlan, source, group, port, .. } = flow;
    let outer = outer_vlan.map(|outer| format!(",outer-vlan={outer}")).unwrap_or_default();
    let vlan = vlan.map(|vlan| format!(",vlan={vlan}{outer}")).unwrap_or_default();
    match source {
        IpAddr::V4(source) => format!("{interface}:{source}@{}{vlan}", place(*group, *port)),
        IpAddr::V6(source) => format!("{interface}:[{source}]@{}{vlan}", place(*group, *port)),
    }
}

/// `239.1.1.1:5001`, `[ff3e::1]:5001`.
pub(crate) fn place(group: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(group, port).to_string()
}
