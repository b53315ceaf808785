//! `mcr relay`: one relay in the foreground, and what it does once a second.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use mcr_daemon::{Foreground, ForegroundOptions};
use mcr_model::status::{OutputStatus, RelayStatus};

use crate::args::{Daemon, Format, Relay};
use crate::client::Client;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::verbs::add::{capped, spec, watched};
use crate::view::json;
use crate::view::quantity::{bit_rate, count, packet_rate};
use crate::view::relay::{because, drop_legend, drops, traffic, trouble};
use crate::view::screen::{Ink, Screen, TROUBLE, state_style};

/// What the relay is called in its own status; there is no other to tell it from.
const NAME: &str = "relay";

/// How long a relay may take to listen before the first line says what it waits for.
const READY: Duration = Duration::from_secs(2);

/// Runs the relay until somebody ends it, then shows its ledger.
pub(crate) fn relay(args: Relay) -> Result<(), Failure> {
    let Relay { from, to, datapath, scope, caps, watch: watched_for, keeper, output, debugging } = args;
    let spec = watched(capped(spec(NAME, &from, &to, datapath, &scope)?, caps), watched_for);
    let relay = spec.check().map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::usage(errors.join("\nmcr: "))
    })?;
    warn_of_xdp(relay.input().interface.as_str());
    warn_of_twins(&relay);
    let screen = Screen::stdout();
    let options = ForegroundOptions { relay, keeper_program: keeper, confinement: debugging.confinement() };
    let foreground = mcr_daemon::foreground(options).map_err(|error| Failure::failed(format!("{error:#}")))?;
    // Only now: privileges are those of a thread, so no thread may start before they are given up.
    let interrupt = Interrupt::watch()?;
    let first = foreground.wait_ready(READY);
    if output.format == Format::Text {
        screen.print(&start(&first, screen.ink()))?;
    }
    let ending = watch(&foreground, output.format, &interrupt, screen)?;
    let last = foreground.stop();
    screen.end_live_line()?;
    screen.print(&match output.format {
        Format::Json => json::line(&last),
        Format::Text => ledger(&last, screen.ink()),
    })?;
    match ending {
        Ending::Asked => Ok(()),
        Ending::KeeperLost => Err(Failure::failed(
            "the keeper of this relay (mcr-netd) was ended, and its group is left; start the relay again",
        )),
    }
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Asked,
    KeeperLost,
}

/// What an XDP program takes never comes up to a second relay; that of this relay is not there yet.
fn warn_of_xdp(interface: &str) {
    let links = mcr_diagnose::links().unwrap_or_default();
    if links.iter().any(|link| link.xdp && link.name == interface) {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(
            io::stderr(),
            "mcr: an XDP program is on {interface} already: frames that it takes are not seen here; if it is that of a \
             daemon (`mcr list`, `mcr doctor`), add the relay there"
        );
    }
}

/// A daemon of this host that sends the same packets to the same place: receivers get each twice.
fn warn_of_twins(relay: &mcr_model::Relay) {
    let Ok(client) = Client::new(Daemon::default()) else { return };
    if client.is_remote() || !client.is_served() {
        return;
    }
    let Ok(Relays { relays }) = client.get_in_passing("relays").and_then(|answer| answer.read()) else { return };
    for (other, output) in relays.iter().filter_map(|other| Some((&other.name, shared_output(relay, other)?))) {
        let _ = writeln!(
            io::stderr(),
            "mcr: relay {other} of the daemon sends the same packets to {output} already: receivers get each twice; \
             remove one of both (`mcr rm {other}`)"
        );
    }
}

/// The first output of `relay` that the other one feeds from the same input.
fn shared_output(relay: &mcr_model::Relay, other: &RelayStatus) -> Option<String> {
    let other = other.relay.check().ok()?;
    let (ours, theirs) = (relay.input(), other.input());
    if ours.place() != theirs.place() || !ours.shares_sources(theirs) {
        return None;
    }
    let fed = |output: &&mcr_model::Output| other.outputs().iter().any(|theirs| theirs.place() == output.place());
    relay.outputs().iter().find(fed).map(ToString::to_string)
}

/// The relays of a daemon.
#[derive(serde::Deserialize)]
struct Relays {
    relays: Vec<RelayStatus>,
}

/// Until somebody ends it or its keeper: one line that is renewed on a terminal, else a line each second.
fn watch(foreground: &Foreground, format: Format, interrupt: &Interrupt, screen: Screen) -> Result<Ending, Failure> {
    const INTERVAL: Duration = Duration::from_secs(1);
    const GLANCE: Duration = Duration::from_millis(50);
    let mut next = Instant::now() + INTERVAL;
    let mut told = String::new();
    while !interrupt.is_asked() {
        if foreground.has_lost_keeper() {
            return Ok(Ending::KeeperLost);
        }
        if Instant::now() < next {
            std::thread::sleep(GLANCE);
            continue;
        }
        next += INTERVAL;
        let status = foreground.status();
        match format {
            Format::Json => screen.print(&json::line(&status))?,
            Format::Text => {
                let trouble = trouble(&status);
                if trouble != told {
                    screen.end_live_line()?;
                    screen.print(&trouble)?;
                    told = trouble;
                }
                let line = line(&status, screen.ink());
                if screen.is_terminal() { screen.live_line(&line)? } else { screen.print(&format!("{line}\n"))? }
            }
        }
    }
    Ok(Ending::Asked)
}

fn start(status: &RelayStatus, ink: Ink) -> String {
    let to: Vec<&str> = status.outputs.iter().map(|output| output.to.as_str()).collect();
    let state = ink.paint(state_style(status.state), status.state.name());
    let RelayStatus { from, reason, datapath, .. } = status;
    format!("{from} -> {}\n{state} ({datapath}): {reason}; Ctrl-C ends it\n", to.join(" "))
}

fn line(status: &RelayStatus, ink: Ink) -> String {
    let received = &status.received;
    let state = ink.paint(state_style(status.state), status.state.name());
    let rates = match (received.packets_per_second, received.bits_per_second) {
        (Some(packets), Some(bits)) => format!("{}, {}", packet_rate(packets), bit_rate(bits)),
        _ => "-".to_owned(),
    };
    let sent: Vec<String> = status.outputs.iter().map(|output| count(output.sent.packets)).collect();
    let dropped: u64 = status.outputs.iter().map(|output| output.dropped_packets).sum();
    let dropped_text = format!("dropped {}", count(dropped));
    let dropped_text = if dropped > 0 { ink.paint(TROUBLE, &dropped_text) } else { dropped_text };
    format!("{state}  {rates}  received {}, sent {}, {dropped_text}", count(received.packets), sent.join(" + "))
}

/// Received = sent + dropped, output by output.
fn ledger(status: &RelayStatus, ink: Ink) -> String {
    let mut lines = vec![format!("received  {}  {}", status.from, total(&traffic(&status.received)))];
    for output in &status.outputs {
        let OutputStatus { to, sent, ok, reason, remedy, dropped_packets, .. } = output;
        lines.push(format!("sent      {to}  {}", total(&traffic(sent))));
        if *dropped_packets > 0 {
            let word = ink.paint(TROUBLE, "dropped");
            lines.push(format!("  {word} {}: {}", count(*dropped_packets), drops(output)));
        }
        if !ok {
            lines.push(format!("  {}", because(reason.as_deref(), remedy.as_deref())));
        }
    }
    format!("{}\n{}", lines.join("\n"), drop_legend([status]))
}

/// The totals without the rates: when it is over there is no "now".
fn total(traffic: &str) -> &str {
    traffic.split(';').next().unwrap_or(traffic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> RelayStatus {
        let traffic = serde_json::json!({
            "packets": 1500, "bytes": 1_917_000, "packets_per_second": 100.0, "bits_per_second": 1_022_400.0
        });
        let less = serde_json::json!({
            "packets": 1493, "bytes": 1_908_054, "packets_per_second": 100.0, "bits_per_second": 1_022_400.0
        });
        serde_json::from_value(serde_json::json!({
            "name": NAME, "origin": "api", "state": "flowing", "reason": "packets arrive and leave",
            "datapath": "packet", "from": "eth0:239.1.1.1:5001", "received": traffic,
            "outputs": [
                {"to": "eth1:239.2.2.2:6001", "ok": true, "sent": traffic, "dropped_packets": 0, "dropped": {}},
                {"to": "eth2:10.0.0.7:6001", "ok": false, "reason": "eth2 is down", "remedy": "ip link set eth2 up",
                 "sent": less, "dropped_packets": 7, "dropped": {"output_down": 7}},
            ],
            "relay": {"name": NAME, "input": {"interface": "eth0", "group": "239.1.1.1", "port": 5001}, "output": []},
        }))
        .unwrap()
    }

    #[test]
    fn from_start_to_ledger() {
        let status = status();
        let texts = [start(&status, Ink::Plain), line(&status, Ink::Plain) + "\n", ledger(&status, Ink::Plain)];
        insta::assert_snapshot!(texts.join("---\n"), @r"
        eth0:239.1.1.1:5001 -> eth1:239.2.2.2:6001 eth2:10.0.0.7:6001
        flowing (packet): packets arrive and leave; Ctrl-C ends it
        ---
        flowing  100 pps, 1.02 Mbit/s  received 1,500, sent 1,500 + 1,493, dropped 7
        ---
        received  eth0:239.1.1.1:5001  1,500 packets, 1.92 MB
        sent      eth1:239.2.2.2:6001  1,500 packets, 1.92 MB
        sent      eth2:10.0.0.7:6001  1,493 packets, 1.91 MB
          dropped 7: 7 output_down
          eth2 is down; ip link set eth2 up
        output_down: the output interface is down or has no link; set it up or check its cable; the output goes on by itself
        ");
    }

    #[test]
    fn a_line_without_rates_yet() {
        let mut status = status();
        status.received = mcr_model::status::Traffic::default();
        assert!(line(&status, Ink::Plain).starts_with("flowing  -  received 0, "));
    }
}
