//! Which groups of a range are there, for relays that join those alone which are seen: the datapath says for which groups packets
//! have come, and hosts on the input's network are heard reporting what they want, which brings it here as well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use mcr_model::joining::Joining;
use mcr_model::relay::Relay;
use mcr_model::span::address_after;
use mcr_model::status::{RelayWarning, RelayWarningKind};
use mcr_model::{InterfaceName, RelayName};

use crate::engine::{Engine, Entry};
use crate::fact::{Ifindex, InterfaceFacts};

/// So long after its last packet or report a group is left: as long as a router remembers a member (RFC 3376 section 8.4).
const MEMORY: Duration = Duration::from_secs(260);

type Group = (Ifindex, IpAddr);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// Of groups that are looked for, when each was seen last.
    seen: BTreeMap<Group, Duration>,
    /// Joined by a daemon before this one, which had seen them.
    inherited: BTreeSet<Group>,
}

impl Sightings {
    pub(crate) fn inherit(&mut self, groups: impl IntoIterator<Item = Group>) {
        self.inherited.extend(groups);
    }

    fn has(&self, group: &Group) -> bool {
        self.seen.contains_key(group) || self.inherited.contains(group)
    }

    /// Whether it was not there before.
    fn note(&mut self, now: Duration, group: Group) -> bool {
        self.seen.insert(group, now).is_none()
    }

    /// What is looked for, now; the rest is forgotten.
    pub(crate) fn look_for(&mut self, sought: &BTreeMap<Ifindex, BTreeSet<IpAddr>>) {
        let is_sought = |(interface, group): &Group| sought.get(interface).is_some_and(|groups| groups.contains(group));
        self.seen.retain(|group, _| is_sought(group));
    }

    /// Forgets what was not seen for long; whether that changes what is wanted.
    fn tend(&mut self, now: Duration) -> bool {
        for group in std::mem::take(&mut self.inherited) {
            self.seen.entry(group).or_insert(now);
        }
        let before = self.seen.len();
        self.seen.retain(|_, last| now.saturating_sub(*last) < MEMORY);
        self.seen.len() != before
    }
}

/// The groups of an input, as far as they are joined only when they are seen.
fn sought<'a>(
    facts: &BTreeMap<InterfaceName, InterfaceFacts>,
    relay: &'a Relay,
) -> Option<(Ifindex, impl Iterator<Item = IpAddr> + use<'a>)> {
    let input = relay.input();
    let facts = facts.get(&input.interface).filter(|_| relay.joining() == Joining::Seen)?;
    Some((facts.index, input.span.addresses(input.target.ip())))
}

impl Engine {
    /// The relays that have to be told which groups packets came for, with their inputs' interfaces.
    pub fn looking(&self) -> Vec<(RelayName, Ifindex)> {
        let looking = |entry: &Entry| Some((entry.relay.name().clone(), sought(&self.facts, &entry.relay)?.0));
        self.relays.values().filter_map(looking).collect()
    }

    /// Packets came for these groups.
    pub fn saw(&mut self, now: Duration, interface: Ifindex, groups: impl IntoIterator<Item = IpAddr>) {
        let new = groups.into_iter().filter(|group| self.sightings.note(now, (interface, *group))).count();
        if new > 0 {
            self.wish_changed();
        }
    }

    /// A host wants a group, of which it was heard on that interface.
    pub(crate) fn heard_of(&mut self, now: Duration, (interface, group): Group) {
        let is_sought = |relay: &Relay| {
            let mut sought = sought(&self.facts, relay).into_iter();
            sought.any(|(index, mut groups)| index == interface && groups.any(|one| one == group))
        };
        if self.relays.values().any(|entry| is_sought(&entry.relay)) {
            self.saw(now, interface, [group]);
        }
    }

    /// Leaves what was not seen for long.
    pub(crate) fn tend_sightings(&mut self, now: Duration) {
        if self.sightings.tend(now) {
            self.wish_changed();
        }
    }

    /// What relays look for on their inputs' interfaces.
    pub(crate) fn sought_on_inputs(&self, relays: &BTreeMap<RelayName, Entry>) -> BTreeMap<Ifindex, BTreeSet<IpAddr>> {
        let mut all: BTreeMap<Ifindex, BTreeSet<IpAddr>> = BTreeMap::new();
        for (interface, groups) in relays.values().filter_map(|entry| sought(&self.facts, &entry.relay)) {
            all.entry(interface).or_default().extend(groups);
        }
        all
    }

    /// The groups of a relay that were seen, in order; `None`: it joins them whether they are seen or not.
    pub(crate) fn seen_groups(&self, entry: &Entry) -> Option<Vec<IpAddr>> {
        let (interface, groups) = sought(&self.facts, &entry.relay)?;
        Some(groups.filter(|group| self.sightings.has(&(interface, *group))).collect())
    }

    /// Where a relay that joins what is seen can not look for it.
    pub(crate) fn groups_unknown(&self, entry: &Entry) -> Option<RelayWarning> {
        let (interface, _) = sought(&self.facts, &entry.relay)?;
        let reason = self.members.deaf_at(interface)?;
        Some(RelayWarning {
            kind: RelayWarningKind::GroupsUnknown,
            message: format!("{reason}: all groups of {} are joined, seen or not", entry.relay.input().group()),
            remedy: "let the keeper listen there, or remove join".to_owned(),
        })
    }
}

impl crate::plan::View<'_> {
    /// Whether the input's group at this offset is to be joined.
    pub(crate) fn joins(&self, relay: &Relay, offset: u32) -> bool {
        let is_seen = |interface: Ifindex| {
            let group = address_after(relay.input().target.ip(), offset);
            self.sightings.has(&(interface, group)) || self.members.deaf_at(interface).is_some()
        };
        match sought(self.facts, relay) {
            Some((interface, _)) => is_seen(interface),
            None => self.members.want(self.facts, relay, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_for_its_time_and_what_was_joined_before_counts_as_seen() {
        let group = |last: u8| (Ifindex(2), IpAddr::from([239, 1, 0, last]));
        let second = Duration::from_secs;
        let mut sightings = Sightings::default();
        sightings.inherit([group(1), group(9)]);
        assert!(sightings.has(&group(1)) && !sightings.has(&group(2)));
        assert!(!sightings.tend(second(10)));
        sightings.look_for(&[(Ifindex(2), (0..8).map(|last| group(last).1).collect())].into());
        assert!(sightings.has(&group(1)) && !sightings.has(&group(9)), "nobody looks for that");
        assert!(sightings.note(second(20), group(2)) && !sightings.note(second(100), group(2)));
        assert!(!sightings.tend(second(269)) && sightings.tend(second(270)));
        assert!(!sightings.has(&group(1)) && sightings.has(&group(2)));
        assert!(!sightings.tend(second(359)) && sightings.tend(second(360)));
        assert!(!sightings.has(&group(2)));
    }
}
