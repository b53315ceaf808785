//! Whether anybody asks for memberships on the networks that relays join groups on, and asking there in the place of a router.
//!
//! A switch that watches IGMP forgets a group when nobody reports it, and nobody reports unasked: without a querier a flow
//! stops some minutes after it began. On a cable without a switch none is needed, so that this is a warning and no trouble.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mcr_model::EventKind;
use mcr_model::querier::{Asking, QuerierWatch};
use mcr_model::status::{RelayWarning, RelayWarningKind};

use crate::engine::{Engine, Entry};
use crate::fact::Ifindex;

/// A querier that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardQuery {
    /// Where.
    pub interface: Ifindex,
    /// Its address.
    pub querier: Ipv4Addr,
    /// How long ago its last query came.
    pub ago: Duration,
}

/// What is known of the queriers of one interface.
#[derive(Debug, Clone)]
struct Post {
    /// Since when a group is joined there.
    since: Duration,
    watch: QuerierWatch,
    /// Others that asked within the timeout: the lowest of those that stand for election, or any.
    other: Option<Ipv4Addr>,
    told: Told,
    /// The queries of our own: when the last was sent, and how many were.
    asked: Option<(Duration, u32)>,
}

/// What was told of it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Heard(Ipv4Addr),
    Missing,
    Ours,
}

/// The interfaces that are listened on.
#[derive(Debug, Default)]
pub(crate) struct Queriers {
    posts: BTreeMap<Ifindex, Post>,
}

/// Queries come in this part of the timeout (125 of 260 s, RFC 3376 sections 8.2 and 8.4); the first two sooner (section 8.6).
const INTERVAL: (u32, u32) = (125, 260);
const STARTUP_QUERIES: u32 = 2;

impl Engine {
    /// All queriers that were heard. What there is to ask: carry it out at once.
    pub fn queries_are(&mut self, now: Duration, heard: &[HeardQuery]) -> Vec<Ifindex> {
        let wanted = self.watched_interfaces();
        let mut posts = std::mem::take(&mut self.queriers.posts);
        posts.retain(|interface, _| wanted.contains_key(interface));
        let mut to_ask = Vec::new();
        for (interface, watch) in wanted {
            let post = posts.entry(interface).or_insert_with(|| Post::new(now, watch));
            post.watch = watch;
            let Some(facts) = self.facts.values().find(|facts| facts.index == interface) else { continue };
            let own: Vec<Ipv4Addr> = facts.addresses.iter().filter_map(|address| ipv4(address.ip)).collect();
            let name = facts.name.to_string();
            let heard = heard.iter().filter(|query| query.interface == interface && !own.contains(&query.querier));
            post.hear(heard);
            self.tell_querier(post.turn(now, own.first().copied()), name);
            if post.is_due(now) {
                to_ask.push(interface);
            }
        }
        self.queriers.posts = posts;
        to_ask
    }

    /// Interfaces on which groups are joined, with what the strictest relay there expects.
    fn watched_interfaces(&self) -> BTreeMap<Ifindex, QuerierWatch> {
        let mut wanted: BTreeMap<Ifindex, QuerierWatch> = BTreeMap::new();
        for entry in self.relays.values().filter(|entry| is_ipv4_group(entry)) {
            let Some(facts) = self.facts.get(&entry.relay.input().interface) else { continue };
            let watch = entry.relay.watch().querier();
            wanted.entry(facts.index).and_modify(|known| *known = known.stricter(watch)).or_insert(watch);
        }
        wanted.retain(|interface, _| self.actual.groups.keys().any(|(joined, _)| joined == interface));
        wanted
    }

    fn tell_querier(&mut self, news: Option<Told>, interface: String) {
        let event = match news {
            None | Some(Told::Nothing) => return,
            Some(Told::Heard(querier)) => EventKind::QuerierHeard { interface, querier: querier.to_string() },
            Some(Told::Missing) => EventKind::QuerierMissing { interface },
            Some(Told::Ours) => EventKind::QuerierOurs { interface },
        };
        self.happened(event);
        self.generation += 1;
    }

    /// What may go wrong with a relay although it does what it should.
    pub(crate) fn warnings(&self, entry: &Entry) -> Vec<RelayWarning> {
        let input = entry.relay.input();
        let Some(facts) = self.facts.get(&input.interface).filter(|_| is_ipv4_group(entry)) else {
            return Vec::new();
        };
        let Some(post) = self.queriers.posts.get(&facts.index).filter(|post| post.told == Told::Missing) else {
            return Vec::new();
        };
        vec![RelayWarning {
            kind: RelayWarningKind::NoQuerier,
            message: format!(
                "no membership query was heard on {} for {}: a switch that watches IGMP stops forwarding {}",
                facts.name,
                mcr_model::duration::text(post.watch.timeout()),
                input.group()
            ),
            remedy:
                "switch a querier on in the switch or router, or set querier = { own = true }; none is needed without \
                     such a switch"
                    .to_owned(),
        }]
    }
}

/// Queries of MLD are not listened to.
fn is_ipv4_group(entry: &Entry) -> bool {
    let target = entry.relay.input().target;
    target.is_group() && target.ip().is_ipv4()
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

impl Post {
    fn new(now: Duration, watch: QuerierWatch) -> Self {
        Self { since: now, watch, other: None, told: Told::Nothing, asked: None }
    }

    fn hear<'a>(&mut self, heard: impl Iterator<Item = &'a HeardQuery>) {
        let recent = heard.filter(|query| query.ago < self.watch.timeout());
        // One without an address is a switch that fills in for a querier, and stands for no election (RFC 4541 section 2.1.1).
        self.other = recent.map(|query| query.querier).min_by_key(|querier| (querier.is_unspecified(), *querier));
    }

    /// What has changed.
    fn turn(&mut self, now: Duration, own: Option<Ipv4Addr>) -> Option<Told> {
        let yields = |own: Ipv4Addr| self.other.is_some_and(|other| !other.is_unspecified() && other < own);
        let asks = self.watch.own() == Asking::Own && own.is_some_and(|own| !yields(own));
        let quiet = now.saturating_sub(self.since) >= self.watch.timeout();
        let is = match (asks, self.other) {
            (true, _) => Told::Ours,
            (false, Some(other)) => Told::Heard(other),
            (false, None) if quiet || self.told == Told::Missing => Told::Missing,
            (false, None) => self.told,
        };
        if is != Told::Ours {
            self.asked = None;
        }
        let was = std::mem::replace(&mut self.told, is);
        if let (Told::Heard(_) | Told::Ours, Told::Nothing | Told::Missing) | (Told::Ours, _) = (is, was) {
            self.since = now;
        }
        (was != is).then_some(is)
    }

    fn is_due(&mut self, now: Duration) -> bool {
        if self.told != Told::Ours {
            return false;
        }
        let interval = self.watch.timeout() * INTERVAL.0 / INTERVAL.1;
        let due = self.asked.is_none_or(|(last, count)| {
            let pause = if count < STARTUP_QUERIES { interval / 4 } else { interval };
            now.saturating_sub(last) >= pause
        });
        if due {
            self.asked = Some((now, self.asked.map_or(0, |(_, count)| count) + 1));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use mcr_model::querier::QuerierSpec;

    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn post(own: bool) -> Post {
        let spec = QuerierSpec { timeout: Some("260s".to_owned()), own: Some(own) };
        Post::new(Duration::ZERO, spec.check().unwrap())
    }

    fn look(post: &mut Post, second: u64, heard: &[(u8, u64)]) -> (Option<Told>, bool) {
        let heard: Vec<HeardQuery> = heard
            .iter()
            .map(|(last, ago)| HeardQuery {
                interface: Ifindex(2),
                querier: if *last == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(10, 0, 0, *last) },
                ago: Duration::from_secs(*ago),
            })
            .collect();
        post.hear(heard.iter());
        let now = Duration::from_secs(second);
        (post.turn(now, Some(OURS)), post.is_due(now))
    }

    #[test]
    fn a_querier_is_missed_after_its_time_and_told_when_it_is_heard() {
        let mut post = post(false);
        let other = Told::Heard(Ipv4Addr::new(10, 0, 0, 9));
        let table = [
            (0, vec![], None),
            (259, vec![], None),
            (260, vec![], Some(Told::Missing)),
            (300, vec![], None),
            (400, vec![(9, 1)], Some(other)),
            (500, vec![(9, 101)], None),
            (660, vec![(9, 261)], Some(Told::Missing)),
        ];
        for (second, heard, expected) in table {
            assert_eq!(look(&mut post, second, &heard), (expected, false), "at {second} s");
        }
    }

    #[test]
    fn we_ask_until_somebody_with_a_lower_address_does() {
        let mut post = post(true);
        let lower = Told::Heard(Ipv4Addr::new(10, 0, 0, 1));
        let table = [
            (0, vec![], Some(Told::Ours), true),
            (1, vec![], None, false),
            (32, vec![], None, true), // the second of two at the start
            (100, vec![], None, false),
            (157, vec![(9, 1)], None, true),  // a higher address yields to us
            (158, vec![(0, 1)], None, false), // one without an address is no rival
            (200, vec![(1, 1), (9, 40)], Some(lower), false),
            (400, vec![(1, 201)], None, false),
            (460, vec![(1, 261)], Some(Told::Ours), true), // it is gone
        ];
        for (second, heard, told, asks) in table {
            assert_eq!(look(&mut post, second, &heard), (told, asks), "at {second} s");
        }
    }
}
