//! What should be: the relays against what is known of the interfaces, as tables for the datapath.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use mcr_model::joining::Joining;
use mcr_model::relay::{Output, Relay};
use mcr_model::span::{Offset, address_after};
use mcr_model::{
    CodePoint, DatapathChoice, DropReason, InterfaceName, Oversize, Prefix, RateCap, RelayName, SourceRule, Span,
    TimeToLive, VlanId,
};

use crate::actual::Actual;
use crate::datapath::Serving;
use crate::effect::{InputKey, Subject};
use crate::engine::Entry;
use crate::fact::{Ifindex, InterfaceFacts};
use crate::failures::Failures;
use crate::members::Members;
use crate::rulebook::Rulebook;
use crate::sightings::Sightings;

/// The table of one datapath on one input interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputPlan {
    /// Its relays, by name.
    pub relays: Vec<Arc<RelayPlan>>,
    /// Source addresses of frames that this host sent itself.
    pub our_macs: Vec<[u8; 6]>,
}

impl InputPlan {
    /// The relays of names that `other` does not have. Both are in order of names: this is one walk along them.
    pub(crate) fn names_beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Arc<RelayPlan>> {
        let mut others = other.relays.iter().peekable();
        self.relays.iter().filter(move |relay| {
            if others.next_if(|other| Arc::ptr_eq(other, relay)).is_some() {
                return false;
            }
            while others.next_if(|other| other.relay < relay.relay).is_some() {}
            others.next_if(|other| other.relay == relay.relay).is_none()
        })
    }

    /// Whether that definition of the relay of that name is in it.
    pub(crate) fn has(&self, name: &RelayName, incarnation: u64) -> bool {
        let found = self.relays.binary_search_by(|plan| plan.relay.cmp(name));
        found.is_ok_and(|at| self.relays[at].incarnation == incarnation)
    }
}

/// One relay in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPlan {
    /// Its name.
    pub relay: RelayName,
    /// Which definition of that name: a changed relay counts from zero.
    pub incarnation: u64,
    /// The same for the same definition, also after a restart; never 0.
    pub identity: u64,
    /// The tag of its frames; `None`: untagged.
    pub vlan: Option<VlanId>,
    /// The address they are sent to; of several the first.
    pub destination: IpAddr,
    /// The port they are sent to, in host byte order; of several the first.
    pub port: u16,
    /// How many addresses and ports there are.
    pub span: Span,
    /// Of these, the pairs that relays take which name them more exactly; in order.
    pub ceded: Vec<Offset>,
    /// The only sources; empty: any.
    pub sources: Vec<Prefix>,
    /// Sources that are refused, where any other is accepted.
    pub excluded: Vec<Prefix>,
    /// Whether the datapath says which groups packets have come for.
    pub noting: Noting,
    /// One for each output of the relay, in its order.
    pub outputs: Vec<OutputPlan>,
    /// How much of what arrives is looked at.
    pub cap: RateCap,
}

/// What a datapath notes of packets besides counting them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noting {
    /// Nothing.
    Nothing,
    /// When the last came for each group and port.
    Groups,
}

/// What becomes of the copy for one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// Send it or drop it.
    pub action: Action,
    /// How much is sent.
    pub cap: RateCap,
}

/// The fate of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Rewrite and send.
    Send(SendPlan),
    /// Count it by this name.
    Drop(DropReason),
}

/// A rewrite with every address known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendPlan {
    /// The interface that it leaves on.
    pub interface: Ifindex,
    /// The largest IP packet that may leave there, in bytes.
    pub mtu: u32,
    /// The interface's own link-layer address.
    pub source_mac: [u8; 6],
    /// The group's or the next hop's.
    pub destination_mac: [u8; 6],
    /// The tag to push.
    pub vlan: Option<VlanId>,
    /// The source address; `None`: as it arrived.
    pub source: Option<IpAddr>,
    /// The destination address; of several the first.
    pub destination: IpAddr,
    /// The destination port, in host byte order; of several the first.
    pub port: u16,
    /// How many addresses and ports there are: each for its own of the relay's, or one for all.
    pub span: Span,
    /// The source port, in host byte order; `None`: as it arrived.
    pub source_port: Option<u16>,
    /// The time to live or hop limit.
    pub ttl: TimeToLive,
    /// The code point.
    pub dscp: CodePoint,
    /// The priority in the tag; `None`: as it arrived.
    pub priority: Option<u8>,
    /// What becomes of larger packets than the MTU.
    pub oversize: Oversize,
}

impl RelayPlan {
    /// The address and port of every packet that it takes, each as an offset from the first.
    pub fn offsets(&self) -> impl Iterator<Item = Offset> {
        self.span.offsets().filter(|offset| !self.cedes(*offset))
    }

    /// The address and port at an offset.
    pub fn at(&self, Offset { group, port }: Offset) -> (IpAddr, u16) {
        (address_after(self.destination, group), self.port + port)
    }

    /// The offset of an address and port that it takes.
    pub fn offset_of(&self, address: IpAddr, port: u16) -> Option<Offset> {
        let group = match (self.destination, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => address.to_bits().checked_sub(first.to_bits()).map(u128::from),
            (IpAddr::V6(first), IpAddr::V6(address)) => address.to_bits().checked_sub(first.to_bits()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        };
        let group = group.filter(|group| *group < self.span.groups()).map(|group| group as u32)?;
        let port = port.checked_sub(self.port).filter(|port| u32::from(*port) < self.span.ports())?;
        Some(Offset { group, port }).filter(|offset| !self.cedes(*offset))
    }

    fn cedes(&self, offset: Offset) -> bool {
        !self.ceded.is_empty() && self.ceded.binary_search(&offset).is_ok()
    }
}

impl SendPlan {
    /// The rewrite of packets that came to the address and port of the relay at this offset.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Self {
        let Offset { group, port } = self.span.of(offset);
        if (group, port) == (0, 0) {
            return self.clone();
        }
        let destination = address_after(self.destination, group);
        let destination_mac = match destination.is_multicast() {
            true => mcr_model::group_mac(destination),
            false => self.destination_mac,
        };
        Self { destination, destination_mac, port: self.port + port, ..self.clone() }
    }
}

/// Everything that should be in force.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    pub(crate) inputs: BTreeMap<InputKey, (InterfaceName, u32)>,
    pub(crate) outputs: BTreeMap<Ifindex, InterfaceName>,
    /// Outputs that are worth trying at the driver, with their own addresses.
    pub(crate) proofs: BTreeMap<Ifindex, [u8; 6]>,
    pub(crate) groups: BTreeMap<(Ifindex, IpAddr), Vec<IpAddr>>,
    pub(crate) routed: BTreeSet<(Ifindex, IpAddr)>,
    pub(crate) neighbours: BTreeSet<(Ifindex, IpAddr)>,
    /// Sources that interfaces are to have.
    pub(crate) own_sources: BTreeSet<(Ifindex, IpAddr)>,
    pub(crate) plans: BTreeMap<InputKey, InputPlan>,
}

/// What the plan is made from.
pub(crate) struct View<'a> {
    pub(crate) rulebook: &'a Rulebook,
    pub(crate) facts: &'a BTreeMap<InterfaceName, InterfaceFacts>,
    pub(crate) neighbours: &'a BTreeMap<(Ifindex, IpAddr), [u8; 6]>,
    pub(crate) actual: &'a Actual,
    pub(crate) failures: &'a Failures,
    /// For relays that do not say.
    pub(crate) datapath: DatapathChoice,
    /// What applications of this host listen to; the unspecified address stands for any.
    pub(crate) listeners: &'a BTreeSet<(IpAddr, u16)>,
    /// Who wants what behind outputs.
    pub(crate) members: &'a Members,
    /// What groups were seen on inputs.
    pub(crate) sightings: &'a Sightings,
}

impl View<'_> {
    /// Plans of entries that were made in this `epoch` are taken as they are.
    pub(crate) fn desire(&self, epoch: u64, entries: &mut BTreeMap<RelayName, Entry>) -> Desired {
        let mut desired = Desired::default();
        self.find_shared(entries);
        find_ceded(self.rulebook, entries);
        let mut our_macs = BTreeSet::new();
        for entry in entries.values_mut() {
            self.want_outputs(&mut desired, &mut our_macs, &entry.relay);
            self.want_input(&mut desired, epoch, entry);
        }
        let our_macs: Vec<[u8; 6]> = our_macs.into_iter().collect();
        desired.plans.values_mut().for_each(|plan| plan.our_macs.clone_from(&our_macs));
        desired
    }

    fn want_outputs(&self, desired: &mut Desired, our_macs: &mut BTreeSet<[u8; 6]>, relay: &Relay) {
        for output in relay.outputs() {
            let Some(facts) = self.facts.get(&output.interface) else { continue };
            if facts.is_loopback() || !facts.ethernet {
                continue;
            }
            desired.outputs.entry(facts.index).or_insert_with(|| facts.name.clone());
            // All zeros, as of an interface without an address of its own, is no mark of ours.
            if facts.mac != [0; 6] {
                our_macs.insert(facts.mac);
            }
            if let SourceRule::Own(source) = output.source {
                desired.own_sources.insert((facts.index, source));
            }
            // The kernel forgets the neighbours of a link that goes down: they are asked for again when it is back.
            if output.target.is_group() || !facts.can_send() {
                continue;
            }
            if !facts.is_on_link(output.target.ip()) {
                desired.routed.insert((facts.index, output.target.ip()));
            }
            desired.neighbours.extend(self.next_hop(facts, output).map(|hop| (facts.index, hop)));
        }
    }

    fn want_input(&self, desired: &mut Desired, epoch: u64, entry: &mut Entry) {
        let plan = self.current_plan(epoch, entry);
        entry.serving = self.serving(entry);
        if entry.fuse.is_open() {
            return;
        }
        let Serving { datapath, .. } = entry.serving;
        let input = entry.relay.input();
        let Some(facts) = self.facts.get(&input.interface) else { return };
        if !facts.ethernet || input.target.is_group() && !facts.multicast {
            return;
        }
        desired.proofs.extend(self.worth_proving(entry));
        for wanted in self.worth_opening(entry, datapath) {
            let key = InputKey { interface: facts.index, datapath: wanted };
            desired.inputs.entry(key).or_insert_with(|| (facts.name.clone(), facts.mtu));
        }
        let key = InputKey { interface: facts.index, datapath };
        if self.is_refused(entry, datapath) || self.is_unproven(entry, datapath) {
            return;
        }
        desired.plans.entry(key).or_default().relays.push(plan);
        let input = entry.relay.input();
        if !input.target.is_group() || self.failures.stands(&Subject::Input(key)) {
            return;
        }
        let sources = input.joined_sources();
        let groups = input.span.addresses(input.target.ip()).zip(0..);
        for (group, _) in groups.filter(|(_, offset)| self.joins(&entry.relay, *offset)) {
            want_group(&mut desired.groups, (facts.index, group), &sources);
        }
    }

    fn current_plan(&self, epoch: u64, entry: &mut Entry) -> Arc<RelayPlan> {
        if let Some((made, plan)) = &entry.plan
            && *made == epoch
            && plan.ceded == entry.ceded
            && plan.noting == noting(&entry.relay)
        {
            return Arc::clone(plan);
        }
        let plan = Arc::new(self.relay_plan(entry));
        entry.plan = Some((epoch, Arc::clone(&plan)));
        plan
    }

    fn relay_plan(&self, entry: &Entry) -> RelayPlan {
        let input = entry.relay.input();
        RelayPlan {
            relay: entry.relay.name().clone(),
            incarnation: entry.incarnation,
            identity: identity(&entry.relay),
            vlan: input.vlan,
            destination: input.target.ip(),
            port: input.port.get(),
            span: input.span,
            ceded: entry.ceded.clone(),
            sources: input.sources.clone(),
            excluded: input.excluded.clone(),
            noting: noting(&entry.relay),
            outputs: entry.relay.outputs().iter().map(|output| self.output_plan(output)).collect(),
            cap: entry.relay.caps().on_wire(),
        }
    }

    fn output_plan(&self, output: &Output) -> OutputPlan {
        OutputPlan { action: self.action(output), cap: output.caps.on_wire() }
    }

    /// What becomes of a copy for `output` with what is known now.
    pub(crate) fn action(&self, output: &Output) -> Action {
        match self.send_plan(output) {
            Ok(plan) => Action::Send(plan),
            Err(reason) => Action::Drop(reason),
        }
    }

    fn send_plan(&self, output: &Output) -> Result<SendPlan, DropReason> {
        let facts = self.facts.get(&output.interface).ok_or(DropReason::OutputMissing)?;
        if !self.actual.outputs.contains(&facts.index) {
            return Err(DropReason::OutputMissing);
        }
        if !facts.can_send() {
            return Err(DropReason::OutputDown);
        }
        let source = match output.source {
            SourceRule::OfInterface => Some(facts.source_for(output.target).map_err(|_| DropReason::NoSourceAddress)?),
            SourceRule::Set(source) => Some(source),
            SourceRule::Own(source) if facts.has_in_use(source) => Some(source),
            SourceRule::Own(_) => return Err(DropReason::NoSourceAddress),
            SourceRule::Keep => None,
        };
        let destination_mac = self.destination_mac(facts, output).ok_or(DropReason::NoNeighbour)?;
        Ok(SendPlan {
            interface: facts.index,
            mtu: facts.mtu.min(LARGEST_PACKET),
            source_mac: facts.mac,
            destination_mac,
            vlan: output.vlan,
            source,
            destination: output.target.ip(),
            port: output.port.get(),
            span: output.span,
            source_port: output.source_port.map(|port| port.get()),
            ttl: output.ttl.on_wire(),
            dscp: output.dscp.on_wire(),
            priority: output.priority.map(|priority| priority.get()),
            oversize: output.oversize,
        })
    }

    fn destination_mac(&self, facts: &InterfaceFacts, output: &Output) -> Option<[u8; 6]> {
        if output.target.is_group() {
            return Some(mcr_model::group_mac(output.target.ip()));
        }
        let next_hop = self.next_hop(facts, output)?;
        self.neighbours.get(&(facts.index, next_hop)).copied()
    }

    /// The neighbour that packets of `output` go to, as far as it is known.
    pub(crate) fn next_hop(&self, facts: &InterfaceFacts, output: &Output) -> Option<IpAddr> {
        let destination = output.target.ip();
        if facts.is_on_link(destination) {
            return Some(destination);
        }
        self.actual.next_hops.get(&(facts.index, destination)).copied()
    }
}

/// Finds for each range which of its pairs are those of relays that name them more exactly.
fn find_ceded(rulebook: &Rulebook, entries: &mut BTreeMap<RelayName, Entry>) {
    for entry in entries.values_mut().filter(|entry| !entry.relay.input().span.is_one()) {
        entry.ceded = rulebook.ceded(entry.relay.input());
    }
}

/// What a datapath has to note for a relay.
fn noting(relay: &Relay) -> Noting {
    match relay.joining() {
        Joining::Seen => Noting::Groups,
        Joining::Always | Joining::OnDemand => Noting::Nothing,
    }
}

/// One relay that takes any source widens the membership for all; otherwise the sources add up.
fn want_group(groups: &mut BTreeMap<(Ifindex, IpAddr), Vec<IpAddr>>, group: (Ifindex, IpAddr), wanted: &[IpAddr]) {
    match groups.entry(group) {
        std::collections::btree_map::Entry::Vacant(slot) => {
            slot.insert(wanted.to_vec());
        }
        std::collections::btree_map::Entry::Occupied(mut slot) => {
            let sources = slot.get_mut();
            if sources.is_empty() || wanted.is_empty() {
                sources.clear();
            } else {
                sources.extend(wanted);
                sources.sort_unstable();
                sources.dedup();
            }
        }
    }
}

/// Bytes of the largest IP packet whose length its header can tell; the loopback interface has an MTU of one more.
const LARGEST_PACKET: u32 = 65_535;

/// FNV-1a over the definition, without what is to move the packets: a relay that only moves is the same.
fn identity(relay: &Relay) -> u64 {
    let definition = format!("{:?}", (relay.name(), relay.input(), relay.outputs(), relay.caps()));
    let hash = definition
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    u64::max(hash, 1)
}
