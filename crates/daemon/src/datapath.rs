//! What moves packets, each kind in one shape: an input is opened and closed, a table is installed there, and what was
//! counted is read from the [`Books`](book::Books).
//!
//! A relay may move from one to another while packets come. Its book sums what each of them counted for it.

pub(crate) mod book;
mod fan_outs;
pub(crate) mod kernel;
pub(crate) mod packet;
pub(crate) mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use mcr_datapath::packet::TxSocket;
use mcr_engine::{EffectError, Ifindex, RelayPlan, SendPlan};
use mcr_model::span::Offset;
use mcr_netd::KeeperError;
use mcr_wire::{Destination, Listing, MacAddr, Prefix, Rewrite};

/// Interfaces that may be sent to.
pub(crate) type Outputs = BTreeMap<Ifindex, OpenOutput>;

/// The sending side of an interface.
#[derive(Debug)]
pub(crate) struct OpenOutput {
    /// For `packet`.
    pub(crate) socket: Arc<TxSocket>,
    /// For the kernel's tables.
    pub(crate) port: u32,
}

/// Why something could not be done.
#[derive(Debug)]
pub(crate) enum Trouble {
    Keeper(KeeperError),
    Here(EffectError),
}

/// What a relay listens to at this offset; the same for all datapaths.
fn destination(plan: &RelayPlan, offset: Offset) -> Destination {
    let (address, port) = plan.at(offset);
    Destination { vlan: plan.vlan, address, port }
}

/// What copies look like of what came to that.
fn rewrite(plan: &SendPlan, offset: Offset) -> Rewrite {
    let plan = plan.at(offset);
    Rewrite {
        source_mac: MacAddr::new(plan.source_mac),
        destination_mac: MacAddr::new(plan.destination_mac),
        vlan: plan.vlan,
        source: plan.source,
        destination: std::net::SocketAddr::new(plan.destination, plan.port),
        source_port: plan.source_port,
        ttl: plan.ttl,
        dscp: plan.dscp,
        priority: plan.priority,
        oversize: plan.oversize,
    }
}

/// Which sources a relay names, and what becomes of them.
fn listed(plan: &RelayPlan) -> (Vec<Prefix>, Listing) {
    let (list, listing) = match plan.excluded.is_empty() {
        true => (&plan.sources, Listing::Accepts),
        false => (&plan.excluded, Listing::Refuses),
    };
    (list.iter().map(mcr_model::Prefix::on_wire).collect(), listing)
}

/// The trouble of a table for an input that is not open any more.
fn closed_meanwhile() -> Trouble {
    Trouble::Here(EffectError {
        reason: "the input was closed meanwhile".to_owned(),
        remedy: "nothing: it is opened again".to_owned(),
    })
}

impl From<KeeperError> for Trouble {
    fn from(error: KeeperError) -> Self {
        Self::Keeper(error)
    }
}

impl From<EffectError> for Trouble {
    fn from(error: EffectError) -> Self {
        Self::Here(error)
    }
}
