//! OPC UA PubSub (part 14, UADP over UDP) between two programs of asyncua.

use std::path::{Path, PathBuf};

use mcr_testbed::{Namespace, Process, Topology, kernel, wait_until};

use crate::service::{SOON, Service};

/// Installed by `scripts/tool.sh asyncua`.
fn asyncua() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/asyncua/bin/python");
    assert!(python.exists(), "asyncua is not installed: run scripts/tool.sh asyncua, or make test");
    python
}

fn start(namespace: &Namespace, role: &str, url: &str, values: u32) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/clients/opc_ua.py");
    Process::start(namespace.command(asyncua()).arg(script).args([role, url, &values.to_string()]))
}

#[test]
fn a_subscriber_of_asyncua_gets_every_value_of_its_publisher() {
    let net = Topology::device_relay_lan(1);
    let lan = net.lan(1);
    // It joins where the routes lead.
    lan.host_side().add_route("239.0.0.0/8");
    let service = Service::start(net.relay(), "");
    service.add("process", "dev0:239.0.0.1:4840", &["lan1:239.4.8.40:4841,ttl=2"]);
    let mut subscriber = start(lan.namespace(), "subscribe", "opc.udp://239.4.8.40:4841", 50);
    wait_until(SOON * 2, "the subscriber joins", || {
        kernel::joined_groups(lan.namespace(), "eth0").contains(&"239.4.8.40".parse().unwrap())
    });
    let mut publisher = start(net.device(), "publish", "opc.udp://239.0.0.1:4840", 50);
    assert!(subscriber.wait(SOON * 4).success(), "{}\n{}", subscriber.output(), publisher.output());
    let heard: Vec<String> = subscriber.output().lines().map(str::to_owned).collect();
    // The publisher goes on until it is told that all was sent.
    let said = |number: usize| format!("{number} {:?} pump {number}", number as f64 / 4.0);
    assert!(heard.len() >= 50, "{heard:?}");
    assert_eq!(heard, (1..=heard.len()).map(said).collect::<Vec<_>>());
    publisher.wait(SOON);
    assert!(service.assert_balance()["process"] >= 50);
}
