//! Whether the keeper's policy allows what a configuration wants.

use std::path::Path;

use mcr_model::SourceRule;
use mcr_model::relay::{Output, Relay};
use mcr_netd::{Objection, Policy, PolicyChoice, PolicyError, Use};

/// What the policy in the file at `policy` forbids of `relays`, a sentence for each use.
///
/// # Errors
/// The [`PolicyError`] when there is no such policy.
pub fn forbidden(relays: &[Relay], policy: &Path) -> Result<Vec<String>, PolicyError> {
    let allowed = PolicyChoice { file: Some(policy.to_owned()), ..PolicyChoice::default() }.load()?;
    let uses = relays.iter().flat_map(|relay| {
        let outputs = relay.outputs().iter().map(|Output { interface, .. }| (Use::Output, interface));
        std::iter::once((Use::Input, &relay.input().interface)).chain(outputs).map(move |used| (relay.name(), used))
    });
    let refused = uses.filter_map(|(name, (wanted, interface))| {
        let objection = allowed.objection(wanted, interface.as_str(), &[])?;
        let (policy, noun) = (policy.display(), wanted.noun());
        Some(match objection {
            Objection::NotListed => format!(
                "relay {name}: the policy {policy} does not allow {interface} as {noun}, only {}; use one of these, or \
                 add it to {}",
                allowed.allowed(wanted),
                wanted.key()
            ),
            Objection::OneWay { rule, .. } => format!(
                "relay {name}: the policy {policy} is one-way {rule}, so {interface} can not be {noun}; turn the relay \
                 round, or change `one_way`"
            ),
        })
    });
    let refused = refused.chain(relays.iter().flat_map(|relay| foreign_sources(relay, &allowed, policy)));
    Ok(refused.collect())
}

/// The sources of a relay that its outputs are to have and may not.
fn foreign_sources(relay: &Relay, allowed: &Policy, policy: &Path) -> Vec<String> {
    let own = relay.outputs().iter().filter_map(|output| match output.source {
        SourceRule::Own(source) => Some((output.interface.as_str(), source)),
        SourceRule::OfInterface | SourceRule::Set(_) | SourceRule::Keep => None,
    });
    let foreign = own.filter(|(interface, source)| !allowed.allows_source(interface, *source));
    let told = foreign.map(|(interface, source)| {
        format!(
            "relay {}: the policy {} does not allow to add {source} to {interface} (allowed: {}); write `[source_addresses]` and \
             `{interface} = [\"{source}\"]` there, or leave own_source out",
            relay.name(),
            policy.display(),
            allowed.allowed_sources(interface)
        )
    });
    told.collect()
}
