//! Which groups there are to report once more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mcr_model::{Grant, InterfaceName};

use crate::engine::{Engine, Entry};
use crate::fact::Ifindex;

/// The groups that are joined on interfaces.
pub type JoinedGroups = BTreeMap<(Ifindex, InterfaceName), BTreeSet<IpAddr>>;

impl Engine {
    /// The groups that are joined for the relay of that name, or else for those that listen on the interface of that name, or for
    /// all, as far as they are within the grant. `None`: there is neither.
    pub fn joined_for(&self, name: Option<&str>, grant: &Grant) -> Option<JoinedGroups> {
        let within = || self.relays.values().filter(|entry| grant.has(&entry.relay));
        let of_relay = |name: &str| within().filter(|entry| entry.relay.name().as_str() == name).collect();
        let on = |name: &str| within().filter(|entry| entry.relay.input().interface.as_str() == name).collect();
        let meant: Vec<&Entry> = match name {
            None => return Some(self.joined(within())),
            Some(name) => Some(of_relay(name)).filter(|found: &Vec<_>| !found.is_empty()).unwrap_or_else(|| on(name)),
        };
        (!meant.is_empty()).then(|| self.joined(meant))
    }

    fn joined<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> JoinedGroups {
        let mut joined = JoinedGroups::new();
        for entry in entries {
            let input = entry.relay.input();
            // No switch is on the loopback interface.
            let facts = self.facts.get(&input.interface).filter(|facts| !facts.is_loopback());
            let Some(facts) = facts else { continue };
            let groups = input.span.addresses(input.target.ip());
            for group in groups.filter(|group| self.actual.groups.contains_key(&(facts.index, *group))) {
                joined.entry((facts.index, facts.name.clone())).or_default().insert(group);
            }
        }
        joined
    }
}
