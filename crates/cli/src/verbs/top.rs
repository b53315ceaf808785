//! `mcr top`

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::args::Top;
use crate::client::Client;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::top::board::{Board, Wish};
use crate::top::draw::draw;
use crate::top::watch::Watch;
use crate::view::screen::Screen;

/// How long news may wait for the screen.
const GLANCE: Duration = Duration::from_millis(50);

/// Shows relays until somebody ends it.
pub(crate) fn top(args: Top) -> Result<(), Failure> {
    let Top { interval, daemon } = args;
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "mcr top fills a terminal, and its output is none; for scripts there are `mcr list -o json`, `mcr show NAME -o json` \
             and `mcr stats --watch -o json`",
        ));
    }
    let client = Client::new(daemon)?;
    // A daemon that is not there, or that refuses, is told before the terminal is taken over.
    client.get("status")?;
    let board = Board::new(client.server());
    let interrupt = Interrupt::watch()?;
    let watch = Watch::start(client, interval);
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::failed(format!("cannot take over the terminal: {error}")))?;
    let ended = show(&mut terminal, board, &watch, &interrupt);
    ratatui::restore();
    ended.map_err(|error| Failure::failed(format!("the terminal is gone: {error}")))
}

fn show(terminal: &mut DefaultTerminal, mut board: Board, watch: &Watch, interrupt: &Interrupt) -> io::Result<()> {
    // The second of a clock that is on the screen.
    const STALE: Duration = Duration::from_secs(1);
    let ink = Screen::stdout().ink();
    let mut drawn = None::<Instant>;
    while !interrupt.is_asked() {
        let now = Instant::now();
        let mut is_new = drawn.is_none_or(|drawn| now.duration_since(drawn) >= STALE);
        for news in watch.news() {
            board.hear(news, now);
            is_new = true;
        }
        if is_new {
            terminal.draw(|frame| draw(&board, frame, now, ink))?;
            drawn = Some(now);
        }
        if !event::poll(GLANCE)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match board.press(key) {
                Wish::End => return Ok(()),
                Wish::Look => watch.look(board.history_of()),
                Wish::Nothing => {}
            },
            _ => {}
        }
        drawn = None;
    }
    Ok(())
}
