//! The firewall's rules, as `nft -j list ruleset` prints them (`man 5 libnftables-json`).

use std::process::Command;

use serde_json::Value;

use super::proc_net;
use crate::facts::{Blind, Chain, Firewall, Hook, Observed, Rule};

const INSTALL: &str = "install nftables and run as root, or look at the rules with your firewall's own tool";

/// The rules that are in force.
pub(super) fn look() -> Observed<Firewall> {
    let legacy_tables: Vec<String> = proc_net::read("ip_tables_names").lines().map(str::to_owned).collect();
    // Where nothing is in the PATH of a service, it is in one of these.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("nft").args(["-j", "list", "ruleset"]).env("PATH", path).output();
    let output = output.map_err(|error| Blind::new(format!("the rules can not be listed: nft: {error}"), INSTALL))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it failed");
        return Err(Blind::new(format!("the rules can not be listed: {said}"), INSTALL));
    }
    let listed: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Blind::new(format!("the rules can not be read: {error}"), INSTALL))?;
    Ok(Firewall { legacy_tables, ..read(&listed) })
}

fn read(listed: &Value) -> Firewall {
    let mut firewall = Firewall::default();
    let objects = listed.get("nftables").and_then(Value::as_array).into_iter().flatten();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            firewall.chains.push(self::chain(chain));
        } else if let Some(rule) = object.get("rule") {
            let (family, table, name) = (text(rule, "family"), text(rule, "table"), text(rule, "chain"));
            let is_its = |chain: &&mut Chain| chain.family == family && chain.table == table && chain.name == name;
            if let Some(chain) = firewall.chains.iter_mut().find(is_its) {
                chain.rules.push(self::rule(rule));
            }
        } else if let Some(set) = object.get("set").or_else(|| object.get("map")) {
            let key = (text(set, "family"), text(set, "table"), text(set, "name"));
            firewall.sets.insert(key, set.get("elem").cloned().unwrap_or(Value::Array(Vec::new())));
        }
    }
    firewall
}

fn chain(chain: &Value) -> Chain {
    let hook = chain.get("hook").and_then(Value::as_str).map(|name| Hook {
        name: name.to_owned(),
        priority: chain.get("prio").and_then(Value::as_i64).unwrap_or_default(),
        devices: devices(chain.get("dev")),
        drops_by_default: text(chain, "policy") == "drop",
    });
    Chain {
        family: text(chain, "family"),
        table: text(chain, "table"),
        name: text(chain, "name"),
        hook,
        rules: Vec::new(),
    }
}

fn devices(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn rule(rule: &Value) -> Rule {
    Rule {
        handle: rule.get("handle").and_then(Value::as_u64).unwrap_or_default(),
        expressions: rule.get("expr").and_then(Value::as_array).cloned().unwrap_or_default(),
    }
}

fn text(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chains_have_their_rules() {
        let listed = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "inet", "name": "filter", "handle": 1}},
            {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter", "hook": "input",
                       "prio": 0, "policy": "drop"}},
            {"set": {"family": "inet", "name": "groups", "table": "filter", "type": "ipv4_addr", "elem": ["239.1.1.1"]}},
            {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [{"drop": null}]}},
        ]});
        let firewall = read(&listed);
        let hook = firewall.chains[0].hook.as_ref().expect("a base chain");
        assert!(hook.drops_by_default && hook.name == "input" && hook.devices.is_empty());
        assert_eq!(firewall.chains[0].rules, [Rule { handle: 4, expressions: vec![json!({"drop": null})] }]);
        assert_eq!(firewall.sets.len(), 1);
    }
}
