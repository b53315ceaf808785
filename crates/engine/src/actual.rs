//! What is: what the effects reported, and what was found when the daemon started beside a living keeper.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_model::RelayName;

use crate::effect::{Effect, EffectError, InputKey, Membership, Outcome};
use crate::fact::Ifindex;
use crate::plan::InputPlan;

/// What a keeper still held when the daemon came: taken over where it is wanted, released where it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Joined groups.
    pub memberships: Vec<Membership>,
    /// Open receiving sides.
    pub inputs: Vec<InputKey>,
    /// Interfaces with an open sending side.
    pub outputs: Vec<Ifindex>,
    /// Neighbours that are kept fresh.
    pub neighbours: Vec<(Ifindex, IpAddr)>,
    /// Addresses that interfaces have for the sake of relays.
    pub addresses: Vec<(Ifindex, IpAddr)>,
}

/// The engine's record of what is in force.
#[derive(Debug, Default)]
pub(crate) struct Actual {
    /// Open inputs and the table in force there.
    pub(crate) inputs: BTreeMap<InputKey, Option<InputPlan>>,
    pub(crate) outputs: BTreeSet<Ifindex>,
    /// Outputs whose driver was seen to take redirected frames.
    pub(crate) proven: BTreeSet<Ifindex>,
    /// Those of them that seem to take nothing any more, and are to be tried again.
    pub(crate) doubted: BTreeSet<Ifindex>,
    pub(crate) groups: BTreeMap<(Ifindex, IpAddr), Vec<IpAddr>>,
    pub(crate) next_hops: BTreeMap<(Ifindex, IpAddr), IpAddr>,
    pub(crate) kept: BTreeSet<(Ifindex, IpAddr)>,
    /// Addresses that were asked for and that interfaces have.
    pub(crate) addresses: BTreeSet<(Ifindex, IpAddr)>,
    /// Those that are being checked, and those that may be there although they could not be used: to be removed when nobody
    /// asks for them any more.
    pub(crate) checked: BTreeSet<(Ifindex, IpAddr)>,
    /// Those that could not be added when that was tried last, and why: told while it is tried again.
    pub(crate) denied: BTreeMap<(Ifindex, IpAddr), EffectError>,
    /// Held by the keeper, not opened by this daemon: closed unless it becomes wanted.
    pub(crate) leftover_inputs: BTreeSet<InputKey>,
    pub(crate) leftover_outputs: BTreeSet<Ifindex>,
}

impl Actual {
    /// Whether that definition of a relay is in force there.
    pub(crate) fn serves(&self, input: InputKey, name: &RelayName, incarnation: u64) -> bool {
        let table = self.inputs.get(&input).and_then(Option::as_ref);
        table.is_some_and(|table| table.has(name, incarnation))
    }

    pub(crate) fn adopt(&mut self, inventory: Inventory) {
        let Inventory { memberships, inputs, outputs, neighbours, addresses } = inventory;
        self.groups.extend(memberships.into_iter().map(|m| ((m.interface, m.group), m.sources)));
        self.leftover_inputs.extend(inputs);
        self.leftover_outputs.extend(outputs);
        self.kept.extend(neighbours);
        self.addresses.extend(addresses);
    }

    /// Whether an address could not be added for that reason when it was tried last; that it was checked since is no news.
    pub(crate) fn is_denied(&self, effect: &Effect, error: &EffectError) -> bool {
        match effect {
            Effect::AddAddress { interface, address } => self.denied.get(&(*interface, *address)) == Some(error),
            _ => false,
        }
    }

    /// Records that `effect` failed. What was to be closed is closed on our side whatever the keeper said, and has to
    /// be opened again before it can be used.
    pub(crate) fn record_failed(&mut self, effect: &Effect, error: &EffectError) {
        match effect {
            Effect::CloseInput { input } => {
                self.inputs.remove(input);
                self.leftover_inputs.insert(*input);
            }
            Effect::Prove { interface, .. } => {
                self.proven.remove(interface);
                self.doubted.remove(interface);
            }
            Effect::CloseOutput { interface } => {
                self.outputs.remove(interface);
                self.proven.remove(interface);
                self.leftover_outputs.insert(*interface);
            }
            Effect::AddAddress { interface, address } => {
                // It may be there all the same.
                self.checked.insert((*interface, *address));
                self.denied.insert((*interface, *address), error.clone());
            }
            Effect::OpenInput { .. }
            | Effect::OpenOutput { .. }
            | Effect::FindNextHop { .. }
            | Effect::Resolve { .. }
            | Effect::Forget { .. }
            | Effect::RemoveAddress { .. }
            | Effect::Install { .. }
            | Effect::Join(_)
            | Effect::Leave(_) => {}
        }
    }

    /// Records that `effect` was carried out.
    pub(crate) fn record(&mut self, effect: Effect, outcome: Outcome) {
        match effect {
            Effect::OpenInput { input, .. } => {
                self.leftover_inputs.remove(&input);
                self.inputs.insert(input, None);
            }
            Effect::CloseInput { input } => {
                self.leftover_inputs.remove(&input);
                self.inputs.remove(&input);
            }
            Effect::OpenOutput { interface, .. } => {
                self.leftover_outputs.remove(&interface);
                self.outputs.insert(interface);
            }
            Effect::CloseOutput { interface } => {
                self.leftover_outputs.remove(&interface);
                self.outputs.remove(&interface);
                self.proven.remove(&interface);
            }
            Effect::Prove { interface, .. } => {
                self.doubted.remove(&interface);
                self.proven.insert(interface);
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
            Effect::AddAddress { interface, address } => {
                let key = (interface, address);
                if outcome == Outcome::Checking {
                    self.checked.insert(key);
                } else {
                    self.checked.remove(&key);
                    self.denied.remove(&key);
                    self.addresses.insert(key);
                }
            }
            Effect::RemoveAddress { interface, address } => {
                self.addresses.remove(&(interface, address));
                self.checked.remove(&(interface, address));
            }
            Effect::Install { input, mut plan } => {
                if let Outcome::Refused(refused) = outcome {
                    let refused: BTreeSet<&RelayName> = refused.iter().map(|refused| &refused.relay).collect();
                    plan.relays.retain(|relay| !refused.contains(&relay.relay));
                }
                self.inputs.insert(input, Some(plan));
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
