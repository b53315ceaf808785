//! Groups that routers and switches give only to who names the sources.

use mcr_model::status::{RelayWarning, RelayWarningKind};

use crate::engine::{Engine, Entry};

impl Engine {
    /// A relay that joins such a group for any source: it hears only what is flooded.
    pub(crate) fn sources_needed(&self, entry: &Entry) -> Option<RelayWarning> {
        let input = entry.relay.input();
        let has_routers = self.facts.get(&input.interface).is_some_and(|facts| !facts.is_loopback());
        if !input.target.is_source_specific() || !input.joined_sources().is_empty() || !has_routers {
            return None;
        }
        let protocol = if input.target.ip().is_ipv4() { "IGMP" } else { "MLD" };
        Some(RelayWarning {
            kind: RelayWarningKind::SourcesNeeded,
            message: format!(
                "{} is a source-specific group, and {protocol} asks for it without a source, which routers ignore (RFC 4604)",
                input.group()
            ),
            remedy: "list the senders as sources, each by its address; nothing, if no router is on the way".to_owned(),
        })
    }
}
