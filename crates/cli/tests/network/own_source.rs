//! Sources that the relay's host has itself for as long as a relay sends with them: it answers for them, and nothing else of it
//! leaves with them.

use std::net::{Ipv6Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Offload, Process, RawReceiver, Switch, Topology, wait_until};
use tempfile::TempDir;

use crate::service::{MCR, SOON, Service};
use crate::traffic::{GROUP, Series, send};

for_each_datapath!(the_host_answers_for_the_source_as_long_as_the_relay_is_there);

const POLICY: &str = "[source_addresses]\nlan1 = [\"10.0.1.64/26\", \"10.0.1.128/25\", \"fd00:1::/64\"]\n";
const OWN: &str = "lan1:239.2.2.1:6001,source=10.0.1.77,own-source=true";

/// A keeper with a policy of its own, and the folder of its socket.
struct Keeper {
    folder: TempDir,
    process: Option<Process>,
}

impl Keeper {
    fn start(net: &Topology) -> Self {
        let mut keeper = Self { folder: tempfile::tempdir().unwrap(), process: None };
        std::fs::write(keeper.path("policy.toml"), POLICY).unwrap();
        keeper.start_again(net);
        keeper
    }

    fn start_again(&mut self, net: &Topology) {
        let mut command = net.relay().command(Path::new(MCR).with_file_name("mcr-netd"));
        let socket = self.path("netd.sock");
        let _ = std::fs::remove_file(&socket);
        self.process =
            Some(Process::start(command.arg("--socket").arg(&socket).arg("--policy").arg(self.path("policy.toml"))));
        wait_until(SOON, "the keeper listens", || Path::new(&socket).exists());
    }

    fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(mcr_testbed::Signal::Kill);
        process.wait(SOON);
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn serve(&self, net: &Topology, datapath: Option<Datapath>, config: &str) -> Service {
        let socket = self.path("netd.sock");
        let mut options = vec!["--keeper-socket", &socket];
        options.extend(datapath.iter().flat_map(|datapath| ["--datapath", datapath.name()]));
        Service::start_with(net.relay(), config, &options)
    }
}

fn config(source: &str) -> String {
    format!(
        "[[relay]]\nname = \"camera\"\n\
         input = {{ interface = \"dev0\", group = \"239.1.1.1\", port = 5001 }}\n\
         output = [{{ interface = \"lan1\", group = \"239.2.2.1\", port = 6001, source = \"{source}\", own_source = true }}]\n"
    )
}

/// Whether the host of the first LAN gets an answer from that address.
fn answers(net: &Topology, address: &str) -> bool {
    let mut ping = net.lan(1).namespace().command("ping");
    ping.args(["-n", "-c", "1", "-W", "1", address]).output().expect("run ping").status.success()
}

/// The addresses of the first LAN's interface, as `ip` lists them.
fn addresses(net: &Topology) -> Vec<String> {
    let listed = net.relay().output("ip", &["-oneline", "address", "show", "dev", "lan1"]);
    let address = |line: &str| Some(line.split_whitespace().nth(3)?.to_owned());
    listed.lines().filter_map(address).collect()
}

fn has(net: &Topology, address: &str) -> bool {
    addresses(net).iter().any(|found| found == address)
}

fn the_host_answers_for_the_source_as_long_as_the_relay_is_there(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    net.lan(1).host_side().offload(Offload::Gather, Switch::On);
    let keeper = Keeper::start(&net);
    let service = keeper.serve(&net, Some(datapath), "");
    assert!(!answers(&net, "10.0.1.77"));
    let wire = RawReceiver::new(net.lan(1).host_side());
    service.add("camera", "dev0:239.1.1.1:5001", &[OWN]);
    assert_eq!(service.relay("camera")["datapath"], datapath.name());
    assert!(answers(&net, "10.0.1.77"), "{:?}", addresses(&net));
    send(net.device(), DEVICE, GROUP, Series::of(20, 200), 2_000);
    assert_eq!(wire.next_udp(SOON).source.ip().to_string(), "10.0.1.77");

    // Everything else of this host leaves as before.
    let listed = net.relay().output("ip", &["-oneline", "address", "show", "dev", "lan1"]);
    assert!(listed.contains("inet 10.0.1.1/24 scope global lan1\\"), "{listed}");
    let own = listed.lines().find(|line| line.contains(" 10.0.1.77/32 ")).unwrap_or_else(|| panic!("{listed}"));
    assert!(own.contains(" scope host noprefixroute lan1:mcr\\"), "{own}");
    let local = net.relay().run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.0.1.2:9").unwrap();
        socket.local_addr().unwrap().ip()
    });
    assert_eq!(local.to_string(), "10.0.1.1");
    service.add("other", "dev0:239.1.1.2:5001", &["lan1:239.2.2.2:6001"]);
    assert_eq!(service.relay("other")["outputs"][0]["source"], "10.0.1.1");
    let shown = service.ok(&["show", "camera"]);
    assert!(shown.contains("(source 10.0.1.77, own source, ttl 16)"), "{shown}");
    service.assert_balance();

    // It goes with the last relay that asked for it.
    service.add("second", "dev0:239.1.1.3:5001", &["lan1:239.2.2.3:6001,source=10.0.1.77,own-source=true"]);
    service.ok(&["rm", "camera"]);
    assert!(has(&net, "10.0.1.77/32"));
    service.ok(&["rm", "second"]);
    wait_until(SOON, "the address is removed", || !has(&net, "10.0.1.77/32"));
    assert!(!answers(&net, "10.0.1.77"));
}

#[test]
fn an_interface_without_another_address_does_not_send_with_it() {
    let net = Topology::device_relay_lan(1);
    net.lan(1).relay_side().remove_address("10.0.1.1/24");
    let keeper = Keeper::start(&net);
    let service = keeper.serve(&net, None, "");
    service.add("camera", "dev0:239.1.1.1:5001", &[OWN]);
    net.relay().ip("route add 10.0.1.0/24 dev lan1");
    let route = net.relay().output("ip", &["route", "get", "10.0.1.2"]);
    assert!(!route.contains("src 10.0.1.77"), "{route}");
    service.ok(&["add", "other", "--from", "dev0:239.1.1.2:5001", "--to", "lan1:239.2.2.2:6001"]);
    let other = service.relay("other");
    assert_eq!(other["state"], "degraded", "{other:#}");
    assert_eq!(other["reason"], "output interface lan1 has no IPv4 address to send from");
}

#[test]
fn whoever_is_killed_leaves_nothing_after_the_next_start_and_no_gap_before() {
    let net = Topology::device_relay_lan(1);
    let mut keeper = Keeper::start(&net);
    let mut service = keeper.serve(&net, None, &config("10.0.1.77"));
    service.ok(&["wait", "camera"]);
    let monitor = Process::start(net.relay().command("ip").args(["monitor", "address"]));

    service.restart_after_kill(net.relay());
    service.ok(&["wait", "camera"]);
    service.hand_over();
    service.start_again(net.relay());
    service.ok(&["wait", "camera"]);
    keeper.kill();
    keeper.start_again(&net);
    let keeper_pid = u64::from(keeper.process.as_ref().unwrap().pid());
    wait_until(SOON, "the daemon has the new keeper", || {
        service.http("GET", "/api/v1/status", "").1["keeper_pid"] == keeper_pid
    });
    service.ok(&["wait", "camera"]);
    keeper.kill();
    service.kill();
    keeper.start_again(&net);
    service.start_again(net.relay());
    service.ok(&["wait", "camera"]);
    assert!(answers(&net, "10.0.1.77"));
    assert!(!monitor.output().contains("10.0.1.77"), "it was there all the time: {}", monitor.output());

    // The next start does not want it any more.
    keeper.kill();
    service.kill();
    assert!(has(&net, "10.0.1.77/32"), "nobody was there to remove it");
    service.configure("");
    keeper.start_again(&net);
    service.start_again(net.relay());
    wait_until(SOON, "it is removed", || !has(&net, "10.0.1.77/32"));

    // Nor does a daemon that ends in order, and a keeper that is told to forget.
    service.reload(&config("10.0.1.78"));
    wait_until(SOON, "another is added", || has(&net, "10.0.1.78/32"));
    service.stop();
    wait_until(SOON, "it goes with the daemon", || !has(&net, "10.0.1.78/32"));
}

#[test]
fn the_policy_says_what_may_be_added_and_says_so() {
    let net = Topology::device_relay_lan(1);
    let mut keeper = Keeper::start(&net);
    let service = keeper.serve(&net, None, "");
    let to = "lan1:239.2.2.1:6001,source=10.0.1.9,own-source=true";
    service.refused(&["add", "camera", "--from", "dev0:239.1.1.1:5001", "--to", to]);
    let relay = service.relay("camera");
    assert_eq!(relay["state"], "failed", "{relay:#}");
    let told = service.refused(&["wait", "camera", "--for", "ready", "--timeout", "200ms"]);
    assert!(told.contains("does not allow to add 10.0.1.9"), "{told}");
    let reason = "the keeper's policy does not allow to add 10.0.1.9 to lan1 (allowed: 10.0.1.64/26, 10.0.1.128/25, fd00:1::/64)";
    assert_eq!(relay["reason"], reason);
    let remedy = relay["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("write `[source_addresses]` and `lan1 = [\"10.0.1.9\"]`"), "{remedy}");
    assert!(!has(&net, "10.0.1.9/32"));

    // What it says is what helps.
    let submit = |keeper: &mut Keeper, policy: &str| {
        std::fs::write(keeper.path("policy.toml"), policy).unwrap();
        keeper.process.as_mut().unwrap().signal(mcr_testbed::Signal::Hangup);
    };
    submit(&mut keeper, "[source_addresses]\nlan1 = [\"10.0.1.9\"]\n");
    service.wait_for_state("camera", "ready", SOON * 3);
    assert!(answers(&net, "10.0.1.9"));
    submit(&mut keeper, POLICY);
    wait_until(SOON, "it is taken away", || !has(&net, "10.0.1.9/32"));
    service.wait_for_state("camera", "failed", SOON);
    for line in ["10.0.1.9 is added to lan1", "10.0.1.9 is taken away from lan1: the policy forbids it"] {
        wait_until(SOON, line, || keeper.process.as_ref().unwrap().output().contains(line));
    }
}

#[test]
fn an_address_of_another_host_is_not_taken_and_one_that_is_there_stays() {
    let net = Topology::device_relay_lan(1);
    net.lan(1).host_side().add_address("10.0.1.80/24");
    net.lan(1).relay_side().add_address("10.0.1.90/24");
    let keeper = Keeper::start(&net);
    let service = keeper.serve(&net, None, "");
    let to = |source: &str| format!("lan1:239.2.2.1:6001,source={source},own-source=true");
    service.ok(&["add", "rival", "--from", "dev0:239.1.1.1:5001", "--to", &to("10.0.1.80")]);
    service.wait_for_state("rival", "failed", SOON);
    let reason = service.relay("rival")["reason"].as_str().unwrap().to_owned();
    let mac = net.lan(1).host_side().mac().to_string();
    assert_eq!(reason, format!("another host on lan1 has 10.0.1.80: {mac} answers for it"));
    assert!(!has(&net, "10.0.1.80/32"));
    net.lan(1).host_side().remove_address("10.0.1.80/24");
    service.wait_for_state("rival", "ready", SOON * 3);
    assert!(answers(&net, "10.0.1.80"));

    service.add("there", "dev0:239.1.1.2:5001", &[&to("10.0.1.90").replace("239.2.2.1", "239.2.2.2")]);
    service.ok(&["rm", "there"]);
    service.ok(&["rm", "rival"]);
    wait_until(SOON, "ours is removed", || !has(&net, "10.0.1.80/32"));
    assert!(has(&net, "10.0.1.90/24"), "{:?}", addresses(&net));
}

#[test]
fn of_ipv6_it_is_used_once_the_kernel_has_checked_it_and_comes_back_with_its_link() {
    let net = Topology::device_relay_lan(1).with_ipv6();
    let keeper = Keeper::start(&net);
    let service = keeper.serve(&net, None, "");
    net.lan(1).host_side().add_ipv6("fd00:1::80/64");
    for (key, value) in [("accept_dad", "1"), ("dad_transmits", "1")] {
        net.relay().sysctl(&format!("net/ipv6/conf/lan1/{key}"), value);
    }
    let wire = RawReceiver::new(net.lan(1).host_side());
    let add = |name: &str, source: &str| {
        let to = format!("lan1:[ff3e::2:{name}]:6001,source={source},own-source=true");
        service.ok(&["add", &format!("six-{name}"), "--from", &format!("dev0:[ff3e::1:{name}]:5001"), "--to", &to])
    };
    let told = add("1", "fd00:1::77");
    assert!(told.contains("is pending: it is being checked whether another host has fd00:1::77"), "{told}");
    add("2", "fd00:1::80");
    let own: Ipv6Addr = "fd00:1::77".parse().unwrap();
    let is_announced = |bytes: &[u8]| bytes.get(54) == Some(&136) && bytes.get(62..78) == Some(&own.octets()[..]);
    wait_until(SOON, "it is announced", || wire.next_frame(SOON).is_some_and(|frame| is_announced(&frame.bytes)));
    service.ok(&["wait", "six-1"]);
    assert!(answers(&net, "fd00:1::77"));
    let route = net.relay().output("ip", &["-6", "route", "get", "fd00:1::2"]);
    assert!(route.contains("src fd00:1::1 "), "{route}");
    service.wait_for_state("six-2", "failed", SOON);
    assert_eq!(service.relay("six-2")["reason"], "another host on lan1 has fd00:1::80");
    net.lan(1).host_side().remove_address("fd00:1::80/64");
    service.wait_for_state("six-2", "ready", SOON * 4);
    service.ok(&["rm", "six-2"]);
    wait_until(SOON, "it is removed", || !has(&net, "fd00:1::80/128"));

    net.lan(1).relay_side().down();
    wait_until(SOON, "it went with its link", || !has(&net, "fd00:1::77/128"));
    service.wait_for_state("six-1", "pending", SOON);
    net.lan(1).relay_side().up();
    service.wait_for_state("six-1", "ready", SOON * 2);
    assert!(has(&net, "fd00:1::77/128"));
}

#[test]
fn a_template_adds_a_hundred() {
    let net = Topology::device_relay_lan(1);
    let keeper = Keeper::start(&net);
    let template = "[[relay]]\nfor_each = \"1-100\"\nname = \"plc-{item}\"\n\
        input = { interface = \"dev0\", group = \"239.1.1.{item}\", port = 5001 }\n\
        output = [{ interface = \"lan1\", group = \"239.2.2.1\", port = \"{index+6001}\", source = \"10.0.1.{index+100}\", own_source = true }]\n";
    let service = keeper.serve(&net, None, "");
    let begun = Instant::now();
    service.reload(template);
    let count = || addresses(&net).iter().filter(|address| address.ends_with("/32")).count();
    wait_until(SOON * 3, "all are there", || count() == 100);
    eprintln!("a hundred addresses were checked and added within {:?}", begun.elapsed());
    service.ok(&["wait", "plc-100"]);
    assert!(answers(&net, "10.0.1.199"));
    service.reload("");
    wait_until(SOON * 3, "none is left", || count() == 0);
}

#[test]
fn clean_removes_what_a_daemon_and_a_keeper_left() {
    let net = Topology::device_relay_lan(1);
    let mut keeper = Keeper::start(&net);
    let mut service = keeper.serve(&net, None, &config("10.0.1.77"));
    service.ok(&["wait", "camera"]);
    keeper.kill();
    service.kill();
    std::thread::sleep(Duration::from_millis(10));
    let mut clean = net.relay().command(MCR);
    let socket = keeper.path("netd.sock");
    let cleaned = clean.args(["run", "--clean", "--keeper-socket", &socket]).output().unwrap();
    assert!(cleaned.status.success(), "{cleaned:?}");
    assert!(!has(&net, "10.0.1.77/32"));
    // `Drop` ends what is there.
    keeper.start_again(&net);
    service.configure("");
    service.start_again(net.relay());
}
