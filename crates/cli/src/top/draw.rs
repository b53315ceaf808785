//! From the board to the screen.

mod help;
mod list;
mod page;

use std::collections::BTreeMap;
use std::time::Instant;

use mcr_model::status::{DaemonStatus, RelayStatus};
use mcr_model::{Event, RelayState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::board::{Board, Link, Motion, Page};
use super::order;
use crate::view::event;
use crate::view::quantity::{bit_rate, packet_rate, seconds};
use crate::view::screen::{HEADING, Ink, TROUBLE, state_style};

/// Draws everything.
pub(crate) fn draw(board: &Board, frame: &mut Frame<'_>, now: Instant, ink: Ink) {
    let pen = Pen(ink);
    let rows = [Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)];
    let [head, body, keys] = frame.area().layout(&Layout::vertical(rows));
    frame.render_widget(Paragraph::new(header(board, now, pen)), head);
    match &board.page {
        Page::Relays => list::draw(board, frame, body, pen),
        Page::Relay(name) => page::draw(board, name, frame, body, pen),
        Page::Events => draw_events(board, frame, body, pen),
        Page::Help(_) => help::draw(frame, body, pen),
    }
    frame.render_widget(Paragraph::new(footer(board, pen)), keys);
}

/// Styles of the other verbs, on this screen.
#[derive(Debug, Clone, Copy)]
struct Pen(Ink);

impl Pen {
    fn style(self, style: anstyle::Style) -> Style {
        let mut mine = Style::new();
        if self.0 == Ink::Colour
            && let Some(anstyle::Color::Ansi(colour)) = style.get_fg_color()
        {
            mine = mine.fg(Color::Indexed(anstyle::Ansi256Color::from_ansi(colour).0));
        }
        if style.get_effects().contains(anstyle::Effects::BOLD) {
            mine = mine.add_modifier(Modifier::BOLD);
        }
        mine
    }

    fn state(self, state: RelayState) -> Span<'static> {
        Span::styled(state.name(), self.style(state_style(state)))
    }

    fn trouble(self, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.style(TROUBLE))
    }

    fn heading(self) -> Style {
        self.style(HEADING)
    }

    /// The key bar and the cursor, which has to be seen without colours too.
    fn reversed(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

fn header(board: &Board, now: Instant, pen: Pen) -> Vec<Line<'static>> {
    vec![first_line(board, pen), second_line(board, now, pen), totals(board, pen)]
}

fn first_line(board: &Board, pen: Pen) -> Line<'static> {
    let mut spans = vec![Span::styled("mcr top", pen.heading()), Span::raw(format!("  {}", board.server))];
    if let Some(DaemonStatus { version, pid, uptime_seconds, confinement, .. }) = &board.status {
        let confined = confinement.as_ref().map(|confinement| format!(" ({})", confinement.word())).unwrap_or_default();
        spans.push(Span::raw(format!("  {version}, process {pid}{confined}, up {}", seconds(*uptime_seconds))));
    }
    if board.motion == Motion::Paused {
        spans.push(Span::styled("  paused", pen.heading()));
    }
    Line::from(spans)
}

/// Relays by state, or what is more urgent.
fn second_line(board: &Board, now: Instant, pen: Pen) -> Line<'static> {
    match (&board.link, board.notice(now)) {
        (Link::Asking, _) => Line::raw("asking the daemon"),
        (Link::Lost(since, why), _) => {
            let gap = seconds(now.duration_since(*since).as_secs_f64().floor());
            Line::from(pen.trouble(format!("no daemon for {gap}, all this is from before: {why}")))
        }
        (Link::Good, Some(notice)) => Line::styled(notice.to_owned(), pen.heading()),
        (Link::Good, None) => states(board.relays(), pen),
    }
}

fn states(relays: &[RelayStatus], pen: Pen) -> Line<'static> {
    let mut numbers = BTreeMap::<RelayState, usize>::new();
    relays.iter().for_each(|relay| *numbers.entry(relay.state).or_default() += 1);
    let plural = if relays.len() == 1 { "relay" } else { "relays" };
    let mut spans = vec![Span::raw(format!("{} {plural}", relays.len()))];
    for (state, number) in numbers {
        spans.extend([Span::raw(format!("  {number} ")), pen.state(state)]);
    }
    Line::from(spans)
}

fn totals(board: &Board, pen: Pen) -> Line<'static> {
    let relays = board.relays();
    let outputs = || relays.iter().flat_map(|relay| &relay.outputs);
    // The sum of no floats is -0.
    let sum = |rates: &mut dyn Iterator<Item = Option<f64>>| rates.flatten().fold(0.0, |sum, rate| sum + rate);
    let packets_in = sum(&mut relays.iter().map(|relay| relay.received.packets_per_second));
    let bits_in = sum(&mut relays.iter().map(|relay| relay.received.bits_per_second));
    let packets_out = sum(&mut outputs().map(|output| output.sent.packets_per_second));
    let bits_out = sum(&mut outputs().map(|output| output.sent.bits_per_second));
    let drops = sum(&mut relays.iter().map(|relay| board.drops_per_second(&relay.name)));
    let [packets_in, packets_out] = [packets_in, packets_out].map(packet_rate);
    let [bits_in, bits_out] = [bits_in, bits_out].map(bit_rate);
    let dropped = format!("dropped {}", packet_rate(drops));
    Line::from(vec![
        Span::raw(format!("received {packets_in}, {bits_in}  sent {packets_out}, {bits_out}  ")),
        if drops > 0.0 { pen.trouble(dropped) } else { Span::raw(dropped) },
    ])
}

fn footer(board: &Board, pen: Pen) -> Line<'static> {
    if board.is_typing {
        return Line::from(vec![
            Span::styled(format!("filter: {}_", board.filter), pen.heading()),
            "  Enter keeps it, Esc ends it".into(),
        ]);
    }
    let keys: &[(&str, &str)] = match &board.page {
        Page::Relays => &[
            ("F1", "Help"),
            ("F2", "Open"),
            ("F4", "Filter"),
            ("F5", "Pause"),
            ("F6", "Sort"),
            ("F7", "Invert"),
            ("F8", "Events"),
            ("F10", "Quit"),
        ],
        Page::Relay(_) | Page::Events => {
            &[("F1", "Help"), ("Esc", "Back"), ("↑↓", "Scroll"), ("F5", "Pause"), ("F10", "Quit")]
        }
        Page::Help(_) => &[("Esc", "Back"), ("F10", "Quit")],
    };
    let spans = keys
        .iter()
        .flat_map(|(key, what)| [Span::raw(*key), Span::styled(format!("{what:<6}"), pen.reversed()), Span::raw(" ")]);
    Line::from(spans.collect::<Vec<_>>())
}

/// The newest first.
fn draw_events(board: &Board, frame: &mut Frame<'_>, area: Rect, pen: Pen) {
    let rows = usize::from(area.height).saturating_sub(1);
    let most = board.events.len().saturating_sub(rows);
    let events = board.events.iter().rev().skip(board.scrolled().min(most)).take(rows).map(event_line);
    let heading = Line::styled("events, the newest first", pen.heading());
    let lines = std::iter::once(heading).chain(no_events(board)).chain(events);
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn no_events(board: &Board) -> Option<Line<'static>> {
    board.no_events.as_ref().map(|why| Line::raw(why.clone()))
}

fn event_line(event: &Event) -> Line<'static> {
    Line::raw(event::line(event).trim_end().to_owned())
}

fn optional(rate: Option<f64>, text: fn(f64) -> String) -> String {
    rate.map_or_else(|| "-".to_owned(), text)
}

/// What a relay has dropped; it stands out.
fn dropped(relay: &RelayStatus, pen: Pen) -> Span<'static> {
    let packets = order::dropped(relay);
    let text = crate::view::quantity::count(packets);
    if packets > 0 { pen.trouble(text) } else { Span::raw(text) }
}
