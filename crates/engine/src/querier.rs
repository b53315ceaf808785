//! Whether anybody asks for memberships on the networks that relays join groups on, and asking there in the place of a router.
//!
//! A switch that watches IGMP or MLD forgets a group when nobody reports it, and nobody reports unasked: without a querier a flow
//! stops some minutes after it began. On a cable without a switch none is needed, so that this is a warning and no trouble.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mcr_model::querier::{Asking, QuerierWatch, QueryProtocol};
use mcr_model::relay::Relay;
use mcr_model::status::{RelayWarning, RelayWarningKind};
use mcr_model::{EventKind, RelayName};

use crate::engine::{Engine, Entry};
use crate::fact::Ifindex;

/// A querier that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardQuery {
    /// Where.
    pub interface: Ifindex,
    /// Its address, whose family tells whether it asked by IGMP or by MLD.
    pub querier: IpAddr,
    /// How long ago its last query came.
    pub ago: Duration,
}

/// What is known of the queriers of one protocol on one interface.
#[derive(Debug, Clone)]
struct Post {
    /// Since when a group is joined there.
    since: Duration,
    watch: QuerierWatch,
    /// Others that asked within the timeout: the lowest of those that stand for election, or any.
    other: Option<IpAddr>,
    told: Told,
    /// The queries of our own: when the last was sent, and how many were.
    asked: Option<(Duration, u32)>,
}

/// What was told of it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Heard(IpAddr),
    Missing,
    Ours,
}

/// Where is listened, and for what.
pub(crate) type Place = (Ifindex, QueryProtocol);

/// The interfaces that are listened on.
#[derive(Debug, Default)]
pub(crate) struct Queriers {
    posts: BTreeMap<Place, Post>,
    /// Nobody can be heard or asked.
    is_deaf: bool,
}

/// Who asks for memberships somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Ours,
    Another,
    Nobody,
}

/// Queries come in this part of the timeout (125 of 260 s, RFC 3376 sections 8.2 and 8.4, RFC 3810 sections 9.2 and 9.4); the
/// first two sooner (section 8.6 and 9.6).
const INTERVAL: (u32, u32) = (125, 260);
const STARTUP_QUERIES: u32 = 2;

impl Engine {
    /// All queriers that were heard. Where there is to ask, and how: carry it out at once.
    pub fn queries_are(&mut self, now: Duration, heard: &[HeardQuery]) -> Vec<(Ifindex, QueryProtocol)> {
        self.queriers.is_deaf = false;
        let wanted = self.watched_places();
        let mut posts = std::mem::take(&mut self.queriers.posts);
        posts.retain(|place, _| wanted.contains_key(place));
        let mut to_ask = Vec::new();
        for (place, watch) in wanted {
            let (interface, protocol) = place;
            let post = posts.entry(place).or_insert_with(|| Post::new(now, watch));
            post.watch = watch;
            let Some(facts) = self.facts.values().find(|facts| facts.index == interface) else { continue };
            let own: Vec<IpAddr> = facts.addresses.iter().map(|address| address.ip).collect();
            let name = facts.name.to_string();
            let is_there = |query: &&HeardQuery| {
                query.interface == interface
                    && QueryProtocol::of(query.querier) == protocol
                    && !own.contains(&query.querier)
            };
            post.hear(heard.iter().filter(is_there));
            let own = facts.host_addresses().find(|own| may_ask(own.ip, protocol)).map(|own| own.ip);
            self.tell_querier(post.turn(now, own), name, protocol);
            if post.is_due(now) {
                to_ask.push(place);
            }
        }
        self.queriers.posts = posts;
        to_ask
    }

    /// Who asks there.
    pub(crate) fn asker(&self, place: Place) -> Asker {
        match self.queriers.posts.get(&place).map(|post| post.told) {
            Some(Told::Ours) => Asker::Ours,
            Some(Told::Heard(_)) => Asker::Another,
            Some(Told::Nothing | Told::Missing) | None => Asker::Nobody,
        }
    }

    /// Whether nobody asks there, as far as that can be known by now.
    pub(crate) fn is_unasked(&self, place: Place) -> bool {
        self.queriers.is_deaf || self.queriers.posts.get(&place).is_some_and(|post| post.told == Told::Missing)
    }

    /// No querier can be heard, nor anybody asked: this host's IGMP and MLD are filtered. What was known of queriers is so no more.
    pub fn queries_are_unheard(&mut self) {
        self.queriers.posts.clear();
        if !std::mem::replace(&mut self.queriers.is_deaf, true) {
            self.generation += 1;
        }
    }

    /// A relay that was configured for queries or reports, where none can be heard.
    pub fn unheard_relay(&self) -> Option<&RelayName> {
        let needs = |relay: &Relay| relay.joining().is_on_demand() || relay.watch().querier().spec().is_some();
        let mut relays = self.relays.values().map(|entry| &entry.relay).filter(|_| self.queriers.is_deaf);
        relays.find(|relay| needs(relay)).map(|relay| relay.name())
    }

    /// Where groups are joined, with what the strictest relay there expects; and where outputs are that nobody may want.
    fn watched_places(&self) -> BTreeMap<Place, QuerierWatch> {
        let mut wanted: BTreeMap<Place, QuerierWatch> = BTreeMap::new();
        for entry in self.relays.values() {
            let Some(place) = self.place_of(entry) else { continue };
            let watch = entry.relay.watch().querier();
            wanted.entry(place).and_modify(|known| *known = known.stricter(watch)).or_insert(watch);
        }
        let joined = |place: &Place| {
            let mut groups = self.actual.groups.keys();
            groups.any(|(interface, group)| (*interface, QueryProtocol::of(*group)) == *place)
        };
        wanted.retain(|place, _| joined(place));
        let outputs = self.relays.values().flat_map(|entry| self.heard_outputs(entry));
        for (output, index) in outputs {
            let (place, watch) = ((index, QueryProtocol::of(output.target.ip())), QuerierWatch::own_queries());
            wanted.entry(place).and_modify(|known| *known = known.stricter(watch)).or_insert(watch);
        }
        wanted
    }

    /// Where it matters to a relay whether somebody asks.
    fn place_of(&self, entry: &Entry) -> Option<Place> {
        let input = entry.relay.input();
        let facts = self.facts.get(&input.interface).filter(|_| input.target.is_group())?;
        Some((facts.index, QueryProtocol::of(input.target.ip())))
    }

    fn tell_querier(&mut self, news: Option<Told>, interface: String, protocol: QueryProtocol) {
        let event = match news {
            None | Some(Told::Nothing) => return,
            Some(Told::Heard(querier)) => EventKind::QuerierHeard { interface, protocol, querier: querier.to_string() },
            Some(Told::Missing) => EventKind::QuerierMissing { interface, protocol },
            Some(Told::Ours) => EventKind::QuerierOurs { interface, protocol },
        };
        self.happened(event);
        self.generation += 1;
    }

    /// What may go wrong with a relay although it does what it should.
    pub(crate) fn warnings(&self, entry: &Entry) -> Vec<RelayWarning> {
        let warnings =
            self.no_querier(entry).into_iter().chain(self.sources_not_asked(entry)).chain(self.sources_needed(entry));
        warnings.chain(self.receivers_unknown(entry)).chain(self.groups_unknown(entry)).collect()
    }

    fn no_querier(&self, entry: &Entry) -> Option<RelayWarning> {
        let place = self.place_of(entry)?;
        let (protocol, input) = (place.1, entry.relay.input());
        let post = self.queriers.posts.get(&place).filter(|post| post.told == Told::Missing)?;
        Some(RelayWarning {
            kind: RelayWarningKind::NoQuerier,
            message: format!(
                "no membership query was heard on {} for {}: a switch that watches {protocol} stops forwarding {}",
                input.interface,
                mcr_model::duration::text(post.watch.timeout()),
                input.group()
            ),
            remedy:
                "switch a querier on in the switch or router, or set querier = { own = true }; none is needed without \
                     such a switch"
                    .to_owned(),
        })
    }
}

/// Whether this host may ask by that address: queries of MLD come from a link-local one (RFC 3810 section 5.1.14).
fn may_ask(own: IpAddr, protocol: QueryProtocol) -> bool {
    match (own, protocol) {
        (IpAddr::V4(_), QueryProtocol::Igmp) => true,
        (IpAddr::V6(own), QueryProtocol::Mld) => own.is_unicast_link_local(),
        (IpAddr::V4(_), QueryProtocol::Mld) | (IpAddr::V6(_), QueryProtocol::Igmp) => false,
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
    fn turn(&mut self, now: Duration, own: Option<IpAddr>) -> Option<Told> {
        let yields = |own: IpAddr| self.other.is_some_and(|other| !other.is_unspecified() && other < own);
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
    use std::net::Ipv4Addr;

    use mcr_model::querier::QuerierSpec;

    use super::*;

    const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

    fn post(own: bool) -> Post {
        let spec = QuerierSpec { timeout: Some("260s".to_owned()), own: Some(own) };
        Post::new(Duration::ZERO, spec.check().unwrap())
    }

    fn look(post: &mut Post, second: u64, heard: &[(u8, u64)]) -> (Option<Told>, bool) {
        let heard: Vec<HeardQuery> = heard
            .iter()
            .map(|(last, ago)| HeardQuery {
                interface: Ifindex(2),
                querier: if *last == 0 { [0, 0, 0, 0] } else { [10, 0, 0, *last] }.into(),
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
        let other = Told::Heard([10, 0, 0, 9].into());
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
        let lower = Told::Heard([10, 0, 0, 1].into());
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
