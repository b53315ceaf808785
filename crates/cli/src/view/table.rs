//! A plain table: no borders, two blanks between columns, so that it reads well and `awk` can take it apart.

use anstyle::Style;

use crate::view::screen::{HEADING, Ink};

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One field of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A field in `style`.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows below headings.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [(&'static str, Align); COLUMNS],
    rows: Vec<[Cell; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) fn new(columns: [(&'static str, Align); COLUMNS]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row at the end.
    pub(crate) fn push(&mut self, row: [Cell; COLUMNS]) {
        self.rows.push(row);
    }

    /// The table as text; each line ends in a newline and none in blanks.
    pub(crate) fn render(&self, ink: Ink) -> String {
        let widths: [usize; COLUMNS] = std::array::from_fn(|i| {
            let cells = self.rows.iter().map(|row| width(&row[i].text));
            cells.chain([width(self.columns[i].0)]).max().unwrap_or(0)
        });
        let heading = self.columns.map(|(title, _)| Cell::styled(title, HEADING));
        let lines = std::iter::once(&heading).chain(&self.rows);
        lines.map(|row| self.line(row, &widths, ink) + "\n").collect()
    }

    fn line(&self, row: &[Cell; COLUMNS], widths: &[usize; COLUMNS], ink: Ink) -> String {
        let mut line = String::new();
        let mut owed_blanks = 0;
        for (i, Cell { text, style }) in row.iter().enumerate() {
            let padding = widths[i] - width(text);
            let (before, after) = match self.columns[i].1 {
                Align::Left => (0, padding),
                Align::Right => (padding, 0),
            };
            if text.is_empty() {
                owed_blanks += padding + 2;
                continue;
            }
            line.push_str(&" ".repeat(owed_blanks + before));
            line.push_str(&ink.paint(*style, text));
            owed_blanks = after + 2;
        }
        line
    }
}

/// Columns of a terminal that `text` takes. Names and endpoints are ASCII, units have `µ` at most: one per character.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::screen::state_style;
    use mcr_model::RelayState;

    fn table() -> Table<3> {
        let mut table = Table::new([("NAME", Align::Left), ("STATE", Align::Left), ("PACKETS", Align::Right)]);
        let flowing = Cell::styled("flowing", state_style(RelayState::Flowing));
        table.push(["camera-3".into(), flowing, "1,234,567".into()]);
        table.push(["b".into(), "".into(), "7".into()]);
        table
    }

    #[test]
    fn columns_line_up() {
        insta::assert_snapshot!(table().render(Ink::Plain), @r"
        NAME      STATE      PACKETS
        camera-3  flowing  1,234,567
        b                          7
        ");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = table().render(Ink::Colour);
        assert!(coloured.contains("\x1b[32mflowing\x1b[0m  1,234,567"), "{coloured:?}");
        let mut plain = String::new();
        for (i, piece) in coloured.split('\x1b').enumerate() {
            plain.push_str(if i == 0 { piece } else { piece.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, table().render(Ink::Plain));
    }
}
