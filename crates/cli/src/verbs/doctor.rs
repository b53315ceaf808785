//! `mcr doctor`: the host as a whole.

use mcr_diagnose::{Checkup, Finding, Mark};
use mcr_model::status::DaemonStatus;
use mcr_model::trouble::Trouble;

use crate::args::{Daemon, Doctor, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::verbs::explain::{mark_shown, relays};
use crate::view::json;
use crate::view::screen::{Ink, Screen};

/// Columns of the names of topics.
const NAME_COLUMNS: usize = 12;

/// Looks, and says what should be mended. Exit code 1 when something is wrong; advice is no failure.
pub(crate) fn doctor(args: Doctor) -> Result<(), Failure> {
    let Doctor { look, daemon, output } = args;
    let checkup = mcr_diagnose::checkup(look, &relays(&daemon), &troubles(daemon));
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&json::line(&checkup))?,
        Format::Text => screen.print(&text(&checkup, screen.ink()))?,
    }
    if checkup.is_ill() { Err(Failure::Silent) } else { Ok(()) }
}

/// What a daemon tells of itself; why one can not be asked is told with its relays.
fn troubles(daemon: Daemon) -> Vec<Trouble> {
    let status = Client::new(daemon).and_then(|client| client.get("status")?.read::<DaemonStatus>());
    status.map(|status| status.troubles).unwrap_or_default()
}

fn text(checkup: &Checkup, ink: Ink) -> String {
    let lines = checkup.findings.iter().flat_map(|finding| lines(finding, ink));
    lines.map(|line| line + "\n").collect()
}

fn lines(finding: &Finding, ink: Ink) -> Vec<String> {
    let Finding { topic, code: _, mark, fact, remedy, command } = finding;
    let topic = topic.replace('_', " ");
    let mut lines = vec![format!("{} {topic:NAME_COLUMNS$} {fact}", mark_shown(*mark, ink))];
    let indent = " ".repeat(NAME_COLUMNS + 3);
    lines.extend(remedy.iter().map(|remedy| format!("{indent}{remedy}")));
    // What is right needs no command.
    let is_told = *mark != Mark::Ok;
    lines.extend(command.iter().filter(|_| is_told).map(|command| format!("{indent}$ {command}")));
    lines
}
