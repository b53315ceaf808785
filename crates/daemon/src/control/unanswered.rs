//! Changes that the engine has taken and whose answers wait until they are in force.
//!
//! Putting a change in force costs a look at everything, whether one relay is new or fifty are: so all the requests
//! that wait one behind the other are taken first, then put in force together, then answered.

use mcr_engine::{Difference, Refusal, Replaced};
use mcr_model::RelayName;
use mcr_model::status::RelayStatus;
use tokio::sync::oneshot::Sender;

use super::{ChangeError, Reply};

/// An answer that is owed.
#[derive(Debug)]
pub(super) enum Unanswered {
    Created(RelayName, Reply<RelayStatus>),
    Replaced(RelayName, Replaced, Reply<(Replaced, RelayStatus)>),
    Removed(Reply<()>),
    Loaded(Difference, Sender<Result<Difference, Vec<Refusal>>>),
}

impl Unanswered {
    /// Tells the client how its relay does now. One that hung up needs no answer.
    pub(super) fn answer(self, status_of: impl FnOnce(&RelayName) -> Option<RelayStatus>) {
        let found = |name: RelayName| status_of(&name).ok_or(ChangeError::Refused(Refusal::NotFound { name }));
        match self {
            Self::Created(name, reply) => drop(reply.send(found(name))),
            Self::Replaced(name, replaced, reply) => drop(reply.send(found(name).map(|status| (replaced, status)))),
            Self::Removed(reply) => drop(reply.send(Ok(()))),
            Self::Loaded(difference, reply) => drop(reply.send(Ok(difference))),
        }
    }
}
