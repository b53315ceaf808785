//! `packet`: workers for each input, in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcr_datapath::counters::InputCounters;
use mcr_datapath::packet::{InputWorkers, RingGeometry, filter};
use mcr_datapath::table::{InputTable, OutputAction, OutputEntry, RelayEntry};
use mcr_engine::{Action, EffectError, Ifindex, InputPlan, InterfaceLedger, Noting, RelayPlan};
use mcr_model::span::Offset;
use mcr_model::{DropReason, InterfaceName};
use mcr_netd::Keeper;
use mcr_wire::MacAddr;

use super::book::Books;
use super::workers::Workers;
use super::{Outputs, Trouble, closed_meanwhile, destination, listed, rewrite};

/// The inputs that are read in this process.
pub(crate) struct PacketPath {
    workers: Workers,
    inputs: BTreeMap<Ifindex, Input>,
}

struct Input {
    workers: InputWorkers,
    counters: Arc<InputCounters>,
}

impl PacketPath {
    /// None yet; each will have this many workers.
    pub(crate) fn new(workers: Workers) -> Self {
        Self { workers, inputs: BTreeMap::new() }
    }

    /// Starts to read an interface.
    pub(crate) fn open(
        &mut self,
        keeper: &mut Keeper,
        interface: Ifindex,
        name: &InterfaceName,
        mtu: u32,
    ) -> Result<(), Trouble> {
        let wanted = RingGeometry::for_mtu(mtu);
        let (rings, geometry) = keeper.open_input(interface.0, &wanted, self.workers.at(name))?;
        let counters = Arc::new(InputCounters::default());
        let workers = InputWorkers::start(name.as_str(), rings, geometry, &counters).map_err(|error| EffectError {
            reason: format!("can not read packets of {name}: {error}"),
            remedy: "check the limits of the daemon on memory and threads".to_owned(),
        })?;
        self.inputs.insert(interface, Input { workers, counters });
        Ok(())
    }

    /// Stops to read it; the keeper has to close it as well.
    pub(crate) fn close(&mut self, interface: Ifindex) {
        self.inputs.remove(&interface);
    }

    /// Stops every worker.
    pub(crate) fn stop(&mut self) {
        self.inputs.clear();
    }

    /// The table first, then the filter: a frame that passes the filter finds its relay.
    pub(crate) fn install(
        &mut self,
        keeper: &mut Keeper,
        interface: Ifindex,
        plan: &InputPlan,
        books: &mut Books,
        outputs: &Outputs,
    ) -> Result<(), Trouble> {
        let table = InputTable {
            relays: plan.relays.iter().flat_map(|relay| entries(relay, books, outputs)).collect(),
            our_macs: plan.our_macs.iter().map(|mac| MacAddr::new(*mac)).collect(),
        };
        let destinations = plan.relays.iter().flat_map(|relay| relay.offsets().map(|offset| relay.at(offset)));
        let destinations: Vec<_> = destinations.collect();
        let input = self.inputs.get_mut(&interface).ok_or_else(closed_meanwhile)?;
        input.workers.install(&table).map_err(|error| EffectError {
            reason: format!("the packet worker has ended: {error}"),
            remedy: "restart the daemon, and report this with its log".to_owned(),
        })?;
        keeper.set_filter(interface.0, &filter::compile(&destinations))?;
        Ok(())
    }

    /// What could not be charged to a relay, by interface.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = (Ifindex, InterfaceLedger)> {
        self.inputs.iter().map(|(interface, input)| {
            input.workers.poll_statistics();
            let seen = input.counters.snapshot();
            (*interface, InterfaceLedger { dropped: seen.dropped.by_index() })
        })
    }
}

/// An entry for each address and port that the relay takes; they count together.
fn entries(plan: &RelayPlan, books: &mut Books, outputs: &Outputs) -> Vec<RelayEntry> {
    let (sources, listing) = listed(plan);
    let counters = books.of(plan).in_packet(plan.outputs.len());
    match plan.noting {
        Noting::Nothing => counters.relay.forget_arrivals(),
        Noting::Groups => counters.relay.note_arrivals(),
    }
    let entry = |offset: Offset| RelayEntry {
        destination: destination(plan, offset),
        sources: sources.clone(),
        listing,
        counters: Arc::clone(&counters.relay),
        outputs: plan
            .outputs
            .iter()
            .zip(&counters.outputs)
            .map(|(output, counters)| OutputEntry {
                counters: Arc::clone(counters),
                action: action(outputs, &output.action, offset),
                cap: output.cap,
            })
            .collect(),
        cap: plan.cap,
    };
    plan.offsets().map(entry).collect()
}

fn action(outputs: &Outputs, action: &Action, offset: Offset) -> OutputAction {
    match action {
        Action::Drop(reason) => OutputAction::Drop(*reason),
        Action::Send(plan) => match outputs.get(&plan.interface) {
            None => OutputAction::Drop(DropReason::OutputMissing),
            Some(output) => {
                OutputAction::Send { socket: Arc::clone(&output.socket), rewrite: rewrite(plan, offset), mtu: plan.mtu }
            }
        },
    }
}
