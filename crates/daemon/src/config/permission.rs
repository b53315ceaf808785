//! Whether the keeper's policy allows what a configuration wants.

use std::path::Path;

use mcr_model::relay::{Output, Relay};
use mcr_netd::{PolicyChoice, PolicyError, Use};

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
    let refused = uses.filter(|(_, (wanted, interface))| !allowed.allows(*wanted, interface.as_str()));
    let sentence = |(name, (wanted, interface)): (&mcr_model::RelayName, (Use, &mcr_model::InterfaceName))| {
        format!(
            "relay {name}: the policy {} does not allow {interface} as {}, only {}; use one of these, or add it to {}",
            policy.display(),
            wanted.noun(),
            allowed.allowed(wanted),
            wanted.key()
        )
    };
    Ok(refused.map(sentence).collect())
}
