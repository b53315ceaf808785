//! The dependencies are what `deny.toml` lets them be, and the list of them that goes with a release is true. Needs no tool but
//! cargo itself and Python, and no network once the packages are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rules() -> toml::Table {
    std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap()
}

fn texts(rules: &toml::Table, table: &str, key: &str) -> Vec<String> {
    let list = rules[table][key].as_array().expect("a list");
    list.iter().filter_map(|item| item.as_str().or_else(|| item.get("name")?.as_str())).map(str::to_owned).collect()
}

/// All packages of the targets that `deny.toml` names, as cargo describes them.
fn packages() -> Vec<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["metadata", "--format-version", "1", "--locked"]);
    for target in texts(&rules(), "graph", "targets") {
        command.arg("--filter-platform").arg(target);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap());
    let used: BTreeSet<&str> = used.collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| used.contains(package["id"].as_str().unwrap())).cloned().collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a name")
}

/// Whether a licence expression (SPDX, annex D) can be met with these licences. A slash is how `OR` was written before.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = expression.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    match words.next() {
        Some("(") => {
            let met = any(words, allowed);
            words.next_if_eq(&")").is_some() && met
        }
        Some(licence) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            let licence = exception.map_or(licence.to_owned(), |exception| format!("{licence} WITH {exception}"));
            allowed.contains(&licence)
        }
        None => false,
    }
}

#[test]
fn expressions_are_met_by_what_is_allowed() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("MIT AND GPL-3.0-only", false),
        ("GPL-3.0-only/MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ("(GPL-2.0-only OR Apache-2.0) AND MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH other-exception", false),
        ("MIT MIT", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression:?}");
    }
}

#[test]
fn licences_bans_and_sources_are_as_denied() {
    let rules = rules();
    let (allowed, banned) = (texts(&rules, "licenses", "allow"), texts(&rules, "bans", "deny"));
    let registries = texts(&rules, "sources", "allow-registry");
    let packages = packages();
    assert!(packages.len() > 150, "{} packages are all there are", packages.len());
    let mut wrong = Vec::new();
    for package in &packages {
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_met(licence, &allowed) {
            wrong.push(format!("{} is under {licence:?}, which deny.toml does not allow", name(package)));
        }
        if banned.iter().any(|banned| banned == name(package)) {
            wrong.push(format!("{} is banned by deny.toml", name(package)));
        }
        // What has no source is of this repository.
        let source = package["source"].as_str().unwrap_or_default();
        let is_known = registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry));
        if !source.is_empty() && !is_known {
            wrong.push(format!("{} comes from {source}, which deny.toml does not allow", name(package)));
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
}

/// The bill of materials names what is linked into the programs, with the hashes that cargo checks, and nothing else.
#[test]
fn the_bill_of_materials_is_true() {
    let output = Command::new("python3").arg(root().join("scripts/sbom.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    let has = |wanted: &str| components.iter().any(|component| component["name"] == wanted);
    assert!(has("aya") && has("rustls") && has("mcr-netd"));
    assert!(!has("proptest") && !has("insta"), "what only tests use is not in the programs");
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let locked = lock["package"].as_array().unwrap();
    for component in components {
        let of = |key: &str| component[key].as_str().unwrap_or_default();
        let is_it = |package: &&toml::Value| {
            package["name"].as_str() == Some(of("name")) && package["version"].as_str() == Some(of("version"))
        };
        let package = locked.iter().find(is_it).unwrap_or_else(|| panic!("{} is in no lock file", of("name")));
        let hash = component["hashes"][0]["content"].as_str();
        assert_eq!(hash, package.get("checksum").and_then(toml::Value::as_str), "{}", of("name"));
        assert!(component["licenses"][0]["expression"].is_string(), "{}", of("name"));
    }
}
