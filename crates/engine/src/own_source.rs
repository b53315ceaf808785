//! Sources that an interface is to have itself, so that this host answers for them.

use std::net::IpAddr;

use crate::address::Standing;
use crate::condition::OutputHealth;
use crate::effect::{Effect, EffectError, Subject};
use crate::engine::Engine;
use crate::fact::{Ifindex, InterfaceFacts};
use crate::plan::Desired;

impl Engine {
    /// Adds what is missing where it can be used: an IPv6 address goes with its link.
    pub(crate) fn missing_addresses(&self, desired: &Desired) -> Vec<Effect> {
        let can_send = |index: Ifindex| self.facts.values().any(|facts| facts.index == index && facts.can_send());
        let missing = desired.own_sources.difference(&self.actual.addresses).filter(|(index, _)| can_send(*index));
        missing.map(|&(interface, address)| Effect::AddAddress { interface, address }).collect()
    }

    /// Removes what no relay sends with any more.
    pub(crate) fn spare_addresses(&self, desired: &Desired) -> Vec<Effect> {
        let spare = self.actual.addresses.union(&self.actual.checked).filter(|key| !desired.own_sources.contains(key));
        spare.map(|&(interface, address)| Effect::RemoveAddress { interface, address }).collect()
    }

    /// What interfaces do not have any more, whoever took it away, is missing.
    pub(crate) fn lose_addresses(&mut self) {
        let Self { actual, facts, .. } = self;
        let standing = |(index, address): &(Ifindex, IpAddr)| {
            facts.values().find(|facts| facts.index == *index).and_then(|facts| facts.standing(*address))
        };
        // One that is another host's is to be tried again, and is there meanwhile.
        let duplicates = actual.addresses.iter().filter(|key| standing(key) == Some(Standing::Duplicate));
        actual.checked.extend(duplicates);
        actual.addresses.retain(|key| standing(key).is_some_and(|standing| standing != Standing::Duplicate));
        actual.checked.retain(|(index, _)| facts.values().any(|facts| facts.index == *index));
    }

    /// Why an output has not got the source that it is to have.
    pub(crate) fn own_source_trouble(&self, facts: &InterfaceFacts, source: IpAddr) -> OutputHealth {
        let name = &facts.name;
        if let Some(EffectError { reason, remedy }) = self.actual.denied.get(&(facts.index, source)).cloned() {
            return OutputHealth::Refused { reason, remedy };
        }
        if let Some(failure) = self.failures.get(&Subject::Address(facts.index, source)) {
            let EffectError { reason, remedy } = failure.error.clone();
            return OutputHealth::Waiting { reason, remedy };
        }
        match facts.standing(source) {
            Some(Standing::Duplicate) => OutputHealth::Refused {
                reason: format!("another host has {source}, which {name} was to have for its packets"),
                remedy: "use another source, or take the address from that host; it is tried again".to_owned(),
            },
            Some(Standing::Tentative) => OutputHealth::Waiting {
                reason: format!("it is being checked whether another host has {source}"),
                remedy: "nothing; the address is used as soon as the check is over, in about two seconds".to_owned(),
            },
            Some(Standing::Good | Standing::Deprecated) | None => OutputHealth::Waiting {
                reason: format!("{source} is being added to {name}"),
                remedy: "nothing; it is used at once".to_owned(),
            },
        }
    }
}

/// What is told while an address is checked.
pub(crate) fn checking(effect: &Effect) -> EffectError {
    let address = match effect.subject() {
        Subject::Address(_, address) => address,
        other => unreachable!("{other:?} is not checked"),
    };
    let time = if address.is_ipv4() { "about half a second" } else { "one or two seconds" };
    EffectError {
        reason: format!("it is being checked whether another host has {address}"),
        remedy: format!("nothing; the address is used as soon as the check is over, in {time}"),
    }
}
