//! Networks of an older IGMP. The sources of a relay are asked for in version 3 alone: in an older one the whole group is, and
//! those that the relay does not list are dropped here.

use std::collections::BTreeMap;

use mcr_model::Input;
use mcr_model::status::{RelayWarning, RelayWarningKind};

use crate::engine::{Engine, Entry};
use crate::fact::Ifindex;

/// The first that names sources (RFC 3376).
const NAMES_SOURCES: u8 = 3;

impl Engine {
    /// The version of IGMP that the kernel speaks on each interface.
    pub fn igmp_versions_are(&mut self, versions: BTreeMap<Ifindex, u8>) {
        if self.igmp_versions != versions {
            self.igmp_versions = versions;
            self.generation += 1;
        }
    }

    pub(crate) fn sources_not_asked(&self, entry: &Entry) -> Option<RelayWarning> {
        let input: &Input = entry.relay.input();
        if input.joined_sources().is_empty() || !input.target.is_group() || !input.target.ip().is_ipv4() {
            return None;
        }
        let name = &input.interface;
        let version =
            self.igmp_versions.get(&self.facts.get(name)?.index).filter(|version| **version < NAMES_SOURCES)?;
        Some(RelayWarning {
            kind: RelayWarningKind::SourcesNotAsked,
            message: format!(
                "{name} speaks IGMPv{version}, in which no sources are named: {} comes from whoever sends it, and other \
                 sources are dropped here",
                input.group()
            ),
            remedy: format!(
                "nothing, if that traffic does no harm; else have the querier ask in IGMPv3, and check that \
                 net.ipv4.conf.{name}.force_igmp_version is 0"
            ),
        })
    }
}
