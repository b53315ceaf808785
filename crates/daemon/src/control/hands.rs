//! Carries out what the engine decides: through the keeper what needs a privilege, in this process the rest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcr_datapath::counters::{DroppedSnapshot, InputCounters, OutputCounters, RelayCounters};
use mcr_datapath::packet::{InputWorkers, RingGeometry, TxSocket, filter};
use mcr_datapath::table::{InputTable, OutputAction, OutputEntry, RelayEntry};
use mcr_engine::{
    Action, Effect, EffectError, Ifindex, InputPlan, InterfaceLedger, Inventory, Membership, OutputTotals, RelayPlan,
    RelayTotals, SendPlan, Totals,
};
use mcr_model::{DropReason, InterfaceName, RelayName};
use mcr_netd::{Keeper, KeeperError, KeeperErrorKind};
use mcr_wire::{Destination, MacAddr, Rewrite};

/// What this process holds open, and what it counted.
pub(super) struct Hands {
    keeper: Keeper,
    inputs: BTreeMap<Ifindex, Input>,
    outputs: BTreeMap<Ifindex, Arc<TxSocket>>,
    books: BTreeMap<RelayName, Book>,
    contact: Contact,
}

/// How it stands with the keeper.
enum Contact {
    Good,
    /// The connection has ended.
    Lost,
    /// It did not answer a request, and is not asked again before then.
    Silent {
        until: Instant,
        error: KeeperError,
    },
}

/// Why something could not be done.
enum Trouble {
    Keeper(KeeperError),
    Here(EffectError),
}

/// How long a keeper that did not answer is left alone. Each request that it does not answer costs five seconds, in
/// which this thread can do nothing else.
const SILENCE: Duration = Duration::from_secs(10);

struct Input {
    worker: InputWorkers,
    counters: Arc<InputCounters>,
}

/// The counters of one definition of a relay.
struct Book {
    incarnation: u64,
    relay: Arc<RelayCounters>,
    outputs: Vec<Arc<OutputCounters>>,
}

impl Hands {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self {
            keeper,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            books: BTreeMap::new(),
            contact: Contact::Good,
        }
    }

    /// What the keeper held before this daemon came.
    pub(super) fn inventory(&mut self) -> Result<Inventory, KeeperError> {
        inventory_of(&mut self.keeper)
    }

    /// Goes on with another keeper: what was opened through the old one is closed. What the new one holds.
    pub(super) fn take(&mut self, mut keeper: Keeper) -> Result<Inventory, KeeperError> {
        // Asked before anything is given up; the connection of a keeper that does not answer ends here.
        let inventory = inventory_of(&mut keeper)?;
        self.keeper = keeper;
        self.contact = Contact::Good;
        self.stop();
        Ok(inventory)
    }

    pub(super) fn keeper_pid(&self) -> Option<u32> {
        self.keeper.pid()
    }

    /// Stops every worker: what is counted is final then.
    pub(super) fn stop(&mut self) {
        self.inputs.clear();
        self.outputs.clear();
    }

    /// Gives back what the keeper holds for this daemon: groups are left, rings closed.
    pub(super) fn release(&mut self) {
        if let Err(error) = self.keeper.release() {
            tracing::warn!(%error, "the keeper did not release what it holds");
        }
    }

    /// Whether the connection to the keeper has ended, as far as a request has shown it.
    pub(super) fn has_lost_keeper(&self) -> bool {
        matches!(self.contact, Contact::Lost)
    }

    pub(super) fn carry_out(&mut self, effect: &Effect) -> Result<(), EffectError> {
        self.try_carry_out(effect).map_err(|trouble| match trouble {
            Trouble::Here(error) => error,
            Trouble::Keeper(error) => {
                match error.kind() {
                    KeeperErrorKind::Lost => self.contact = Contact::Lost,
                    KeeperErrorKind::TimedOut if matches!(self.contact, Contact::Good) => {
                        self.contact = Contact::Silent { until: Instant::now() + SILENCE, error: error.clone() };
                    }
                    _ => {}
                }
                EffectError { reason: error.reason(), remedy: error.remedy() }
            }
        })
    }

    /// The keeper, unless it is known not to answer now.
    fn keeper(&mut self) -> Result<&mut Keeper, KeeperError> {
        match &self.contact {
            Contact::Silent { until, error } if Instant::now() < *until => return Err(error.clone()),
            Contact::Silent { .. } => self.contact = Contact::Good,
            Contact::Good | Contact::Lost => {}
        }
        Ok(&mut self.keeper)
    }

    fn try_carry_out(&mut self, effect: &Effect) -> Result<(), Trouble> {
        match effect {
            Effect::OpenInput { interface, name, mtu } => self.open_input(*interface, name, *mtu)?,
            Effect::CloseInput { interface } => {
                self.inputs.remove(interface);
                self.keeper()?.close_input(interface.0)?;
            }
            Effect::OpenOutput { interface, .. } => {
                let socket = self.keeper()?.open_output(interface.0)?;
                self.outputs.insert(*interface, Arc::new(TxSocket::new(socket)));
            }
            Effect::CloseOutput { interface } => {
                self.outputs.remove(interface);
                self.keeper()?.close_output(interface.0)?;
            }
            Effect::Resolve { interface, next_hop } => {
                self.keeper()?.resolve(interface.0, IpAddr::V4(*next_hop))?;
            }
            Effect::Forget { interface, next_hop } => self.keeper()?.forget(interface.0, IpAddr::V4(*next_hop))?,
            Effect::Install { interface, plan } => self.install(*interface, plan)?,
            Effect::Join(membership) => {
                let Membership { interface, group, sources } = membership;
                let sources: Vec<IpAddr> = sources.iter().copied().map(IpAddr::V4).collect();
                self.keeper()?.join(interface.0, IpAddr::V4(*group), &sources)?;
            }
            Effect::Leave(membership) => {
                let Membership { interface, group, .. } = membership;
                self.keeper()?.leave(interface.0, IpAddr::V4(*group))?;
            }
            Effect::FindNextHop { .. } => unreachable!("routes are asked of netlink, not of the keeper"),
        }
        Ok(())
    }

    fn open_input(&mut self, interface: Ifindex, name: &InterfaceName, mtu: u32) -> Result<(), Trouble> {
        let wanted = RingGeometry::for_mtu(mtu);
        let (ring, geometry) = self.keeper()?.open_input(interface.0, &wanted)?;
        let counters = Arc::new(InputCounters::default());
        let worker = InputWorkers::start(name.as_str(), [ring], geometry, &counters).map_err(|error| EffectError {
            reason: format!("can not read packets of {name}: {error}"),
            remedy: "check the limits of the daemon on memory and threads".to_owned(),
        })?;
        self.inputs.insert(interface, Input { worker, counters });
        Ok(())
    }

    /// The table first, then the filter: a frame that passes the filter finds its relay.
    fn install(&mut self, interface: Ifindex, plan: &InputPlan) -> Result<(), Trouble> {
        let table = InputTable {
            relays: plan.relays.iter().map(|relay| self.entry(relay)).collect(),
            our_macs: plan.our_macs.iter().map(|mac| MacAddr::new(*mac)).collect(),
        };
        let destinations: Vec<_> = plan.relays.iter().map(|relay| (relay.destination, relay.port)).collect();
        let Some(input) = self.inputs.get_mut(&interface) else {
            return Err(Trouble::Here(EffectError {
                reason: "the input was closed meanwhile".to_owned(),
                remedy: "nothing: it is opened again".to_owned(),
            }));
        };
        input.worker.install(&table).map_err(|error| EffectError {
            reason: format!("the packet worker has ended: {error}"),
            remedy: "restart the daemon, and report this with its log".to_owned(),
        })?;
        self.keeper()?.set_filter(interface.0, &filter::compile(&destinations))?;
        Ok(())
    }

    /// Drops the counters of these definitions, which nobody wants any more.
    pub(super) fn close_books(&mut self, obsolete: &[(RelayName, u64)]) {
        for (name, incarnation) in obsolete {
            if self.books.get(name).is_some_and(|book| book.incarnation == *incarnation) {
                self.books.remove(name);
            }
        }
    }

    fn entry(&mut self, plan: &RelayPlan) -> RelayEntry {
        let sockets = &self.outputs;
        let book = self.books.entry(plan.relay.clone()).or_insert_with(|| Book::open(plan));
        if book.incarnation != plan.incarnation {
            *book = Book::open(plan);
        }
        let outputs = plan.outputs.iter().zip(&book.outputs).map(|(output, counters)| OutputEntry {
            counters: Arc::clone(counters),
            action: action(sockets, &output.action),
        });
        RelayEntry {
            destination: Destination { vlan: plan.vlan, address: plan.destination, port: plan.port },
            sources: plan.sources.clone(),
            counters: Arc::clone(&book.relay),
            outputs: outputs.collect(),
        }
    }

    /// What every relay has counted so far.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&RelayName, u64, RelayTotals)> {
        self.books.iter().map(|(name, book)| (name, book.incarnation, book.totals()))
    }

    /// What one relay has counted so far.
    pub(super) fn totals_of(&self, name: &RelayName) -> Option<(u64, RelayTotals)> {
        self.books.get(name).map(|book| (book.incarnation, book.totals()))
    }

    /// What could not be charged to a relay, by interface.
    pub(super) fn ledgers(&self) -> impl Iterator<Item = (Ifindex, InterfaceLedger)> {
        self.inputs.iter().map(|(interface, input)| {
            input.worker.poll_statistics();
            (*interface, InterfaceLedger { dropped: by_index(&input.counters.snapshot().dropped) })
        })
    }
}

impl Book {
    fn open(plan: &RelayPlan) -> Self {
        Self {
            incarnation: plan.incarnation,
            relay: Arc::default(),
            outputs: plan.outputs.iter().map(|_| Arc::default()).collect(),
        }
    }

    fn totals(&self) -> RelayTotals {
        // Outputs first: a packet that is counted in between shows as received and not yet sent, never the reverse.
        let outputs = self.outputs.iter().map(|output| {
            let seen = output.snapshot();
            OutputTotals {
                sent: Totals { packets: seen.sent_packets, bytes: seen.sent_bytes },
                dropped: by_index(&seen.dropped),
            }
        });
        let outputs = outputs.collect();
        let received = self.relay.snapshot();
        RelayTotals { received: Totals { packets: received.received_packets, bytes: received.received_bytes }, outputs }
    }
}

/// What `keeper` holds.
fn inventory_of(keeper: &mut Keeper) -> Result<Inventory, KeeperError> {
    let held = keeper.inventory()?;
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Ok(Inventory {
        memberships: held
            .memberships
            .into_iter()
            .filter_map(|m| {
                let sources = m.sources.into_iter().filter_map(v4).collect();
                Some(Membership { interface: Ifindex(m.interface), group: v4(m.group)?, sources })
            })
            .collect(),
        inputs: held.inputs.into_iter().map(|input| Ifindex(input.interface)).collect(),
        outputs: held.outputs.into_iter().map(Ifindex).collect(),
        neighbours: held
            .neighbours
            .into_iter()
            .filter_map(|(interface, address)| Some((Ifindex(interface), v4(address)?)))
            .collect(),
    })
}

fn by_index(dropped: &DroppedSnapshot) -> [u64; DropReason::COUNT] {
    DropReason::ALL.map(|reason| dropped.get(reason))
}

fn action(sockets: &BTreeMap<Ifindex, Arc<TxSocket>>, action: &Action) -> OutputAction {
    match action {
        Action::Drop(reason) => OutputAction::Drop(*reason),
        Action::Send(plan) => match sockets.get(&plan.interface) {
            None => OutputAction::Drop(DropReason::OutputMissing),
            Some(socket) => OutputAction::Send { socket: Arc::clone(socket), rewrite: rewrite(plan), mtu: plan.mtu },
        },
    }
}

fn rewrite(plan: &SendPlan) -> Rewrite {
    Rewrite {
        source_mac: MacAddr::new(plan.source_mac),
        destination_mac: MacAddr::new(plan.destination_mac),
        vlan: plan.vlan,
        source: plan.source,
        destination: std::net::SocketAddrV4::new(plan.destination, plan.port),
        source_port: plan.source_port,
        ttl: plan.ttl,
        dscp: plan.dscp,
    }
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
