//! Interfaces that are missing, come, go, are renamed, made again or change their address: the relay waits, says why,
//! and flows again by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Interface, Mac, Namespace, RawReceiver, Topology, Veth, kernel, wait_until};

use crate::reports;
use crate::scale::pick;
use crate::service::{SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send};

for_each_datapath!(
    the_input_interface_is_deleted_and_made_again_and_again,
    the_output_interface_goes_down_and_up_again_and_again,
    a_unicast_output_flows_again_after_its_link_was_down,
    a_missing_interface_is_waited_for_and_a_renamed_one_is_followed,
    a_relay_keeps_its_counters_when_its_interface_is_made_again,
    an_interface_that_returns_under_its_index_unseen_is_used_again,
    either_interface_is_renamed_and_named_back,
    either_interface_changes_its_mac,
    either_interface_changes_its_mtu,
);

/// How long a relay may take to flow again: less than what is claimed, but at full size, where nothing else runs.
fn again() -> Duration {
    pick(SOON, Duration::from_secs(1))
}

/// Sends from the device, a few at a time, while `flag` is true.
fn trickle(device: &Namespace, flag: &AtomicBool) {
    while flag.load(Ordering::Relaxed) {
        // The device's own interface may be away at this moment.
        device.run(|| {
            if let Ok(socket) = std::net::UdpSocket::bind((DEVICE, 0)) {
                for _ in 0..20 {
                    let _ = socket.send_to(b"tick", "239.1.1.1:5001");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        });
    }
}

/// Runs `fault` `times` times beside a trickle; after each one packets arrive again within [`again`].
fn survive(what: &str, net: &Topology, service: &Service, times: usize, mut fault: impl FnMut(usize)) {
    let lan = net.lan(1);
    let receiver =
        Receiver::start(lan.namespace(), lan.host_address(), "239.2.2.1:6001".parse().unwrap(), Payloads::Count);
    let on = AtomicBool::new(true);
    let mut recoveries = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| trickle(net.device(), &on));
        let guard = Off(&on);
        wait_until(SOON, "packets flow", || receiver.count() > 0);
        for i in 0..times {
            fault(i);
            let (start, before) = (Instant::now(), receiver.count());
            while receiver.count() == before {
                assert!(start.elapsed() < SOON, "fault {i}: nothing flows again: {:#}", service.relay("camera"));
                std::thread::sleep(Duration::from_millis(1));
            }
            recoveries.push(start.elapsed());
        }
        drop(guard);
    });
    receiver.finish(0);
    assert_swift(what, recoveries);
    service.assert_balance();
}

/// Tells how long `what` took, and that none took longer than [`again`].
fn assert_swift(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let (half, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{what}, {} times: half within {half:.1?}, all within {slowest:.1?}", took.len());
    assert!(slowest < again(), "{what}: {took:?}");
}

/// Ends the trickle also when an assertion fails, or the scope would wait for it forever.
struct Off<'a>(&'a AtomicBool);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn service(datapath: Datapath, net: &Topology) -> Service {
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    service
}

fn the_input_interface_is_deleted_and_made_again_and_again(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    survive("flowing after re-creation", &net, &service, pick(40, 100), |_| {
        net.relay().ip("link delete dev0");
        let cable = Veth::between(net.device(), "eth0", net.relay(), "dev0");
        net.device().ip(&format!("address add {DEVICE}/32 dev eth0\nroute add 224.0.0.0/4 dev eth0"));
        cable.far().add_address("10.0.0.1/24");
        // It stays: the topology's own handle is of the interface that was deleted.
        std::mem::forget(cable);
    });
    wait_until(SOON, "the group is joined again", || {
        kernel::joined_groups(net.relay(), "dev0").contains(&"239.1.1.1".parse().unwrap())
    });
}

fn the_output_interface_goes_down_and_up_again_and_again(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    survive("flowing after the link came up", &net, &service, pick(40, 100), |_| {
        net.lan(1).relay_side().down();
        std::thread::sleep(Duration::from_millis(20));
        net.lan(1).relay_side().up();
    });
    let relay = service.relay("camera");
    assert!(relay["outputs"][0]["dropped"]["output_down"].as_u64() > Some(0), "{relay:#}");
}

#[test]
fn the_output_address_changes_again_and_again() {
    let net = Topology::device_relay_lan(1);
    let service = service(Datapath::Tcx, &net);
    let side: &Interface = net.lan(1).relay_side();
    survive("flowing after a change of address", &net, &service, pick(40, 100), |i| {
        let (old, new) = (format!("10.0.1.{}/24", 1 + i % 2 * 100), format!("10.0.1.{}/24", 101 - i % 2 * 100));
        side.remove_address(&old);
        side.add_address(&new);
        let new = new.trim_end_matches("/24").to_owned();
        wait_until(again(), "the new address is the source", || service.relay("camera")["outputs"][0]["source"] == new);
    });
}

fn either_interface_is_renamed_and_named_back(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    for name in ["dev0", "lan1"] {
        survive(&format!("flowing after {name} has its name again"), &net, &service, pick(10, 100), |i| {
            // Linux renames interfaces that are up as well, so that no link goes down.
            let rename = |from: &str, to: &str| match i % 2 {
                0 => net.relay().ip(&format!("link set {from} name {to}")),
                _ => net.relay().ip(&format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up")),
            };
            rename(name, "other");
            service.wait_for_state("camera", "pending", SOON);
            rename("other", name);
        });
    }
}

fn either_interface_changes_its_mac(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    let times = pick(10, 100);
    survive("flowing after a new MAC of the input", &net, &service, times, |i| {
        net.relay_input().set_mac(Mac([2, 0, 0, 0, 8, i as u8]));
    });
    let wire = RawReceiver::new(net.lan(1).host_side());
    survive("flowing after a new MAC of the output", &net, &service, times, |i| {
        let mac = [2, 0, 0, 0, 9, i as u8];
        net.lan(1).relay_side().set_mac(Mac(mac));
        let waiting = || std::iter::from_fn(|| wire.next_frame(Duration::ZERO));
        let is_ours = |frame: mcr_testbed::Received| frame.bytes[..3] == [1, 0, 0x5e] && frame.bytes[6..12] == mac;
        wait_until(again(), "frames leave with the new MAC", || waiting().any(is_ours));
    });
}

fn either_interface_changes_its_mtu(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    for side in [net.relay_input(), net.lan(1).relay_side()] {
        survive(&format!("flowing after a new MTU of {}", side.name()), &net, &service, pick(10, 100), |i| {
            side.set_mtu([1_400, 1_500][i % 2]);
        });
    }
    // What fits is sent whole, what does not is dropped by name, as the MTU is at that moment.
    let lan = net.lan(1);
    let heard = |bytes: usize| {
        let on = "239.2.2.1:6001".parse().unwrap();
        let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
        send(net.device(), DEVICE, GROUP, Series::of(10, bytes), 10_000);
        receiver.finish(10).count
    };
    let dropped = || service.relay("camera")["outputs"][0]["dropped"]["too_big"].as_u64().unwrap_or(0);
    let mtu_is = |bytes: u32| {
        lan.relay_side().set_mtu(bytes);
        let known = || service.http("GET", "/api/v1/interfaces", "").1["interfaces"].clone();
        wait_until(SOON, "the MTU is known", || known().as_array().unwrap().iter().any(|known| known["mtu"] == bytes));
    };
    mtu_is(700);
    assert_eq!((heard(1_000), dropped()), (0, 10));
    net.input().set_mtu(3_000);
    lan.host_side().set_mtu(3_000);
    mtu_is(3_000);
    assert_eq!((heard(2_900), dropped()), (10, 10));
    service.assert_balance();
}

/// Whoever forwards to us by memberships hears of ours as soon as the link is there.
#[test]
fn memberships_are_reported_as_soon_as_the_link_is_there() {
    let net = Topology::device_relay_lan(1);
    let service = service(Datapath::Tcx, &net);
    let group = GROUP.ip();
    let (mut remade, mut raised) = (Vec::new(), Vec::new());
    for _ in 0..pick(5, 50) {
        let device = net.device();
        net.relay().ip("link delete dev0");
        net.relay().ip(&format!("link add name dev0 type veth peer name eth0 netns {}", device.name()));
        device.ip("link set eth0 up");
        let [wire, input] = [Interface::of(device, "eth0"), Interface::of(net.relay(), "dev0")];
        let wire = RawReceiver::new(&wire);
        net.relay().ip("link set dev0 up\naddress add 10.0.0.1/24 dev dev0");
        remade.push(reports::wait_for(&wire, group, SOON));
        service.wait_for_state("camera", "ready", SOON);
        input.down();
        reports::all(&wire, Duration::from_millis(10));
        input.up();
        raised.push(reports::wait_for(&wire, group, SOON));
    }
    assert_swift("reported after re-creation", remade);
    assert_swift("reported after the link came up", raised);
}

fn a_unicast_output_flows_again_after_its_link_was_down(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    let lan = net.lan(1);
    let to: std::net::SocketAddr = format!("{}:6001", lan.host_address()).parse().unwrap();
    service.add("uni", "dev0:239.1.1.1:5001", &[&format!("lan1:{to}")]);
    service.wait_for_state("uni", "ready", SOON);
    let heard = |series| {
        let receiver = Receiver::start(lan.namespace(), lan.host_address(), to, Payloads::Count);
        send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 10_000);
        receiver.finish(100).count
    };
    assert_eq!(heard(Series::of(100, 200)), 100);
    for side in [lan.relay_side(), lan.host_side()] {
        side.down();
        wait_until(SOON, "it is noticed", || service.relay("uni")["outputs"][0]["ok"] == false);
        side.up();
        wait_until(SOON, "the neighbour is found again", || service.relay("uni")["outputs"][0]["ok"] == true);
        assert_eq!(heard(Series::of(100, 200)), 100);
    }
    net.relay().ip("neighbour flush dev lan1");
    wait_until(SOON, "the neighbour is found again", || service.relay("uni")["outputs"][0]["ok"] == true);
    assert_eq!(heard(Series::of(100, 200)), 100);

    service.ok(&["add", "far", "--from", "dev0:239.1.1.2:5001", "--to", "lan1:10.99.0.2:6001"]);
    let far = service.relay("far");
    assert!(far["reason"].as_str().unwrap().contains("there is no route to 10.99.0.2"), "{far:#}");
    service.assert_balance();
}

fn a_missing_interface_is_waited_for_and_a_renamed_one_is_followed(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.ok(&["add", "later", "--from", "cam7:239.1.1.1:5001", "--to", "lan1:239.2.2.1:6001"]);
    let relay = service.relay("later");
    assert_eq!(relay["state"], "pending");
    assert_eq!(relay["reason"], "input interface cam7 does not exist");
    let refused = service.refused(&["wait", "later", "--for", "ready", "--timeout", "100ms"]);
    assert!(refused.contains("cam7 does not exist"), "{refused}");

    net.relay().ip("link set dev0 down\nlink set dev0 name cam7\nlink set cam7 up");
    service.wait_for_state("later", "ready", SOON);
    let lan = net.lan(1);
    let receiver =
        Receiver::start(lan.namespace(), lan.host_address(), "239.2.2.1:6001".parse().unwrap(), Payloads::Count);
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), Series::of(100, 200), 10_000);
    assert_eq!(receiver.finish(100).count, 100);

    net.relay().ip("link set cam7 down\nlink set cam7 name dev0\nlink set dev0 up");
    service.wait_for_state("later", "pending", SOON);
    assert!(!kernel::joined_groups(net.relay(), "dev0").contains(&"239.1.1.1".parse().unwrap()));
}

#[test]
fn what_is_wrong_with_an_interface_is_said_with_its_remedy() {
    let net = Topology::device_relay_lan(1);
    let service = service(Datapath::Tcx, &net);
    net.relay_input().down();
    service.wait_for_state("camera", "pending", SOON);
    assert_eq!(service.relay("camera")["reason"], "input interface dev0 is down");
    net.relay_input().up();
    service.wait_for_state("camera", "ready", SOON);

    net.lan(1).relay_side().remove_address("10.0.1.1/24");
    service.wait_for_state("camera", "degraded", SOON);
    let relay = service.relay("camera");
    assert!(relay["reason"].as_str().unwrap().contains("has no IPv4 address"), "{relay:#}");
    assert!(relay["remedy"].as_str().unwrap().contains("ip address add"), "{relay:#}");

    net.relay().ip("link set dev0 multicast off");
    service.wait_for_state("camera", "failed", SOON);
    let relay = service.relay("camera");
    assert!(relay["remedy"].as_str().unwrap().contains("multicast on"), "{relay:#}");
    service.assert_balance();
}

/// Sends `count` packets from the device and waits until the relay has counted `total`.
#[track_caller]
fn send_and_count(net: &Topology, service: &Service, count: u64, total: u64) {
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), Series::of(count, 200), 10_000);
    wait_until(SOON, &format!("{total} packets are counted"), || {
        service.relay("camera")["received"]["packets"] == total
    });
}

fn a_relay_keeps_its_counters_when_its_interface_is_made_again(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    send_and_count(&net, &service, 100, 100);
    net.relay().ip("link delete dev0");
    service.wait_for_state("camera", "pending", SOON);
    assert_eq!(service.relay("camera")["received"]["packets"], 100);
    make_input_again(&net, "");
    service.wait_for_state("camera", "silent", SOON);
    send_and_count(&net, &service, 50, 150);
    service.assert_balance();
    assert!(!service.log().contains("an effect failed"), "{}", service.log());
}

fn an_interface_that_returns_under_its_index_unseen_is_used_again(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = service(datapath, &net);
    send_and_count(&net, &service, 100, 100);
    let interfaces = service.http("GET", "/api/v1/interfaces", "").1;
    let interfaces = interfaces["interfaces"].as_array().expect("interfaces");
    let index = &interfaces.iter().find(|interface| interface["name"] == "dev0").expect("dev0")["index"];
    // Held up, so that the daemon first looks when the interface is there again.
    service.signal(libc::SIGSTOP);
    net.relay().ip("link delete dev0");
    make_input_again(&net, &format!("index {index}"));
    service.signal(libc::SIGCONT);
    wait_until(SOON, "the group is joined again", || {
        kernel::joined_groups(net.relay(), "dev0").contains(&"239.1.1.1".parse().unwrap())
    });
    service.wait_for_state("camera", "silent", SOON);
    send_and_count(&net, &service, 50, 150);
    service.assert_balance();
}

/// Makes `dev0` and the device's `eth0` again after they were deleted.
#[track_caller]
fn make_input_again(net: &Topology, options: &str) {
    let device = net.device().name();
    net.relay().ip(&format!("link add name dev0 {options} type veth peer name eth0 netns {device}\nlink set dev0 up\naddress add 10.0.0.1/24 dev dev0"));
    net.device().ip(&format!("link set eth0 up\naddress add {DEVICE}/32 dev eth0\nroute add 224.0.0.0/4 dev eth0"));
}
