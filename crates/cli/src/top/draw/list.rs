//! The table of relays.

use mcr_model::status::RelayStatus;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};

use super::{Pen, dropped, optional};
use crate::top::board::Board;
use crate::top::order::Order;
use crate::view::quantity::{bit_rate, packet_rate};

/// From this width on there are more columns.
const WIDE: u16 = 100;
const WIDER: u16 = 124;

/// A column: its heading, what its order is, how wide it is, and from which width of the terminal on it is there.
struct Column {
    title: &'static str,
    order: Option<Order>,
    width: Constraint,
    from_width: u16,
    cell: fn(&Board, &RelayStatus, Pen) -> Text<'static>,
}

const COLUMNS: [Column; 8] = [
    Column {
        title: "RELAY",
        order: Some(Order::Name),
        width: Constraint::Fill(4),
        from_width: 0,
        cell: |_, relay, _| text(&relay.name),
    },
    Column {
        title: "STATE",
        order: Some(Order::State),
        width: Constraint::Length(8),
        from_width: 0,
        cell: |_, relay, pen| pen.state(relay.state).into(),
    },
    Column {
        title: "RATE",
        order: Some(Order::Rate),
        width: Constraint::Length(9),
        from_width: 0,
        cell: |_, relay, _| number(optional(relay.received.packets_per_second, packet_rate)),
    },
    Column {
        title: "BIT RATE",
        order: Some(Order::BitRate),
        width: Constraint::Length(11),
        from_width: 0,
        cell: |_, relay, _| number(optional(relay.received.bits_per_second, bit_rate)),
    },
    Column { title: "DROPS", order: Some(Order::Drops), width: Constraint::Length(9), from_width: 0, cell: drops },
    Column {
        title: "DROPPED",
        order: None,
        width: Constraint::Length(11),
        from_width: WIDE,
        cell: |_, relay, pen| number(dropped(relay, pen)),
    },
    Column {
        title: "FROM",
        order: None,
        width: Constraint::Fill(5),
        from_width: 0,
        cell: |_, relay, _| text(&relay.from),
    },
    Column {
        title: "TO",
        order: None,
        width: Constraint::Fill(5),
        from_width: WIDER,
        cell: |_, relay, _| text(&to(relay)),
    },
];

pub(super) fn draw(board: &Board, frame: &mut Frame<'_>, area: Rect, pen: Pen) {
    let [table, below] = area.layout(&Layout::vertical([Constraint::Min(2), Constraint::Length(2)]));
    let shown = board.shown();
    let cursor = board.cursor(&shown);
    let rows = usize::from(table.height).saturating_sub(1);
    // The cursor stays in the middle of a list that is longer than the screen.
    let first = cursor.saturating_sub(rows / 2).min(shown.len().saturating_sub(rows));
    let columns = || COLUMNS.iter().filter(|column| area.width >= column.from_width);
    let visible = shown.iter().skip(first).take(rows);
    let cells = visible.map(|relay| Row::new(columns().map(|column| Cell::from((column.cell)(board, relay, pen)))));
    let heading = Row::new(columns().map(|column| title(column, board))).style(pen.heading());
    let widget =
        Table::new(cells, columns().map(|column| column.width)).header(heading).row_highlight_style(pen.reversed());
    let mut state = TableState::new().with_selected((!shown.is_empty()).then_some(cursor - first));
    frame.render_stateful_widget(widget, table, &mut state);
    let about = Paragraph::new(about(board, &shown, cursor)).wrap(Wrap { trim: true });
    frame.render_widget(about, below);
}

fn title(column: &Column, board: &Board) -> Text<'static> {
    let is_number = matches!(column.width, Constraint::Length(9 | 11));
    let mark = match column.order {
        Some(order) if order == board.order && board.is_reversed => "▲",
        Some(order) if order == board.order => "▼",
        Some(_) | None => "",
    };
    let title = Text::raw(format!("{}{mark}", column.title));
    if is_number { title.alignment(Alignment::Right) } else { title }
}

/// What there is to say of the relay under the cursor, or of there being none.
fn about(board: &Board, shown: &[&RelayStatus], cursor: usize) -> Line<'static> {
    match shown.get(cursor) {
        Some(RelayStatus { name, state, reason, remedy, .. }) => {
            let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            let filter = if board.filter.is_empty() { String::new() } else { format!("[{}] ", board.filter) };
            Line::raw(format!("{filter}{name} is {state}: {reason}{remedy}"))
        }
        None if board.status.is_none() => Line::raw(""),
        None if board.relays().is_empty() => Line::raw(
            "There are no relays that you may see. Add one: mcr add NAME --from eth0:239.1.1.1:5001 --to eth1:239.2.2.2:6001",
        ),
        None => Line::raw(format!("no relay matches {:?}; Esc shows all again", board.filter)),
    }
}

fn drops(board: &Board, relay: &RelayStatus, pen: Pen) -> Text<'static> {
    let rate = board.drops_per_second(&relay.name);
    let text = optional(rate, packet_rate);
    number(if rate > Some(0.0) { pen.trouble(text) } else { Span::raw(text) })
}

fn to(relay: &RelayStatus) -> String {
    relay.outputs.iter().map(|output| output.to.as_str()).collect::<Vec<_>>().join(" ")
}

fn text(text: &str) -> Text<'static> {
    Text::raw(text.to_owned())
}

fn number(number: impl Into<Span<'static>>) -> Text<'static> {
    Text::from(number.into()).alignment(Alignment::Right)
}
