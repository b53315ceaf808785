//! The connection to the keeper, and how it stands with it.

use std::time::{Duration, Instant};

use mcr_netd::{Keeper, KeeperError, KeeperErrorKind};

/// The connection to the keeper.
pub(crate) struct Line {
    keeper: Keeper,
    contact: Contact,
}

/// How it stands with the keeper.
enum Contact {
    Good,
    /// The connection has ended.
    Lost,
    /// It did not answer a request, and is not asked again before then.
    Silent {
        until: Instant,
        error: KeeperError,
    },
}

/// How long a keeper that did not answer is left alone. Each request that it does not answer costs five seconds, in
/// which this thread can do nothing else.
const SILENCE: Duration = Duration::from_secs(10);

impl Line {
    pub(crate) fn new(keeper: Keeper) -> Self {
        Self { keeper, contact: Contact::Good }
    }

    /// Whether the connection has ended, as far as a request has shown it.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.contact, Contact::Lost)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.keeper.pid()
    }

    /// The keeper, whatever it said last.
    pub(crate) fn keeper_at_any_rate(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// The keeper, unless it is known not to answer now.
    pub(crate) fn keeper(&mut self) -> Result<&mut Keeper, KeeperError> {
        match &self.contact {
            Contact::Silent { until, error } if Instant::now() < *until => return Err(error.clone()),
            Contact::Silent { .. } => self.contact = Contact::Good,
            Contact::Good | Contact::Lost => {}
        }
        Ok(&mut self.keeper)
    }

    /// Asks the keeper, and notes what its answer says of the connection.
    pub(crate) fn ask<T>(
        &mut self,
        request: impl FnOnce(&mut Keeper) -> Result<T, KeeperError>,
    ) -> Result<T, KeeperError> {
        self.keeper().and_then(request).inspect_err(|error| self.note(error))
    }

    /// What an error says of the connection.
    pub(crate) fn note(&mut self, error: &KeeperError) {
        match error.kind() {
            KeeperErrorKind::Lost => self.contact = Contact::Lost,
            KeeperErrorKind::TimedOut if matches!(self.contact, Contact::Good) => {
                self.contact = Contact::Silent { until: Instant::now() + SILENCE, error: error.clone() };
            }
            _ => {}
        }
    }
}
