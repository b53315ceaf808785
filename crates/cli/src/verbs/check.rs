//! `mcr check`: what `mcr run` would say about a file, without a daemon.

use std::path::Path;

use mcr_daemon::config::ConfigError;
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
    mistakes: Vec<String>,
}

/// Reads the file; its mistakes are shown where they are.
pub(crate) fn check(args: Check) -> Result<(), Failure> {
    let Check { file, output } = args;
    let result = mcr_daemon::config::load(&file);
    let screen = Screen::stdout();
    match (output.format, result) {
        (Format::Text, Ok(relays)) => screen.print(&format!("{}: good ({})\n", file.display(), counted(&relays))),
        (Format::Text, Err(error)) => Err(Failure::failed(wrong(&file, &error))),
        (Format::Json, Ok(relays)) => {
            let relays = relays.iter().map(RelaySpec::from).collect();
            screen.print(&json(&Checked { valid: true, relays, mistakes: Vec::new() }))
        }
        (Format::Json, Err(error)) => {
            let mistakes = error.mistakes().to_vec();
            screen.print(&json(&Checked { valid: false, relays: Vec::new(), mistakes }))?;
            Err(Failure::Silent)
        }
    }
}

fn json(checked: &Checked) -> String {
    serde_json::to_string(checked).unwrap_or_default() + "\n"
}

/// A file that could not be read is told in one sentence; else the mistakes are counted before they are shown.
fn wrong(file: &Path, error: &ConfigError) -> String {
    let rendered = error.to_string();
    match error.mistakes() {
        [only] if *only == rendered => rendered,
        mistakes => format!("{} has {}\n{rendered}", file.display(), many(mistakes.len(), "mistake")),
    }
}

fn counted(relays: &[Relay]) -> String {
    let outputs: usize = relays.iter().map(|relay| relay.outputs().len()).sum();
    format!("{}, {}", many(relays.len(), "relay"), many(outputs, "output"))
}

fn many(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
