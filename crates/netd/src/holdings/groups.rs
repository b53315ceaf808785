//! Groups that are joined, and what is asked and reported of them on the wire.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::Holdings;
use super::refusal::{full, invalid, join_remedy, not_heard, system};
use crate::interface;
use crate::membership::{self, Family, Joined};
use crate::policy::Use;
use crate::protocol::{Failure, FailureKind};
use crate::querier::Queries;

/// Most memberships; with listed sources each source is one. The kernel looks through lists of them.
const MAX_MEMBERSHIPS: usize = 16_384;

impl Holdings {
    pub(super) fn join(&mut self, interface: u32, group: IpAddr, sources: &[IpAddr]) -> Result<(), Failure> {
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

    /// Joins on interfaces that are not passive any more, and leaves the groups of those that have become so.
    pub(super) fn join_anew(&mut self) {
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

    pub(super) fn leave(&mut self, joined: Joined) {
        self.memberships.leave(joined);
        self.passive.leave(joined);
    }

    pub(super) fn leave_all(&mut self, interface: u32) {
        let joined: Vec<Joined> = self.memberships.on(interface).chain(self.passive.on(interface)).collect();
        for joined in joined {
            self.leave(joined);
        }
    }

    /// Every group that is wanted, joined or taken in passively, with its sources.
    pub(super) fn memberships(&self) -> impl Iterator<Item = (Joined, Vec<IpAddr>)> {
        self.memberships.iter().chain(self.passive.iter())
    }

    pub(super) fn has_joined_on(&self, interface: u32) -> bool {
        self.memberships.on(interface).next().is_some() || self.passive.on(interface).next().is_some()
    }

    /// Readable when a membership query has come, as far as they can be heard.
    pub(crate) fn queries(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.queries.as_ref().map_or([None; 2], Queries::sockets)
    }

    /// Takes note of the membership queries that have come.
    pub(crate) fn take_queries(&mut self) {
        self.queries.iter_mut().for_each(Queries::take);
        self.write_down();
    }

    /// Asks for all memberships behind an input, or behind an output.
    pub(super) fn ask(&self, interface: u32, family: Family) -> Result<(), Failure> {
        let name = self.permit(Use::Input, interface).or_else(|_| self.permit(Use::Output, interface))?;
        self.check_open_way(interface, &name)?;
        let queries = self.queries.as_ref().ok_or_else(not_heard)?;
        queries.ask(interface, family).map_err(|error| {
            let remedy = "check that the interface is up and has an address";
            system(format!("can not ask for memberships on {name}"), &error, remedy)
        })
    }

    /// Asks who wants a group behind an output.
    pub(super) fn ask_for(&self, interface: u32, group: IpAddr) -> Result<(), Failure> {
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

    /// Reports these groups once more, as far as they are joined on an interface.
    pub(super) fn report(&self, interface: u32, groups: &BTreeSet<IpAddr>) -> Result<(), Failure> {
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
}
