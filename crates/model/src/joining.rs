//! When a relay's groups are joined: always, or while a receiver wants what it sends, or those of a range that are seen.

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
    /// Each while packets of it come, or hosts on the input's network report it.
    Seen,
}

/// What is written for [`Joining::Always`].
const ALL: &str = "all";
/// What is written for [`Joining::Seen`].
const SEEN: &str = "seen";

impl Joining {
    /// What `on_demand` and `join` say together.
    pub(crate) fn check(
        on_demand: bool,
        join: Option<&str>,
        input: &Input,
        outputs: &[Output],
    ) -> Result<Self, Vec<FieldError>> {
        match (on_demand, join) {
            (false, None | Some(ALL)) => Ok(Self::Always),
            (true, None | Some(ALL)) => check_demand(input, outputs).map(|()| Self::OnDemand),
            (false, Some(SEEN)) => check_range(input).map(|()| Self::Seen),
            (true, Some(SEEN)) => Err(vec![FieldError::new(
                "join",
                "with on_demand it is receivers who decide what is joined, and with join = \"seen\" it is what comes",
                "remove one of the two",
            )]),
            (_, Some(other)) => {
                let other: String = other.chars().take(40).collect();
                let what = format!("{other:?} is no way to join");
                Err(vec![FieldError::new("join", what, "use \"all\" or \"seen\"")])
            }
        }
    }

    /// The word for `join`; none: it goes without saying.
    pub(crate) fn word(self) -> Option<String> {
        match self {
            Self::Always | Self::OnDemand => None,
            Self::Seen => Some(SEEN.to_owned()),
        }
    }

    /// Whether it depends on receivers.
    pub fn is_on_demand(self) -> bool {
        self == Self::OnDemand
    }
}

fn check_demand(input: &Input, outputs: &[Output]) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    if !input.target.is_group() {
        let remedy = "remove on_demand, or listen to a group";
        errors.push(FieldError::new("on_demand", "the input is no group, and nothing is joined for it", remedy));
    }
    for (i, _) in outputs.iter().enumerate().filter(|(_, output)| output.target.is_group() && output.vlan.is_some()) {
        errors.push(FieldError::new(
            format!("output[{i}].vlan"),
            "with on_demand nobody is heard behind a tag that the output pushes itself",
            "name the VLAN's own interface as the output's, without vlan, or remove on_demand",
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn check_range(input: &Input) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    if input.span.groups() == 1 {
        let what = "of one group there is nothing to find: it is joined, or it does not come";
        errors.push(FieldError::new("join", what, "remove join, or take a prefix of groups, as 239.1.0.0/24"));
    }
    if input.vlan.is_some() {
        let what = "with join = \"seen\" nobody is heard in a VLAN whose tag the input reads itself";
        let remedy = "name the VLAN's own interface as the input's, without vlan, or remove join";
        errors.push(FieldError::new("input.vlan", what, remedy));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use crate::spec::{InputSpec, OutputSpec, RelaySpec};

    #[test]
    fn what_is_seen_can_not_be_looked_for_behind_a_tag_that_the_input_reads_itself() {
        let refused = |vlan, groups| {
            let input =
                InputSpec { vlan, ..InputSpec::from_endpoint(&format!("eth0:239.1.0.0{groups}:5001")).unwrap() };
            let output = vec![OutputSpec::from_endpoint("eth1:239.2.0.1:6001").unwrap()];
            let spec = RelaySpec { name: "a".into(), join: Some("seen".into()), input, output, ..RelaySpec::default() };
            let errors = spec.check().err().unwrap_or_default();
            errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert!(refused(None, "/28").is_empty());
        assert_eq!(refused(Some(7), "/28"), ["input.vlan"]);
        assert_eq!(refused(Some(7), ""), ["join", "input.vlan"]);
    }
}
