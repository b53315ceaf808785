//! Which datapath serves a relay, why, and what a relay goes through when it moves from one to another under a flow.

use std::sync::atomic::{AtomicBool, Ordering};

use mcr_model::{Datapath, DatapathChoice};
use mcr_testbed::{DEVICE, Offload, Process, Switch, Topology, wait_until};
use serde_json::Value;

use crate::service::{MCR, SOON, Service, text};
use crate::traffic::{Payloads, Receiver, Series, send, send_while};

const GROUP: &str = "239.1.1.1:5001";
const SERIES: Series = Series { count: 10_000_000, smallest: 100, largest: 1400 };

/// A LAN whose host takes what the driver of its veth peer is handed by XDP.
fn with_a_driver(outputs: usize) -> Topology {
    let net = Topology::device_relay_lan(outputs);
    net.lans().iter().for_each(|lan| lan.host_side().offload(Offload::Gather, Switch::On));
    net
}

fn receiver(net: &Topology, lan: usize, payloads: Payloads) -> Receiver {
    let lan_side = net.lan(lan);
    let on = format!("239.2.2.{lan}:600{lan}").parse().unwrap();
    Receiver::start(lan_side.namespace(), lan_side.host_address(), on, payloads)
}

fn datapath(service: &Service) -> (String, String) {
    let relay = service.relay("camera");
    let word = |key: &str| relay[key].as_str().unwrap_or_default().to_owned();
    (word("datapath"), word("datapath_reason"))
}

#[test]
fn the_driver_is_taken_where_it_is_proven_and_tcx_where_not() {
    let net = with_a_driver(3);
    let service = Service::start(net.relay(), "");
    let outputs = ["lan1:239.2.2.1:6001", "lan2:239.2.2.2:6002", "lan3:239.2.2.3:6003"];
    service.add("camera", "dev0:239.1.1.1:5001", &outputs);
    assert_eq!(datapath(&service), ("xdp".to_owned(), String::new()));
    let series = Series { count: 20_000, smallest: 1, largest: 1400 };
    let receivers = [1, 2, 3].map(|lan| receiver(&net, lan, Payloads::Compare(series)));
    send(net.device(), DEVICE, GROUP.parse().unwrap(), series, 20_000);
    for receiver in receivers {
        let report = receiver.finish(series.count);
        assert_eq!((report.count, report.first_difference), (series.count, None));
    }
    assert_eq!(service.assert_balance()["camera"], series.count);
    service.ok(&["rm", "camera"]);

    net.lan(2).host_side().offload(Offload::Gather, Switch::Off);
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &outputs);
    let (serving, why) = datapath(&service);
    assert_eq!(serving, "tcx");
    assert!(why.starts_with("not xdp: lan2 can not be served at the driver: a frame redirected into it"), "{why}");
}

#[test]
fn what_is_not_for_the_driver_is_served_by_tcx_which_says_why() {
    let net = with_a_driver(1);
    let service = Service::start(net.relay(), "");
    let relays = |series: Series, to: &str, count: u64| {
        let receiver = receiver(&net, 1, Payloads::Compare(series));
        send(net.device(), DEVICE, to.parse().unwrap(), series, 5_000);
        let report = receiver.finish(count);
        assert_eq!((report.count, report.first_difference), (count, None));
    };
    // The device can not ask who has that address: nobody answers somebody unroutable.
    let mac = net.relay_input().mac();
    net.device().ip(&format!("route add 10.0.0.1 dev eth0\nneighbour add 10.0.0.1 lladdr {mac} dev eth0"));
    service.add("camera", "dev0:10.0.0.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_eq!(datapath(&service), ("tcx".to_owned(), "not xdp: its input is no multicast group".to_owned()));
    relays(Series { count: 500, smallest: 1, largest: 1400 }, "10.0.0.1:5001", 500);
    assert_eq!(service.assert_balance()["camera"], 500);
    service.ok(&["rm", "camera"]);

    net.input().set_mtu(9000);
    net.lan(1).cable().set_mtu(9000);
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let (serving, why) = datapath(&service);
    assert_eq!(serving, "tcx");
    assert!(why.starts_with("not xdp: dev0 can not be served at the driver: its MTU"), "{why}");
    relays(Series { count: 500, smallest: 5000, largest: 8900 }, GROUP, 500);
    assert_eq!(service.assert_balance()["camera"], 500);
}

#[test]
fn a_list_of_outputs_too_many_is_served_by_tcx_until_there_is_room() {
    let net = with_a_driver(2);
    let folder = tempfile::tempdir().unwrap();
    let (socket, policy) = (folder.path().join("netd.sock"), folder.path().join("policy.toml"));
    std::fs::write(&policy, "[tables]\nfan_outs = 3\n").unwrap();
    let mut keeper = net.relay().command(std::path::Path::new(MCR).with_file_name("mcr-netd"));
    let _keeper = Process::start(keeper.arg("--socket").arg(&socket).arg("--policy").arg(&policy));
    wait_until(SOON, "the keeper listens", || socket.exists());
    let service = Service::start_with(net.relay(), "", &["--keeper-socket", socket.to_str().unwrap()]);
    let add = |number: u8, lans: &[u8]| {
        let outputs: Vec<String> =
            lans.iter().zip(10..).map(|(lan, group)| format!("lan{lan}:239.{group}.2.{number}:6001")).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        service.add(&format!("r{number}"), &format!("dev0:239.1.1.{number}:5001"), &outputs);
    };
    let serving = |number: u8| {
        let relay = service.relay(&format!("r{number}"));
        let word = |key: &str| relay[key].as_str().unwrap_or_default().to_owned();
        (word("datapath"), word("datapath_reason"))
    };
    let relays = |number: u8| {
        let lan = net.lan(1);
        let on = format!("239.10.2.{number}:6001").parse().unwrap();
        let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
        send(net.device(), DEVICE, format!("239.1.1.{number}:5001").parse().unwrap(), Series::of(50, 200), 5_000);
        assert_eq!(receiver.finish(50).count, 50, "r{number}");
    };
    for (number, lans) in [(1, [1, 1].as_slice()), (2, &[1, 2]), (3, &[1, 2, 1]), (4, &[1, 2, 2]), (5, &[1, 2])] {
        add(number, lans);
    }
    let why = "not xdp: 3 different lists of output interfaces are in use at the driver";
    assert_eq!(serving(4), ("tcx".to_owned(), why.to_owned()));
    (1..=5).for_each(&relays);
    assert_eq!([1, 2, 3, 5].map(|number| serving(number).0), ["xdp"; 4]);

    // Nobody has to ask: it is tried again and again.
    service.ok(&["rm", "r3"]);
    wait_until(SOON * 3, "the driver serves it", || serving(4) == ("xdp".to_owned(), String::new()));
    [1, 2, 4, 5].iter().copied().for_each(&relays);
    assert_eq!(service.assert_balance(), ["r1", "r2", "r4", "r5"].map(|name| (name.to_owned(), 100)).into());
}

/// What the driver's program takes is seen by nobody else, who is told so.
#[test]
fn others_are_told_what_they_do_not_see_beside_the_driver() {
    let net = with_a_driver(1);
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_eq!(datapath(&service).0, "xdp");
    let told = |command: &[&str]| {
        let mut limited = net.relay().command("timeout");
        let limited = limited.args(["--signal=INT", "2s", MCR]).args(command);
        let output = limited.env("MCR_SOCKET", service.socket()).output().expect("run mcr");
        text(&output.stdout) + &text(&output.stderr)
    };
    let discovered = told(&["discover", "dev0", "--duration", "100ms"]);
    assert!(discovered.contains("packets that XDP takes on dev0"), "{discovered}");
    let checked = told(&["doctor"]);
    assert!(checked.contains("the XDP program on dev0 is MCR's own"), "{checked}");
    let relayed = told(&["relay", "dev0:239.1.1.1:5001", "lan1:239.2.2.2:6001"]);
    assert!(relayed.contains("an XDP program is on dev0 already"), "{relayed}");
}

#[test]
fn between_tcx_and_the_driver_nothing_is_lost_or_doubled() {
    let net = with_a_driver(1);
    moved_under_a_flow(&net, &["tcx", "xdp"], 10, |sent, report| {
        assert_eq!((report.count, report.first_difference), (sent, None));
    });
}

#[test]
fn between_packet_and_the_kernel_nothing_is_lost() {
    let net = with_a_driver(1);
    moved_under_a_flow(&net, &["packet", "tcx", "packet", "xdp"], 5, |sent, report| {
        // Frames under way may come twice: each move takes less than a hundredth of a second.
        assert!((sent..sent + 20 * 200).contains(&report.count), "{} of {sent}", report.count);
    });
}

/// Moves a relay through these datapaths, `times` times, while packets flow.
fn moved_under_a_flow(
    net: &Topology,
    datapaths: &[&str],
    times: usize,
    check: impl FnOnce(u64, crate::traffic::Report),
) {
    let service = Service::start(net.relay(), "");
    let put = |datapath: &str| {
        let to = ["--from", "dev0:239.1.1.1:5001", "--to", "lan1:239.2.2.1:6001", "--replace"];
        service.ok(&[&["add", "camera", "--datapath", datapath][..], &to].concat());
        let relay = service.relay("camera");
        assert_eq!(relay["datapath"], datapath, "{relay:#}");
        assert_ne!(relay["state"], "failed", "{relay:#}");
    };
    put(datapaths[0]);
    let receiver = receiver(net, 1, Payloads::Compare(SERIES));
    let goes_on = AtomicBool::new(true);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_while(&goes_on, net.device(), DEVICE, GROUP.parse().unwrap(), SERIES, 20_000));
        wait_until(SOON, "packets flow", || receiver.count() > 0);
        let moves = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..times).for_each(|_| datapaths.iter().for_each(|datapath| put(datapath)));
        }));
        goes_on.store(false, Ordering::Relaxed);
        moves.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sender.join().expect("the sender")
    });
    check(sent, receiver.finish(sent));
    let counted = service.assert_balance()["camera"];
    assert!(counted >= sent, "its counters went on: {counted} of {sent}");
}

#[test]
fn a_local_application_keeps_what_it_listens_to() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_ne!(datapath(&service).0, "packet");
    let socket = net.relay().run(|| std::net::UdpSocket::bind("0.0.0.0:5001").expect("bind"));
    wait_until(SOON, "packet serves", || datapath(&service).0 == "packet");
    assert!(datapath(&service).1.contains("an application of this host listens to UDP port 5001"));
    drop(socket);
    wait_until(SOON, "the kernel serves again", || datapath(&service).0 != "packet");
}

#[test]
fn without_the_right_to_load_programs_packet_serves_and_tcx_says_why_not() {
    let net = Topology::device_relay_lan(1);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("netd.sock");
    let keeper_program = std::path::Path::new(MCR).with_file_name("mcr-netd");
    let mut keeper = net.relay().command("setpriv");
    // Its words for CAP_BPF and CAP_PERFMON, which older ones do not know by name.
    keeper.arg("--bounding-set=-cap_39,-cap_38,-sys_admin").arg(keeper_program).arg("--socket").arg(&socket);
    let _keeper = Process::start(&mut keeper);
    wait_until(SOON, "the keeper listens", || socket.exists());
    let service = Service::start_with(net.relay(), "", &["--keeper-socket", socket.to_str().unwrap()]);
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let (serving, why) = datapath(&service);
    assert_eq!(serving, "packet");
    assert!(why.starts_with("not tcx: the keeper may not load eBPF programs"), "{why}");
    let series = Series::of(1_000, 200);
    let on_lan = receiver(&net, 1, Payloads::Compare(series));
    send(net.device(), DEVICE, GROUP.parse().unwrap(), series, 10_000);
    assert_eq!(on_lan.finish(series.count).count, series.count);

    let to = ["--from", "dev0:239.1.1.2:5001", "--to", "lan1:239.2.2.2:6001"];
    let added = service.mcr(&[&["add", "strict", "--datapath", "tcx"][..], &to].concat());
    assert!(
        !added.status.success()
            && text(&added.stderr).contains("strict is failed: the keeper may not load eBPF programs"),
        "{added:?}"
    );
    let relay: Value = service.relay("strict");
    assert!(relay["remedy"].as_str().unwrap().contains("datapath = \"packet\""), "{relay:#}");
    assert_eq!(DatapathChoice::Only(Datapath::Tcx).name(), relay["datapath"]);
}
