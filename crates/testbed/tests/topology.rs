//! The networks that tests stand on are as their documentation draws them.

use std::path::Path;
use std::time::{Duration, Instant};

use mcr_testbed::{DEVICE, Namespace, Process, Topology, Veth, kernel, wait_until};

const LIMIT: Duration = Duration::from_secs(5);

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
    assert!(fastest < Duration::from_secs(2), "{fastest:?} to make a topology");
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

/// Runs itself once more, to be killed in the middle.
#[test]
fn a_killed_test_leaves_neither_namespace_nor_program() {
    const NAME: &str = "a_killed_test_leaves_neither_namespace_nor_program";
    const VICTIM: &str = "MCR_TESTBED_VICTIM";
    if std::env::var_os(VICTIM).is_some() {
        let namespace = Namespace::new("victim");
        let sleeper = Process::start(namespace.command("sleep").arg("60"));
        println!("\nVICTIM {} {}", namespace.name(), sleeper.pid());
        // SAFETY: raise takes an integer.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    let mut again = std::process::Command::new(std::env::current_exe().expect("a path"));
    let mut victim = Process::start(again.args(["--exact", NAME, "--nocapture"]).env(VICTIM, "1"));
    let line = victim.wait_for_line("VICTIM", LIMIT);
    let [_, name, pid] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert!(!victim.wait(LIMIT).success(), "it was killed");
    let path = Path::new("/run/netns").join(name);
    wait_until(LIMIT, "the namespace is gone", || !path.exists());
    let pid = pid.parse().expect("a number");
    // An orphan may stay a zombie for as long as the first process does not care.
    let has_ended = || kernel::process_status(pid, "State").is_none_or(|state| state.starts_with(['Z', 'X']));
    wait_until(LIMIT, "the program is gone", has_ended);
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
