//! What is: what the effects reported, and what was found when the daemon started beside a living keeper.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::effect::{Effect, Membership, Outcome};
use crate::fact::Ifindex;
use crate::plan::InputPlan;

/// What a keeper still held when the daemon came: taken over where it is wanted, released where it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Joined groups.
    pub memberships: Vec<Membership>,
    /// Interfaces with an open receiving side.
    pub inputs: Vec<Ifindex>,
    /// Interfaces with an open sending side.
    pub outputs: Vec<Ifindex>,
    /// Neighbours that are kept fresh.
    pub neighbours: Vec<(Ifindex, Ipv4Addr)>,
}

/// The engine's record of what is in force.
#[derive(Debug, Default)]
pub(crate) struct Actual {
    /// Open inputs and the table in force there.
    pub(crate) inputs: BTreeMap<Ifindex, Option<InputPlan>>,
    pub(crate) outputs: BTreeSet<Ifindex>,
    pub(crate) groups: BTreeMap<(Ifindex, Ipv4Addr), Vec<Ipv4Addr>>,
    pub(crate) next_hops: BTreeMap<(Ifindex, Ipv4Addr), Ipv4Addr>,
    pub(crate) kept: BTreeSet<(Ifindex, Ipv4Addr)>,
    /// Held by the keeper, not opened by this daemon: closed unless it becomes wanted.
    pub(crate) leftover_inputs: BTreeSet<Ifindex>,
    pub(crate) leftover_outputs: BTreeSet<Ifindex>,
}

impl Actual {
    pub(crate) fn adopt(&mut self, inventory: Inventory) {
        let Inventory { memberships, inputs, outputs, neighbours } = inventory;
        self.groups.extend(memberships.into_iter().map(|m| ((m.interface, m.group), m.sources)));
        self.leftover_inputs.extend(inputs);
        self.leftover_outputs.extend(outputs);
        self.kept.extend(neighbours);
    }

    /// Records that `effect` failed. What was to be closed is closed on our side whatever the keeper said, and has to
    /// be opened again before it can be used.
    pub(crate) fn record_failed(&mut self, effect: &Effect) {
        match effect {
            Effect::CloseInput { interface } => {
                self.inputs.remove(interface);
                self.leftover_inputs.insert(*interface);
            }
            Effect::CloseOutput { interface } => {
                self.outputs.remove(interface);
                self.leftover_outputs.insert(*interface);
            }
            Effect::OpenInput { .. }
            | Effect::OpenOutput { .. }
            | Effect::FindNextHop { .. }
            | Effect::Resolve { .. }
            | Effect::Forget { .. }
            | Effect::Install { .. }
            | Effect::Join(_)
            | Effect::Leave(_) => {}
        }
    }

    /// Records that `effect` was carried out.
    pub(crate) fn record(&mut self, effect: Effect, outcome: Outcome) {
        match effect {
            Effect::OpenInput { interface, .. } => {
                self.leftover_inputs.remove(&interface);
                self.inputs.insert(interface, None);
            }
            Effect::CloseInput { interface } => {
                self.leftover_inputs.remove(&interface);
                self.inputs.remove(&interface);
            }
            Effect::OpenOutput { interface, .. } => {
                self.leftover_outputs.remove(&interface);
                self.outputs.insert(interface);
            }
            Effect::CloseOutput { interface } => {
                self.leftover_outputs.remove(&interface);
                self.outputs.remove(&interface);
            }
            Effect::FindNextHop { interface, destination } => {
                if let Outcome::NextHop(next_hop) = outcome {
                    self.next_hops.insert((interface, destination), next_hop);
                }
            }
            Effect::Resolve { interface, next_hop } => {
                self.kept.insert((interface, next_hop));
            }
            Effect::Forget { interface, next_hop } => {
                self.kept.remove(&(interface, next_hop));
            }
            Effect::Install { interface, plan } => {
                self.inputs.insert(interface, Some(plan));
            }
            Effect::Join(Membership { interface, group, sources }) => {
                self.groups.insert((interface, group), sources);
            }
            Effect::Leave(Membership { interface, group, .. }) => {
                self.groups.remove(&(interface, group));
            }
        }
    }
}
