//! What the policy lets be held, and what it takes away.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use mcr_datapath::{filter, set_filter};

use super::refusal::{full, system};
use super::{Holdings, MAX_INTERFACES};
use crate::board::{self, Disturbance, Outcome};
use crate::interface;
use crate::links;
use crate::packet_socket;
use crate::policy::{Objection, Policy, Use};
use crate::protocol::{Failure, FailureKind};

impl Holdings {
    /// Puts another policy in force and takes away what it forbids; hands back what of which interface that was.
    pub(crate) fn submit_to(&mut self, policy: Policy) -> Vec<(Use, String)> {
        self.give_up_departed();
        self.policy = policy;
        self.look_at_links();
        self.keep_one_way();
        self.join_anew();
        self.take_away_forbidden_addresses();
        self.take_away_forbidden()
    }

    pub(super) fn take_away_forbidden(&mut self) -> Vec<(Use, String)> {
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
                let had_addresses = self.take_away_addresses(interface);
                output.is_some() || ear.is_some() || !neighbours.is_empty() || had_addresses
            }
        }
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
        let outcome = if self.guard.trouble().is_none() { Outcome::Mended } else { Outcome::Broken };
        self.disturbance = Disturbance { times: self.disturbance.times + 1, last: board::now(), outcome };
        self.write_down();
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

    /// Nothing is said where the policy wants nothing to be said.
    pub(super) fn check_open_way(&self, interface: u32, name: &str) -> Result<(), Failure> {
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

    pub(super) fn look_at_links(&mut self) {
        self.links = match self.policy.has_one_way() {
            false => Ok(Vec::new()),
            true => {
                links::all().map_err(|error| system("can not look up the interfaces".to_owned(), &error, "try again"))
            }
        };
    }

    /// The name of an interface that the policy lets be used so, and that there is room for.
    pub(super) fn permit(&self, wanted: Use, index: u32) -> Result<String, Failure> {
        let name = self.allowed(wanted, index)?;
        if !self.is_used(index) && self.interfaces().len() >= MAX_INTERFACES {
            let what = format!("can not use {name}: {MAX_INTERFACES} interfaces are in use already");
            return Err(full(what, "use fewer interfaces, or start another keeper and daemon for the rest"));
        }
        Ok(name)
    }

    /// The name of the interface, if the policy lets it be used so.
    pub(super) fn allowed(&self, wanted: Use, index: u32) -> Result<String, Failure> {
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
    pub(super) fn neighbours_of(&self, interface: u32) -> Result<Vec<String>, Failure> {
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
