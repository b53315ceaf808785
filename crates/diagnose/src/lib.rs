//! Why did my multicast packet disappear?
//!
//! Two halves that never mix: [`observe()`] collects facts about the host and its wires and concludes nothing; [`judge()`]
//! concludes from [`Facts`] and does no IO, so that tables of facts test it. Nothing here changes the host.
//!
//! What could not be seen (no privilege, no eBPF, no `nft`) is said to be unknown; a fault is named only where it is proven.

mod doctor;
mod egress;
mod facts;
mod gaze;
mod judge;
mod observe;
mod report;

use std::net::IpAddr;
use std::time::Duration;

use mcr_model::{Input, Span};

pub use doctor::{Checkup, Finding, checkup};
pub use egress::{Egress, egress};
pub use facts::*;
pub use gaze::{Gaze, give_way, links, lookable};
pub use judge::judge;
pub use observe::observe;
pub use report::{Mark, Report, Step, Verdict};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whom the packets are for.
    pub subject: Subject,
    /// Where the packets should arrive.
    input: Input,
    /// The address that they are sent to.
    group: IpAddr,
    /// How long to look at the wires.
    pub look: Duration,
    /// How many routers are between an output and its receivers, if that is known.
    pub hops: Option<u8>,
    /// Whether to join the group while looking, so that a switch sends it here.
    pub membership: Join,
}

/// What can not be looked into as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct NotExplained {
    /// What it is, and why not.
    pub message: String,
    /// What to ask for instead.
    pub remedy: String,
}

impl Question {
    /// Asks about `input`: at once for long enough to see ordinary flows, without joining.
    ///
    /// # Errors
    /// When it is several groups or ports.
    pub fn new(subject: Subject, input: Input, look: Duration) -> Result<Self, NotExplained> {
        if !input.span.is_one() {
            let one = Input { span: Span::ONE, ..input.clone() };
            return Err(NotExplained {
                message: format!("{input} is several groups or ports, and one of them is explained at a time"),
                remedy: format!("ask for one of them, as `mcr explain {one}`"),
            });
        }
        let group = input.target.ip();
        Ok(Self { subject, input, group, look, hops: None, membership: Join::No })
    }
}

/// Whom the packets are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Whoever on this host takes what comes to the input: relays and sockets.
    Endpoint,
    /// The relay of this name.
    Relay(String),
}

/// Whether a look may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The host is left as it is.
    No,
    /// The group is joined for as long as the look takes.
    WhileLooking,
}

/// Looks at the host and says what is wrong. `relays` is asked before and after the look, so that what moved meanwhile is known.
pub fn explain(question: &Question, relays: impl FnMut() -> Relays) -> Report {
    judge(question, &observe(question, relays))
}
