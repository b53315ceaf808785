//! `mcr stats`

use std::time::Instant;

use mcr_model::status::{RelayStatus, Traffic};

use crate::args::{Format, Stats};
use crate::client::{Answer, Client};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::verbs::carried;
use crate::verbs::list::{Relays, rate};
use crate::view::quantity::{bit_rate, bytes, count, packet_rate};
use crate::view::relay::{drop_legend, drops, trouble};
use crate::view::screen::{Ink, Screen, TROUBLE, state_style};
use crate::view::table::{Align, Cell, Table};

/// Shows the ledger once, or again and again.
pub(crate) fn stats(args: Stats) -> Result<(), Failure> {
    let Stats { name, watch, interval, history, step, last, daemon, output } = args;
    if let Some(name) = name.as_ref().filter(|_| history) {
        return carried::carried(&Client::new(daemon)?, name, step, last, output.format);
    }
    let scope = name.map_or(Scope::All, |name| Scope::One(format!("relays/{name}")));
    let client = Client::new(daemon)?;
    let screen = Screen::stdout();
    if !watch {
        return screen.print(&look(&client, &scope, output.format, screen.ink())?);
    }
    let interrupt = Interrupt::watch()?;
    let mut next = Instant::now();
    if screen.is_terminal() && output.format == Format::Text {
        screen.print("\x1b[2J")?;
    }
    while !interrupt.is_asked() {
        let text = look(&client, &scope, output.format, screen.ink())?;
        match output.format {
            Format::Json => screen.print(&text)?,
            Format::Text => screen.redraw(&text)?,
        }
        next += interval;
        interrupt.sleep_until(next);
    }
    Ok(())
}

/// Which relays.
enum Scope {
    All,
    One(String),
}

fn look(client: &Client, scope: &Scope, format: Format, ink: Ink) -> Result<String, Failure> {
    let answer: Answer = match scope {
        Scope::All => client.get("relays")?,
        Scope::One(path) => client.get(path)?,
    };
    if format == Format::Json {
        return Ok(answer.json());
    }
    let relays = match scope {
        Scope::All => answer.read::<Relays>()?.relays,
        Scope::One(_) => vec![answer.read::<RelayStatus>()?],
    };
    Ok(text(&relays, ink))
}

fn text(relays: &[RelayStatus], ink: Ink) -> String {
    let mut table = Table::new([
        ("RELAY", Align::Left),
        ("STATE", Align::Left),
        ("", Align::Left),
        ("ENDPOINT", Align::Left),
        ("RATE", Align::Right),
        ("BIT RATE", Align::Right),
        ("PACKETS", Align::Right),
        ("BYTES", Align::Right),
        ("DROPPED", Align::Right),
        ("BY REASON", Align::Left),
    ]);
    for relay in relays {
        let state = Cell::styled(relay.state.name(), state_style(relay.state));
        let none = ["".into(), "".into()];
        table.push(row([relay.name.as_str().into(), state, "in".into()], &relay.from, &relay.received, none));
        for output in &relay.outputs {
            let style = if output.dropped_packets > 0 { TROUBLE } else { anstyle::Style::new() };
            let dropped = [Cell::styled(count(output.dropped_packets), style), drops(output).into()];
            table.push(row(["".into(), "".into(), "out".into()], &output.to, &output.sent, dropped));
        }
    }
    let troubles: String = relays.iter().map(trouble).collect();
    let notes = format!("{troubles}{}", drop_legend(relays));
    let separator = if notes.is_empty() { "" } else { "\n" };
    format!("{}{separator}{notes}", table.render(ink))
}

fn row(start: [Cell; 3], endpoint: &str, traffic: &Traffic, end: [Cell; 2]) -> [Cell; 10] {
    let [name, state, way] = start;
    let [dropped, reasons] = end;
    let Traffic { packets, bytes: total, packets_per_second, bits_per_second } = *traffic;
    [
        name,
        state,
        way,
        endpoint.into(),
        rate(packets_per_second, packet_rate),
        rate(bits_per_second, bit_rate),
        count(packets).into(),
        bytes(total).into(),
        dropped,
        reasons,
    ]
}
