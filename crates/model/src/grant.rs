//! What somebody may do with which relays: a role, limited to interfaces and groups where it says so.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::InterfaceName;
use crate::place::Place;
use crate::prefix::Prefix;
use crate::problem::FieldError;
use crate::relay::Relay;
use crate::role::Role;

/// A grant as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantSpec {
    /// The role.
    #[schema(value_type = String, pattern = "^(viewer|operator|admin)$", example = "operator")]
    pub role: Role,
    /// The only interfaces of relays that it is about; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["eth1"]))]
    pub interfaces: Vec<String>,
    /// The only addresses that its relays may take from and send to, as prefixes; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["239.2.0.0/16"]))]
    pub groups: Vec<String>,
}

/// A role and the relays that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    role: Role,
    interfaces: Option<Vec<InterfaceName>>,
    groups: Option<Vec<Prefix>>,
}

/// Why a relay is none that a grant is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} is not one of those that this access is limited to ({allowed})")]
pub struct Outside {
    /// The field of the relay.
    pub field: String,
    value: String,
    allowed: String,
}

impl GrantSpec {
    /// The checked grant.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(&self) -> Result<Grant, Vec<FieldError>> {
        let Self { role, interfaces, groups } = self;
        let mut errors = Vec::new();
        if *role == Role::Anybody {
            let remedy = "use viewer, operator or admin";
            errors.push(FieldError::new("role", "anybody is what everybody may do, and no role to give", remedy));
        }
        let interfaces = each("interfaces", interfaces, "name interfaces, as [\"eth1\"]", &mut errors);
        let groups = each("groups", groups, "write prefixes, as [\"239.2.0.0/16\"]", &mut errors);
        if errors.is_empty() { Ok(Grant { role: *role, interfaces, groups }) } else { Err(errors) }
    }
}

/// The items of a list that limits something; `None` where it does not.
fn each<T>(field: &str, texts: &[String], remedy: &str, errors: &mut Vec<FieldError>) -> Option<Vec<T>>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let mut items = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match text.parse::<T>() {
            Ok(item) => items.push(item),
            Err(error) => errors.push(FieldError::new(format!("{field}[{i}]"), error.to_string(), remedy)),
        }
    }
    (!texts.is_empty()).then_some(items)
}

impl Grant {
    /// That role for all relays.
    pub fn unlimited(role: Role) -> Self {
        Self { role, interfaces: None, groups: None }
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it is about all relays.
    pub fn is_unlimited(&self) -> bool {
        self.interfaces.is_none() && self.groups.is_none()
    }

    /// Whether it is about `relay`: about every interface and address that the relay names.
    ///
    /// # Errors
    /// The first field that it is not about.
    pub fn check(&self, relay: &Relay) -> Result<(), Outside> {
        let input = relay.input();
        self.check_endpoint("input", &input.place())?;
        for (i, output) in relay.outputs().iter().enumerate() {
            self.check_endpoint(&format!("output[{i}]"), &output.place())?;
        }
        Ok(())
    }

    /// Whether it is about `relay`, without a word on why not.
    pub fn has(&self, relay: &Relay) -> bool {
        self.is_unlimited() || self.check(relay).is_ok()
    }

    fn check_endpoint(&self, endpoint: &str, place: &Place) -> Result<(), Outside> {
        let Place { interface, target, span, .. } = place;
        if let Some(allowed) = &self.interfaces
            && !allowed.contains(interface)
        {
            return Err(outside(endpoint, "interface", interface, allowed));
        }
        let (first, last) = (target.ip(), span.last_address(target.ip()));
        match &self.groups {
            Some(allowed) if !allowed.iter().any(|prefix| prefix.contains(first) && prefix.contains(last)) => {
                let field = if target.is_group() { "group" } else { "address" };
                Err(outside(endpoint, field, &span.group_text(*target), allowed))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is about that interface.
    pub fn has_interface(&self, name: &str) -> bool {
        self.interfaces.as_ref().is_none_or(|allowed| allowed.iter().any(|interface| interface.as_str() == name))
    }

    /// Whether it is about that address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.groups.as_ref().is_none_or(|allowed| allowed.iter().any(|prefix| prefix.contains(address)))
    }

    /// Whether it is about that interface, as a field of a request names it.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_interface(&self, field: &str, name: &str) -> Result<(), Outside> {
        if self.has_interface(name) {
            return Ok(());
        }
        let allowed: Vec<String> = self.interfaces.iter().flatten().map(ToString::to_string).collect();
        Err(Outside { field: field.to_owned(), value: name.to_owned(), allowed: allowed.join(", ") })
    }

    /// Whether it allows everything that `other` does, so that who has it may give `other` away.
    pub fn covers(&self, other: &Grant) -> bool {
        let Self { role, interfaces, groups } = self;
        let interfaces = match (interfaces, &other.interfaces) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(all), Some(some)) => some.iter().all(|interface| all.contains(interface)),
        };
        let groups = match (groups, &other.groups) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(all), Some(some)) => some.iter().all(|inner| all.iter().any(|outer| outer.covers(inner))),
        };
        *role >= other.role && interfaces && groups
    }

    /// How a user would write it.
    pub fn spec(&self) -> GrantSpec {
        fn texts<T: ToString>(items: Option<&Vec<T>>) -> Vec<String> {
            items.into_iter().flatten().map(T::to_string).collect()
        }
        let Self { role, interfaces, groups } = self;
        GrantSpec { role: *role, interfaces: texts(interfaces.as_ref()), groups: texts(groups.as_ref()) }
    }
}

fn outside(endpoint: &str, field: &str, value: &dyn fmt::Display, allowed: &[impl ToString]) -> Outside {
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Outside { field: format!("{endpoint}.{field}"), value: value.to_string(), allowed: allowed.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RelaySpec;

    fn grant(role: Role, interfaces: &[&str], groups: &[&str]) -> Grant {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        GrantSpec { role, interfaces: texts(interfaces), groups: texts(groups) }.check().unwrap()
    }

    fn relay(input: (&str, &str), output: (&str, &str)) -> Relay {
        let endpoint = |(interface, group)| serde_json::json!({ "interface": interface, "group": group, "port": 1 });
        let json = serde_json::json!({ "name": "r", "input": endpoint(input), "output": [endpoint(output)] });
        serde_json::from_value::<RelaySpec>(json).unwrap().check().unwrap()
    }

    #[test]
    fn a_relay_is_inside_with_all_its_interfaces_and_addresses() {
        let limited = grant(Role::Operator, &["eth0", "eth1"], &["239.1.0.0/16", "239.2.0.0/16"]);
        let outside = |relay: &Relay| limited.check(relay).unwrap_err().field;
        assert_eq!(limited.check(&relay(("eth0", "239.1.1.1"), ("eth1", "239.2.2.2"))), Ok(()));
        assert_eq!(outside(&relay(("eth2", "239.1.1.1"), ("eth1", "239.2.2.2"))), "input.interface");
        assert_eq!(outside(&relay(("eth0", "239.3.1.1"), ("eth1", "239.2.2.2"))), "input.group");
        assert_eq!(outside(&relay(("eth0", "239.1.1.1"), ("eth2", "239.2.2.2"))), "output[0].interface");
        assert_eq!(outside(&relay(("eth0", "239.1.1.1"), ("eth1", "239.3.2.2"))), "output[0].group");
        assert_eq!(limited.check(&relay(("eth0", "239.1.0.0/24"), ("eth1", "239.2.0.0/24"))), Ok(()));
        let half = grant(Role::Operator, &[], &["239.1.0.0/25", "239.2.0.0/16"]);
        let range = relay(("eth0", "239.1.0.0/24"), ("eth1", "239.2.0.0/24"));
        assert_eq!(half.check(&range).unwrap_err().field, "input.group", "all of it has to be inside");
        assert_eq!(Grant::unlimited(Role::Viewer).check(&relay(("x", "239.1.1.1"), ("y", "239.9.2.2"))), Ok(()));
    }

    #[test]
    fn who_may_give_what_away() {
        let all = Grant::unlimited(Role::Admin);
        let some = grant(Role::Admin, &["eth0", "eth1"], &["239.0.0.0/8"]);
        let less = grant(Role::Operator, &["eth1"], &["239.2.0.0/16", "239.3.0.0/24"]);
        for (giver, given, may) in [
            (&all, &all, true),
            (&all, &some, true),
            (&some, &all, false),
            (&some, &less, true),
            (&less, &some, false),
            (&some, &grant(Role::Viewer, &["eth1"], &[]), false),
            (&some, &grant(Role::Viewer, &[], &["239.2.0.0/16"]), false),
            (&less, &grant(Role::Admin, &["eth1"], &["239.2.0.0/16"]), false),
        ] {
            assert_eq!(giver.covers(given), may, "{giver:?} {given:?}");
        }
    }
}
