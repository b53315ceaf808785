//! Many changes of memberships at once. Each is answered in a few microseconds, and to wait for the answer before the next one
//! is asked for costs two switches between processes; so several are on their way together.

use std::net::IpAddr;

use super::{Keeper, KeeperError, KeeperErrorKind, done};
use crate::protocol::{MAX_SOURCES, Request};

/// So many are on their way at once: they and their answers fit the buffers of a socket many times.
const MOST_AT_ONCE: usize = 32;

/// A change of what is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipChange<'a> {
    /// As [`Keeper::join`].
    Join {
        /// The index of the interface.
        interface: u32,
        /// The group.
        group: IpAddr,
        /// The sources that are asked for; empty: any.
        sources: &'a [IpAddr],
    },
    /// As [`Keeper::leave`].
    Leave {
        /// The index of the interface.
        interface: u32,
        /// The group.
        group: IpAddr,
    },
}

impl MembershipChange<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Join { .. } => "joining a group",
            Self::Leave { .. } => "leaving a group",
        }
    }

    pub(super) fn request(&self) -> Result<Request, KeeperError> {
        match *self {
            Self::Join { group, sources, .. } if sources.len() > MAX_SOURCES => {
                Err(KeeperError::too_many_sources(group, sources.len()))
            }
            Self::Join { interface, group, sources } => {
                Ok(Request::Join { interface, group, sources: sources.to_vec() })
            }
            Self::Leave { interface, group } => Ok(Request::Leave { interface, group }),
        }
    }
}

impl Keeper {
    /// Makes these changes in their order; what came of each. Once the keeper is gone or does not answer, the rest fails as the
    /// first that it left unanswered.
    pub fn change_memberships(&mut self, changes: &[MembershipChange<'_>]) -> Vec<Result<(), KeeperError>> {
        let mut results = Vec::with_capacity(changes.len());
        for together in changes.chunks(MOST_AT_ONCE) {
            let sent: Vec<_> = together.iter().map(|change| self.begin(change)).collect();
            for (change, sent) in together.iter().zip(sent) {
                let result = sent.and_then(|number| self.answer(change.name(), number)).and_then(done);
                results.push(result.clone());
                if result.as_ref().is_err_and(leaves_no_answer) {
                    results.resize(changes.len(), result);
                    return results;
                }
            }
        }
        results
    }

    fn begin(&mut self, change: &MembershipChange<'_>) -> Result<u32, KeeperError> {
        self.send(change.name(), &change.request()?)
    }
}

/// Whether no answer can be waited for after this error.
fn leaves_no_answer(error: &KeeperError) -> bool {
    matches!(error.kind(), KeeperErrorKind::Lost | KeeperErrorKind::TimedOut)
}
