//! Carries out what the engine decides: through the keeper what needs a privilege, in this process the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mcr_datapath::clock;
use mcr_datapath::packet::TxSocket;
use mcr_engine::{
    Effect, EffectError, HeardQuery, HeardReport, Ifindex, InputKey, InputPlan, InterfaceLedger, Inventory, Membership,
    Outcome, RelayTotals,
};
use mcr_model::querier::QueryProtocol;
use mcr_model::{Datapath, RelayName};
use mcr_netd::{Added, Board, Disturbance, Family, HeardQuerier, Hook, Keeper, KeeperError, MembershipChange, Written};

use super::Command;
use super::line::Line;
use crate::datapath::book::Books;
use crate::datapath::kernel::KernelPath;
use crate::datapath::packet::PacketPath;
use crate::datapath::workers::Workers;
use crate::datapath::{OpenOutput, Outputs, Trouble};
use crate::ears::Hearing;

/// What this process holds open, and what it counted.
pub(super) struct Hands {
    line: Line,
    packet: PacketPath,
    kernel: KernelPath,
    outputs: Outputs,
    books: Books,
    /// Where the keeper writes down who asks for memberships.
    board: Option<Board>,
}

impl Hands {
    pub(super) fn new(mut keeper: Keeper, workers: Workers) -> Self {
        Self {
            board: keeper.board().ok(),
            line: Line::new(keeper),
            packet: PacketPath::new(workers),
            kernel: KernelPath::default(),
            outputs: BTreeMap::new(),
            books: Books::default(),
        }
    }

    /// What the keeper held before this daemon came.
    pub(super) fn inventory(&mut self) -> Result<Inventory, KeeperError> {
        inventory_of(self.line.keeper_at_any_rate())
    }

    /// Goes on with another keeper: what was opened through the old one is closed. What the new one holds.
    pub(super) fn take(&mut self, mut keeper: Keeper) -> Result<Inventory, KeeperError> {
        // Asked before anything is given up; the connection of a keeper that does not answer ends here.
        let inventory = inventory_of(&mut keeper)?;
        self.board = keeper.board().ok();
        self.line = Line::new(keeper);
        self.stop();
        self.books.set_kernel_aside();
        self.kernel.let_go();
        Ok(inventory)
    }

    pub(super) fn keeper_pid(&self) -> Option<u32> {
        self.line.pid()
    }

    /// What the keeper has written down; `None`: it is writing just now. Nobody is waited for.
    pub(super) fn written(&self) -> Option<Written> {
        let nothing = Written { queriers: None, disturbance: Disturbance::default() };
        self.board.as_ref().map_or(Some(nothing), Board::read)
    }

    /// Everybody who asks for memberships, by how long ago they did.
    pub(super) fn queriers(heard: Vec<HeardQuerier>) -> Vec<HeardQuery> {
        let now = Duration::from_nanos(clock::monotonic_nanoseconds());
        let query = |HeardQuerier { interface, querier, at }| HeardQuery {
            interface: Ifindex(interface),
            querier,
            ago: now.saturating_sub(at),
        };
        heard.into_iter().map(query).collect()
    }

    /// Asks everybody behind an input for their memberships.
    pub(super) fn ask_for_memberships(
        &mut self,
        interface: Ifindex,
        protocol: QueryProtocol,
    ) -> Result<(), EffectError> {
        let family = match protocol {
            QueryProtocol::Igmp => Family::V4,
            QueryProtocol::Mld => Family::V6,
        };
        let asked = self.line.ask(|keeper| keeper.ask_for_memberships(interface.0, family));
        asked.map_err(|error| EffectError { reason: error.reason(), remedy: error.remedy() })
    }

    /// Asks who behind an output wants a group.
    pub(super) fn ask_for_members(&mut self, interface: Ifindex, group: IpAddr) -> Result<(), EffectError> {
        let asked = self.line.ask(|keeper| keeper.ask_for_members(interface.0, group));
        asked.map_err(|error| EffectError { reason: error.reason(), remedy: error.remedy() })
    }

    /// Hearing for the control thread, which `commands` lead to.
    pub(super) fn hearing(&mut self, commands: &Sender<Command>) -> Through<'_> {
        Through { line: &mut self.line, commands: commands.clone() }
    }

    /// Reports groups that are joined on an input once more.
    pub(super) fn report(&mut self, interface: Ifindex, groups: &[IpAddr]) -> Result<(), EffectError> {
        let reported = self.line.ask(|keeper| keeper.report(interface.0, groups));
        reported.map_err(|error| EffectError { reason: error.reason(), remedy: error.remedy() })
    }

    /// Stops every worker: what is counted here is final then.
    pub(super) fn stop(&mut self) {
        self.packet.stop();
        self.outputs.clear();
    }

    /// Gives back what the keeper holds for this daemon: groups are left, rings closed, programs detached.
    pub(super) fn release(&mut self) {
        if let Err(error) = self.line.keeper_at_any_rate().release() {
            tracing::warn!(%error, "the keeper did not release what it holds");
        }
    }

    /// Whether the connection to the keeper has ended, as far as a request has shown it.
    pub(super) fn has_lost_keeper(&self) -> bool {
        self.line.is_lost()
    }

    pub(super) fn carry_out(&mut self, effect: &Effect) -> Result<Outcome, EffectError> {
        self.try_carry_out(effect).map_err(|trouble| match trouble {
            Trouble::Here(error) => error,
            Trouble::Keeper(error) => self.told(&error),
        })
    }

    /// Joins and leaves groups, with no wait between them; what came of each.
    pub(super) fn change_memberships(&mut self, effects: &[Effect]) -> Vec<Result<Outcome, EffectError>> {
        let changes: Vec<_> = effects.iter().filter_map(membership_change).collect();
        let results = match self.line.keeper() {
            Ok(keeper) => keeper.change_memberships(&changes),
            Err(error) => vec![Err(error); changes.len()],
        };
        let outcome = |result: Result<(), KeeperError>| match result {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => Err(self.told(&error)),
        };
        results.into_iter().map(outcome).collect()
    }

    /// What the keeper refused, in words, once it is noted what that says of the connection.
    fn told(&mut self, error: &KeeperError) -> EffectError {
        self.line.note(error);
        EffectError { reason: error.reason(), remedy: error.remedy() }
    }

    fn try_carry_out(&mut self, effect: &Effect) -> Result<Outcome, Trouble> {
        let keeper = self.line.keeper();
        match effect {
            Effect::OpenInput { input: InputKey { interface, datapath }, name, mtu } => match datapath {
                Datapath::Packet => self.packet.open(keeper?, *interface, name, *mtu)?,
                Datapath::Tcx => self.kernel.open(keeper?, *interface, Hook::Tcx)?,
                Datapath::Xdp => self.kernel.open(keeper?, *interface, Hook::Xdp)?,
            },
            Effect::CloseInput { input: InputKey { interface, datapath } } => match datapath {
                Datapath::Packet => {
                    self.packet.close(*interface);
                    keeper?.close_input(interface.0)?;
                }
                Datapath::Tcx => self.kernel.close(keeper?, *interface, Hook::Tcx)?,
                Datapath::Xdp => self.kernel.close(keeper?, *interface, Hook::Xdp)?,
            },
            Effect::OpenOutput { interface, .. } => {
                let (socket, port) = keeper?.open_output(interface.0)?;
                self.outputs.insert(*interface, OpenOutput { socket: Arc::new(TxSocket::new(socket)), port });
            }
            Effect::CloseOutput { interface } => {
                self.outputs.remove(interface);
                self.kernel.output_ended(*interface);
                keeper?.close_output(interface.0)?;
            }
            Effect::Prove { interface, mac } => {
                keeper?.prove(interface.0, *mac).inspect_err(|_| self.kernel.output_ended(*interface))?;
            }
            Effect::Resolve { interface, next_hop } => keeper?.resolve(interface.0, *next_hop)?,
            Effect::Forget { interface, next_hop } => keeper?.forget(interface.0, *next_hop)?,
            Effect::AddAddress { interface, address } => match keeper?.add_address(interface.0, *address)? {
                Added::InPlace => {}
                Added::Checking => return Ok(Outcome::Checking),
            },
            Effect::RemoveAddress { interface, address } => keeper?.remove_address(interface.0, *address)?,
            Effect::Install { input: InputKey { interface, datapath }, plan } => match datapath {
                Datapath::Packet => self.packet.install(keeper?, *interface, plan, &mut self.books, &self.outputs)?,
                Datapath::Tcx => return self.install(*interface, Hook::Tcx, plan),
                Datapath::Xdp => return self.install(*interface, Hook::Xdp, plan),
            },
            Effect::Join(membership) => {
                let Membership { interface, group, sources } = membership;
                keeper?.join(interface.0, *group, sources)?;
            }
            Effect::Leave(membership) => {
                let Membership { interface, group, .. } = membership;
                keeper?.leave(interface.0, *group)?;
            }
            Effect::FindNextHop { .. } => unreachable!("routes are asked of netlink, not of the keeper"),
        }
        Ok(Outcome::Done)
    }

    /// A socket that looks at an interface.
    pub(super) fn open_gaze(&mut self, interface: u32) -> Result<OwnedFd, KeeperError> {
        self.line.ask(|keeper| keeper.open_gaze(interface))
    }

    /// Gives it back. A keeper that is gone has none.
    pub(super) fn close_gaze(&mut self, interface: u32) {
        let _ = self.line.ask(|keeper| keeper.close_gaze(interface));
    }

    fn install(&mut self, interface: Ifindex, hook: Hook, plan: &InputPlan) -> Result<Outcome, Trouble> {
        self.kernel.install(&mut self.line, (interface, hook), plan, &mut self.books, &self.outputs)
    }

    /// Drops the counters of these definitions, which nobody wants any more.
    pub(super) fn close_books(&mut self, obsolete: &[(RelayName, u64)]) {
        self.books.close(obsolete);
    }

    /// What every relay has counted so far.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&RelayName, u64, RelayTotals)> {
        self.books.totals()
    }

    /// As [`Hands::totals`], without the relays that rest.
    pub(super) fn lively_totals(&mut self) -> impl Iterator<Item = (&RelayName, u64, RelayTotals)> {
        self.books.lively()
    }

    /// What one relay has counted so far.
    pub(super) fn totals_of(&self, name: &RelayName) -> Option<(u64, RelayTotals)> {
        self.books.totals_of(name)
    }

    /// The groups that packets have come for of late, to each of these relays, which join what is seen; `None`: it is not known.
    pub(super) fn arrivals<'a>(
        &mut self,
        looking: impl Iterator<Item = &'a RelayName>,
    ) -> Vec<Option<BTreeSet<IpAddr>>> {
        let in_kernel = self.kernel.arrivals();
        looking.map(|name| self.books.arrivals(name, in_kernel.as_ref())).collect()
    }

    /// What could not be charged to a relay, by interface.
    pub(super) fn ledgers(&self) -> BTreeMap<Ifindex, InterfaceLedger> {
        let mut ledgers: BTreeMap<Ifindex, InterfaceLedger> = self.packet.ledgers().collect();
        for (interface, more) in self.kernel.ledgers() {
            match ledgers.entry(interface) {
                std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(more)),
                std::collections::btree_map::Entry::Occupied(mut ledger) => {
                    ledger.get_mut().dropped.iter_mut().zip(more.dropped).for_each(|(sum, more)| *sum += more);
                }
            }
        }
        ledgers
    }
}

/// Hears through the keeper, and tells the control thread.
pub(super) struct Through<'a> {
    line: &'a mut Line,
    commands: Sender<Command>,
}

impl Hearing for Through<'_> {
    fn open(&mut self, interface: Ifindex) -> Result<OwnedFd, String> {
        self.line.ask(|keeper| keeper.open_ear(interface.0)).map_err(|error| error.reason())
    }

    /// A keeper that is gone has none.
    fn close(&mut self, interface: Ifindex) {
        let _ = self.line.ask(|keeper| keeper.close_ear(interface.0));
    }

    fn listener(&self) -> Box<dyn FnMut(HeardReport) + Send> {
        let commands = self.commands.clone();
        // Nobody is there to be told when the daemon ends.
        Box::new(move |report| drop(commands.send(Command::Reported(report))))
    }
}

/// What an effect asks of the keeper, if it is about a membership.
fn membership_change(effect: &Effect) -> Option<MembershipChange<'_>> {
    match effect {
        Effect::Join(Membership { interface, group, sources }) => {
            Some(MembershipChange::Join { interface: interface.0, group: *group, sources })
        }
        Effect::Leave(Membership { interface, group, .. }) => {
            Some(MembershipChange::Leave { interface: interface.0, group: *group })
        }
        Effect::OpenInput { .. }
        | Effect::CloseInput { .. }
        | Effect::OpenOutput { .. }
        | Effect::CloseOutput { .. }
        | Effect::Prove { .. }
        | Effect::FindNextHop { .. }
        | Effect::Resolve { .. }
        | Effect::Forget { .. }
        | Effect::AddAddress { .. }
        | Effect::RemoveAddress { .. }
        | Effect::Install { .. } => None,
    }
}

/// What `keeper` holds.
fn inventory_of(keeper: &mut Keeper) -> Result<Inventory, KeeperError> {
    let held = keeper.inventory()?;
    let inputs = held.inputs.into_iter().map(|input| (input.interface, Datapath::Packet));
    let attached = held.attached.into_iter().map(|(interface, hook)| match hook {
        Hook::Tcx => (interface, Datapath::Tcx),
        Hook::Xdp => (interface, Datapath::Xdp),
    });
    let inputs =
        inputs.chain(attached).map(|(interface, datapath)| InputKey { interface: Ifindex(interface), datapath });
    Ok(Inventory {
        memberships: held
            .memberships
            .into_iter()
            .map(|m| Membership { interface: Ifindex(m.interface), group: m.group, sources: m.sources })
            .collect(),
        inputs: inputs.collect(),
        outputs: held.outputs.into_iter().map(Ifindex).collect(),
        neighbours: held.neighbours.into_iter().map(|(interface, address)| (Ifindex(interface), address)).collect(),
        addresses: held.addresses.into_iter().map(|(interface, address)| (Ifindex(interface), address)).collect(),
    })
}
