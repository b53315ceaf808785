//! The page of one relay.

use mcr_model::DropReason;
use mcr_model::status::{OutputStatus, RelayHistory, RelayStatus};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Sparkline};

use super::{Pen, event_line, no_events};
use crate::top::board::Board;
use crate::view::quantity::{bit_rate, packet_rate, seconds};
use crate::view::relay::{because, drops, traffic};
use crate::view::screen::{TROUBLE, state_style};
use crate::view::wrap::wrapped;

/// Columns left of a curve.
const LABEL: u16 = 22;

pub(super) fn draw(board: &Board, name: &str, frame: &mut Frame<'_>, area: Rect, pen: Pen) {
    let Some(relay) = board.relay(name) else {
        let gone = format!("relay {name} is gone; Esc goes back to the others");
        frame.render_widget(Paragraph::new(gone), area);
        return;
    };
    let top = condition(relay, area.width.into(), pen);
    let top_rows = top.len().min(usize::from(area.height) / 3) as u16;
    let curve_rows = if area.height < 24 { [2, 2, 1] } else { [3, 3, 2] };
    let rows = [top_rows].into_iter().chain(curve_rows).map(Constraint::Length).chain([Constraint::Min(1)]);
    let [top_area, packets, bits, dropped, rest] = area.layout(&Layout::vertical(rows));
    frame.render_widget(Paragraph::new(top), top_area);
    if let Some(history) = &board.history {
        draw_curves(history, frame, [packets, bits, dropped], pen);
    }
    draw_rest(board, relay, frame, rest, pen);
}

/// The state, the way in, and what is known of its datapath.
fn condition(relay: &RelayStatus, columns: usize, pen: Pen) -> Vec<Line<'static>> {
    let RelayStatus { name, state, reason, remedy, datapath, datapath_reason, from, received, .. } = relay;
    let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    let last = relay.last_packet_seconds.map(|ago| format!("; last packet {} ago", seconds(ago))).unwrap_or_default();
    let why = datapath_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let style = pen.style(state_style(*state));
    let lines = [
        (format!("{name} is {state}: {reason}{remedy}"), style),
        (format!("from {from} by {datapath}{why}"), Style::new()),
        (format!("received {}{last}", traffic(received)), Style::new()),
    ];
    lines.into_iter().flat_map(|(text, style)| paragraph("", &text, columns, style)).collect()
}

fn paragraph(indent: &str, text: &str, columns: usize, style: Style) -> impl Iterator<Item = Line<'static>> + use<> {
    wrapped(indent, columns, text).into_iter().map(move |line| Line::styled(line, style))
}

/// Numbers of one step each, and how they are told.
struct Curve<'a> {
    title: &'static str,
    values: &'a [u64],
    text: fn(f64) -> String,
    per_second: f64,
    style: Style,
}

fn draw_curves(history: &RelayHistory, frame: &mut Frame<'_>, areas: [Rect; 3], pen: Pen) {
    let RelayHistory { received_packets, received_bytes, dropped_packets, step_seconds, .. } = history;
    let per_second = 1.0 / (*step_seconds).max(1) as f64;
    let packets = Curve { title: "rate", values: received_packets, text: packet_rate, per_second, style: Style::new() };
    let bits =
        Curve { title: "bit rate", values: received_bytes, text: bit_rate, per_second: per_second * 8.0, ..packets };
    let drops = Curve { title: "drops", values: dropped_packets, style: pen.style(TROUBLE), ..packets };
    [packets, bits, drops].iter().zip(areas).for_each(|(curve, area)| draw_curve(curve, frame, area));
}

fn draw_curve(curve: &Curve<'_>, frame: &mut Frame<'_>, area: Rect) {
    let Curve { title, values, text, per_second, style } = curve;
    let [label, area] = area.layout(&Layout::horizontal([Constraint::Length(LABEL), Constraint::Min(1)]));
    // A step is a column, and the newest stands at the right.
    let shown = &values[values.len().saturating_sub(area.width.into())..];
    let most = shown.iter().max().copied().unwrap_or(0);
    let area = Rect { x: area.right() - shown.len() as u16, width: shown.len() as u16, ..area };
    frame.render_widget(Paragraph::new(format!("{title}\nmost {}", text(most as f64 * per_second))), label);
    frame.render_widget(Sparkline::default().data(shown).max(most.max(1)).style(*style), area);
}

/// Outputs with their drops, then events; scrolled together.
fn draw_rest(board: &Board, relay: &RelayStatus, frame: &mut Frame<'_>, area: Rect, pen: Pen) {
    let outputs = relay.outputs.iter().flat_map(|output| output_lines(output, area.width.into(), pen));
    let of_relay = board.events.iter().rev().filter(|event| event.kind.relay() == Some(&relay.name));
    let heading = Line::styled("events, the newest first", pen.heading());
    let lines: Vec<Line<'_>> =
        outputs.chain(std::iter::once(heading)).chain(no_events(board)).chain(of_relay.map(event_line)).collect();
    let scrolled = board.scrolled().min(lines.len().saturating_sub(area.height.into()));
    frame.render_widget(Paragraph::new(lines.split_at(scrolled).1.to_vec()), area);
}

fn output_lines(output: &OutputStatus, columns: usize, pen: Pen) -> Vec<Line<'static>> {
    let OutputStatus { to, ok, reason, remedy, sent, dropped, dropped_packets, .. } = output;
    let trouble = pen.style(TROUBLE);
    let mut lines: Vec<Line<'_>> =
        paragraph("", &format!("to {to}: sent {}", traffic(sent)), columns, pen.heading()).collect();
    if !ok {
        lines.extend(paragraph("  ", &because(reason.as_deref(), remedy.as_deref()), columns, trouble));
    }
    if *dropped_packets > 0 {
        lines.extend(paragraph("  ", &format!("dropped {}", drops(output)), columns, trouble));
    }
    let names = dropped.iter().filter(|(_, packets)| **packets > 0).map(|(name, _)| name);
    for reason in names.filter_map(|name| DropReason::from_name(name)) {
        let text = format!("{}: {}; {}", reason.name(), reason.meaning(), reason.remedy());
        lines.extend(paragraph("    ", &text, columns, Style::new()));
    }
    lines
}
