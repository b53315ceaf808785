//! The difference between two definitions of a relay, field by field.
//!
//! The fields are those of the JSON form, so that a field which is added there is compared without a word here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::plan::FieldChange;
use crate::spec::{OutputSpec, RelaySpec};

/// Every field in which `after` differs from `before`. Outputs are told apart by where they go, not by their place in
/// the list: one that is put before the others changes none of them.
pub fn differences(before: &RelaySpec, after: &RelaySpec) -> Vec<FieldChange> {
    let mut changes = compare("", &without_outputs(before), &without_outputs(after));
    let pairs = paired(&before.output, &after.output);
    for (old, new) in &pairs {
        match (old, new) {
            (Some(old), Some(new)) => {
                changes.extend(compare(&format!("output[{}]", place(old)), &json(old), &json(new)))
            }
            (old, new) => {
                changes.push(FieldChange { field: "output".to_owned(), from: old.map(place), to: new.map(place) })
            }
        }
    }
    if changes.is_empty() && before.output != after.output {
        let order = |outputs: &[OutputSpec]| Some(outputs.iter().map(place).collect::<Vec<_>>().join(", "));
        let (from, to) = (order(&before.output), order(&after.output));
        changes.push(FieldChange { field: "order of output".to_owned(), from, to });
    }
    changes
}

/// Old and new outputs that go to the same place; then the rest in its order, where as many came as went.
fn paired<'a>(
    before: &'a [OutputSpec],
    after: &'a [OutputSpec],
) -> Vec<(Option<&'a OutputSpec>, Option<&'a OutputSpec>)> {
    let find =
        |outputs: &'a [OutputSpec], wanted: &OutputSpec| outputs.iter().find(|output| place(output) == place(wanted));
    let gone: Vec<_> = before.iter().filter(|old| find(after, old).is_none()).collect();
    let new: Vec<_> = after.iter().filter(|new| find(before, new).is_none()).collect();
    let kept = before.iter().filter_map(|old| Some((Some(old), Some(find(after, old)?))));
    let moved = gone.len() == new.len();
    let rest = if moved {
        gone.into_iter().zip(new).map(|(old, new)| (Some(old), Some(new))).collect()
    } else {
        let gone = gone.into_iter().map(|old| (Some(old), None));
        gone.chain(new.into_iter().map(|new| (None, Some(new)))).collect::<Vec<_>>()
    };
    kept.chain(rest).collect()
}

/// Where an output goes, as endpoint text.
fn place(output: &OutputSpec) -> String {
    let OutputSpec { interface, group, address, port, vlan, outer_vlan, .. } = output;
    let target = group.as_deref().or(address.as_deref()).unwrap_or_default();
    let vlan = vlan.map(|vlan| format!(",vlan={vlan}")).unwrap_or_default();
    let outer = outer_vlan.map(|outer| format!(",outer-vlan={outer}")).unwrap_or_default();
    format!("{interface}:{target}:{port}{vlan}{outer}")
}

fn json<T: serde::Serialize>(part: &T) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

fn without_outputs(relay: &RelaySpec) -> Value {
    let mut relay = json(relay);
    if let Value::Object(fields) = &mut relay {
        fields.remove("output");
    }
    relay
}

fn compare(prefix: &str, before: &Value, after: &Value) -> Vec<FieldChange> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(prefix, before, &mut old);
    flatten(prefix, after, &mut new);
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| FieldChange { field: name.clone(), from: old.get(name).cloned(), to: new.get(name).cloned() })
        .collect()
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(inner) => {
            let within = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            inner.iter().for_each(|(key, value)| flatten(&within(key), value, fields));
        }
        other => drop(fields.insert(path.to_owned(), plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::InputSpec;

    fn relay(from: &str, to: &[&str]) -> RelaySpec {
        let spec = RelaySpec {
            name: "a".into(),
            input: InputSpec::from_endpoint(from).unwrap(),
            output: to.iter().map(|to| OutputSpec::from_endpoint(to).unwrap()).collect(),
            ..RelaySpec::default()
        };
        (&spec.check().unwrap()).into()
    }

    fn told(before: &RelaySpec, after: &RelaySpec) -> Vec<String> {
        let absent = || "-".to_owned();
        let line = |FieldChange { field, from, to }| {
            format!("{field}: {} → {}", from.unwrap_or_else(absent), to.unwrap_or_else(absent))
        };
        differences(before, after).into_iter().map(line).collect()
    }

    #[test]
    fn fields_are_told_where_they_are() {
        let before = relay("eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001,ttl=8", "eth1:239.2.2.3:6001"]);
        assert_eq!(told(&before, &before), [""; 0]);
        let after = relay(
            "eth0:10.0.0.1@239.1.1.1:5002,source=10.0.0.2",
            &["eth3:239.9.9.9:1", "eth1:239.2.2.2:6001,dscp=34", "eth1:239.2.2.3:6001"],
        );
        assert_eq!(
            told(&before, &after),
            [
                "input.port: 5001 → 5002",
                "input.sources: - → 10.0.0.1, 10.0.0.2",
                "output[eth1:239.2.2.2:6001].dscp: - → 34",
                "output[eth1:239.2.2.2:6001].ttl: 8 → 16",
                "output: - → eth3:239.9.9.9:1",
            ]
        );
    }

    #[test]
    fn an_output_that_goes_elsewhere_is_one_change() {
        let before = relay("eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001", "eth1:239.2.2.3:6001"]);
        let after = relay("eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001", "eth1:239.2.2.4:6001"]);
        assert_eq!(told(&before, &after), ["output[eth1:239.2.2.3:6001].group: 239.2.2.3 → 239.2.2.4"]);
    }

    #[test]
    fn the_order_of_outputs_is_told_when_nothing_else_is() {
        let before = relay("eth0:239.1.1.1:5001", &["eth1:239.2.2.2:6001", "eth1:239.2.2.3:6001"]);
        let after = relay("eth0:239.1.1.1:5001", &["eth1:239.2.2.3:6001", "eth1:239.2.2.2:6001"]);
        assert!(told(&before, &after)[0].starts_with("order of output: eth1:239.2.2.2:6001, "));
    }
}
