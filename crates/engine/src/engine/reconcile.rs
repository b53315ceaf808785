//! The difference between what is wanted and what is: the effects that end it, and what came of them.

use std::collections::BTreeSet;
use std::time::Duration;

use mcr_model::Datapath;

use super::Engine;
use crate::datapath::Serving;
use crate::effect::{Effect, EffectError, InputKey, Membership, Outcome, Refused, Subject, Until};
use crate::fact::Ifindex;
use crate::own_source;
use crate::plan::{Desired, InputPlan, RelayPlan, View};

impl Engine {
    /// The next effects: carry out each, report it with [`Engine::done`], and ask again until there are none.
    pub fn reconcile(&mut self, now: Duration) -> Vec<Effect> {
        if self.failures.is_any_due(now) {
            self.settled = false;
        }
        if self.failures.put_on_trial(now) {
            self.wish_changed();
        }
        if self.settled {
            return Vec::new();
        }
        let desired = self.desired.take().unwrap_or_else(|| self.desire());
        let stages = [Self::openings, Self::installs, Self::joins, Self::endings];
        let effects = stages.iter().map(|stage| self.due(stage(self, &desired), now)).find(|batch| !batch.is_empty());
        self.settled = effects.is_none();
        if self.settled && !self.failures.is_empty() {
            let waiting: BTreeSet<Subject> =
                stages.iter().flat_map(|stage| stage(self, &desired)).map(|effect| effect.subject()).collect();
            self.failures.settle(&waiting, |name| self.relays.contains_key(name));
            self.generation += 1;
        }
        self.desired = Some(desired);
        effects.unwrap_or_default()
    }

    fn desire(&mut self) -> Desired {
        // The entries are changed beside the view.
        let mut relays = std::mem::take(&mut self.relays);
        self.seek_members(&relays);
        let desired = self.view().desire(self.epoch, &mut relays);
        self.relays = relays;
        self.actual.denied.retain(|key, _| desired.own_sources.contains(key));
        self.has_breakers = self.relays.values().any(|entry| entry.relay.watch().breaker().is_some());
        desired
    }

    /// Somebody wants something else: what is wanted has to be worked out again.
    pub(crate) fn wish_changed(&mut self) {
        self.desired = None;
        self.unsettle();
    }

    /// Something that is in force may not be what is wanted.
    pub(crate) fn unsettle(&mut self) {
        self.settled = false;
        self.generation += 1;
    }

    /// What plans are made from is different: so may be each plan.
    pub(super) fn world_changed(&mut self) {
        self.epoch += 1;
        self.wish_changed();
    }

    /// Whether an effect that fails like this failed in just this way the last time, too: it is no news.
    #[must_use]
    pub fn is_known_failure(&self, effect: &Effect, error: &EffectError) -> bool {
        self.failures.is_known(&effect.subject(), error) || self.actual.is_denied(effect, error)
    }

    /// What came of an effect.
    pub fn done(&mut self, now: Duration, effect: Effect, result: Result<Outcome, EffectError>) {
        let subject = effect.subject();
        match result {
            // What had failed has failed still: it is tried again as slowly as before, if it fails again.
            Ok(Outcome::Checking) => {
                self.failed(now, subject, own_source::checking(&effect), Until::Moment);
                self.actual.record(effect, Outcome::Checking);
            }
            Ok(outcome) => {
                let had_failed = self.failures.over(&subject);
                if let (Effect::Install { input, .. }, Outcome::Refused(refused)) = (&effect, &outcome) {
                    for Refused { relay, error, until } in refused {
                        self.failed(now, Subject::Relay(relay.clone(), input.datapath), error.clone(), *until);
                    }
                }
                self.actual.record(effect, outcome);
                match subject {
                    Subject::Output(_) | Subject::NextHop(..) => self.world_changed(),
                    Subject::Proof(_) => self.wish_changed(),
                    Subject::Input(input) if had_failed || input.datapath == Datapath::Xdp => self.wish_changed(),
                    Subject::Table(_) if had_failed => self.wish_changed(),
                    _ => {}
                }
            }
            Err(error) => {
                self.actual.record_failed(&effect, &error);
                if matches!(effect, Effect::CloseOutput { .. }) {
                    self.world_changed();
                }
                self.failed(now, subject, error, Until::Pause);
            }
        }
        self.unsettle();
    }

    fn failed(&mut self, now: Duration, subject: Subject, error: EffectError, until: Until) {
        if matches!(subject, Subject::Input(_) | Subject::Table(_) | Subject::Proof(_) | Subject::Relay(..)) {
            // Another datapath may have to serve.
            self.wish_changed();
        }
        self.failures.add(now, subject, error, until);
    }

    /// When [`Engine::reconcile`] should be asked although no event came.
    pub fn next_retry(&self) -> Option<Duration> {
        self.failures.next_retry()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            rulebook: &self.rulebook,
            facts: &self.facts,
            neighbours: &self.neighbours,
            actual: &self.actual,
            failures: &self.failures,
            datapath: self.datapath,
            listeners: &self.listeners,
            members: &self.members,
            sightings: &self.sightings,
        }
    }

    pub(super) fn indexes(&self) -> BTreeSet<Ifindex> {
        self.facts.values().map(|facts| facts.index).collect()
    }

    fn due(&self, effects: Vec<Effect>, now: Duration) -> Vec<Effect> {
        effects.into_iter().filter(|effect| !self.failures.holds_up(&effect.subject(), now)).collect()
    }

    fn openings(&self, desired: &Desired) -> Vec<Effect> {
        let inputs = desired.inputs.iter().filter(|(key, _)| !self.actual.inputs.contains_key(key));
        let inputs = inputs.map(|(&input, (name, mtu))| Effect::OpenInput { input, name: name.clone(), mtu: *mtu });
        let outputs = desired.outputs.iter().filter(|(index, _)| !self.actual.outputs.contains(index));
        let outputs = outputs.map(|(&interface, name)| Effect::OpenOutput { interface, name: name.clone() });
        let proofs = desired.proofs.iter().filter(|(interface, _)| {
            let is_proven = self.actual.proven.contains(interface) && !self.actual.doubted.contains(interface);
            self.actual.outputs.contains(interface) && !is_proven
        });
        let proofs = proofs.map(|(&interface, &mac)| Effect::Prove { interface, mac });
        let routes = desired.routed.iter().filter(|key| !self.actual.next_hops.contains_key(key));
        let routes = routes.map(|&(interface, destination)| Effect::FindNextHop { interface, destination });
        let hops = desired.neighbours.iter().filter(|key| !self.actual.kept.contains(key));
        let hops = hops.map(|&(interface, next_hop)| Effect::Resolve { interface, next_hop });
        let addresses = self.missing_addresses(desired);
        inputs.chain(outputs).chain(proofs).chain(routes).chain(hops).chain(addresses).collect()
    }

    fn installs(&self, desired: &Desired) -> Vec<Effect> {
        // An input that no relay wants any more gets an empty table before its groups are left.
        let empty = InputPlan::default();
        // One whose interface has left is closed, no more.
        let here = self.indexes();
        let open = self.actual.inputs.iter().filter(|(input, _)| here.contains(&input.interface));
        let changed = open.filter_map(|(&input, table)| {
            let plan = desired.plans.get(&input).unwrap_or(&empty);
            if table.as_ref() == Some(plan) {
                return None;
            }
            let plan = self.with_leaving(input, table.as_ref(), plan);
            (table.as_ref() != Some(&plan)).then_some(Effect::Install { input, plan })
        });
        changed.collect()
    }

    /// The plan, and the relays that are in force and on their way to another datapath: they leave when they have
    /// arrived there, so that what is not taken there is still taken here.
    fn with_leaving(&self, input: InputKey, in_force: Option<&InputPlan>, plan: &InputPlan) -> InputPlan {
        let mut plan = plan.clone();
        let gone = in_force.into_iter().flat_map(|table| table.names_beyond(&plan));
        let leaving: Vec<_> = gone.filter(|relay| self.is_on_its_way(input, relay)).cloned().collect();
        if let (false, Some(table)) = (leaving.is_empty(), in_force) {
            if plan.relays.is_empty() {
                plan.our_macs.clone_from(&table.our_macs);
            }
            plan.relays.extend(leaving);
            plan.relays.sort_by(|a, b| a.relay.cmp(&b.relay));
        }
        plan
    }

    /// Whether the relay is to be served by another datapath, which does not serve it yet but may.
    fn is_on_its_way(&self, from: InputKey, relay: &RelayPlan) -> bool {
        let Some(entry) = self.relays.get(&relay.relay) else { return false };
        let Serving { datapath, .. } = entry.serving;
        let to = InputKey { datapath, ..from };
        let is_there =
            self.facts.get(&entry.relay.input().interface).is_some_and(|facts| facts.index == from.interface);
        let may = !self.failures.stands(&Subject::Input(to)) && !self.failures.stands(&Subject::Table(to));
        let may = may && !self.view().is_refused(entry, datapath) && !self.view().is_unproven(entry, datapath);
        to != from && is_there && may && !self.actual.serves(to, &relay.relay, entry.incarnation)
    }

    fn joins(&self, desired: &Desired) -> Vec<Effect> {
        let open = self.actual.inputs.iter().filter(|(_, table)| table.is_some());
        let open: BTreeSet<Ifindex> = open.map(|(input, _)| input.interface).collect();
        let listening = |interface: Ifindex| open.contains(&interface);
        let wanted = desired
            .groups
            .iter()
            .filter(|(key, sources)| listening(key.0) && self.actual.groups.get(key) != Some(sources));
        wanted
            .map(|(&(interface, group), sources)| {
                Effect::Join(Membership { interface, group, sources: sources.clone() })
            })
            .collect()
    }

    fn endings(&self, desired: &Desired) -> Vec<Effect> {
        let groups = self.actual.groups.iter().filter(|(key, _)| !desired.groups.contains_key(key));
        let groups = groups.map(|(&(interface, group), sources)| {
            Effect::Leave(Membership { interface, group, sources: sources.clone() })
        });
        let hops = self.actual.kept.iter().filter(|key| !desired.neighbours.contains(key));
        let hops = hops.map(|&(interface, next_hop)| Effect::Forget { interface, next_hop });
        let addresses = self.spare_addresses(desired);
        let inputs = self.actual.inputs.keys().chain(&self.actual.leftover_inputs);
        let inputs = inputs.filter(|input| !desired.inputs.contains_key(input));
        let inputs = inputs.map(|&input| Effect::CloseInput { input });
        let outputs = self.actual.outputs.iter().chain(&self.actual.leftover_outputs);
        let outputs = outputs.filter(|index| !desired.outputs.contains_key(index));
        let outputs = outputs.map(|&interface| Effect::CloseOutput { interface });
        groups.chain(hops).chain(addresses).chain(inputs).chain(outputs).collect()
    }
}
