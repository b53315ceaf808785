//! `mcr plan` and `mcr apply`: what a configuration would change, and making it so.

use std::path::Path;

use mcr_model::plan::Plan;
use mcr_model::revision::Applied;

use crate::args::{self, Apply, Format, Output};
use crate::client::{Answer, Client};
use crate::failure::Failure;
use crate::view::plan::{applied_text, plan_text};
use crate::view::screen::Screen;
use mcr_model::duration;

/// Shows what the file would change.
pub(crate) fn plan(args: args::Plan) -> Result<(), Failure> {
    let args::Plan { file, daemon, output } = args;
    let client = Client::new(daemon)?;
    show_plan(&dry_run(&client, &file)?, &output)
}

/// Makes the file the configuration in force.
pub(crate) fn apply(args: Apply) -> Result<(), Failure> {
    let Apply { file, dry_run: only_plan, confirm, note, daemon, output } = args;
    let client = Client::new(daemon)?;
    if only_plan {
        return show_plan(&dry_run(&client, &file)?, &output);
    }
    let mut query = Query::default();
    query.add("confirm", confirm.map(duration::text).as_deref());
    query.add("note", note.as_deref());
    let answer = client.put_toml(&format!("config{query}"), checked(&file)?)?;
    show_applied(&answer, &output)
}

fn dry_run(client: &Client, file: &Path) -> Result<Answer, Failure> {
    client.put_toml("config?dry_run=true", checked(file)?)
}

/// The text of the file, when nothing is wrong with it in itself: the report names it and its lines.
fn checked(file: &Path) -> Result<String, Failure> {
    let read = mcr_daemon::config::read_checked(file);
    read.map(|configuration| configuration.text).map_err(|error| Failure::failed(super::check::wrong(file, &error)))
}

fn show_plan(answer: &Answer, output: &Output) -> Result<(), Failure> {
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => {
            let plan: Plan = answer.read()?;
            screen.print(&plan_text(&plan, screen.ink()))
        }
    }
}

/// What was applied, or gone back to.
pub(crate) fn show_applied(answer: &Answer, output: &Output) -> Result<(), Failure> {
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => {
            let applied: Applied = answer.read()?;
            screen.print(&applied_text(&applied, screen.ink()))
        }
    }
}

/// The query of a request.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    /// Adds a parameter that is given.
    pub(crate) fn add(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.0.push(byte as char),
                other => self.0.push_str(&format!("%{other:02X}")),
            }
        }
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
