//! What the keeper holds for the daemon, and the requests that change it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mcr_datapath::{
    FilterInstruction, RingGeometry, filter, open_ear, open_gaze, open_inputs, open_output, set_filter,
};

use crate::channel::MOST_DESCRIPTORS;
use crate::departure::{Departed, Departures};
use crate::fd_store::{FdStore, Left, LeftRing};
use crate::guard::Guard;
use crate::interface::{self, label};
use crate::kernel_path::KernelPath;
use crate::links::{self, Link};
use crate::membership::{self, Family, Joined, Memberships};
use crate::neighbour::Neighbours;
use crate::packet_socket;
use crate::passive::Passive;
use crate::policy::{Objection, Policy, Use};
use crate::protocol::{Failure, FailureKind, Hook, Item, Reply, Request};
use crate::querier::Queries;

/// Most memory of one ring, in bytes: it is locked into memory and charged to nobody.
const MAX_RING_BYTES: usize = 256 << 20;
/// Smallest and largest slot of a ring, in bytes.
const SLOT_BYTES: std::ops::RangeInclusive<u32> = 128..=128 << 10;
/// Slots have to be aligned so (`TPACKET_ALIGNMENT`).
const SLOT_ALIGNMENT: u32 = 16;
/// Most interfaces of which anything is held. Each may cost a ring; and closing a ring takes 25 ms, a sender 13 ms
/// (measured: `net/packet/af_packet.c: packet_release` waits for every processor), while a daemon that releases
/// everything waits 5 s at most.
const MAX_INTERFACES: usize = 128;
/// Most rings, for the same reasons; an input gets one all the same.
const MAX_RINGS: usize = 128;
/// Most memberships; with listed sources each source is one. The kernel looks through lists of them.
const MAX_MEMBERSHIPS: usize = 16_384;
/// Most neighbour entries that are kept fresh; each costs a request on the link every few seconds.
const MAX_NEIGHBOURS: usize = 4_096;

/// Everything that was opened, joined and resolved.
#[derive(Debug)]
pub(crate) struct Holdings {
    policy: Policy,
    inputs: BTreeMap<u32, Input>,
    last_opening: u32,
    outputs: BTreeMap<u32, OwnedFd>,
    /// Sockets that only look; they go with the daemon.
    gazes: BTreeMap<u32, OwnedFd>,
    /// Sockets that hear who wants what behind outputs; they go with the daemon.
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
    kernel_neighbours: Neighbours,
    kernel_path: KernelPath,
    warnings: Vec<String>,
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
    /// Where queriers are written down.
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
    pub(crate) fn new(policy: Policy, kernel_path: KernelPath, guard: Guard) -> io::Result<Self> {
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
            kernel_neighbours: Neighbours::open()?,
            kernel_path,
            warnings: Vec::new(),
        };
        holdings.submit_to(holdings.policy.clone());
        Ok(holdings)
    }

    /// Goes on with what a keeper before this one left in the store, as far as it is there still and the policy allows
    /// it: as many memberships and rings as that were.
    pub(crate) fn restore(&mut self, left: Left) -> (usize, usize) {
        let Left { items, rings, memberships } = left;
        let mut restored = (0, 0);
        self.last_opening = rings.iter().map(|ring| ring.opening).max().unwrap_or(0);
        let mut of: BTreeMap<u32, (u32, Vec<OwnedFd>)> = BTreeMap::new();
        for LeftRing { interface, opening, socket } in rings {
            let is_bound = matches!(packet_socket::bound_interface(&socket), Ok(Some(index)) if index == interface);
            if is_bound && self.permit(Use::Input, interface).is_ok() {
                let latest = of.entry(interface).or_default();
                match opening.cmp(&latest.0) {
                    // It was about to be taken from the store.
                    Ordering::Less => {}
                    Ordering::Equal => latest.1.push(socket),
                    Ordering::Greater => *latest = (opening, vec![socket]),
                }
            }
        }
        for item in items {
            match item {
                Item::Input { interface, geometry } => {
                    let latest = of.remove(&interface).filter(|(_, rings)| self.guard.admit(rings).is_ok());
                    if let Some((opening, rings)) = latest {
                        restored.1 += rings.len();
                        self.inputs.insert(interface, Input { opening, rings, geometry });
                    }
                }
                Item::Membership { interface, group, sources } => {
                    restored.0 += usize::from(self.join(interface, group, &sources).is_ok());
                }
                // These are opened again, and resolved again, by the daemon.
                Item::Output { .. } | Item::Neighbour { .. } | Item::Attached { .. } => {}
            }
        }
        // Now that the groups are joined anew.
        drop(memberships);
        restored
    }

    /// Has the service manager keep what is to outlive this process.
    pub(crate) fn store_in(&self, store: &mut FdStore) -> io::Result<()> {
        let sockets = self.memberships.sockets().map(|(number, socket)| (store.membership(number), socket));
        let rings = self.inputs.iter().flat_map(|(&interface, input)| {
            let rings = input.rings.iter().enumerate();
            rings.map(move |(number, ring)| (FdStore::ring(interface, input.opening, number), ring.as_fd()))
        });
        let descriptors: Vec<_> = sockets.chain(rings).collect();
        let items: Vec<Item> = self.storable().collect();
        store.hold(&items, &descriptors)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
            && self.outputs.is_empty()
            && self.neighbours.is_empty()
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
            Request::Queriers => return self.queriers(),
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
            Handed::Board => self.queries.iter().map(Queries::board).collect(),
            Handed::Gaze(index) => self.gazes.get(index).map(OwnedFd::as_fd).into_iter().collect(),
            Handed::Ear(index) => self.ears.get(index).map(OwnedFd::as_fd).into_iter().collect(),
            Handed::Tables => self.kernel_path.tables(),
        }
    }

    /// The daemon is gone: nobody looks any more.
    pub(crate) fn end_gazes(&mut self) {
        self.gazes.clear();
        self.ears.clear();
    }

    /// Gives up everything.
    pub(crate) fn release(&mut self) {
        self.end_gazes();
        self.memberships.clear();
        self.passive.clear();
        self.kernel_path.release();
        self.inputs.clear();
        self.outputs.clear();
        for (interface, address) in std::mem::take(&mut self.neighbours) {
            // The entry ages and goes by itself then; there is nobody to tell.
            let _ = self.kernel_neighbours.forget(interface, address);
        }
    }

    /// Puts another policy in force and takes away what it forbids; hands back what of which interface that was.
    pub(crate) fn submit_to(&mut self, policy: Policy) -> Vec<(Use, String)> {
        self.give_up_departed();
        self.policy = policy;
        self.look_at_links();
        self.keep_one_way();
        self.join_anew();
        self.take_away_forbidden()
    }

    fn take_away_forbidden(&mut self) -> Vec<(Use, String)> {
        let mut taken = Vec::new();
        for interface in self.interfaces() {
            // An interface without a name is one that nothing is known of: it is not allowed.
            let name = interface::name(interface).ok().flatten();
            let objects = |wanted, name: &str| !matches!(self.objection(wanted, interface, name), Ok(None));
            let is_allowed = |wanted| name.as_deref().is_some_and(|name| !objects(wanted, name));
            for forbidden in Use::ALL.into_iter().filter(|wanted| !is_allowed(*wanted)).collect::<Vec<_>>() {
                if self.withdraw(forbidden, interface) {
                    taken.push((forbidden, name.clone().unwrap_or_else(|| format!("interface {interface}"))));
                }
            }
        }
        taken
    }

    /// Why the one-way rules of the policy can not be kept, if that is so.
    pub(crate) fn trouble(&self) -> Option<&Failure> {
        self.guard.trouble()
    }

    /// Readable when somebody has changed rules of nftables: [`Self::mend_one_way`] is for then.
    pub(crate) fn rule_changes(&self) -> Option<BorrowedFd<'_>> {
        self.guard.changes()
    }

    /// Closes again what somebody has opened by changing or flushing the rules of the host.
    pub(crate) fn mend_one_way(&mut self) {
        if !self.guard.is_touched() {
            return;
        }
        self.guard.renew(&self.policy, &self.links);
        let mended = match self.guard.trouble() {
            None => "they are made anew; keep `nft flush ruleset` from them".to_owned(),
            Some(Failure { reason, remedy, .. }) => format!("{reason}; {remedy}"),
        };
        self.warnings.push(format!("somebody has changed or removed the one-way rules of the policy: {mended}"));
    }

    /// Opens the ways again that were closed to sockets of a daemon that is gone.
    pub(crate) fn end_one_way(&mut self) {
        self.guard.end();
    }

    /// Closes the ways that the policy closes now, to what was handed over before as well.
    fn keep_one_way(&mut self) {
        self.guard.renew(&self.policy, &self.links);
        let sockets = self.inputs.values().flat_map(|input| &input.rings).chain(self.outputs.values());
        for socket in sockets.chain(self.gazes.values()).chain(self.ears.values()) {
            // What goes wrong is told when a socket is asked for next.
            let _ = self.guard.admit(std::slice::from_ref(socket));
        }
    }

    /// Joins on interfaces that are not passive any more, and leaves the groups of those that have become so.
    fn join_anew(&mut self) {
        let is_passive = |joined: &Joined| {
            interface::name(joined.interface).ok().flatten().is_some_and(|name| self.policy.is_passive(&name))
        };
        let joined = self.memberships.iter().filter(|(joined, _)| is_passive(joined));
        let taken = self.passive.iter().filter(|(joined, _)| !is_passive(joined));
        for (joined, sources) in joined.chain(taken).collect::<Vec<_>>() {
            self.leave(joined);
            // One that can not be joined is missed by the daemon, and joined when it asks again.
            let _ = self.join(joined.interface, joined.group, &sources);
        }
    }

    /// Takes an interface away as an input or as an output, from a daemon that has descriptors of it as well; says
    /// whether it was one.
    fn withdraw(&mut self, used: Use, interface: u32) -> bool {
        match used {
            Use::Input => {
                let has_joined = self.has_joined_on(interface);
                self.leave_all(interface);
                let (input, gaze) = (self.inputs.remove(&interface), self.gazes.remove(&interface));
                for ring in input.iter().flat_map(|input| &input.rings).chain(&gaze) {
                    // It fails only for a daemon that locked its filter, which does not work as it should.
                    let _ = set_filter(ring.as_fd(), &filter::drop_all());
                }
                let was_attached = self.detach_all(interface);
                input.is_some() || gaze.is_some() || has_joined || was_attached
            }
            Use::Output => {
                self.kernel_path.close_port(interface);
                let (output, ear) = (self.outputs.remove(&interface), self.ears.remove(&interface));
                if let Some(socket) = &ear {
                    // As for an input.
                    let _ = set_filter(socket.as_fd(), &filter::drop_all());
                }
                if let Some(socket) = &output {
                    // Nothing can fail about a socket that is no ring and has no fanout group.
                    let _ = packet_socket::detach(socket);
                }
                let neighbours: Vec<IpAddr> = self.neighbours_on(interface).collect();
                for address in &neighbours {
                    let _ = self.forget(interface, *address);
                }
                output.is_some() || ear.is_some() || !neighbours.is_empty()
            }
        }
    }

    fn inventory(&self, start: u32) -> Reply {
        let outputs = self.outputs().into_iter().map(|interface| Item::Output { interface });
        let neighbours = self.neighbours.iter();
        let neighbours = neighbours.map(|&(interface, address)| Item::Neighbour { interface, address });
        let attached = self.kernel_path.attached().map(|(interface, hook)| Item::Attached { interface, hook });
        let items: Vec<Item> = self.storable().chain(outputs).chain(neighbours).chain(attached).collect();
        Reply::held_from(&items, start)
    }

    /// What lives in descriptors of this process.
    fn storable(&self) -> impl Iterator<Item = Item> {
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|(&interface, input)| Item::Input { interface, geometry: input.geometry });
        let memberships = self.memberships().map(|(joined, sources)| {
            let Joined { interface, group } = joined;
            Item::Membership { interface, group, sources }
        });
        inputs.chain(memberships)
    }

    /// Readable when a membership query has come, as far as they can be heard.
    pub(crate) fn queries(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.queries.as_ref().map_or([None; 2], Queries::sockets)
    }

    /// Takes note of the membership queries that have come.
    pub(crate) fn take_queries(&mut self) {
        self.queries.iter_mut().for_each(Queries::take);
    }

    fn queriers(&self) -> Result<Done, Failure> {
        match self.queries {
            Some(_) => Ok(Done { reply: Reply::Done, handed: Handed::Board }),
            None => Err(not_heard()),
        }
    }

    /// Asks for all memberships behind an input, or behind an output.
    fn ask(&self, interface: u32, family: Family) -> Result<(), Failure> {
        let name = self.permit(Use::Input, interface).or_else(|_| self.permit(Use::Output, interface))?;
        self.check_open_way(interface, &name)?;
        let queries = self.queries.as_ref().ok_or_else(not_heard)?;
        queries.ask(interface, family).map_err(|error| {
            let remedy = "check that the interface is up and has an address";
            system(format!("can not ask for memberships on {name}"), &error, remedy)
        })
    }

    /// Asks who wants a group behind an output.
    fn ask_for(&self, interface: u32, group: IpAddr) -> Result<(), Failure> {
        let name = self.permit(Use::Output, interface)?;
        if !group.is_multicast() {
            return Err(invalid("asking for members of what is no group"));
        }
        self.check_open_way(interface, &name)?;
        let queries = self.queries.as_ref().ok_or_else(not_heard)?;
        queries.ask_for(interface, group).map_err(|error| {
            let remedy = "check that the interface is up and has an address";
            system(format!("can not ask on {name} who wants {group}"), &error, remedy)
        })
    }

    /// Nothing is said where the policy wants nothing to be said.
    fn check_open_way(&self, interface: u32, name: &str) -> Result<(), Failure> {
        let neighbours = self.neighbours_of(interface)?;
        let name = name.to_owned();
        let is_closed = neighbours.iter().chain([&name]).any(|name| self.policy.is_closed_way(name));
        if self.policy.is_passive(&name) || is_closed {
            return Err(Failure {
                kind: FailureKind::Policy,
                errno: None,
                reason: format!("the keeper's policy lets nothing be sent on {name}"),
                remedy: "take querier.own and on_demand from the relays there, or change `passive` or `one_way`"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Reports these groups once more, as far as they are joined on an interface.
    fn report(&self, interface: u32, groups: &BTreeSet<IpAddr>) -> Result<(), Failure> {
        let name = self.permit(Use::Input, interface)?;
        if self.policy.is_passive(&name) {
            return Err(Failure {
                kind: FailureKind::Policy,
                errno: None,
                reason: format!("{name} is passive in the keeper's policy: no membership is reported there"),
                remedy: "change `passive` if it should be".to_owned(),
            });
        }
        let queries = self.queries.as_ref().ok_or_else(not_heard)?;
        let is_meant = |joined: &Joined| joined.interface == interface && groups.contains(&joined.group);
        let joined = self.memberships.iter().filter(|(joined, _)| is_meant(joined));
        let memberships = joined.map(|(joined, sources)| (joined.group, sources)).collect();
        queries.report(interface, memberships).map_err(|error| {
            let remedy = "check that the interface is up and has an address";
            system(format!("can not report the groups that are joined on {name}"), &error, remedy)
        })
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
            self.leave_all(interface);
            self.detach_all(interface);
            self.queries.iter_mut().for_each(|queries| queries.forget(interface));
        }
        if self.policy.has_one_way() && self.links.is_ok() {
            // One that lies on another now, or has another name, may have become an end of a rule.
            let taken = self.take_away_forbidden().into_iter();
            self.warnings.extend(taken.map(|(used, name)| {
                format!("{name} is taken away as {}: a one-way rule of the policy holds for it now", used.noun())
            }));
        }
    }

    fn look_at_links(&mut self) {
        self.links = match self.policy.has_one_way() {
            false => Ok(Vec::new()),
            true => {
                links::all().map_err(|error| system("can not look up the interfaces".to_owned(), &error, "try again"))
            }
        };
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
        sockets.chain(memberships).chain(neighbours).chain(attached).collect()
    }

    /// Every group that is wanted, joined or taken in passively, with its sources.
    fn memberships(&self) -> impl Iterator<Item = (Joined, Vec<IpAddr>)> {
        self.memberships.iter().chain(self.passive.iter())
    }

    fn has_joined_on(&self, interface: u32) -> bool {
        self.memberships.on(interface).next().is_some() || self.passive.on(interface).next().is_some()
    }

    fn leave(&mut self, joined: Joined) {
        self.memberships.leave(joined);
        self.passive.leave(joined);
    }

    fn leave_all(&mut self, interface: u32) {
        let joined: Vec<Joined> = self.memberships.on(interface).chain(self.passive.on(interface)).collect();
        for joined in joined {
            self.leave(joined);
        }
    }

    fn detach_all(&mut self, interface: u32) -> bool {
        let detached = Hook::ALL.into_iter().filter(|hook| self.kernel_path.detach(interface, *hook));
        detached.count() > 0
    }

    fn is_used(&self, interface: u32) -> bool {
        self.inputs.contains_key(&interface)
            || self.outputs.contains_key(&interface)
            || self.has_joined_on(interface)
            || self.gazes.contains_key(&interface)
            || self.ears.contains_key(&interface)
            || self.neighbours_on(interface).next().is_some()
            || self.kernel_path.is_on(interface)
    }

    fn neighbours_on(&self, interface: u32) -> impl Iterator<Item = IpAddr> {
        let from = (interface, Ipv4Addr::UNSPECIFIED.into());
        self.neighbours.range(from..).take_while(move |(index, _)| *index == interface).map(|(_, address)| *address)
    }

    fn open_input(&mut self, interface: u32, geometry: RingGeometry, rings: u8) -> Result<Done, Failure> {
        let name = self.permit(Use::Input, interface)?;
        let open: usize = self.inputs.values().map(|input| input.rings.len()).sum();
        let rings = usize::from(rings).min(MOST_DESCRIPTORS).min(MAX_RINGS.saturating_sub(open)).max(1);
        let input = match self.inputs.entry(interface) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => {
                check_geometry(&geometry)?;
                let rings = open_inputs(interface, &geometry, rings).map_err(|error| {
                    system(format!("can not open {name} for receiving"), &error, open_remedy(&error))
                })?;
                self.guard.admit(&rings)?;
                self.last_opening += 1;
                place.insert(Input { opening: self.last_opening, rings, geometry })
            }
        };
        let reply = Reply::Opened { geometry: input.geometry };
        Ok(Done { reply, handed: Handed::Sockets(Use::Input, interface) })
    }

    fn open_output(&mut self, interface: u32) -> Result<Done, Failure> {
        let name = self.permit(Use::Output, interface)?;
        let port = match self.outputs.entry(interface) {
            Entry::Occupied(_) => self.kernel_path.open_port(interface)?,
            Entry::Vacant(place) => {
                let socket = open_output(interface)
                    .map_err(|error| system(format!("can not open {name} for sending"), &error, open_remedy(&error)))?;
                self.guard.admit(std::slice::from_ref(&socket))?;
                let port = self.kernel_path.open_port(interface)?;
                place.insert(socket);
                port
            }
        };
        Ok(Done { reply: Reply::Sending { port }, handed: Handed::Sockets(Use::Output, interface) })
    }

    /// Promiscuous, but deaf to all but UDP to groups; the policy says of which interfaces packets may be taken.
    fn open_gaze(&mut self, interface: u32) -> Result<Done, Failure> {
        let name = self.permit(Use::Input, interface)?;
        if let Entry::Vacant(place) = self.gazes.entry(interface) {
            let socket = open_gaze(interface)
                .map_err(|error| system(format!("can not look at {name}"), &error, open_remedy(&error)))?;
            self.guard.admit(std::slice::from_ref(&socket))?;
            place.insert(socket);
        }
        Ok(Done { reply: Reply::Done, handed: Handed::Gaze(interface) })
    }

    /// Of an output: who is behind it decides what is sent there.
    fn open_ear(&mut self, interface: u32) -> Result<Done, Failure> {
        let name = self.permit(Use::Output, interface)?;
        if let Entry::Vacant(place) = self.ears.entry(interface) {
            let socket = open_ear(interface)
                .map_err(|error| system(format!("can not hear reports on {name}"), &error, open_remedy(&error)))?;
            self.guard.admit(std::slice::from_ref(&socket))?;
            place.insert(socket);
        }
        Ok(Done { reply: Reply::Done, handed: Handed::Ear(interface) })
    }

    fn close_output(&mut self, interface: u32) {
        self.kernel_path.close_port(interface);
        self.outputs.remove(&interface);
    }

    fn tables(&mut self) -> Result<Done, Failure> {
        self.kernel_path.load()?;
        Ok(Done { reply: Reply::Done, handed: Handed::Tables })
    }

    fn prove(&mut self, interface: u32, own_address: [u8; 6]) -> Result<(), Failure> {
        self.allowed(Use::Output, interface)?;
        self.kernel_path.prove(interface, own_address)
    }

    fn attach(&mut self, interface: u32, hook: Hook) -> Result<(), Failure> {
        let name = self.permit(Use::Input, interface)?;
        // A tap runs some frames behind the driver (`drivers/net/tun.c: tun_can_build_skb`), where nobody tells what became
        // of the copies.
        if hook == Hook::Xdp && matches!(links::kind(interface), Ok(Some(kind)) if kind == "tun") {
            let what = format!("{name} is a tap, whose driver does not take all frames");
            return Err(full(what, "use datapath = \"tcx\" for relays that listen there"));
        }
        self.kernel_path.attach(interface, hook)
    }

    fn set_filter(&self, interface: u32, instructions: &[FilterInstruction]) -> Result<(), Failure> {
        self.allowed(Use::Input, interface)?;
        let Some(input) = self.inputs.get(&interface) else {
            return Err(invalid(&format!("a filter for interface {interface}, which is not an open input")));
        };
        let mut rings = input.rings.iter();
        rings.try_for_each(|ring| set_filter(ring.as_fd(), instructions)).map_err(|error| {
            let count = instructions.len();
            let what = format!("can not filter {} by {count} instructions", label(interface));
            let remedy = match error.raw_os_error() {
                Some(libc::ENOMEM) => "raise net.core.optmem_max (sysctl), or relay fewer groups of this interface",
                _ => "report this with the log of the daemon",
            };
            system(what, &error, remedy)
        })
    }

    fn join(&mut self, interface: u32, group: IpAddr, sources: &[IpAddr]) -> Result<(), Failure> {
        let name = self.permit(Use::Input, interface)?;
        if !group.is_multicast() {
            return Err(invalid(&format!("a join of {group}, which is not a multicast group")));
        }
        let fits =
            |source: &IpAddr| source.is_ipv4() == group.is_ipv4() && !source.is_multicast() && !source.is_unspecified();
        if let Some(source) = sources.iter().find(|source| !fits(source)) {
            return Err(invalid(&format!("a join of {group} from {source}, which is no source of this group")));
        }
        let joined = Joined { interface, group };
        let beside = self.memberships.count_beside(joined) + self.passive.count_beside(joined);
        if beside + membership::count(sources) > MAX_MEMBERSHIPS {
            let what = format!("can not join {group} on {name}: {MAX_MEMBERSHIPS} memberships are held at most");
            return Err(full(what, "relay fewer groups, or list fewer sources (each counts as one)"));
        }
        let taken = match self.policy.is_passive(&name) {
            true => self.passive.take(joined, sources),
            false => self.memberships.join(joined, sources),
        };
        taken.map_err(|error| system(format!("can not join {group} on {name}"), &error, join_remedy(&error)))
    }

    fn resolve(&mut self, interface: u32, address: IpAddr) -> Result<(), Failure> {
        let name = self.permit(Use::Output, interface)?;
        if address.is_multicast() || address.is_unspecified() {
            return Err(invalid(&format!("a neighbour {address}, which is no address of a host")));
        }
        if self.neighbours.len() >= MAX_NEIGHBOURS && !self.neighbours.contains(&(interface, address)) {
            let what = format!("can not resolve {address} on {name}: {MAX_NEIGHBOURS} neighbours are kept already");
            return Err(full(what, "send to multicast groups, or through a router"));
        }
        self.kernel_neighbours.resolve(interface, address).map_err(|error| {
            let what = format!("can not resolve {address} on {name}");
            system(what, &error, "check that the interface is up and has an address of that network")
        })?;
        self.neighbours.insert((interface, address));
        Ok(())
    }

    fn forget(&mut self, interface: u32, address: IpAddr) -> Result<(), Failure> {
        if !self.neighbours.remove(&(interface, address)) {
            return Ok(());
        }
        self.kernel_neighbours.forget(interface, address).map_err(|error| {
            let what = format!("can not give up the neighbour {address} on {}", label(interface));
            system(what, &error, "nothing: the entry goes when it is not used any more")
        })
    }

    /// The name of an interface that the policy lets be used so, and that there is room for.
    fn permit(&self, wanted: Use, index: u32) -> Result<String, Failure> {
        let name = self.allowed(wanted, index)?;
        if !self.is_used(index) && self.interfaces().len() >= MAX_INTERFACES {
            let what = format!("can not use {name}: {MAX_INTERFACES} interfaces are in use already");
            return Err(full(what, "use fewer interfaces, or start another keeper and daemon for the rest"));
        }
        Ok(name)
    }

    /// The name of the interface, if the policy lets it be used so.
    fn allowed(&self, wanted: Use, index: u32) -> Result<String, Failure> {
        let name = interface::name(index)
            .map_err(|error| system(format!("can not look up interface {index}"), &error, "try again"))?;
        let Some(name) = name else {
            return Err(Failure {
                kind: FailureKind::NoInterface,
                errno: Some(libc::ENODEV),
                reason: format!("there is no interface with index {index}"),
                remedy: "nothing: it is used again when it comes back".to_owned(),
            });
        };
        match self.objection(wanted, index, &name)? {
            None => Ok(name),
            Some(objection) => Err(self.forbidden(wanted, &name, &objection)),
        }
    }

    fn objection(&self, wanted: Use, index: u32, name: &str) -> Result<Option<Objection>, Failure> {
        Ok(self.policy.objection(wanted, name, &self.neighbours_of(index)?))
    }

    /// The interfaces for which one-way rules hold that hold for this one, too.
    fn neighbours_of(&self, interface: u32) -> Result<Vec<String>, Failure> {
        let links = self.links.as_ref().map_err(Failure::clone)?;
        Ok(links::neighbours(links, interface))
    }

    fn forbidden(&self, wanted: Use, name: &str, objection: &Objection) -> Failure {
        let (noun, key) = (wanted.noun(), wanted.key());
        let (reason, what) = match objection {
            Objection::NotListed => (
                format!(
                    "the keeper's policy does not allow {name} as {noun} (allowed: {})",
                    self.policy.allowed(wanted)
                ),
                format!("add it to `{key}`"),
            ),
            Objection::OneWay { rule, end } if end == name => (
                format!("the keeper's policy is one-way {rule}: {name} can not be {noun}"),
                "turn the relay round, or change `one_way`".to_owned(),
            ),
            Objection::OneWay { rule, end } => (
                format!(
                    "the keeper's policy is one-way {rule}: {name}, which shares a wire with {end}, can not be {noun}"
                ),
                "turn the relay round, or change `one_way`".to_owned(),
            ),
        };
        let remedy = format!(
            "{what} in the keeper's policy (/etc/mcr/policy.toml) and have it read again (systemctl reload mcr-netd, or kill -HUP {})",
            std::process::id()
        );
        Failure { kind: FailureKind::Policy, errno: None, reason, remedy }
    }
}

impl From<Reply> for Done {
    fn from(reply: Reply) -> Self {
        Self { reply, handed: Handed::Nothing }
    }
}

fn check_geometry(geometry: &RingGeometry) -> Result<(), Failure> {
    let RingGeometry { slot_bytes, slots } = *geometry;
    let is_sound = SLOT_BYTES.contains(&slot_bytes)
        && slot_bytes % SLOT_ALIGNMENT == 0
        && slots > 0
        && slots as usize <= MAX_RING_BYTES / slot_bytes as usize
        && (1..=MAX_RING_BYTES).contains(&geometry.bytes());
    if is_sound {
        return Ok(());
    }
    Err(invalid(&format!("a ring of {slots} slots of {slot_bytes} bytes")))
}

fn system(what: String, error: &io::Error, remedy: &str) -> Failure {
    Failure {
        kind: FailureKind::System,
        errno: error.raw_os_error(),
        reason: format!("{what}: {error}"),
        remedy: remedy.to_owned(),
    }
}

fn not_heard() -> Failure {
    let remedy =
        "use a kernel with IGMP (CONFIG_IP_MULTICAST); under systemd let it through (contrib/systemd/queriers.conf)";
    full("can not hear and send IGMP".to_owned(), remedy)
}

/// A bound of the keeper's own is reached.
fn full(what: String, remedy: &str) -> Failure {
    Failure { kind: FailureKind::System, errno: None, reason: what, remedy: remedy.to_owned() }
}

fn invalid(what: &str) -> Failure {
    Failure {
        kind: FailureKind::Invalid,
        errno: Some(libc::EINVAL),
        reason: format!("the keeper was asked for {what}"),
        remedy: "report this with the log of the daemon".to_owned(),
    }
}

fn open_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "start mcr-netd with CAP_NET_RAW and CAP_NET_ADMIN",
        Some(libc::ENOMEM | libc::ENOBUFS) => "free memory, or lower the MTU of the interface",
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        Some(libc::EAFNOSUPPORT) => "use a kernel with packet sockets (CONFIG_PACKET; modprobe af_packet)",
        Some(libc::ENODEV | libc::ENXIO) => "nothing: it is opened again when the interface comes back",
        _ => "check the interface (ip link show)",
    }
}

fn join_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "raise net.ipv4.igmp_max_memberships and net.ipv4.igmp_max_msf above 0, and net.core.optmem_max"
        }
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        Some(libc::ENODEV) => "set an IP address on the interface, and an MTU of at least 68 bytes",
        _ => "check the interface (ip address show)",
    }
}

const TOO_MANY_FILES: &str = "raise the limit on open files of mcr-netd (LimitNOFILE)";
