//! What is to be in force on an interface: the tables of both programs there, as one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mcr_engine::{InputPlan, RelayPlan};
use mcr_model::RelayName;
use mcr_netd::Hook;

/// What each program is to serve; `None`: nobody has said yet.
pub(super) type Hooks = BTreeMap<Hook, Option<InputPlan>>;

/// The relays of all hooks of an interface. While one moves from one hook to the other it is in the tables of both, and
/// the driver's counts.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) plan: InputPlan,
    at_driver: HashSet<RelayName>,
}

impl Table {
    pub(super) fn of(hooks: &Hooks) -> Self {
        let of_hook = |hook| hooks.get(&hook).and_then(Option::as_ref).filter(|plan| !plan.relays.is_empty());
        let (driver, ingress) = (of_hook(Hook::Xdp), of_hook(Hook::Tcx));
        let (Some(driver), Some(ingress)) = (driver, ingress) else {
            let plan = driver.or(ingress).cloned().unwrap_or_default();
            return Self { at_driver: driver.map(names).unwrap_or_default(), plan };
        };
        let (mut plan, at_driver) = (driver.clone(), names(driver));
        plan.relays.extend(ingress.relays.iter().filter(|relay| !at_driver.contains(&relay.relay)).cloned());
        plan.relays.sort_by(|a, b| a.relay.cmp(&b.relay));
        Self { plan, at_driver }
    }

    /// Whether the other table has exactly this plan of the relay, at the same hook.
    pub(super) fn has(&self, relay: &Arc<RelayPlan>, of: &Table) -> bool {
        has(&self.plan, relay) && self.same_hook(of, relay)
    }

    /// Whether it has exactly this plan of the relay, at whichever hook.
    pub(super) fn has_anywhere(&self, relay: &Arc<RelayPlan>) -> bool {
        has(&self.plan, relay)
    }

    pub(super) fn is_at_driver(&self, relay: &RelayPlan) -> bool {
        self.at_driver.contains(&relay.relay)
    }

    fn same_hook(&self, other: &Table, relay: &RelayPlan) -> bool {
        self.is_at_driver(relay) == other.is_at_driver(relay)
    }

    /// The relays that `other` does not have exactly so, at the same hook. Both are in order of names, and what did not
    /// change is the same allocation: beside ten thousand relays one new one costs a walk without a comparison of names.
    pub(super) fn beyond<'a>(&'a self, other: &'a Table) -> impl Iterator<Item = &'a Arc<RelayPlan>> {
        let mut others = other.plan.relays.iter().peekable();
        self.plan.relays.iter().filter(move |relay| {
            if others.next_if(|other| Arc::ptr_eq(other, relay)).is_some() {
                return !self.same_hook(other, relay);
            }
            while others.next_if(|other| other.relay < relay.relay).is_some() {}
            let there = others.next_if(|other| other.relay == relay.relay);
            there.is_none_or(|there| there != *relay || !self.same_hook(other, relay))
        })
    }
}

fn names(plan: &InputPlan) -> HashSet<RelayName> {
    plan.relays.iter().map(|relay| relay.relay.clone()).collect()
}

/// Whether exactly this plan of the relay is in the table. Plans that did not change are mostly the same allocation.
fn has(table: &InputPlan, relay: &Arc<RelayPlan>) -> bool {
    let found = table.relays.binary_search_by(|other| other.relay.cmp(&relay.relay));
    found.is_ok_and(|at| Arc::ptr_eq(&table.relays[at], relay) || table.relays[at] == *relay)
}
