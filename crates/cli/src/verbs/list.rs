//! `mcr list`

use mcr_model::status::RelayStatus;
use serde::Deserialize;

use crate::args::{Format, List};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::quantity::{bit_rate, packet_rate};
use crate::view::relay::trouble;
use crate::view::screen::{Ink, Screen, state_style};
use crate::view::table::{Align, Cell, Table};

/// What `GET relays` answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Relays {
    /// Sorted by name.
    pub(crate) relays: Vec<RelayStatus>,
}

/// Lists all relays.
pub(crate) fn list(args: List) -> Result<(), Failure> {
    let List { daemon, output } = args;
    let answer = Client::new(daemon)?.get("relays")?;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => {
            let Relays { relays } = answer.read()?;
            screen.print(&text(&relays, screen.ink()))
        }
    }
}

fn text(relays: &[RelayStatus], ink: Ink) -> String {
    if relays.is_empty() {
        return "There are no relays that you may see. Add one: mcr add NAME --from eth0:239.1.1.1:5001 --to eth1:239.2.2.2:6001\n"
            .into();
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("RATE", Align::Right),
        ("BIT RATE", Align::Right),
    ]);
    for relay in relays {
        let RelayStatus { name, state, from, received, outputs, .. } = relay;
        let mut to = outputs.iter().map(|output| Cell::from(output.to.as_str()));
        table.push([
            name.as_str().into(),
            Cell::styled(state.name(), state_style(*state)),
            from.as_str().into(),
            to.next().unwrap_or_default(),
            rate(received.packets_per_second, packet_rate),
            rate(received.bits_per_second, bit_rate),
        ]);
        for more in to {
            table.push(["".into(), "".into(), "".into(), more, "".into(), "".into()]);
        }
    }
    let troubles: String = relays.iter().map(trouble).collect();
    let separator = if troubles.is_empty() { "" } else { "\n" };
    format!("{}{separator}{troubles}", table.render(ink))
}

/// A rate that is known only after a second look.
pub(crate) fn rate(per_second: Option<f64>, text: fn(f64) -> String) -> Cell {
    per_second.map_or_else(|| "-".into(), |rate| text(rate).into())
}
