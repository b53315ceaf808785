//! What can be asked to change beside a single relay, and why a change is not made.

use std::time::Duration;

use mcr_engine::{Premise, Refusal};
use mcr_model::Grant;
use mcr_model::time::Timestamp;

use crate::config::{ConfigError, Configuration};
use crate::store::StoreError;

/// What has to be so of a relay that is there for somebody to change it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What the caller may use: the relay has to be within.
    pub grant: Grant,
    /// What the caller takes it to be.
    pub premise: Premise,
}

impl From<Grant> for Claim {
    fn from(grant: Grant) -> Self {
        Self { grant, premise: Premise::Anything }
    }
}

/// Why a relay was not made, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It does not fit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would not survive a restart.
    #[error("nothing was changed: {0}")]
    NotStored(#[from] StoreError),
}

/// A configuration that somebody wants in force instead of the file's.
#[derive(Debug, Clone)]
pub struct Application {
    /// The configuration.
    pub configuration: Configuration,
    /// How it is to be applied.
    pub terms: Terms,
}

/// How a configuration is to be applied, and who wants it.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Who.
    pub by: String,
    /// What that one says about it.
    pub note: Option<String>,
    /// The one before comes back unless somebody confirms within this time.
    pub confirm: Option<Duration>,
    /// Only if this revision is in force.
    pub expected: Option<u64>,
}

/// Why a configuration was not applied. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The one in force waits for its confirmation.
    #[error(
        "revision {revision} is on trial until {until}: confirm it (`mcr confirm`) or go back (`mcr rollback`) first"
    )]
    OnTrial {
        /// The one in force.
        revision: u64,
        /// When it ends.
        until: Timestamp,
    },
    /// Somebody else was faster.
    #[error("revision {in_force} is in force, not {expected}: look at it (`mcr history`), then try again")]
    Superseded {
        /// What should have been in force.
        expected: u64,
        /// What is.
        in_force: u64,
    },
    /// Its relays do not fit.
    #[error("{}", sentences(.0))]
    Unfit(Vec<Refusal>),
    /// A revision that this version does not understand.
    #[error("{0}")]
    Unusable(ConfigError),
    /// There is none of that number.
    #[error("there is no revision {number}, or it is too old to be kept; `mcr history` lists those that there are")]
    NoRevision {
        /// The number.
        number: u64,
    },
    /// There is none before the one in force.
    #[error("there is no earlier revision to go back to; `mcr history` lists those that there are")]
    NothingEarlier,
    /// The one in force is not on trial.
    #[error("nothing waits for a confirmation: the configuration in force is not on trial (see `mcr history`)")]
    NothingToConfirm,
    /// It would not survive a restart.
    #[error("nothing was changed: {0}")]
    NotStored(#[from] StoreError),
}

fn sentences(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n")
}
