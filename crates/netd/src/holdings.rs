//! What the keeper holds for the daemon, and the requests that change it.

mod addresses;
mod groups;
mod neighbours;
mod permission;
mod refusal;
mod sockets;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mcr_datapath::RingGeometry;

use self::refusal::invalid;
use crate::board::{Board, Disturbance};
use crate::departure::{Departed, Departures};
use crate::guard::Guard;
use crate::interface;
use crate::kernel_path::KernelPath;
use crate::links::Link;
use crate::membership::{Joined, Memberships};
use crate::neighbour::Neighbours;
use crate::own_address::OwnAddresses;
use crate::packet_socket;
use crate::passive::Passive;
use crate::policy::{Policy, Use};
use crate::protocol::{Failure, Reply, Request};
use crate::querier::Queries;

/// Most interfaces of which anything is held. Each may cost a ring; and closing a ring takes 25 ms, a sender 13 ms
/// (measured: `net/packet/af_packet.c: packet_release` waits for every processor), while a daemon that releases
/// everything waits 5 s at most.
const MAX_INTERFACES: usize = 128;
/// Most rings, for the same reasons; an input gets one all the same.
const MAX_RINGS: usize = 128;

/// Everything that was opened, joined and resolved.
#[derive(Debug)]
pub(crate) struct Holdings {
    policy: Policy,
    inputs: BTreeMap<u32, Input>,
    last_opening: u32,
    outputs: BTreeMap<u32, OwnedFd>,
    /// Sockets that only look; they go with the daemon.
    gazes: BTreeMap<u32, OwnedFd>,
    /// Sockets that hear who wants what behind outputs and inputs; they go with the daemon.
    ears: BTreeMap<u32, OwnedFd>,
    memberships: Memberships,
    passive: Passive,
    guard: Guard,
    neighbours: BTreeSet<(u32, IpAddr)>,
    departures: Departures,
    /// What one-way rules ask for: all interfaces, as they were when something happened to one last.
    links: Result<Vec<Link>, Failure>,
    /// `None`: the kernel does not let it be listened to.
    queries: Option<Queries>,
    board: Board,
    disturbance: Disturbance,
    kernel_neighbours: Neighbours,
    own_addresses: OwnAddresses,
    kernel_path: KernelPath,
    warnings: Vec<String>,
    notices: Vec<String>,
}

#[derive(Debug)]
struct Input {
    /// No two have the same, also of different keepers that go on with each other's.
    opening: u32,
    rings: Vec<OwnedFd>,
    geometry: RingGeometry,
}

/// What a request led to.
struct Done {
    reply: Reply,
    handed: Handed,
}

/// What the daemon gets descriptors of.
enum Handed {
    Nothing,
    /// The packet sockets of an interface.
    Sockets(Use, u32),
    /// The socket that looks at an interface.
    Gaze(u32),
    /// The socket that hears reports on an interface.
    Ear(u32),
    /// Where queriers, and what others do to the rules, are written down.
    Board,
    /// The tables of the in-kernel datapath.
    Tables,
}

/// A reply, and the descriptors that go with it.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) reply: Reply,
    pub(crate) descriptors: Vec<BorrowedFd<'a>>,
}

impl Holdings {
    /// Nothing but what a keeper before this one left pinned, as far as the policy allows it.
    pub(crate) fn new(
        policy: Policy,
        kernel_path: KernelPath,
        guard: Guard,
        own_addresses: OwnAddresses,
    ) -> io::Result<Self> {
        let mut holdings = Self {
            policy,
            inputs: BTreeMap::new(),
            last_opening: 0,
            outputs: BTreeMap::new(),
            gazes: BTreeMap::new(),
            ears: BTreeMap::new(),
            memberships: Memberships::default(),
            passive: Passive::default(),
            guard,
            neighbours: BTreeSet::new(),
            departures: Departures::watch()?,
            links: Ok(Vec::new()),
            queries: Queries::listen().ok(),
            board: Board::new()?,
            disturbance: Disturbance::default(),
            kernel_neighbours: Neighbours::open()?,
            own_addresses,
            kernel_path,
            warnings: Vec::new(),
            notices: Vec::new(),
        };
        holdings.write_down();
        holdings.submit_to(holdings.policy.clone());
        Ok(holdings)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
            && self.outputs.is_empty()
            && self.neighbours.is_empty()
            && self.own_addresses.iter().next().is_none()
            && self.memberships().next().is_none()
            && self.kernel_path.attached().next().is_none()
    }

    /// What the administrator should hear of, since this was asked last.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = self.kernel_path.take_warnings();
        warnings.append(&mut self.warnings);
        warnings
    }

    /// Does what is asked, or says why not.
    pub(crate) fn carry_out(&mut self, request: Request) -> Answer<'_> {
        self.give_up_departed();
        match self.try_carry_out(request) {
            Ok(Done { reply, handed }) => Answer { reply, descriptors: self.descriptors(&handed) },
            Err(failure) => Answer { reply: Reply::Failed(failure), descriptors: Vec::new() },
        }
    }

    fn try_carry_out(&mut self, request: Request) -> Result<Done, Failure> {
        match request {
            Request::Hello { .. } => return Err(invalid("a second hello on one connection")),
            Request::Inventory { start } => return Ok(self.inventory(start).into()),
            Request::OpenInput { interface, geometry, rings } => return self.open_input(interface, geometry, rings),
            Request::OpenOutput { interface } => return self.open_output(interface),
            Request::Tables => return self.tables(),
            Request::Queriers => return Ok(Done { reply: Reply::Done, handed: Handed::Board }),
            Request::Ask { interface, family } => self.ask(interface, family)?,
            Request::Report { interface, groups } => self.report(interface, &groups.into_iter().collect())?,
            Request::AskFor { interface, group } => self.ask_for(interface, group)?,
            Request::OpenEar { interface } => return self.open_ear(interface),
            Request::CloseEar { interface } => drop(self.ears.remove(&interface)),
            Request::OpenGaze { interface } => return self.open_gaze(interface),
            Request::CloseGaze { interface } => drop(self.gazes.remove(&interface)),
            Request::SetFilter { interface, instructions } => self.set_filter(interface, &instructions)?,
            Request::CloseInput { interface } => drop(self.inputs.remove(&interface)),
            Request::CloseOutput { interface } => self.close_output(interface),
            Request::Join { interface, group, sources } => self.join(interface, group, &sources)?,
            Request::Leave { interface, group } => self.leave(Joined { interface, group }),
            Request::Resolve { interface, address } => self.resolve(interface, address)?,
            Request::Forget { interface, address } => self.forget(interface, address)?,
            Request::AddAddress { interface, address } => return self.add_address(interface, address).map(Done::from),
            Request::RemoveAddress { interface, address } => self.remove_address(interface, address)?,
            Request::Attach { interface, hook } => self.attach(interface, hook)?,
            Request::Detach { interface, hook } => drop(self.kernel_path.detach(interface, hook)),
            Request::Prove { interface, own_address } => self.prove(interface, own_address)?,
            Request::FanOut { interfaces } => {
                return self.kernel_path.fan_out(interfaces).map(|number| Reply::Fanned { number }.into());
            }
            Request::KeepFanOuts { numbers } => self.kernel_path.keep_fan_outs(&numbers),
            Request::Release => self.release(),
        }
        Ok(Reply::Done.into())
    }

    fn descriptors(&self, handed: &Handed) -> Vec<BorrowedFd<'_>> {
        match handed {
            Handed::Nothing => Vec::new(),
            Handed::Sockets(Use::Input, index) => {
                self.inputs.get(index).into_iter().flat_map(|input| &input.rings).map(OwnedFd::as_fd).collect()
            }
            Handed::Sockets(Use::Output, index) => self.outputs.get(index).map(OwnedFd::as_fd).into_iter().collect(),
            Handed::Board => vec![self.board.as_fd()],
            Handed::Gaze(index) => self.gazes.get(index).map(OwnedFd::as_fd).into_iter().collect(),
            Handed::Ear(index) => self.ears.get(index).map(OwnedFd::as_fd).into_iter().collect(),
            Handed::Tables => self.kernel_path.tables(),
        }
    }

    /// The daemon is gone: nobody looks any more, or waits for an address.
    pub(crate) fn end_gazes(&mut self) {
        self.gazes.clear();
        self.ears.clear();
        self.own_addresses.end_questions();
    }

    /// Has the daemon know what was heard and what has happened.
    fn write_down(&self) {
        let heard = self.queries.as_ref().map(Queries::heard);
        self.board.write(heard.as_deref(), self.disturbance);
    }

    /// Gives up everything.
    pub(crate) fn release(&mut self) {
        self.end_gazes();
        self.memberships.clear();
        self.passive.clear();
        self.kernel_path.release();
        self.own_addresses.clear();
        self.inputs.clear();
        self.outputs.clear();
        for (interface, address) in std::mem::take(&mut self.neighbours) {
            // The entry ages and goes by itself then; there is nobody to tell.
            let _ = self.kernel_neighbours.forget(interface, address);
        }
    }

    /// Readable when interfaces may have left: [`Self::give_up_departed`] is for then.
    pub(crate) fn departures(&self) -> BorrowedFd<'_> {
        self.departures.as_fd()
    }

    /// Gives up what belonged to interfaces that are gone: the kernel has forgotten their groups and has cut off
    /// their packet sockets, also where another interface has the index now.
    pub(crate) fn give_up_departed(&mut self) {
        let departed = match self.departures.take() {
            Departed::Nothing if self.links.is_ok() && self.guard.trouble().is_none() => return,
            Departed::Nothing => Vec::new(),
            Departed::Exactly(departed) => departed,
            Departed::Unknown => {
                self.interfaces().into_iter().filter(|interface| self.seems_gone(*interface)).collect()
            }
        };
        self.look_at_links();
        if self.policy.has_one_way() {
            // One that has just come, or has another name now, may be one that is closed.
            self.guard.follow(&self.policy, &self.links);
        }
        for interface in departed {
            self.inputs.remove(&interface);
            self.gazes.remove(&interface);
            self.ears.remove(&interface);
            self.close_output(interface);
            self.neighbours.retain(|(index, _)| *index != interface);
            self.own_addresses.forget(interface);
            self.leave_all(interface);
            self.detach_all(interface);
            self.queries.iter_mut().for_each(|queries| queries.forget(interface));
        }
        self.write_down();
        if self.policy.has_one_way() && self.links.is_ok() {
            // One that lies on another now, or has another name, may have become an end of a rule.
            let taken = self.take_away_forbidden().into_iter();
            self.warnings.extend(taken.map(|(used, name)| {
                format!("{name} is taken away as {}: a one-way rule of the policy holds for it now", used.noun())
            }));
        }
    }

    /// What can be told of an interface without having heard: packet sockets know, names only say that one is gone.
    fn seems_gone(&self, interface: u32) -> bool {
        let sockets = self.inputs.get(&interface).into_iter().flat_map(|input| &input.rings);
        let is_bound = |socket| matches!(packet_socket::bound_interface(socket), Ok(Some(index)) if index == interface);
        matches!(interface::name(interface), Ok(None)) || !sockets.chain(self.outputs.get(&interface)).all(is_bound)
    }

    /// The interfaces that may be sent to by a socket or by the kernel's tables.
    fn outputs(&self) -> BTreeSet<u32> {
        self.outputs.keys().copied().chain(self.kernel_path.open_ports()).collect()
    }

    /// Every interface of which anything is held.
    fn interfaces(&self) -> BTreeSet<u32> {
        let memberships = self.memberships().map(|(joined, _)| joined.interface);
        let neighbours = self.neighbours.iter().map(|(interface, _)| *interface);
        let attached = self.kernel_path.attached().map(|(interface, _)| interface);
        let sockets =
            self.inputs.keys().chain(self.gazes.keys()).chain(self.ears.keys()).copied().chain(self.outputs());
        let addresses = self.own_addresses.interfaces();
        sockets.chain(memberships).chain(neighbours).chain(attached).chain(addresses).collect()
    }

    fn is_used(&self, interface: u32) -> bool {
        self.inputs.contains_key(&interface)
            || self.outputs.contains_key(&interface)
            || self.has_joined_on(interface)
            || self.gazes.contains_key(&interface)
            || self.ears.contains_key(&interface)
            || self.neighbours_on(interface).next().is_some()
            || self.own_addresses.interfaces().any(|index| index == interface)
            || self.kernel_path.is_on(interface)
    }
}

impl From<Reply> for Done {
    fn from(reply: Reply) -> Self {
        Self { reply, handed: Handed::Nothing }
    }
}
