//! The list of dependencies that goes with a release is true. Needs no tool but cargo itself and Python, and no network once the
//! packages are there.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
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
