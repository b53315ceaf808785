//! `mcr status`: the daemon as a whole, and what is wrong with it.

use mcr_model::status::{ConfinementStatus, DaemonStatus};
use mcr_model::trouble::Trouble;

use crate::args::{Format, Status};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::quantity::seconds;
use crate::view::screen::{HEADING, Ink, Screen, TROUBLE};

/// Shows the daemon.
pub(crate) fn status(args: Status) -> Result<(), Failure> {
    let Status { daemon, output } = args;
    let answer = Client::new(daemon)?.get("status")?;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => screen.print(&text(&answer.read()?, screen.ink())),
    }
}

fn text(status: &DaemonStatus, ink: Ink) -> String {
    let DaemonStatus { version, pid, uptime_seconds, config, relays, keeper_pid, troubles, confinement } = status;
    let keeper = keeper_pid.map_or_else(|| "one of its own".to_owned(), |pid| format!("pid {pid}"));
    let mut lines = vec![
        format!("{}, pid {pid}, up for {}", ink.paint(HEADING, &format!("mcr {version}")), seconds(*uptime_seconds)),
        format!("  config   {}", config.as_deref().unwrap_or("(no file)")),
        format!("  keeper   {keeper}"),
        format!("  relays   {}", counted(relays)),
    ];
    lines.extend(confinement.as_ref().map(|given_up| format!("  confined {}", confined(given_up))));
    for Trouble { kind: _, relay: _, message, remedy } in troubles {
        lines.push(format!("  {}  {message}", ink.paint(TROUBLE, "trouble")));
        lines.push(format!("           {remedy}"));
    }
    lines.join("\n") + "\n"
}

fn confined(given_up: &ConfinementStatus) -> String {
    let ConfinementStatus { seccomp, landlock } = given_up;
    format!("system calls: {}; files: {landlock}", if *seccomp { "full" } else { "none" })
}

/// How many there are, and how many in each state.
fn counted(relays: &std::collections::BTreeMap<String, usize>) -> String {
    let total: usize = relays.values().sum();
    let states = mcr_model::RelayState::ALL.iter().filter_map(|state| {
        let count = relays.get(state.name()).copied().filter(|count| *count > 0)?;
        Some(format!("{count} {}", state.name()))
    });
    let states: Vec<String> = states.collect();
    if states.is_empty() { total.to_string() } else { format!("{total}: {}", states.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_trouble() {
        let status = |json: serde_json::Value| text(&serde_json::from_value(json).unwrap(), Ink::Plain);
        let well = status(serde_json::json!({
            "version": "1.2.3", "pid": 42, "uptime_seconds": 7260.0, "config": "/etc/mcr/mcr.toml",
            "relays": {"ready": 2, "flowing": 10, "failed": 0}, "keeper_pid": 41,
            "confinement": {"seccomp": true, "landlock": "partial"},
        }));
        let ill = status(serde_json::json!({
            "version": "1.2.3", "pid": 42, "uptime_seconds": 1.5, "relays": {},
            "troubles": [{"kind": "store-in-memory", "message": "/var/lib/mcr can not be used", "remedy": "make room"}],
        }));
        insta::assert_snapshot!(format!("{well}---\n{ill}"), @r"
        mcr 1.2.3, pid 42, up for 2 h
          config   /etc/mcr/mcr.toml
          keeper   pid 41
          relays   12: 10 flowing, 2 ready
          confined system calls: full; files: partial
        ---
        mcr 1.2.3, pid 42, up for 1.5 s
          config   (no file)
          keeper   one of its own
          relays   0
          trouble  /var/lib/mcr can not be used
                   make room
        ");
    }
}
