//! What `mcr top` knows, and what keys do to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mcr_model::Event;
use mcr_model::status::{DaemonStatus, RelayHistory, RelayStatus};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::order::{self, Order};
use crate::view::quantity::seconds;

/// More events than this are forgotten, the oldest first.
const MOST_EVENTS: usize = 500;
/// How far PgUp and PgDn go.
const PAGE_ROWS: usize = 10;
/// How long a notice stands.
const NOTICE: Duration = Duration::from_secs(10);

/// What one look at the daemon brought.
#[derive(Debug)]
pub(crate) struct Look {
    /// The daemon as a whole.
    pub(crate) status: DaemonStatus,
    /// Its relays.
    pub(crate) relays: Vec<RelayStatus>,
    /// What happened since the look before, or why that is not told.
    pub(crate) events: Result<Vec<Event>, String>,
    /// What the relay that is shown carried.
    pub(crate) history: Option<RelayHistory>,
}

/// What became of a look.
#[derive(Debug)]
pub(crate) enum News {
    /// It was answered.
    Seen(Box<Look>),
    /// It was not, and why.
    Lost(String),
}

/// What fills the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// All relays.
    Relays,
    /// One relay.
    Relay(String),
    /// What happened.
    Events,
    /// The keys; then back to where it was asked for.
    Help(Box<Page>),
}

/// Whether the daemon answers.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// Nothing was heard yet.
    Asking,
    /// It does.
    Good,
    /// It does not since then, and why.
    Lost(Instant, String),
}

/// What a key asks of whoever runs the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing.
    Nothing,
    /// Another page is shown, which needs a look at once.
    Look,
    /// To end.
    End,
}

/// Whether new looks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    /// As they come.
    Live,
    /// What is on the screen stays.
    Paused,
}

/// Everything that the screen shows.
#[derive(Debug)]
pub(crate) struct Board {
    /// Where the daemon is.
    pub(crate) server: String,
    pub(crate) link: Link,
    pub(crate) status: Option<DaemonStatus>,
    pub(crate) page: Page,
    pub(crate) order: Order,
    pub(crate) is_reversed: bool,
    pub(crate) motion: Motion,
    /// What relays have to match.
    pub(crate) filter: String,
    /// Keys go to the filter.
    pub(crate) is_typing: bool,
    pub(crate) events: VecDeque<Event>,
    /// Why events are not told.
    pub(crate) no_events: Option<String>,
    pub(crate) history: Option<RelayHistory>,
    relays: Vec<RelayStatus>,
    /// Copies dropped on all outputs: in all at the last look, and per second between the last two.
    drops: BTreeMap<String, (u64, Option<f64>)>,
    selected: Option<String>,
    scrolled: usize,
    looked: Option<Instant>,
    notice: Option<(Instant, String)>,
}

impl Board {
    /// Nothing known yet of the daemon that is at `server`.
    pub(crate) fn new(server: String) -> Self {
        Self {
            server,
            link: Link::Asking,
            status: None,
            page: Page::Relays,
            order: Order::Rate,
            is_reversed: false,
            motion: Motion::Live,
            filter: String::new(),
            is_typing: false,
            events: VecDeque::new(),
            no_events: None,
            history: None,
            relays: Vec::new(),
            drops: BTreeMap::new(),
            selected: None,
            scrolled: 0,
            looked: None,
            notice: None,
        }
    }

    /// Takes in what a look brought.
    pub(crate) fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::Lost(why) => {
                let since = if let Link::Lost(since, _) = self.link { since } else { now };
                self.link = Link::Lost(since, why);
            }
            News::Seen(look) => self.see(*look, now),
        }
    }

    fn see(&mut self, look: Look, now: Instant) {
        let Look { status, relays, events, history } = look;
        let is_another = self.status.as_ref().is_some_and(|before| before.pid != status.pid);
        if let Link::Lost(since, _) = self.link {
            let gap = seconds(now.duration_since(since).as_secs_f64());
            self.notice = Some((now, format!("the daemon answers again, after {gap}")));
        }
        if is_another {
            self.notice = Some((now, format!("the daemon was started again (process {})", status.pid)));
        }
        self.link = Link::Good;
        match events {
            Ok(events) => self.events.extend(events),
            Err(why) => self.no_events = Some(why),
        }
        let surplus = self.events.len().saturating_sub(MOST_EVENTS);
        self.events.drain(..surplus);
        if self.motion == Motion::Paused {
            return;
        }
        let elapsed = self.looked.map(|looked| now.duration_since(looked).as_secs_f64());
        self.drops = relays.iter().map(|relay| (relay.name.clone(), self.drops_of(relay, elapsed))).collect();
        let shown = if let Page::Relay(name) = &self.page { name.as_str() } else { "" };
        if history.as_ref().is_some_and(|history| history.relay == shown) {
            self.history = history;
        }
        (self.status, self.relays, self.looked) = (Some(status), relays, Some(now));
    }

    /// A counter that went back tells nothing.
    fn drops_of(&self, relay: &RelayStatus, elapsed: Option<f64>) -> (u64, Option<f64>) {
        let total = order::dropped(relay);
        let before = self.drops.get(&relay.name).map(|(before, _)| *before);
        let new = before.and_then(|before| total.checked_sub(before));
        let seconds = elapsed.filter(|seconds| *seconds > 0.0);
        (total, new.zip(seconds).map(|(new, seconds)| new as f64 / seconds))
    }

    /// The relays that match the filter, in order.
    pub(crate) fn shown(&self) -> Vec<&RelayStatus> {
        let words = self.filter.to_lowercase();
        let mut shown: Vec<&RelayStatus> = self.relays.iter().filter(|relay| order::matches(relay, &words)).collect();
        shown.sort_by(|a, b| {
            self.order.compare((a, self.drops_per_second(&a.name)), (b, self.drops_per_second(&b.name)))
        });
        if self.is_reversed {
            shown.reverse();
        }
        shown
    }

    /// All relays.
    pub(crate) fn relays(&self) -> &[RelayStatus] {
        &self.relays
    }

    /// One relay; `None` when there is none any more.
    pub(crate) fn relay(&self, name: &str) -> Option<&RelayStatus> {
        self.relays.iter().find(|relay| relay.name == name)
    }

    /// Copies of a relay that are dropped each second, on all outputs; `None` until it is known.
    pub(crate) fn drops_per_second(&self, name: &str) -> Option<f64> {
        self.drops.get(name).and_then(|(_, rate)| *rate)
    }

    /// The row of the cursor among those that are shown.
    pub(crate) fn cursor(&self, shown: &[&RelayStatus]) -> usize {
        let found = shown.iter().position(|relay| Some(&relay.name) == self.selected.as_ref());
        found.unwrap_or(0)
    }

    /// How far down the page is scrolled.
    pub(crate) fn scrolled(&self) -> usize {
        self.scrolled
    }

    /// What has just come to pass.
    pub(crate) fn notice(&self, now: Instant) -> Option<&str> {
        let (since, text) = self.notice.as_ref()?;
        (now.duration_since(*since) < NOTICE).then_some(text)
    }

    /// The relay of which the page shows the history.
    pub(crate) fn history_of(&self) -> Option<&str> {
        match &self.page {
            Page::Relay(name) => Some(name),
            Page::Relays | Page::Events | Page::Help(_) => None,
        }
    }

    /// Does what a key asks for.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Wish {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Wish::End,
            _ if self.is_typing => return self.write(key.code),
            KeyCode::Char('q') | KeyCode::F(10) => return Wish::End,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => return self.help(),
            KeyCode::Char(' ' | 'p') | KeyCode::F(5) => return self.pause(),
            _ => {}
        }
        match &self.page {
            Page::Relays => self.press_on_list(key.code),
            Page::Relay(_) | Page::Events | Page::Help(_) => self.press_on_page(key.code),
        }
    }

    fn press_on_list(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Char('/') | KeyCode::F(3 | 4) => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::F(6) | KeyCode::Char('>') => self.sort_by(self.order.next()),
            KeyCode::Char('r' | 'R') => self.sort_by(Order::Rate),
            KeyCode::Char('b' | 'B') => self.sort_by(Order::BitRate),
            KeyCode::Char('s' | 'S') => self.sort_by(Order::State),
            KeyCode::Char('d' | 'D') => self.sort_by(Order::Drops),
            KeyCode::Char('n' | 'N') => self.sort_by(Order::Name),
            KeyCode::Char('i' | 'I') | KeyCode::F(7) => self.is_reversed = !self.is_reversed,
            KeyCode::Char('e' | 'E') | KeyCode::F(8) => return self.turn_to(Page::Events),
            KeyCode::Enter | KeyCode::F(2) | KeyCode::Right => return self.open(),
            other => self.walk(other),
        }
        Wish::Nothing
    }

    fn press_on_page(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Left | KeyCode::Backspace => {
                let back = if let Page::Help(before) = &self.page { (**before).clone() } else { Page::Relays };
                return self.turn_to(back);
            }
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = (self.scrolled + 1).min(MOST_EVENTS),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE_ROWS),
            KeyCode::PageDown => self.scrolled = (self.scrolled + PAGE_ROWS).min(MOST_EVENTS),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
        Wish::Nothing
    }

    fn write(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            other => self.walk(other),
        }
        Wish::Nothing
    }

    fn help(&mut self) -> Wish {
        if !matches!(self.page, Page::Help(_)) {
            let before = std::mem::replace(&mut self.page, Page::Relays);
            self.page = Page::Help(Box::new(before));
        }
        Wish::Nothing
    }

    fn pause(&mut self) -> Wish {
        self.motion = match self.motion {
            Motion::Live => Motion::Paused,
            Motion::Paused => Motion::Live,
        };
        Wish::Look
    }

    fn sort_by(&mut self, order: Order) {
        (self.order, self.is_reversed) = (order, false);
    }

    fn open(&mut self) -> Wish {
        let shown = self.shown();
        match shown.get(self.cursor(&shown)).map(|relay| relay.name.clone()) {
            Some(name) => {
                self.selected = Some(name.clone());
                self.turn_to(Page::Relay(name))
            }
            None => Wish::Nothing,
        }
    }

    fn turn_to(&mut self, page: Page) -> Wish {
        if page != self.page {
            self.history = self.history.take().filter(|history| page == Page::Relay(history.relay.clone()));
        }
        (self.page, self.scrolled) = (page, 0);
        Wish::Look
    }

    fn walk(&mut self, key: KeyCode) {
        let shown = self.shown();
        let (at, last) = (self.cursor(&shown), shown.len().saturating_sub(1));
        let to = match key {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::PageUp => at.saturating_sub(PAGE_ROWS),
            KeyCode::PageDown => at + PAGE_ROWS,
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return,
        };
        self.selected = shown.get(to.min(last)).map(|relay| relay.name.clone());
    }
}
