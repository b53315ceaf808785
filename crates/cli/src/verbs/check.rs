//! `mcr check`: what `mcr run` would say about its files, without a daemon.

use std::path::Path;

use mcr_daemon::config::ConfigError;
use mcr_model::Relay;
use mcr_model::spec::RelaySpec;
use serde::Serialize;

use crate::args::{Check, Format};
use crate::failure::Failure;
use crate::view::json;
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
    let Check { file, policy, access, output } = args;
    let result = load_all(file.as_deref(), policy.as_deref(), access.as_deref())?;
    let screen = Screen::stdout();
    match (output.format, result) {
        (Format::Text, Ok(relays)) => {
            let file = file.map(|file| format!("{}: good ({})\n", file.display(), counted(&relays)));
            let access = access.map(|access| format!("{}: good\n", access.display()));
            screen.print(&(file.unwrap_or_default() + &access.unwrap_or_default()))
        }
        (Format::Text, Err(Mistakes { text, .. })) => Err(Failure::failed(text)),
        (Format::Json, Ok(relays)) => {
            let relays = relays.iter().map(RelaySpec::from).collect();
            screen.print(&json::line(&Checked { valid: true, relays, mistakes: Vec::new() }))
        }
        (Format::Json, Err(Mistakes { mistakes, .. })) => {
            screen.print(&json::line(&Checked { valid: false, relays: Vec::new(), mistakes }))?;
            Err(Failure::Silent)
        }
    }
}

/// What is wrong, for a person and for a script.
struct Mistakes {
    text: String,
    mistakes: Vec<String>,
}

/// The relays of the configuration, or what is wrong with any of the files.
fn load_all(
    file: Option<&Path>,
    policy: Option<&Path>,
    access: Option<&Path>,
) -> Result<Result<Vec<Relay>, Mistakes>, Failure> {
    let loaded = file.map_or(Ok(Ok(Vec::new())), |file| load(file, policy))?;
    let refused = access.and_then(|access| mcr_daemon::check_access(access).err());
    Ok(match (loaded, refused) {
        (loaded, None) => loaded,
        (Ok(_), Some(refused)) => Err(Mistakes { text: refused.clone(), mistakes: vec![refused] }),
        (Err(Mistakes { text, mut mistakes }), Some(refused)) => {
            let text = format!("{text}\nmcr: {refused}");
            mistakes.push(refused);
            Err(Mistakes { text, mistakes })
        }
    })
}

/// The relays of the file, or its mistakes; then what the policy forbids.
fn load(file: &Path, policy: Option<&Path>) -> Result<Result<Vec<Relay>, Mistakes>, Failure> {
    let relays = match mcr_daemon::config::load(file) {
        Ok(relays) => relays,
        Err(error) => return Ok(Err(Mistakes { text: wrong(file, &error), mistakes: error.mistakes().to_vec() })),
    };
    let forbidden = policy.map(|policy| mcr_daemon::config::forbidden(&relays, policy)).transpose();
    let mistakes = forbidden.map_err(|error| Failure::failed(error.to_string()))?.unwrap_or_default();
    Ok(if mistakes.is_empty() { Ok(relays) } else { Err(Mistakes { text: mistakes.join("\nmcr: "), mistakes }) })
}

/// A file that could not be read is told in one sentence; else the mistakes are counted before they are shown.
pub(crate) fn wrong(file: &Path, error: &ConfigError) -> String {
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
