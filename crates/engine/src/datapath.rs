//! Which datapath serves a relay, and why no faster one.
//!
//! `xdp` is taken once everything that it needs was seen to work, `tcx` until something is known against it: it works
//! nearly everywhere, and a relay is served at once.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mcr_model::{Datapath, DatapathChoice, DropReason, InterfaceName, Output, Oversize, Relay, RelayName};

use crate::effect::{Failure, InputKey, Subject};
use crate::engine::{Engine, Entry};
use crate::fact::{Ifindex, InterfaceFacts};
use crate::plan::View;
use crate::traffic::{OutputTotals, RelayTotals};

/// The datapath of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    pub(crate) datapath: Datapath,
    /// Why no faster one, in a sentence without a final stop; `None`: there is nothing to say.
    pub(crate) because: Option<String>,
}

/// How it stands with a relay at the driver.
enum AtDriver {
    /// All is there.
    Served,
    /// Its outputs are proven: the input is worth opening.
    ToOpen,
    No(Hindrance),
}

const SHARED: &str = "another relay takes the same packets";
const CUTS: &str = "copies that are too large leave in fragments, which are made at tcx ingress";
const CAPPED: &str = "it has a cap on a rate, which is kept at tcx ingress";

/// What is against a datapath, and what to do about it.
pub(crate) struct Hindrance {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Entry {
    /// The outputs whose driver seems to take nothing any more: what it was handed did not leave, or is not accounted for.
    pub(crate) fn stuck_at_driver(&self, now: &RelayTotals) -> Vec<InterfaceName> {
        let before = &self.meter.totals;
        if self.serving.datapath != Datapath::Xdp || now.received.packets <= before.received.packets {
            return Vec::new();
        }
        let outputs = self.relay.outputs().iter().zip(before.outputs.iter().zip(&now.outputs));
        let stuck = outputs.filter(|(_, (before, now))| now.is_stuck_since(before));
        stuck.map(|(output, _)| output.interface.clone()).collect()
    }
}

impl OutputTotals {
    fn is_stuck_since(&self, before: &Self) -> bool {
        let accounted = |totals: &Self| totals.sent.packets + totals.dropped_packets();
        let rose = |reason: DropReason| self.dropped[reason.index()] > before.dropped[reason.index()];
        accounted(self) == accounted(before) || rose(DropReason::SendFailed) || rose(DropReason::OutputDown)
    }
}

impl Engine {
    /// What was proven of these outputs is to be proven again. Relays stay where they are until that fails: counters that
    /// are read while they change may look stuck.
    pub(crate) fn doubt(&mut self, outputs: &[InterfaceName]) {
        for name in outputs {
            let index = self.facts.get(name).map(|facts| facts.index);
            if let Some(index) = index.filter(|index| self.actual.proven.contains(index)) {
                self.actual.doubted.insert(index);
                self.unsettle();
            }
        }
    }
}

impl Serving {
    /// What is hoped for before anything was tried.
    pub(crate) fn hoped(choice: DatapathChoice) -> Self {
        let datapath = match choice {
            DatapathChoice::Auto => Datapath::Tcx,
            DatapathChoice::Only(datapath) => datapath,
        };
        Self { datapath, because: None }
    }
}

impl View<'_> {
    /// What moves the packets of `entry`, or would, as far as it is known what works.
    pub(crate) fn serving(&self, entry: &Entry) -> Serving {
        let choice = self.choice(entry);
        if choice == DatapathChoice::Only(Datapath::Xdp) {
            let why = left_to_tcx(entry).map(str::to_owned).or_else(|| self.away_output(entry));
            if let Some(why) = why {
                return Serving { datapath: Datapath::Tcx, because: Some(format!("not xdp: {why}")) };
            }
        }
        match choice {
            DatapathChoice::Only(datapath) => Serving { datapath, because: asked_for(datapath) },
            DatapathChoice::Auto => self.best(entry),
        }
    }

    /// That an output can not be tried at the driver, because it is missing or down. The others are not to wait for it.
    fn away_output(&self, entry: &Entry) -> Option<String> {
        let is_away = |name: &&InterfaceName| {
            let facts = self.facts.get(*name);
            let is_proven = facts.is_some_and(|facts| self.actual.proven.contains(&facts.index));
            !is_proven && !facts.is_some_and(InterfaceFacts::can_send)
        };
        let away = entry.relay.outputs().iter().map(|output| &output.interface).find(is_away);
        away.map(|name| format!("{name} can not be tried at the driver before it is there and up"))
    }

    fn choice(&self, entry: &Entry) -> DatapathChoice {
        entry.relay.datapath().unwrap_or(self.datapath)
    }

    fn best(&self, entry: &Entry) -> Serving {
        if let Some(reason) = self.left_to_packet(entry).or_else(|| self.failure(entry, Datapath::Tcx)) {
            return Serving { datapath: Datapath::Packet, because: Some(format!("not tcx: {}", reason.reason)) };
        }
        match self.at_driver(entry) {
            AtDriver::Served => Serving { datapath: Datapath::Xdp, because: None },
            AtDriver::ToOpen => Serving { datapath: Datapath::Tcx, because: None },
            AtDriver::No(Hindrance { reason, .. }) => {
                Serving { datapath: Datapath::Tcx, because: Some(format!("not xdp: {reason}")) }
            }
        }
    }

    /// Why no datapath in the kernel should take the packets: it would take them from an application of this host.
    fn local_need(&self, entry: &Entry) -> Option<Hindrance> {
        let input = entry.relay.input();
        let (first, ports) = (input.target.ip(), input.port.get()..=input.span.last_port(input.port.get()));
        let listener = |first: IpAddr, last: IpAddr| {
            let near = self.listeners.range((first, *ports.start())..=(last, *ports.end()));
            near.map(|(_, port)| *port).find(|port| ports.contains(port))
        };
        let any = |address: IpAddr| listener(address, address);
        // What is bound to the unspecified address of IPv6 takes IPv4 as well.
        let any_v4 = || first.is_ipv4().then(|| any(Ipv4Addr::UNSPECIFIED.into())).flatten();
        let own = || listener(first, input.span.last_address(first));
        let port = any_v4().or_else(|| any(Ipv6Addr::UNSPECIFIED.into())).or_else(own);
        port.map(|port| Hindrance {
            reason: format!("an application of this host listens to UDP port {port} and would get nothing"),
            remedy: "end it, or have it listen elsewhere".to_owned(),
        })
    }

    /// What about the relay, or an application of this host, keeps it out of the kernel unless it was asked for there.
    fn left_to_packet(&self, entry: &Entry) -> Option<Hindrance> {
        self.local_need(entry).or_else(|| cuts(&entry.relay))
    }

    /// Whether no datapath in the kernel is to be tried for the relay.
    fn is_spared(&self, entry: &Entry) -> bool {
        self.choice(entry) == DatapathChoice::Auto && self.left_to_packet(entry).is_some()
    }

    fn input_index(&self, entry: &Entry) -> Option<Ifindex> {
        self.facts.get(&entry.relay.input().interface).map(|facts| facts.index)
    }

    /// Why the receiving side or the table of a datapath can not serve the relay; `None` while nothing is known.
    fn failure(&self, entry: &Entry, datapath: Datapath) -> Option<Hindrance> {
        let input = InputKey { interface: self.input_index(entry)?, datapath };
        let of_input = self.failures.get(&Subject::Input(input));
        of_input
            .or_else(|| self.failures.get(&Subject::Table(input)))
            .or_else(|| self.refusal(entry, datapath))
            .map(told)
    }

    /// Why the table of a datapath does not take the relay.
    fn refusal(&self, entry: &Entry, datapath: Datapath) -> Option<&Failure> {
        self.failures.get(&Subject::Relay(entry.relay.name().clone(), datapath))
    }

    /// Whether the datapath that is to serve the relay does not take it.
    pub(crate) fn is_refused(&self, entry: &Entry, datapath: Datapath) -> bool {
        self.refusal(entry, datapath).is_some()
    }

    /// Whether the relay is to be served at the driver and something is against it.
    pub(crate) fn is_unproven(&self, entry: &Entry, datapath: Datapath) -> bool {
        datapath == Datapath::Xdp && !matches!(self.at_driver(entry), AtDriver::Served)
    }

    /// What is against a relay at the driver which was asked to be served there and nowhere else.
    pub(crate) fn trouble_at_driver(&self, entry: &Entry) -> Option<Hindrance> {
        match self.at_driver(entry) {
            AtDriver::No(hindrance) => Some(hindrance),
            AtDriver::Served | AtDriver::ToOpen => None,
        }
    }

    fn at_driver(&self, entry: &Entry) -> AtDriver {
        if self.input_index(entry).is_none() {
            return AtDriver::ToOpen;
        }
        let against = self.unfit(entry).or_else(|| self.unproven_output(entry));
        match against.or_else(|| self.failure(entry, Datapath::Xdp)) {
            Some(hindrance) => AtDriver::No(hindrance),
            None if self.is_at_driver(entry) => AtDriver::Served,
            None => AtDriver::ToOpen,
        }
    }

    /// Whether the program is attached at the driver of the relay's input. It stays there as long as a relay of that input
    /// may be served by it, even if none is at the moment: to attach and to detach it resets many devices.
    fn is_at_driver(&self, entry: &Entry) -> bool {
        let key = |interface| InputKey { interface, datapath: Datapath::Xdp };
        self.input_index(entry).is_some_and(|interface| self.actual.inputs.contains_key(&key(interface)))
    }

    /// What about the relay itself makes it one that is not served at the driver.
    fn unfit(&self, entry: &Entry) -> Option<Hindrance> {
        let hindrance = |reason: &str, remedy: &str| Hindrance { reason: reason.to_owned(), remedy: remedy.to_owned() };
        if !entry.relay.input().target.is_group() {
            return Some(hindrance("its input is no multicast group", "use datapath = \"tcx\""));
        }
        if let Some(why) = left_to_tcx(entry) {
            let remedy = match why {
                SHARED => "make them one relay with several outputs, or use datapath = \"tcx\"",
                _ => "use datapath = \"tcx\"",
            };
            return Some(hindrance(why, remedy));
        }
        self.shaped_output(entry).filter(|_| self.choice(entry) == DatapathChoice::Auto)
    }

    /// An output that somebody has shaped: what is sent at the driver passes that by, so nobody should get it unasked.
    fn shaped_output(&self, entry: &Entry) -> Option<Hindrance> {
        let mut outputs = entry.relay.outputs().iter().filter_map(|output| self.facts.get(&output.interface));
        outputs.find(|facts| facts.is_shaped()).map(|facts| Hindrance {
            reason: format!("packets that leave {} are queued by {}, which XDP passes by", facts.name, facts.queueing),
            remedy: "use datapath = \"xdp\" if that does not matter".to_owned(),
        })
    }

    fn unproven_output(&self, entry: &Entry) -> Option<Hindrance> {
        let unproven = |name| {
            let interface = self.facts.get(name).map(|facts| facts.index);
            if interface.is_some_and(|interface| self.actual.proven.contains(&interface)) {
                return None;
            }
            let failure = interface.and_then(|interface| self.failures.get(&Subject::Proof(interface)));
            Some(failure.map(told).unwrap_or_else(|| Hindrance {
                reason: format!("{name} has not been tried yet"),
                remedy: "nothing: it is tried when it is up".to_owned(),
            }))
        };
        entry.relay.outputs().iter().find_map(|output| unproven(&output.interface))
    }

    /// The outputs that are to be tried at the driver for the relay.
    pub(crate) fn worth_proving(&self, entry: &Entry) -> Vec<(Ifindex, [u8; 6])> {
        let is_asked = self.choice(entry).allows(Datapath::Xdp);
        if !is_asked || self.unfit(entry).is_some() || self.is_spared(entry) {
            return Vec::new();
        }
        let outputs = entry.relay.outputs().iter().filter_map(|output| self.facts.get(&output.interface));
        outputs.filter(|facts| facts.can_send()).map(|facts| (facts.index, facts.mac)).collect()
    }

    /// The datapaths whose receiving side is to be open for the relay: the one that serves it, what it needs besides,
    /// and the better ones that are tried again.
    pub(crate) fn worth_opening(&self, entry: &Entry, serving: Datapath) -> Vec<Datapath> {
        let choice = self.choice(entry);
        let is_needed = |datapath: &Datapath| match datapath {
            Datapath::Packet => serving == Datapath::Packet,
            // What the driver passes on goes to tcx.
            Datapath::Tcx => choice != DatapathChoice::Only(Datapath::Packet) && !self.is_spared(entry),
            Datapath::Xdp => {
                choice.allows(Datapath::Xdp)
                    && !self.is_spared(entry)
                    && (self.is_at_driver(entry) || self.unfit(entry).or_else(|| self.unproven_output(entry)).is_none())
            }
        };
        Datapath::ALL.into_iter().filter(is_needed).collect()
    }

    /// Marks the relays that share what they listen to with others.
    pub(crate) fn find_shared(&self, entries: &mut BTreeMap<RelayName, Entry>) {
        let key = |entry: &Entry| {
            let input = entry.relay.input();
            Some((self.input_index(entry)?, input.vlan, input.target, input.port, input.span))
        };
        let mut counts: HashMap<_, u32> = HashMap::with_capacity(entries.len());
        entries.values().filter_map(key).for_each(|key| *counts.entry(key).or_default() += 1);
        for entry in entries.values_mut() {
            entry.shares_destination = key(entry).is_some_and(|key| counts[&key] > 1);
        }
    }
}

/// Why a relay is served by `tcx` even where `xdp` was asked for. Or a relay that is added would end the one that was there
/// before, and a cap or `fragment` would end the relay that it is set on.
fn left_to_tcx(entry: &Entry) -> Option<&'static str> {
    let is_capped =
        |relay: &Relay| !relay.caps().is_none() || relay.outputs().iter().any(|output| !output.caps.is_none());
    if entry.shares_destination {
        return Some(SHARED);
    }
    if entry.relay.outputs().iter().any(may_cut) {
        return Some(CUTS);
    }
    is_capped(&entry.relay).then_some(CAPPED)
}

/// Why a relay that has copies cut into fragments is left to `packet` unless the kernel was asked for: what senders on this
/// machine and its guests leave to their device is cut there alone.
fn cuts(relay: &Relay) -> Option<Hindrance> {
    let cutting = relay.outputs().iter().find(|output| may_cut(output))?;
    Some(Hindrance {
        reason: format!(
            "copies to {} may leave in fragments, and tcx cuts nothing whose checksum is left to a device",
            cutting.interface
        ),
        remedy: "use datapath = \"tcx\" if all senders are other machines".to_owned(),
    })
}

fn may_cut(output: &Output) -> bool {
    output.oversize == Oversize::Fragment
}

fn told(failure: &Failure) -> Hindrance {
    Hindrance { reason: failure.error.reason.clone(), remedy: failure.error.remedy.clone() }
}

fn asked_for(datapath: Datapath) -> Option<String> {
    (datapath != Datapath::Xdp).then(|| format!("{datapath} is what was asked for"))
}
