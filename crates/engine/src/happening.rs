//! What happened, and whose business it is.
//!
//! An event names its relay. Who may hear of it is a question of the relay's definition, which may be gone or another
//! one by the time that somebody reads the event: so each event goes with the definition that it was about.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcr_model::event::About;
use mcr_model::relay::Relay;
use mcr_model::{EventKind, Grant, RelayName};

use crate::engine::Engine;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// What.
    pub kind: EventKind,
    /// The definitions of the relay that it is about: the one before, too, when it got another.
    relays: Vec<Arc<Relay>>,
}

impl From<EventKind> for Happening {
    fn from(kind: EventKind) -> Self {
        Self { kind, relays: Vec::new() }
    }
}

impl Happening {
    /// Whether it is any business of who has that grant.
    pub fn concerns(&self, grant: &Grant) -> bool {
        match self.kind.about() {
            About::Relay(_) => grant.is_unlimited() || self.relays.iter().any(|relay| grant.has(relay)),
            About::Interface(name) => grant.has_interface(name),
            About::Configuration => grant.is_unlimited(),
            About::Daemon => true,
        }
    }
}

/// What happened and was not fetched yet, and the definitions that it may be about.
#[derive(Debug, Default)]
pub(crate) struct Happenings {
    unfetched: Vec<Happening>,
    /// By name; of a relay that has just got another definition, the one before, too.
    definitions: BTreeMap<String, Vec<Arc<Relay>>>,
}

impl Happenings {
    /// A relay has this definition from now on.
    pub(crate) fn learn(&mut self, relay: &Arc<Relay>) {
        let known = self.definitions.entry(relay.name().to_string()).or_default();
        known.push(Arc::clone(relay));
        // The event of the change is about both; what comes after it is about the new one alone.
        let before = known.len().saturating_sub(2);
        known.drain(..before);
    }

    /// A relay is gone, and so is what was to be told of it.
    pub(crate) fn forget(&mut self, name: &RelayName) {
        self.definitions.remove(name.as_str());
    }

    fn add(&mut self, kind: EventKind) {
        let relays = match kind.about() {
            About::Relay(name) => self.definitions.get_mut(name).map(|known| {
                let about = known.clone();
                known.drain(..known.len().saturating_sub(1));
                about
            }),
            About::Interface(_) | About::Configuration | About::Daemon => None,
        };
        self.unfetched.push(Happening { kind, relays: relays.unwrap_or_default() });
    }
}

impl Engine {
    /// What happened since this was asked last, in order.
    pub fn take_events(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings.unfetched)
    }

    pub(crate) fn happened(&mut self, event: EventKind) {
        self.happenings.add(event);
    }
}
