//! `mcr check`: a file, no daemon.

use insta::assert_snapshot;

use crate::mcr::run;

const GOOD: &str = r#"
[[relay]]
name   = "camera-3"
input  = { interface = "eth0", group = "239.1.1.1", port = 5001, sources = ["192.168.168.55"] }
output = [ { interface = "eth1", group = "239.2.2.2", port = 6001 }, { interface = "eth2", address = "10.0.2.7", port = 6001 } ]
"#;

const BAD: &str = r#"
[[relay]]
name   = "camera-3"
input  = { interface = "eth0", group = "10.1.1.1", port = 5001, source = ["192.168.168.55"] }
output = [ { interface = "eth1", group = "239.2.2.2", port = 0 } ]
"#;

#[test]
fn files() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("good", GOOD), ("bad", BAD), ("empty", "")] {
        let file = directory.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        assert_snapshot!(name, run(directory.path(), &["check", file]));
        assert_snapshot!(format!("{name}_json"), run(directory.path(), &["check", file, "-o", "json"]));
    }
    let missing = directory.path().join("missing.toml");
    assert_snapshot!("missing", run(directory.path(), &["check", missing.to_str().unwrap()]));
}

#[test]
fn what_is_wrong_with_the_access_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("good.toml"), GOOD).unwrap();
    let (file, access) = (path("good.toml"), path("access.toml"));
    let arguments = ["check", file.to_str().unwrap(), "--access", access.to_str().unwrap()];
    std::fs::write(&access, "[[allow]]\nunix_user = \"root\"\nrole = \"viewer\"\n").unwrap();
    assert_snapshot!("access", run(directory.path(), &arguments));
    std::fs::write(&access, "[[allow]]\ncertificate = \"noc\"\nrole = \"viewer\"\n").unwrap();
    assert_snapshot!("access_wrong", run(directory.path(), &arguments));
    let remote = "[remote]\nlisten = [\"127.0.0.1:7443\"]\ncertificate = \"/nowhere.pem\"\nkey = \"/nowhere.key\"\n";
    std::fs::write(&access, remote).unwrap();
    assert_snapshot!(
        "access_certificate_json",
        run(directory.path(), &[&["check"], &arguments[2..], &["-o", "json"]].concat())
    );
}

#[test]
fn what_the_policy_forbids() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("good.toml"), GOOD).unwrap();
    std::fs::write(path("policy.toml"), "inputs = [\"eth0\"]\noutputs = [\"eth1\", \"lan*\"]\n").unwrap();
    let (file, policy) = (path("good.toml"), path("policy.toml"));
    let arguments = ["check", file.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    assert_snapshot!("policy", run(directory.path(), &arguments));
    assert_snapshot!("policy_json", run(directory.path(), &[&arguments[..], &["-o", "json"]].concat()));
    std::fs::write(path("policy.toml"), "input = []").unwrap();
    assert_snapshot!("policy_wrong", run(directory.path(), &arguments));
}
