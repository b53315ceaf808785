//! `tcx` and `xdp`: the tables of the programs in the kernel, written from here without a privilege.

mod change;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mcr_datapath::clock::monotonic_nanoseconds;
use mcr_engine::{EffectError, Ifindex, InputPlan, InterfaceLedger, Outcome, Refused, Until};
use mcr_kernel_path::{Arrivals, InputCounters, Maps, TableWriter, WriteError};
use mcr_model::RelayName;
use mcr_netd::{Hook, Keeper};
use mcr_wire::MacAddr;

use self::change::Change;
use self::table::{Hooks, Table};
use super::book::Books;
use super::fan_outs::{self, FanOuts, List};
use super::{Outputs, Trouble, closed_meanwhile};
use crate::control::line::Line;

/// Arrivals are asked for once a second, and noted twice a second.
const OF_LATE: Duration = Duration::from_secs(3);

/// The tables, once the keeper has handed them over.
#[derive(Default)]
pub(crate) struct KernelPath {
    tables: Option<Tables>,
    inputs: BTreeMap<Ifindex, Input>,
    fan_outs: FanOuts,
    /// Whether arrivals could not be read when they were asked for last.
    is_blind: bool,
}

struct Tables {
    writer: TableWriter,
    /// Which tables these are: the kernel's number of them.
    id: u32,
}

/// One interface, with the programs that are attached there and what each is to serve.
struct Input {
    hooks: Hooks,
    /// What was installed; `None`: what is in force was written by a daemon before this one, at least in part.
    installed: Option<Table>,
    counters: Arc<InputCounters>,
}

impl KernelPath {
    /// Attaches a program to an interface.
    pub(crate) fn open(&mut self, keeper: &mut Keeper, interface: Ifindex, hook: Hook) -> Result<(), Trouble> {
        let counters = self.tables(keeper)?.writer.input_counters(interface.0).map_err(|error| told(&error))?;
        keeper.attach(interface.0, hook)?;
        let input =
            self.inputs.entry(interface).or_insert_with(|| Input { hooks: BTreeMap::new(), installed: None, counters });
        input.hooks.insert(hook, None);
        Ok(())
    }

    /// Detaches it, and forgets the relays there with the last.
    pub(crate) fn close(&mut self, keeper: &mut Keeper, interface: Ifindex, hook: Hook) -> Result<(), Trouble> {
        let is_last = self.inputs.get_mut(&interface).is_none_or(|input| {
            input.hooks.remove(&hook);
            input.hooks.is_empty()
        });
        if !is_last {
            return Ok(keeper.detach(interface.0, hook)?);
        }
        self.inputs.remove(&interface);
        // A daemon before this one may have left relays there.
        let removed = self.tables(keeper).map(|tables| tables.writer.remove_input(interface.0));
        keeper.detach(interface.0, hook)?;
        Ok(removed?.map_err(|error| told(&error))?)
    }

    /// Lets go of the tables, which go on as they are.
    pub(crate) fn let_go(&mut self) {
        self.inputs.clear();
        self.fan_outs = FanOuts::default();
        self.tables = None;
    }

    fn tables(&mut self, keeper: &mut Keeper) -> Result<&mut Tables, Trouble> {
        if self.tables.is_none() {
            let unusable = |reason: String| EffectError {
                reason,
                remedy: "install mcr and mcr-netd of one release, and restart mcr-netd".to_owned(),
            };
            let maps = Maps::from_fds(keeper.tables()?).map_err(|error| unusable(error.to_string()))?;
            let id = maps.id();
            let mut writer = TableWriter::adopt(maps).map_err(|error| told(&error))?;
            let attached: BTreeSet<u32> =
                keeper.inventory()?.attached.into_iter().map(|(interface, _)| interface).collect();
            forget_departed(&mut writer, &attached);
            self.tables = Some(Tables { writer, id });
        }
        Ok(self.tables.as_mut().expect("there just now"))
    }

    /// Makes `plan` what a program is to serve on an interface. Only what differs from before is written; the keeper is
    /// needed only for lists of outputs at the driver.
    pub(crate) fn install(
        &mut self,
        line: &mut Line,
        (interface, hook): (Ifindex, Hook),
        plan: &InputPlan,
        books: &mut Books,
        outputs: &Outputs,
    ) -> Result<Outcome, Trouble> {
        let mut refused = match hook {
            Hook::Tcx => Vec::new(),
            Hook::Xdp => self.fan_out(line, interface, plan),
        };
        let input = self.inputs.get_mut(&interface).ok_or_else(closed_meanwhile)?;
        let tables = self.tables.as_mut().ok_or_else(closed_meanwhile)?;
        let before = input.hooks.insert(hook, Some(without(plan.clone(), &refused)));
        match input.write(interface, tables, &self.fan_outs, books, outputs) {
            Ok(more) => refused.extend(more),
            Err(error) => {
                input.hooks.insert(hook, before.flatten());
                return Err(told(&error).into());
            }
        }
        if !refused.is_empty() {
            let taken = input.hooks.remove(&hook).flatten().map(|plan| without(plan, &refused));
            input.hooks.insert(hook, taken);
            // One on its way from the other hook is still served there.
            input.installed = input.installed.take().map(|_| Table::of(&input.hooks));
        }
        self.fan_outs.settle(line, || lists_in_use(self.inputs.iter()));
        Ok(if refused.is_empty() { Outcome::Done } else { Outcome::Refused(refused) })
    }

    /// Has the lists of outputs made that relays at the driver need; the relays for which that failed.
    fn fan_out(&mut self, line: &mut Line, interface: Ifindex, plan: &InputPlan) -> Vec<Refused> {
        let inputs = &self.inputs;
        let in_use = || lists_in_use(inputs.iter().filter(|(other, _)| **other != interface));
        let failed = self.fan_outs.want(line, fan_outs::lists(plan), in_use);
        if failed.is_empty() {
            return Vec::new();
        }
        let refused = plan.relays.iter().filter_map(|relay| {
            let error = failed.get(&fan_outs::list(relay)?)?;
            let error = EffectError { reason: error.reason(), remedy: error.remedy() };
            Some(Refused { relay: relay.relay.clone(), error, until: Until::Pause })
        });
        refused.collect()
    }

    /// The driver of an interface, or the interface, can not be sent to any more.
    pub(crate) fn output_ended(&mut self, interface: Ifindex) {
        self.fan_outs.forget_to(interface);
    }

    /// What packets have come for of late, of all relays whose arrivals are noted; `None`: that can not be read.
    pub(crate) fn arrivals(&mut self) -> Option<Arrivals> {
        let since = monotonic_nanoseconds().saturating_sub(OF_LATE.as_nanos() as u64);
        let arrivals =
            self.tables.as_ref().map_or_else(|| Ok(Arrivals::default()), |tables| tables.writer.arrivals(since));
        let was_blind = std::mem::replace(&mut self.is_blind, arrivals.is_err());
        if let (Err(error), false) = (&arrivals, was_blind) {
            tracing::warn!(%error, "it can not be read which groups packets come for: what is joined as seen stays so");
        }
        arrivals.ok()
    }

    /// What could not be charged to a relay, by interface.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = (Ifindex, InterfaceLedger)> {
        self.inputs.iter().map(|(interface, input)| {
            let seen = input.counters.snapshot();
            (*interface, InterfaceLedger { dropped: seen.dropped.by_index() })
        })
    }
}

impl Input {
    /// Whether each program there has been told what it is to serve. What one serves since before this daemon is left
    /// alone until then.
    fn is_whole(&self) -> bool {
        self.hooks.values().all(Option::is_some)
    }

    /// Writes what the hooks are to serve; the relays that were refused.
    fn write(
        &mut self,
        interface: Ifindex,
        tables: &mut Tables,
        fan_outs: &FanOuts,
        books: &mut Books,
        outputs: &Outputs,
    ) -> Result<Vec<Refused>, WriteError> {
        let (table, is_whole) = (Table::of(&self.hooks), self.is_whole());
        let says_macs = is_whole || !table.plan.relays.is_empty();
        if says_macs && self.installed.as_ref().is_none_or(|before| before.plan.our_macs != table.plan.our_macs) {
            let macs: Vec<MacAddr> = table.plan.our_macs.iter().map(|mac| MacAddr::new(*mac)).collect();
            tables.writer.set_own_macs(interface.0, &macs)?;
        }
        let mut change = Change {
            tables,
            interface,
            before: self.installed.as_ref(),
            table: &table,
            is_whole,
            books,
            outputs,
            fan_outs,
            refused: Vec::new(),
            is_full: false,
        };
        change.write();
        let refused = change.refused;
        if is_whole || self.installed.is_some() {
            self.installed = Some(table);
        }
        Ok(refused)
    }
}

/// The lists that relays at the driver need; `None` as long as not everything is known that is served.
fn lists_in_use<'a>(mut inputs: impl Iterator<Item = (&'a Ifindex, &'a Input)>) -> Option<BTreeSet<List>> {
    inputs.try_fold(BTreeSet::new(), |mut all, (_, input)| {
        let at_driver = input.hooks.get(&Hook::Xdp).and_then(Option::as_ref);
        all.extend(at_driver.map(fan_outs::lists).unwrap_or_default());
        input.is_whole().then_some(all)
    })
}

fn without(mut plan: InputPlan, refused: &[Refused]) -> InputPlan {
    if !refused.is_empty() {
        let names: BTreeSet<&RelayName> = refused.iter().map(|refused| &refused.relay).collect();
        plan.relays.retain(|relay| !names.contains(&relay.relay));
    }
    plan
}

/// Removes what a daemon before this one left for interfaces that are gone: no packet leads there any more.
fn forget_departed(writer: &mut TableWriter, attached: &BTreeSet<u32>) {
    for interface in writer.inputs().into_iter().filter(|interface| !attached.contains(interface)) {
        if let Err(error) = writer.remove_input(interface) {
            tracing::warn!(%error, interface, "what was relayed from an interface that is gone stays in the tables");
        }
    }
}

/// A failure of the writer as a reason and a remedy: its text has both, the remedy after the last semicolon.
fn told(error: &WriteError) -> EffectError {
    let text = error.to_string();
    let (reason, remedy) = text.rsplit_once("; ").unwrap_or((&text, "restart mcr-netd, and report this with its log"));
    EffectError { reason: reason.to_owned(), remedy: remedy.to_owned() }
}
