//! Asks the daemon again and again, beside the screen: an answer that takes long does not keep keys waiting.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use mcr_model::Event;
use mcr_model::status::RelayHistory;

use super::board::{Look, News};
use crate::client::Client;
use crate::failure::Failure;
use crate::verbs::events::Kept;
use crate::verbs::list::Relays;

/// How much of a relay's history is asked for: as many seconds as a wide terminal has columns.
const HISTORY: &str = "history?step=1s&last=5m";

/// Somebody who looks. It ends when this is dropped, after the look that is under way.
pub(crate) struct Watch {
    wanted: Sender<Option<String>>,
    news: Receiver<News>,
}

impl Watch {
    /// Looks at the daemon from now on.
    pub(crate) fn start(client: Client, interval: Duration) -> Self {
        let ((wanted, asked), (told, news)) = (channel(), channel());
        std::thread::spawn(move || Watcher { client, interval, last_event: None }.run(&asked, &told));
        Self { wanted, news }
    }

    /// Looks at once, and from now on at the history of this relay too.
    pub(crate) fn look(&self, history_of: Option<&str>) {
        // It is there as long as this is.
        let _ = self.wanted.send(history_of.map(str::to_owned));
    }

    /// What came since it was asked last.
    pub(crate) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }
}

struct Watcher {
    client: Client,
    interval: Duration,
    last_event: Option<String>,
}

impl Watcher {
    fn run(mut self, wanted: &Receiver<Option<String>>, news: &Sender<News>) {
        let (mut history_of, mut next) = (None, Instant::now());
        loop {
            let look = self.look(history_of.as_deref());
            let told = look.map_or_else(|failure| News::Lost(failure.to_string()), |look| News::Seen(Box::new(look)));
            if news.send(told).is_err() {
                return;
            }
            // An answer that took longer than the interval is not followed by a burst.
            next = (next + self.interval).max(Instant::now());
            match wanted.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(other) => history_of = wanted.try_iter().last().unwrap_or(other),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self, history_of: Option<&str>) -> Result<Look, Failure> {
        let status = self.client.get("status")?.read()?;
        let Relays { relays } = self.client.get("relays")?.read()?;
        let history = history_of.filter(|name| relays.iter().any(|relay| relay.name == **name));
        // It may have gone since.
        let history = history.and_then(|name| self.history(name).ok());
        let events = self.events().map_err(|failure| failure.to_string());
        Ok(Look { status, relays, events, history })
    }

    fn history(&self, name: &str) -> Result<RelayHistory, Failure> {
        self.client.get(&format!("relays/{name}/{HISTORY}"))?.read()
    }

    fn events(&mut self) -> Result<Vec<Event>, Failure> {
        let Kept { events } = self.client.get_after("events?follow=false", self.last_event.as_deref())?.read()?;
        self.last_event = events.iter().rev().find_map(|event| event.id.clone()).or(self.last_event.take());
        Ok(events)
    }
}
