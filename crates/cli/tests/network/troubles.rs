//! What `mcr status` tells of a keeper that can not do all that it should.

use std::path::Path;

use mcr_testbed::{Process, Topology, wait_until};
use serde_json::Value;

use crate::service::{MCR, SOON, Service};

/// The trouble of that kind, if it is told.
fn trouble(service: &Service, kind: &str) -> Option<Value> {
    let status = service.http("GET", "/api/v1/status", "").1;
    status["troubles"].as_array()?.iter().find(|trouble| trouble["kind"] == kind).cloned()
}

#[test]
fn rules_that_somebody_flushes_are_told_by_status_events_and_metrics() {
    let net = Topology::device_relay_lan(1);
    let folder = tempfile::tempdir().unwrap();
    let (socket, policy) = (folder.path().join("netd.sock"), folder.path().join("policy.toml"));
    std::fs::write(&policy, "one_way = [{ from = \"dev0\", to = [\"lan1\"] }]\n").unwrap();
    let mut keeper = net.relay().command(Path::new(MCR).with_file_name("mcr-netd"));
    let _keeper = Process::start(keeper.arg("--socket").arg(&socket).arg("--policy").arg(&policy));
    wait_until(SOON, "the keeper listens", || socket.exists());
    let service = Service::start_with(net.relay(), "", &["--keeper-socket", socket.to_str().unwrap()]);
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_eq!(trouble(&service, "one-way-disturbed"), None);
    net.relay().output("nft", &["flush", "ruleset"]);
    wait_until(SOON, "it is told", || trouble(&service, "one-way-disturbed").is_some());
    let status = service.ok(&["status"]);
    assert!(status.contains("the one-way rules of the keeper's policy once, last"), "{status}");
    assert!(status.contains("keep `nft flush ruleset` from them"), "{status}");
    let events = service.ok(&["events"]);
    assert!(events.contains("somebody has removed the one-way rules; they were made anew"), "{events}");
    let metrics = service.http_text("GET", "/metrics", "").1;
    assert!(metrics.contains("mcr_troubles{kind=\"one-way-disturbed\"} 1"), "{metrics}");
    assert!(net.relay().output("nft", &["list", "ruleset"]).contains("mcr_one_way"), "they are there again");
}

/// As a service unit does it that lets nothing through.
#[test]
fn queries_that_can_not_be_heard_are_told_where_they_matter() {
    let net = Topology::device_relay_lan(1);
    let filter = "table ip deaf { chain out { type filter hook output priority 0; ip protocol igmp drop; }; }";
    net.relay().output("nft", &[filter]);
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_eq!(trouble(&service, "memberships-unheard"), None, "nobody has asked for it");
    service.reload(
        "[[relay]]\nname = \"wanted\"\non_demand = true\n\
         input = { interface = \"dev0\", group = \"239.1.1.2\", port = 5001 }\n\
         output = [{ interface = \"lan1\", group = \"239.2.2.2\", port = 6001 }]\n",
    );
    wait_until(SOON, "it is told", || trouble(&service, "memberships-unheard").is_some());
    let status = service.ok(&["status"]);
    assert!(status.contains("which wanted was configured for (querier, on_demand)"), "{status}");
    assert!(status.contains("contrib/systemd/queriers.conf"), "{status}");
    let mut doctor = net.relay().command(MCR);
    let doctor = doctor.args(["doctor", "--look", "10ms"]).env("MCR_SOCKET", service.socket()).output().unwrap();
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains("daemon       the keeper hears and sends no IGMP and MLD"), "{told}");
}
