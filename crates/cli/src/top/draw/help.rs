//! The keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::Pen;

const KEYS: &[(&str, &str)] = &[
    ("↑ ↓ PgUp PgDn Home End, k j", "move, scroll"),
    ("Enter, F2", "a relay: curves, outputs, drops, events"),
    ("Esc", "back; on the list: all of it again"),
    ("/, F4", "only what has these words in name, state, endpoints"),
    ("F6, >", "sort by the next column"),
    ("r b s d n", "sort by rate, bit rate, state, drops, name"),
    ("i, F7", "the other way round"),
    ("e, F8", "what happened"),
    ("Space, p, F5", "let the screen stand still, or go on"),
    ("?, h, F1", "this page"),
    ("q, F10, Ctrl-C", "end"),
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, pen: Pen) {
    let keys = KEYS.iter().map(|(key, what)| Line::raw(format!("  {key:<27} {what}")));
    let notes = [
        "",
        "DROPS are copies dropped per second on all outputs, between the last two looks.",
        "A curve has a column for each second; the newest is at the right.",
    ];
    let heading = Line::styled("Keys", pen.heading());
    let lines = std::iter::once(heading).chain(keys).chain(notes.map(Line::raw));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}
