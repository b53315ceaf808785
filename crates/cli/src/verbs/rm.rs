//! `mcr rm`

use serde::Serialize;

use crate::args::{Format, Rm};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::json;
use crate::view::screen::Screen;

/// What became of one relay.
#[derive(Debug, Serialize)]
struct Removed {
    name: String,
    removed: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Removes the relays in the order that they were named in, and tells of every one that could not be.
pub(crate) fn rm(args: Rm) -> Result<(), Failure> {
    let Rm { names, daemon, output } = args;
    let client = Client::new(daemon)?;
    let remove = |name: &mcr_model::RelayName| {
        let problem = client.delete(&format!("relays/{name}")).err().map(|failure| failure.to_string());
        Removed { name: name.to_string(), removed: problem.is_none(), problem }
    };
    let removed: Vec<Removed> = names.iter().map(remove).collect();
    let problems: Vec<&str> = removed.iter().filter_map(|removed| removed.problem.as_deref()).collect();
    if output.format == Format::Json {
        Screen::stdout().print(&json::line(&removed))?;
    }
    match (problems.is_empty(), output.format) {
        (true, _) => Ok(()),
        (false, Format::Json) => Err(Failure::Silent),
        (false, Format::Text) => Err(Failure::failed(problems.join("\nmcr: "))),
    }
}
