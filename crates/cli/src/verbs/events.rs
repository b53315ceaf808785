//! `mcr events`: what happened, or what happens.

use mcr_model::Event;
use serde::Deserialize;

use crate::args::{Events, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::event::line;
use crate::view::json;
use crate::view::screen::Screen;

/// Shows events, one line each.
pub(crate) fn events(args: Events) -> Result<(), Failure> {
    let Events { follow, after, daemon, output } = args;
    let client = Client::new(daemon)?;
    let screen = Screen::stdout();
    let print = |event: &Event| {
        screen.print(&match output.format {
            Format::Json => json::line(event),
            Format::Text => line(event),
        })
    };
    if follow {
        return client.follow("events", after.as_deref(), |data| {
            serde_json::from_str(data).map_or_else(|error| Err(not_understood(&error)), |event| print(&event))
        });
    }
    let Kept { events } = client.get_after("events?follow=false", after.as_deref())?.read()?;
    events.iter().try_for_each(print)
}

/// What `GET events?follow=false` answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Kept {
    /// The oldest first.
    pub(crate) events: Vec<Event>,
}

fn not_understood(error: &serde_json::Error) -> Failure {
    let version = env!("CARGO_PKG_VERSION");
    Failure::failed(format!(
        "cannot understand an event of the daemon: {error}; is it of the same version as mcr {version}?"
    ))
}
