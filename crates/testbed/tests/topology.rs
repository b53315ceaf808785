//! The networks that tests stand on are as their documentation draws them.

use std::time::{Duration, Instant};

use mcr_testbed::{DEVICE, Namespace, Topology, Veth};

#[test]
fn a_topology_is_made_quickly() {
    let fastest = (0..3).map(|_| {
        let begun = Instant::now();
        let topology = Topology::device_relay_lan(1);
        let took = begun.elapsed();
        drop(topology);
        took
    });
    let fastest = fastest.min().unwrap_or_default();
    eprintln!("a topology takes {fastest:?}");
    assert!(fastest < Duration::from_millis(300), "{fastest:?} to make a topology");
}

#[test]
fn the_relay_has_no_route_to_the_device() {
    let topology = Topology::device_relay_lan(2);
    assert_eq!(topology.relay().sysctl_value("net/ipv4/conf/dev0/rp_filter"), "1");
    let route = topology.relay().command("ip").args(["route", "get", &DEVICE.to_string()]).output().expect("ip starts");
    assert!(!route.status.success(), "there is a route: {}", String::from_utf8_lossy(&route.stdout));
    for lan in topology.lans() {
        topology.relay().output("ping", &["-c1", "-W1", &lan.host_address().to_string()]);
    }
}

#[test]
fn a_namespace_goes_with_its_last_handle_also_after_a_panic() {
    let name = std::sync::Mutex::new(String::new());
    let panicked = std::panic::catch_unwind(|| {
        let namespace = Namespace::new("short");
        name.lock().expect("not poisoned").push_str(namespace.name());
        namespace.run(|| panic!("on purpose"));
    });
    assert!(panicked.is_err());
    let path = format!("/run/netns/{}", name.lock().expect("not poisoned"));
    assert!(!std::path::Path::new(&path).exists(), "{path} is left");
}

#[test]
fn an_interface_stays_the_same_across_a_rename_and_is_gone_after_deletion() {
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let veth = Veth::between(&a, "one", &b, "two");
    veth.near().rename("uno");
    assert_eq!(veth.near().name(), "uno");
    assert_ne!(veth.near().mac(), veth.far().mac());
    let far = veth.far().clone();
    veth.delete();
    assert!(!far.exists());
}
