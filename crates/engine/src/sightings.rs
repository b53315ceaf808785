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

/// What nobody has reported, and no packet has come for, is forgotten so long after: a router remembers a member as long (RFC 3376
/// section 8.4).
const MEMORY: Duration = Duration::from_secs(260);
/// A group is left so long after its last packet, whoever reports it: of two relays on one network each hears the other report what it
/// has joined.
const MOST_WITHOUT_PACKETS: Duration = Duration::from_secs(3 * 260);

type Group = (Ifindex, IpAddr);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// What is looked for; the rest is not noted.
    sought: BTreeMap<Ifindex, BTreeSet<IpAddr>>,
    seen: BTreeMap<Group, Sighting>,
    /// Joined by a daemon before this one, which had seen them.
    inherited: BTreeSet<Group>,
}

/// When a group was seen.
#[derive(Debug)]
struct Sighting {
    /// Its last packet; until one comes, the first report.
    packet: Duration,
    /// Its last packet or report.
    last: Duration,
    /// Whether it is joined for that. Where it is not, reports alone do not bring it back, but what comes after they have ceased.
    counts: bool,
}

impl Sightings {
    pub(crate) fn inherit(&mut self, groups: impl IntoIterator<Item = Group>) {
        self.inherited.extend(groups);
    }

    fn has(&self, group: &Group) -> bool {
        self.seen.get(group).is_some_and(|sighting| sighting.counts) || self.inherited.contains(group)
    }

    fn is_sought(&self, (interface, group): &Group) -> bool {
        self.sought.get(interface).is_some_and(|groups| groups.contains(group))
    }

    /// Packets came for it. Whether that is news.
    fn saw(&mut self, now: Duration, group: Group) -> bool {
        let before = self.seen.insert(group, Sighting { packet: now, last: now, counts: true });
        before.is_none_or(|before| !before.counts)
    }

    /// A host reported it. Whether that is news.
    fn heard(&mut self, now: Duration, group: Group) -> bool {
        if !self.is_sought(&group) {
            return false;
        }
        match self.seen.get_mut(&group) {
            Some(sighting) => {
                sighting.last = now;
                false
            }
            None => self.saw(now, group),
        }
    }

    /// Packets may have come for what counts on an interface: nobody could say.
    fn doubt(&mut self, now: Duration, interface: Ifindex) {
        let of_interface = self.seen.iter_mut().filter(|((index, _), sighting)| *index == interface && sighting.counts);
        of_interface.for_each(|(_, sighting)| (sighting.packet, sighting.last) = (now, now));
    }

    /// What is looked for, now; the rest is forgotten.
    pub(crate) fn look_for(&mut self, sought: BTreeMap<Ifindex, BTreeSet<IpAddr>>) {
        self.sought = sought;
        let mut seen = std::mem::take(&mut self.seen);
        seen.retain(|group, _| self.is_sought(group));
        self.seen = seen;
    }

    /// Forgets what was not seen for long; whether that changes what is wanted.
    fn tend(&mut self, now: Duration) -> bool {
        for group in std::mem::take(&mut self.inherited) {
            self.seen.entry(group).or_insert(Sighting { packet: now, last: now, counts: true });
        }
        let mut is_over = false;
        self.seen.retain(|_, sighting| {
            let counted = sighting.counts;
            let is_remembered = now.saturating_sub(sighting.last) < MEMORY;
            sighting.counts &= is_remembered && now.saturating_sub(sighting.packet) < MOST_WITHOUT_PACKETS;
            is_over |= counted && !sighting.counts;
            is_remembered
        });
        is_over
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
        let new = groups.into_iter().filter(|group| self.sightings.saw(now, (interface, *group))).count();
        if new > 0 {
            self.wish_changed();
        }
    }

    /// For which groups packets came on an interface can not be found out now: nothing there is left for that.
    pub fn could_not_see(&mut self, now: Duration, interface: Ifindex) {
        self.sightings.doubt(now, interface);
    }

    /// A host wants a group, of which it was heard on that interface.
    pub(crate) fn heard_of(&mut self, now: Duration, group: Group) {
        if self.sightings.heard(now, group) {
            self.wish_changed();
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

    const WIRE: Ifindex = Ifindex(2);

    fn group(last: u8) -> Group {
        (WIRE, IpAddr::from([239, 1, 0, last]))
    }

    fn sought() -> BTreeMap<Ifindex, BTreeSet<IpAddr>> {
        [(WIRE, (0..8).map(|last| group(last).1).collect())].into()
    }

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_seen_stays_for_its_time_and_what_was_joined_before_counts_as_seen() {
        let mut sightings = Sightings::default();
        sightings.inherit([group(1), group(9)]);
        assert!(sightings.has(&group(1)) && !sightings.has(&group(2)));
        assert!(!sightings.tend(second(10)));
        sightings.look_for(sought());
        assert!(sightings.has(&group(1)) && !sightings.has(&group(9)), "nobody looks for that");
        assert!(sightings.saw(second(20), group(2)) && !sightings.saw(second(100), group(2)));
        assert!(!sightings.tend(second(269)) && sightings.tend(second(270)));
        assert!(!sightings.has(&group(1)) && sightings.has(&group(2)));
        assert!(!sightings.tend(second(359)) && sightings.tend(second(360)));
        assert!(!sightings.has(&group(2)));
    }

    #[test]
    fn of_two_relays_that_hear_each_other_report_both_leave_what_does_not_come_any_more() {
        let mut relays = [Sightings::default(), Sightings::default()];
        relays.iter_mut().for_each(|relay| relay.look_for(sought()));
        assert!(relays[0].saw(second(0), group(1)), "the other one did not get that packet");
        let mut left = [None, None];
        for now in (5..3_000).step_by(5) {
            let reports = now % 125 == 0;
            let joined: [bool; 2] = std::array::from_fn(|relay| relays[relay].has(&group(1)));
            for (relay, sightings) in relays.iter_mut().enumerate() {
                if reports && joined[1 - relay] {
                    sightings.heard(second(now), group(1));
                }
                if sightings.tend(second(now)) {
                    assert_eq!(left[relay].replace(now), None, "it is not joined again");
                }
            }
        }
        assert_eq!(left, [Some(780), Some(125 + 780)]);
        assert!(relays.iter().all(|relay| relay.seen.is_empty()));
        assert!(relays[0].heard(second(3_000), group(1)), "who reports it after that begins anew");
    }

    #[test]
    fn reports_do_not_bring_back_what_they_could_not_keep_but_a_packet_does() {
        let mut sightings = Sightings::default();
        sightings.look_for(sought());
        assert!(!sightings.heard(second(0), group(9)), "nobody looks for that");
        assert!(sightings.heard(second(0), group(1)));
        let mut report = |now| (sightings.heard(second(now), group(1)), sightings.tend(second(now)));
        let told: Vec<_> = (100..=2_000).step_by(100).map(&mut report).collect();
        assert_eq!(told.iter().position(|told| *told == (false, true)), Some(7), "after 780 s");
        assert_eq!(told.iter().filter(|told| **told == (false, false)).count(), told.len() - 1);
        assert!(!sightings.has(&group(1)) && sightings.saw(second(2_001), group(1)) && sightings.has(&group(1)));
    }

    #[test]
    fn nothing_is_left_while_nobody_can_say_what_comes() {
        let mut sightings = Sightings::default();
        sightings.look_for(sought());
        sightings.saw(second(0), group(1));
        for now in (1..1_000).step_by(100) {
            sightings.doubt(second(now), WIRE);
            assert!(!sightings.tend(second(now)));
        }
        assert!(sightings.has(&group(1)) && sightings.tend(second(1_200)));
    }
}
