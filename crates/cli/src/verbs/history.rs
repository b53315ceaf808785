//! `mcr history`, `mcr rollback` and `mcr confirm`: the configurations that were in force, and the way back.

use mcr_model::revision::{History, Revision, RevisionText};

use super::plan::{Query, show_applied};
use crate::args::{self, Confirm, Format, Rollback};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::screen::{HEADING, Ink, Screen};
use crate::view::table::{Align, Cell, Table};
use mcr_model::duration;

/// Lists the revisions, or shows one.
pub(crate) fn history(args: args::History) -> Result<(), Failure> {
    let args::History { what, daemon, output } = args;
    let client = Client::new(daemon)?;
    let screen = Screen::stdout();
    let path = match what {
        None => "config/revisions".to_owned(),
        Some(args::HistoryOf::Show { revision }) => format!("config/revisions/{revision}"),
    };
    let answer = client.get(&path)?;
    match (output.format, what) {
        (Format::Json, _) => screen.print(&answer.json()),
        (Format::Text, None) => screen.print(&list(&answer.read()?, screen.ink())),
        (Format::Text, Some(_)) => {
            // The text alone: it can be written to a file as it is.
            let RevisionText { revision: _, text } = answer.read()?;
            screen.print(&text)
        }
    }
}

/// Goes back to an earlier revision.
pub(crate) fn rollback(args: Rollback) -> Result<(), Failure> {
    let Rollback { revision, confirm, note, daemon, output } = args;
    let mut query = Query::default();
    query.add("to", revision.map(|revision| revision.to_string()).as_deref());
    query.add("confirm", confirm.map(duration::text).as_deref());
    query.add("note", note.as_deref());
    let answer = Client::new(daemon)?.post(&format!("config/rollback{query}"), String::new())?;
    show_applied(&answer, &output)
}

/// Keeps the configuration on trial.
pub(crate) fn confirm(args: Confirm) -> Result<(), Failure> {
    let Confirm { daemon, output } = args;
    let answer = Client::new(daemon)?.post("config/confirm", String::new())?;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => {
            let revision: Revision = answer.read()?;
            screen.print(&format!("revision {} is confirmed and stays\n", revision.number))
        }
    }
}

fn list(history: &History, ink: Ink) -> String {
    let History { in_force, confirm_until, revisions } = history;
    let mut table = Table::new([
        ("REV", Align::Right),
        ("TIME", Align::Left),
        ("BY", Align::Left),
        ("CAUSE", Align::Left),
        ("RELAYS", Align::Right),
        ("NOTE", Align::Left),
    ]);
    for revision in revisions {
        let Revision { number, time, by, cause, hash: _, relays, note } = revision;
        let number = match in_force {
            Some(in_force) if in_force == number => Cell::styled(format!("* {number}"), HEADING),
            _ => number.to_string().into(),
        };
        let note = note.clone().unwrap_or_default();
        table.push([
            number,
            time.to_string().into(),
            by.as_str().into(),
            cause.name().into(),
            relays.to_string().into(),
            note.into(),
        ]);
    }
    let trial = match (in_force, confirm_until) {
        (Some(in_force), Some(until)) => {
            format!("\nrevision {in_force} is on trial until {until}; `mcr confirm` keeps it\n")
        }
        _ => String::new(),
    };
    table.render(ink) + &trial
}
