//! The host as a whole: what it lacks, and what is set so that multicast gets lost. Facts first ([`host`]), then what follows from
//! them ([`judge`]), as for a single packet.

mod ethtool;
mod host;
mod judge;

pub(crate) use ethtool::link_speed;
use std::time::Duration;

use mcr_model::trouble::Trouble;
use serde::Serialize;

use crate::facts::Relays;
use crate::report::Mark;

/// One thing about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, as `limits`; stable.
    pub topic: &'static str,
    /// What exactly, as `memberships_few`; stable.
    pub code: &'static str,
    /// Right, wrong, or worth a look.
    pub mark: Mark,
    /// What was found, in a sentence without a final stop.
    pub fact: String,
    /// What to do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The command that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Everything that was found, the wrong first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// The findings, in the order of their topics.
    pub findings: Vec<Finding>,
}

impl Checkup {
    /// Whether anything is wrong.
    pub fn is_ill(&self) -> bool {
        self.findings.iter().any(|finding| finding.mark == Mark::Fault)
    }
}

impl Finding {
    fn ok(topic: &'static str, code: &'static str, fact: impl Into<String>) -> Self {
        Self { topic, code, mark: Mark::Ok, fact: fact.into(), remedy: None, command: None }
    }

    fn fault(topic: &'static str, code: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { mark: Mark::Fault, remedy: Some(remedy.into()), ..Self::ok(topic, code, fact) }
    }

    fn advice(topic: &'static str, code: &'static str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { mark: Mark::Unknown, ..Self::fault(topic, code, fact, remedy) }
    }

    fn by(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// Looks at the host, and listens on every interface for queries for so long. `troubles` are what the daemon tells of itself.
pub fn checkup(look: Duration, relays: &Relays, troubles: &[Trouble]) -> Checkup {
    let mut findings = judge::findings(&host::look(look, relays));
    findings.extend(troubles.iter().map(judge::trouble));
    Checkup { findings }
}
