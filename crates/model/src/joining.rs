//! When a relay's groups are joined: always, or while a receiver wants what it sends.

use crate::problem::FieldError;
use crate::relay::{Input, Output};

/// When the groups of a relay's input are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Joining {
    /// As long as the relay is there.
    #[default]
    Always,
    /// While some host behind an output reports that it wants the output's group, as of a proxy (RFC 4605).
    OnDemand,
}

impl Joining {
    pub(crate) fn check(on_demand: bool, input: &Input, outputs: &[Output]) -> Result<Self, Vec<FieldError>> {
        if !on_demand {
            return Ok(Self::Always);
        }
        let mut errors = Vec::new();
        if !input.target.is_group() {
            let remedy = "remove on_demand, or listen to a group";
            errors.push(FieldError::new("on_demand", "the input is no group, and nothing is joined for it", remedy));
        }
        for (i, _) in outputs.iter().enumerate().filter(|(_, output)| output.target.is_group() && output.vlan.is_some())
        {
            errors.push(FieldError::new(
                format!("output[{i}].vlan"),
                "with on_demand nobody is heard behind a tag that the output pushes itself",
                "name the VLAN's own interface as the output's, without vlan, or remove on_demand",
            ));
        }
        if errors.is_empty() { Ok(Self::OnDemand) } else { Err(errors) }
    }

    /// Whether it depends on receivers.
    pub fn is_on_demand(self) -> bool {
        self == Self::OnDemand
    }
}
