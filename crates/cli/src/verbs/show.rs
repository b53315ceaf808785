//! `mcr show`

use mcr_model::spec::{OutputSpec, RelaySpec};
use mcr_model::status::{LeaseStatus, Origin, OutputStatus, RelayStatus, RelayWarning};

use crate::args::{Format, Show};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::quantity::{bit_rate, count, packet_rate, seconds};
use crate::view::relay::{because, drop_legend, drops, shared, traffic};
use crate::view::screen::{HEADING, Ink, Screen, TROUBLE, state_style};

/// Shows one relay.
pub(crate) fn show(args: Show) -> Result<(), Failure> {
    let Show { name, daemon, output } = args;
    let answer = Client::new(daemon)?.get(&format!("relays/{name}"))?;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => screen.print(&text(&answer.read()?, screen.ink())),
    }
}

fn text(relay: &RelayStatus, ink: Ink) -> String {
    let RelayStatus { name, origin, state, reason, remedy, datapath, datapath_reason, from, received, .. } = relay;
    let mut lines =
        vec![format!("{} is {}: {reason}", ink.paint(HEADING, name), ink.paint(state_style(*state), state.name()))];
    lines.extend(remedy.as_ref().map(|remedy| format!("  to do     {remedy}")));
    for RelayWarning { message, remedy, .. } in &relay.warnings {
        lines.push(format!("  {}   {message}; {remedy}", ink.paint(TROUBLE, "warning")));
    }
    let made_by = match origin {
        Origin::File => "the configuration file",
        Origin::Api => "a call of the API",
    };
    let lease = relay.lease.map(|LeaseStatus { seconds: all, seconds_left }| {
        format!("; lent for {}, {} left", seconds(all), seconds(seconds_left))
    });
    lines.push(format!("  made by   {made_by}{}", lease.unwrap_or_default()));
    let why = datapath_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    lines.push(format!("  datapath  {datapath}{why}"));
    let caps = caps(relay.relay.max_packets_per_second, relay.relay.max_bits_per_second);
    let most = caps.map(|caps| format!("  ({caps})")).unwrap_or_default();
    lines.push(format!("  from      {from}{most}"));
    lines.extend(watched(&relay.relay).map(|watched| format!("  flow      {watched}")));
    lines.extend(shared(relay).map(|shared| format!("            {shared}")));
    let last = relay.last_packet_seconds.map(|ago| format!("; last packet {} ago", seconds(ago)));
    lines.push(format!("  received  {}{}", traffic(received), last.unwrap_or_default()));
    for (i, output) in relay.outputs.iter().enumerate() {
        lines.extend(output_lines(output, relay.relay.output.get(i), ink));
    }
    let legend = drop_legend([relay]);
    let separator = if legend.is_empty() { "" } else { "\n" };
    format!("{}\n{separator}{legend}", lines.join("\n"))
}

/// What is set of how the flow is joined and watched: `on demand, silent after 3s, breaker at 50.0 kpps`.
fn watched(relay: &RelaySpec) -> Option<String> {
    let RelaySpec { on_demand, join, silent_after, expect, breaker, querier, .. } = relay;
    let mut set: Vec<String> = on_demand.then(|| "on demand".to_owned()).into_iter().collect();
    set.extend(join.iter().filter(|join| *join != "all").map(|join| format!("groups joined when {join}")));
    set.extend(silent_after.iter().map(|time| format!("silent after {time}")));
    if let Some(expect) = expect {
        let limit = |word, bits: Option<i64>| bits.map(|bits| format!("expected at {word} {}", bit_rate(bits as f64)));
        set.extend(limit("least", expect.min_bits_per_second));
        set.extend(limit("most", expect.max_bits_per_second));
    }
    set.extend(breaker.as_ref().map(|breaker| {
        let after = breaker.recover_after.as_ref().map(|time| format!(", back after {time}")).unwrap_or_default();
        format!("breaker at {}{after}", packet_rate(breaker.max_packets_per_second as f64))
    }));
    if let Some(querier) = querier {
        set.extend(querier.own.filter(|own| *own).map(|_| "own querier".to_owned()));
        set.extend(querier.timeout.iter().map(|time| format!("a query expected each {time}")));
    }
    (!set.is_empty()).then(|| set.join(", "))
}

/// `at most 10.0 kpps, 5.00 Mbit/s`
fn caps(packets: Option<i64>, bits: Option<i64>) -> Option<String> {
    let packets = packets.map(|packets| packet_rate(packets as f64));
    let caps: Vec<String> = packets.into_iter().chain(bits.map(|bits| bit_rate(bits as f64))).collect();
    (!caps.is_empty()).then(|| format!("at most {}", caps.join(", ")))
}

fn output_lines(output: &OutputStatus, spec: Option<&OutputSpec>, ink: Ink) -> Vec<String> {
    let OutputStatus { to, ok, reason, remedy, source, sent, dropped_packets, dropped: _ } = output;
    let mut headers: Vec<String> = source.iter().map(|source| format!("source {source}")).collect();
    if let Some(spec) = spec {
        headers.extend(spec.source.iter().filter(|_| source.is_none()).map(|source| format!("source {source}")));
        headers.extend(spec.own_source.then(|| "own source".to_owned()));
        headers.extend(spec.source_port.as_ref().map(|port| format!("source port {port}")));
        headers.extend(spec.ttl.iter().map(|ttl| format!("ttl {ttl}")));
        headers.extend(spec.dscp.iter().map(|dscp| format!("dscp {dscp}")));
        headers.extend(spec.priority.map(|priority| format!("priority {priority}")));
        headers.extend(spec.fragment.then(|| "fragments".to_owned()));
        headers.extend(caps(spec.max_packets_per_second, spec.max_bits_per_second));
    }
    let headers = if headers.is_empty() { String::new() } else { format!("  ({})", headers.join(", ")) };
    let mut lines = vec![format!("  to        {to}{headers}")];
    if !ok {
        let why = because(reason.as_deref(), remedy.as_deref());
        lines.push(format!("    {}   {why}", ink.paint(TROUBLE, "fails")));
    }
    lines.push(format!("    sent    {}", traffic(sent)));
    lines.push(match dropped_packets {
        0 => "    dropped 0".to_owned(),
        some => format!("    {} {}: {}", ink.paint(TROUBLE, "dropped"), count(*some), drops(output)),
    });
    lines
}
