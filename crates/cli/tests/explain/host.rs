//! `mcr doctor`, and what `mcr explain` says when it may not see everything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mcr_testbed::{Bridge, Namespace, Snooping};
use serde_json::Value;

use crate::bridges::Routing;
use crate::service::MCR;
use crate::stand::{Listener, Pump, TARGET, explain, good, hosts, nowhere};

/// What `mcr doctor` finds on a host, by code and mark.
#[track_caller]
fn findings(host: &Namespace) -> Vec<(String, String)> {
    let mut command = host.command(MCR);
    command.args(["doctor", "--look", "50ms", "-o", "json"]).env("MCR_SOCKET", nowhere());
    let output = command.output().expect("run mcr");
    let text = String::from_utf8_lossy(&output.stdout);
    let checkup: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let findings = checkup["findings"].as_array().expect("findings");
    let is_ill = findings.iter().any(|finding| finding["mark"] == "fault");
    assert_eq!(output.status.code(), Some(i32::from(is_ill)), "{checkup:#}");
    let field = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert!(
        findings.iter().filter(|finding| finding["mark"] != "ok").all(|finding| finding["remedy"].is_string()),
        "{checkup:#}"
    );
    findings.iter().map(|finding| (field(finding, "code"), field(finding, "mark"))).collect()
}

#[test]
fn doctor_finds_what_was_broken_and_only_that() {
    let net = hosts();
    let of_host = |code: &str, found: &[(String, String)]| {
        found.iter().find(|(has, _)| has == code).map(|(_, mark)| mark.clone())
    };
    let healthy = findings(net.relay());
    for code in ["ebpf_works", "privileged", "memberships", "alone", "no_losses", "checked"] {
        assert_eq!(of_host(code, &healthy).as_deref(), Some("ok"), "{code}: {healthy:?}");
    }
    net.relay().sysctl("net/ipv4/igmp_max_memberships", "5");
    net.relay().sysctl("net/ipv4/conf/dev0/force_igmp_version", "2");
    let _listener = Listener::of_group(net.relay_input());
    let _bridge = Bridge::new(net.relay(), "br0", Snooping::On);
    let _routing = Routing::start(net.relay(), [net.relay_input(), net.lan(1).relay_side()]);
    let ill = findings(net.relay());
    for code in ["memberships_few", "igmp_old", "bridge_without_querier", "multicast_routing"] {
        assert_eq!(of_host(code, &ill).as_deref(), Some("unknown"), "{code}: {ill:?}");
        assert_eq!(of_host(code, &healthy), None, "{code}");
    }
}

/// A copy of the binary that anybody may run.
fn copy(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("mcr");
    std::fs::copy(MCR, &path).expect("a copy");
    for path in [folder, &path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("for everybody");
    }
    path
}

#[test]
fn without_privilege_it_says_what_it_can_not_see_and_blames_nothing() {
    let net = hosts();
    let _listener = Listener::of_group(net.relay_input());
    let _pump = Pump::start(net.device_interface(), vec![good().bytes()]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = net.relay().command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]);
    command.arg(copy(folder.path())).args(["explain", TARGET, "--look", "50ms", "-o", "json"]);
    let output = command.env("MCR_SOCKET", nowhere()).output().expect("run setpriv");
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["verdict"], "passes", "{report:#}");
    let steps = report["steps"].as_array().expect("steps");
    for name in ["wire", "firewall", "kernel"] {
        let step = steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"));
        assert_eq!((&step["code"], &step["mark"]), (&"not_visible".into(), &"unknown".into()), "{report:#}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let net = hosts();
    for (wrong, said) in [
        ("dev0:239.1.1.1", "port"),
        ("dev0:239.1.1.1:70000", "70000"),
        ("Camera", "INTERFACE:GROUP:PORT"),
        ("dev0:239.1.1.0/24:5001", "as `mcr explain dev0:239.1.1.0:5001`"),
    ] {
        let mut command = net.relay().command(MCR);
        let output = command.args(["explain", wrong]).env("MCR_SOCKET", nowhere()).output().expect("run mcr");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && err.contains(said), "{wrong}: {err}");
    }
}

#[test]
fn it_changes_nothing_unless_it_is_told_to_join() {
    let net = hosts();
    let _pump = Pump::start(net.device_interface(), vec![good().bytes()]);
    let before = net.relay().output("ip", &["-d", "address"]);
    let silent = explain(net.relay(), nowhere(), &[TARGET]);
    assert!(mcr_testbed::kernel::joined_groups(net.relay(), "dev0").is_empty());
    assert_eq!(net.relay().output("ip", &["-d", "address"]), before);
    let joined = explain(net.relay(), nowhere(), &[TARGET, "--join"]);
    let filter = |report: &Value| {
        report["steps"].as_array().and_then(|steps| steps.iter().find(|s| s["step"] == "nic_filter").cloned())
    };
    assert_eq!(filter(&silent), None, "frames come, and nothing lists them");
    assert_eq!(filter(&joined).map(|step| step["code"].clone()), Some("listed".into()), "{joined:#}");
    assert!(mcr_testbed::kernel::joined_groups(net.relay(), "dev0").is_empty(), "it has left again");
}
