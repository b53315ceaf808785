//! The decisions of MCR. Events and the time go in, effects come out; nothing here does IO or reads a clock.
//!
//! There is one code path for start, reload, an interface that comes back and recovery after a crash: what is
//! *wanted* (the relays against what is known of the interfaces) is compared with what is *actual* (what the effects
//! reported), and the difference is the next batch of effects. [`Engine::reconcile`] gives that batch; the caller
//! carries each effect out, reports it with [`Engine::done`], and asks again until the batch is empty.

mod actual;
mod address;
mod breaker;
mod condition;
mod datapath;
mod effect;
mod engine;
mod fact;
mod failures;
mod happening;
mod history;
mod lease;
mod members;
mod older_igmp;
mod own_source;
mod plan;
mod preview;
mod querier;
mod rehearsal;
mod rejoin;
mod rulebook;
mod sightings;
mod source_specific;
mod traffic;
mod watch;

pub use actual::Inventory;
pub use address::{HostAddress, Lasting, Standing};
pub use effect::{Effect, EffectError, Failure, InputKey, Membership, Outcome, Refused, Until};
pub use engine::{Counted, Difference, Engine, Flow, Replaced, Wanted};
pub use fact::{Ifindex, InterfaceFacts, Neighbour};
pub use happening::Happening;
pub use history::{Sample, Step, Track};
pub use members::{HeardReport, Interest, SoughtGroups};
pub use plan::{Action, InputPlan, Noting, OutputPlan, RelayPlan, SendPlan};
pub use preview::{Link, Receivers};
pub use querier::HeardQuery;
pub use rehearsal::{Premise, Wish};
pub use rejoin::JoinedGroups;
pub use rulebook::{Refusal, RefusalKind};
pub use traffic::{InterfaceLedger, OutputTotals, RelayTotals, Totals};
