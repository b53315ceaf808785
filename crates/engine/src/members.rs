//! Who wants what behind the outputs of relays that join on demand, as a proxy keeps it (RFC 4605 section 4.1): hosts report
//! groups and leave them, and are asked whether somebody still wants one that was left.
//!
//! A group is wanted until nobody has reported it for the group membership interval. After a leave only until the last member
//! query time is over, unless somebody reports it again (RFC 3376 sections 6.4.2, 8.4 and 8.8; RFC 3810 the same). Where nobody
//! asks, hosts do not report again, and what was wanted once stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mcr_model::querier::QueryProtocol;
use mcr_model::relay::{Output, Relay};
use mcr_model::span::{Offset, address_after};
use mcr_model::status::{RelayWarning, RelayWarningKind};
use mcr_model::{InterfaceName, RelayName};

use crate::engine::{Engine, Entry};
use crate::fact::{Ifindex, InterfaceFacts};
use crate::querier::Asker;
use crate::traffic::Demand;

/// Robustness 2, queries every 125 s, answers within 10 s (RFC 3376 section 8.4).
const MEMBERSHIP_INTERVAL: Duration = Duration::from_secs(260);
/// So many queries for a group that was left, one a second (RFC 3376 sections 8.8 to 8.10).
const LAST_MEMBER_QUERIES: u32 = 2;
const LAST_MEMBER_INTERVAL: Duration = Duration::from_secs(1);
/// How long the groups that a daemon before this one had joined stay so while it is asked who wants them: an answer to a
/// general query takes 10 s at most.
const INHERITANCE: Duration = Duration::from_secs(12);
/// So many groups are asked for at once; the others at the next look.
const MOST_ASKED_AT_ONCE: usize = 16;

/// What a host has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardReport {
    /// Where.
    pub interface: Ifindex,
    /// Of which group.
    pub group: IpAddr,
    /// What of it.
    pub interest: Interest,
}

/// Whether a host wants a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// It does.
    Wanted,
    /// It does no more; another may.
    Left,
}

/// The groups of each interface that relays which join on demand send to, or that others look for there.
pub type SoughtGroups = BTreeMap<Ifindex, Arc<BTreeSet<IpAddr>>>;

type Group = (Ifindex, IpAddr);

/// What is known of hosts behind outputs.
#[derive(Debug, Default)]
pub(crate) struct Members {
    sought: SoughtGroups,
    /// These, and what relays that join only what is seen look for on their inputs.
    listened_for: SoughtGroups,
    known: BTreeMap<Group, Member>,
    /// To be asked for, because it was not sought before: somebody may want it already.
    new: BTreeSet<Group>,
    hearing: BTreeSet<Ifindex>,
    /// Where nobody can be heard, and why.
    deaf: BTreeMap<Ifindex, String>,
    /// Joined on inputs by a daemon before this one.
    inherited: BTreeSet<Group>,
    inherited_until: Option<Duration>,
}

#[derive(Debug)]
struct Member {
    until: Duration,
    leaving: Option<Leaving>,
}

/// The queries that follow a leave: when the next is due, and how many are left.
#[derive(Debug)]
struct Leaving {
    due: Duration,
    queries: u32,
}

impl Members {
    pub(crate) fn inherit(&mut self, groups: impl IntoIterator<Item = Group>) {
        self.inherited.extend(groups);
        self.inherited_until = None;
    }

    /// Whether what comes to the input's group at this offset is wanted.
    pub(crate) fn want(&self, facts: &BTreeMap<InterfaceName, InterfaceFacts>, relay: &Relay, offset: u32) -> bool {
        if !relay.joining().is_on_demand() {
            return true;
        }
        let index = |name: &InterfaceName| facts.get(name).map(|facts| facts.index);
        let is_inherited = index(&relay.input().interface)
            .is_some_and(|index| self.inherited.contains(&(index, address_after(relay.input().target.ip(), offset))));
        let wants = |output: &Output| match (output.target.is_group(), index(&output.interface)) {
            (false, _) => true,
            (true, None) => false,
            (true, Some(index)) => {
                let group = address_after(output.target.ip(), output.span.of(Offset { group: offset, port: 0 }).group);
                self.deaf.contains_key(&index) || self.known.contains_key(&(index, group))
            }
        };
        is_inherited || relay.outputs().iter().any(wants)
    }

    /// Why nobody can be heard on an interface.
    pub(crate) fn deaf_at(&self, interface: Ifindex) -> Option<&str> {
        self.deaf.get(&interface).map(String::as_str)
    }

    /// What is sent to by relays that join on demand, now. What nobody sends to is forgotten.
    fn seek(&mut self, sought: BTreeMap<Ifindex, BTreeSet<IpAddr>>) {
        let before = std::mem::take(&mut self.sought);
        for (interface, groups) in &sought {
            let known = before.get(interface);
            let new = groups.iter().filter(|group| known.is_none_or(|known| !known.contains(group)));
            self.new.extend(new.map(|group| (*interface, *group)));
        }
        self.sought = shared(sought, &before);
        let Self { sought, known, new, .. } = self;
        let is_sought = |(interface, group): &Group| sought.get(interface).is_some_and(|groups| groups.contains(group));
        known.retain(|group, _| is_sought(group));
        new.retain(is_sought);
    }

    /// What has to be heard: what is sent to, and what is looked for on inputs.
    fn listen_for(&mut self, mut on_inputs: BTreeMap<Ifindex, BTreeSet<IpAddr>>) {
        if on_inputs.is_empty() {
            self.listened_for.clone_from(&self.sought);
            return;
        }
        for (interface, groups) in &self.sought {
            on_inputs.entry(*interface).or_default().extend(groups.iter());
        }
        self.listened_for = shared(on_inputs, &self.listened_for);
    }

    fn hear(&mut self, now: Duration, group: Group, interest: Interest, asker: Asker) {
        match (interest, self.known.get_mut(&group)) {
            (Interest::Wanted, _) if self.sought.get(&group.0).is_some_and(|groups| groups.contains(&group.1)) => {
                self.known.insert(group, Member { until: now + MEMBERSHIP_INTERVAL, leaving: None });
            }
            // Hosts say twice that they leave; the first counts.
            (Interest::Left, Some(member)) if member.leaving.is_none() && asker != Asker::Nobody => {
                member.until = member.until.min(now + LAST_MEMBER_INTERVAL * LAST_MEMBER_QUERIES);
                let queries = if asker == Asker::Ours { LAST_MEMBER_QUERIES } else { 0 };
                member.leaving = Some(Leaving { due: now, queries });
            }
            (Interest::Wanted | Interest::Left, _) => {}
        }
    }

    /// What there is to ask for.
    fn due(&mut self, now: Duration) -> Vec<Group> {
        let hearing = &self.hearing;
        let new: Vec<Group> =
            self.new.iter().filter(|(index, _)| hearing.contains(index)).take(MOST_ASKED_AT_ONCE).copied().collect();
        self.new.retain(|group| !new.contains(group));
        let left = self.known.iter_mut().filter_map(|(group, member)| {
            let leaving = member.leaving.as_mut().filter(|leaving| leaving.queries > 0 && leaving.due <= now)?;
            leaving.queries -= 1;
            leaving.due = now + LAST_MEMBER_INTERVAL;
            Some(*group)
        });
        left.chain(new).collect()
    }
}

/// As shared lists; those that are as before are the same, so that it is cheap to see.
fn shared(sought: BTreeMap<Ifindex, BTreeSet<IpAddr>>, before: &SoughtGroups) -> SoughtGroups {
    let share = |(interface, groups): (Ifindex, BTreeSet<IpAddr>)| {
        let known = before.get(&interface).filter(|known| ***known == groups).cloned();
        (interface, known.unwrap_or_else(|| Arc::new(groups)))
    };
    sought.into_iter().map(share).collect()
}

impl Engine {
    /// A host was heard.
    pub fn reported(&mut self, now: Duration, report: HeardReport) {
        let HeardReport { interface, group, interest } = report;
        if interest == Interest::Wanted {
            self.heard_of(now, (interface, group));
        }
        let (before, asker) = (self.members.known.len(), self.asker((interface, QueryProtocol::of(group))));
        self.members.hear(now, (interface, group), interest, asker);
        if self.members.known.len() != before {
            self.wish_changed();
        }
    }

    /// Lets go of what nobody wants any more. Whom to ask for which group: carry it out at once.
    pub fn tend_members(&mut self, now: Duration) -> Vec<(Ifindex, IpAddr)> {
        let over = self.members.known.iter().filter(|((interface, group), member)| {
            member.until <= now && self.asker((*interface, QueryProtocol::of(*group))) != Asker::Nobody
        });
        let over: BTreeSet<Group> = over.map(|(group, _)| *group).collect();
        self.members.known.retain(|group, _| !over.contains(group));
        self.tend_sightings(now);
        let until = *self.members.inherited_until.get_or_insert(now + INHERITANCE);
        let is_disowned = until <= now && !std::mem::take(&mut self.members.inherited).is_empty();
        if is_disowned || !over.is_empty() {
            self.wish_changed();
        }
        self.members.due(now)
    }

    /// Where hosts have to be heard, and of which groups.
    pub fn sought_groups(&self) -> &SoughtGroups {
        &self.members.listened_for
    }

    /// Where hosts are heard, and where that can not be, with the reason: everything is wanted there then.
    pub fn hears(&mut self, hearing: BTreeSet<Ifindex>, deaf: BTreeMap<Ifindex, String>) {
        if (&self.members.hearing, &self.members.deaf) != (&hearing, &deaf) {
            (self.members.hearing, self.members.deaf) = (hearing, deaf);
            self.wish_changed();
        }
    }

    pub(crate) fn seek_members(&mut self, relays: &BTreeMap<RelayName, Entry>) {
        let mut sought: BTreeMap<Ifindex, BTreeSet<IpAddr>> = BTreeMap::new();
        for (output, index) in relays.values().flat_map(|entry| self.heard_outputs(entry)) {
            sought.entry(index).or_default().extend(output.span.addresses(output.target.ip()));
        }
        self.members.seek(sought);
        let on_inputs = self.sought_on_inputs(relays);
        self.members.listen_for(on_inputs.clone());
        self.sightings.look_for(on_inputs);
    }

    /// The outputs of a relay that joins on demand, whose receivers decide.
    pub(crate) fn heard_outputs<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (&'a Output, Ifindex)> {
        let outputs = if entry.relay.joining().is_on_demand() { entry.relay.outputs() } else { &[] };
        outputs.iter().filter(|output| output.target.is_group()).filter_map(|output| {
            let facts = self.facts.get(&output.interface).filter(|facts| facts.ethernet && !facts.is_loopback())?;
            Some((output, facts.index))
        })
    }

    /// Whether anybody wants what a relay sends.
    pub(crate) fn demand(&self, entry: &Entry) -> Demand {
        let mut groups = 0..entry.relay.input().span.groups() as u32;
        let is_wanted = !entry.relay.joining().is_on_demand()
            || groups.any(|group| self.members.want(&self.facts, &entry.relay, group));
        if is_wanted { Demand::Some } else { Demand::None }
    }

    /// Why a relay joins nothing, if nobody wants what it sends.
    pub(crate) fn unwanted(&self, entry: &Entry) -> Option<String> {
        if self.demand(entry) == Demand::Some {
            return None;
        }
        let places = entry.relay.outputs().iter().map(|output| format!("{} on {}", output.group(), output.interface));
        Some(format!("no receiver has asked for {}", places.collect::<Vec<_>>().join(" or ")))
    }

    /// Where a relay that joins on demand can not know whether it is wanted.
    pub(crate) fn receivers_unknown(&self, entry: &Entry) -> Option<RelayWarning> {
        self.heard_outputs(entry).find_map(|(output, index)| {
            let name = &output.interface;
            let (message, remedy) = match self.members.deaf.get(&index) {
                Some(reason) => (
                    format!("{reason}: the input stays joined, whether or not somebody wants it"),
                    "let the keeper listen there, or remove on_demand".to_owned(),
                ),
                None if self.is_unasked((index, QueryProtocol::of(output.target.ip()))) => (
                    format!("nobody asks the receivers on {name} what they want: once wanted, the input stays joined"),
                    format!("give {name} an address to ask from, and let the keeper hear and send IGMP and MLD"),
                ),
                None => return None,
            };
            Some(RelayWarning { kind: RelayWarningKind::ReceiversUnknown, message, remedy })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: Ifindex = Ifindex(3);

    fn group(last: u8) -> Group {
        (LAN, [239, 2, 2, last].into())
    }

    fn sought(last: impl IntoIterator<Item = u8>) -> Members {
        let mut members = Members { hearing: [LAN].into(), ..Members::default() };
        members.seek([(LAN, last.into_iter().map(|last| group(last).1).collect())].into());
        members
    }

    #[test]
    fn what_is_sought_anew_is_asked_for_once_and_only_where_answers_are_heard() {
        let mut members = sought([1, 2]);
        members.hearing.clear();
        assert_eq!(members.due(Duration::ZERO), []);
        members.hearing.insert(LAN);
        assert_eq!(members.due(Duration::ZERO), [group(1), group(2)]);
        members.seek([(LAN, [group(2).1, group(3).1].into())].into());
        assert_eq!(members.due(Duration::ZERO), [group(3)], "the other two are known or not sought");
    }

    #[test]
    fn one_that_leaves_is_asked_after_twice_unless_another_reports() {
        let second = Duration::from_secs;
        let mut members = sought([1]);
        members.due(Duration::ZERO);
        members.hear(second(0), group(9), Interest::Wanted, Asker::Ours);
        assert!(members.known.is_empty(), "nobody sends to that");
        members.hear(second(0), group(1), Interest::Wanted, Asker::Ours);
        members.hear(second(5), group(1), Interest::Left, Asker::Nobody);
        assert_eq!(members.known[&group(1)].until, second(260), "where nobody asks another may want it");
        members.hear(second(10), group(1), Interest::Left, Asker::Ours);
        assert_eq!((members.due(second(10)), members.known[&group(1)].until), (vec![group(1)], second(12)));
        members.hear(Duration::from_millis(10_500), group(1), Interest::Left, Asker::Ours);
        assert_eq!(members.due(Duration::from_millis(10_900)), []);
        assert_eq!((members.due(second(11)), members.known[&group(1)].until), (vec![group(1)], second(12)));
        assert_eq!(members.due(second(13)), [], "twice is enough");
        members.hear(second(11), group(1), Interest::Wanted, Asker::Ours);
        assert_eq!(members.known[&group(1)].until, second(271));
        members.hear(second(20), group(1), Interest::Left, Asker::Another);
        assert_eq!((members.due(second(20)), members.known[&group(1)].until), (vec![], second(22)), "it asks");
    }
}
