//! `mcr check`: what `mcr run` would say about a file, without a daemon.

use mcr_model::Relay;
use mcr_model::spec::RelaySpec;
use serde::Serialize;

use crate::args::{Check, Format};
use crate::failure::Failure;
use crate::view::screen::Screen;

/// What a script reads.
#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    relays: Vec<RelaySpec>,
}

/// Reads the file; its errors are shown where they are.
pub(crate) fn check(args: Check) -> Result<(), Failure> {
    let Check { file, output } = args;
    let relays = mcr_daemon::config::load(&file).map_err(|error| Failure::failed(error.to_string()))?;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => {
            let checked = Checked { valid: true, relays: relays.iter().map(RelaySpec::from).collect() };
            screen.print(&(serde_json::to_string(&checked).unwrap_or_default() + "\n"))
        }
        Format::Text => {
            let outputs: usize = relays.iter().map(|relay: &Relay| relay.outputs().len()).sum();
            let counted = format!("{}, {}", many(relays.len(), "relay"), many(outputs, "output"));
            screen.print(&format!("{}: good ({counted})\n", file.display()))
        }
    }
}

fn many(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
