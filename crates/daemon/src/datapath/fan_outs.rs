//! The lists of outputs that the program at the driver copies to. Only the keeper can make one; relays with the same
//! outputs share it.

use std::collections::{BTreeMap, BTreeSet};

use mcr_engine::{Action, Ifindex, InputPlan, OutputPlan, RelayPlan};
use mcr_netd::KeeperError;

use crate::control::line::Line;

/// Interfaces in the order of a relay's outputs.
pub(super) type List = Vec<Ifindex>;

/// The numbers by which the tables name such lists.
#[derive(Debug, Default)]
pub(super) struct FanOuts {
    numbers: BTreeMap<List, u32>,
    /// Whether the keeper knows which of those that were made before this daemon are in use.
    inheritance: Inheritance,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Inheritance {
    #[default]
    Unsettled,
    Settled,
}

impl FanOuts {
    pub(super) fn number(&self, list: &[Ifindex]) -> Option<u32> {
        self.numbers.get(list).copied()
    }

    /// Has those of these lists made that are missing, and without such the keeper is not asked at all. Why some could not
    /// be. What is not `in_use` makes room first; `None`: it is not known yet what is.
    pub(super) fn want(
        &mut self,
        line: &mut Line,
        lists: BTreeSet<List>,
        in_use: impl FnOnce() -> Option<BTreeSet<List>>,
    ) -> BTreeMap<List, KeeperError> {
        let missing: Vec<List> = lists.iter().filter(|list| !self.numbers.contains_key(*list)).cloned().collect();
        let mut failed = BTreeMap::new();
        if missing.is_empty() {
            return failed;
        }
        if let Some(mut in_use) = in_use() {
            in_use.extend(lists);
            self.keep(line, &in_use);
        }
        for list in missing {
            let interfaces: Vec<u32> = list.iter().map(|interface| interface.0).collect();
            match line.ask(|keeper| keeper.fan_out(&interfaces)) {
                Ok(number) => drop(self.numbers.insert(list, number)),
                Err(error) => drop(failed.insert(list, error)),
            }
        }
        failed
    }

    /// Has given up, once, what was made before this daemon and is not `in_use`; `None`: it is not known yet what is.
    pub(super) fn settle(&mut self, line: &mut Line, in_use: impl FnOnce() -> Option<BTreeSet<List>>) {
        if self.inheritance == Inheritance::Unsettled
            && let Some(in_use) = in_use()
        {
            self.keep(line, &in_use);
        }
    }

    /// Has all others given up. A keeper that does not answer now is told the next time.
    fn keep(&mut self, line: &mut Line, in_use: &BTreeSet<List>) {
        let is_exact = self.numbers.keys().all(|list| in_use.contains(list));
        if is_exact && self.inheritance == Inheritance::Settled {
            return;
        }
        let used = self.numbers.iter().filter(|(list, _)| in_use.contains(*list));
        let numbers: Vec<u32> = used.map(|(_, number)| *number).collect();
        if line.ask(|keeper| keeper.keep_fan_outs(&numbers)).is_ok() {
            self.numbers.retain(|list, _| in_use.contains(list));
            self.inheritance = Inheritance::Settled;
        }
    }

    /// The keeper gives up the lists with an interface when it is closed, or its driver takes nothing any more.
    pub(super) fn forget_to(&mut self, interface: Ifindex) {
        self.numbers.retain(|list, _| !list.contains(&interface));
    }
}

/// All lists that relays of a table need.
pub(super) fn lists(plan: &InputPlan) -> BTreeSet<List> {
    plan.relays.iter().filter_map(|relay| list(relay)).collect()
}

/// The interfaces that a relay's copies go to, where there are several and all of them are sent.
pub(super) fn list(relay: &RelayPlan) -> Option<List> {
    let interface = |output: &OutputPlan| match &output.action {
        Action::Send(plan) => Some(plan.interface),
        Action::Drop(_) => None,
    };
    (relay.outputs.len() > 1).then(|| relay.outputs.iter().map(interface).collect()).flatten()
}
