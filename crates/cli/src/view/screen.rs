//! Standard output: whether a person looks at it, and its colours.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use mcr_model::RelayState;

use crate::failure::Failure;

/// Autowrap off and on (DECAWM, ECMA-48 private mode 7).
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    kind: Kind,
    ink: Ink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Terminal,
    Stream,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// With escape sequences.
    Colour,
    /// Plain text.
    Plain,
}

impl Screen {
    /// Standard output as it is: coloured when it is a terminal, unless `NO_COLOR` (no-color.org) or `TERM=dumb` is set.
    pub(crate) fn stdout() -> Self {
        let kind = if io::stdout().is_terminal() { Kind::Terminal } else { Kind::Stream };
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let ink = if kind == Kind::Terminal && !refused { Ink::Colour } else { Ink::Plain };
        Self { kind, ink }
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(self) -> bool {
        self.kind == Kind::Terminal
    }

    /// Its colours.
    pub(crate) fn ink(self) -> Ink {
        self.ink
    }

    /// Writes text.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let done = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        done.map_err(|error| match error.kind() {
            // `mcr list | head -1` is no accident.
            io::ErrorKind::BrokenPipe => Failure::Silent,
            _ => Failure::failed(format!("cannot write the result: {error}")),
        })
    }

    /// Replaces the line that the cursor stands in; only on a terminal. It is cut where the terminal ends: a line that
    /// wraps could not be replaced.
    pub(crate) fn live_line(self, line: &str) -> Result<(), Failure> {
        if self.is_terminal() { self.print(&format!("\r\x1b[K{NO_WRAP}{line}{WRAP}")) } else { Ok(()) }
    }

    /// Takes a live line away again; only on a terminal.
    pub(crate) fn end_live_line(self) -> Result<(), Failure> {
        self.live_line("")
    }

    /// Replaces everything in view by `text`; on anything but a terminal it follows what came before.
    pub(crate) fn redraw(self, text: &str) -> Result<(), Failure> {
        match self.kind {
            // Clearing to the end of each line instead of the whole screen first: no flicker.
            Kind::Terminal => self.print(&format!("\x1b[H{NO_WRAP}{}{WRAP}\x1b[J", text.replace('\n', "\x1b[K\n"))),
            Kind::Stream => self.print(&format!("{text}\n")),
        }
    }
}

impl Ink {
    /// `text` in `style`.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::Colour if style != Style::new() => format!("{style}{text}{style:#}"),
            Self::Colour | Self::Plain => text.to_owned(),
        }
    }
}

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();

/// Numbers that should be zero.
pub(crate) const TROUBLE: Style = AnsiColor::Red.on_default();

/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();

/// The colour of a state: green works, yellow waits, red wants somebody.
pub(crate) fn state_style(state: RelayState) -> Style {
    match state {
        RelayState::Flowing => AnsiColor::Green.on_default(),
        RelayState::Ready => AnsiColor::Cyan.on_default(),
        RelayState::Silent | RelayState::Pending => AnsiColor::Yellow.on_default(),
        RelayState::Degraded => AnsiColor::Red.on_default(),
        RelayState::Failed => AnsiColor::Red.on_default().bold(),
    }
}
