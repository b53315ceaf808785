//! `mcr relay`: one line, no daemon, nothing left behind.

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Process, Signal, Topology, kernel, wait_until};

use crate::service::{MCR, SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send};

for_each_datapath!(one_line_relays_until_it_is_interrupted,);

fn one_line_relays_until_it_is_interrupted(datapath: Datapath) {
    let net = Topology::device_relay_lan(2);
    let mut command = net.relay().command(MCR);
    command.args(["relay", "dev0:239.1.1.1:5001", "lan1:239.2.2.1:6001", "lan2:239.2.2.2:6002,ttl=4"]);
    command.args(["--datapath", datapath.name()]);
    let mut relay = Process::start(&mut command);
    relay.wait_for_line(&format!("ready ({datapath})"), SOON);
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let value = kernel::process_status(relay.pid(), field).expect("a status");
        assert_eq!(value.trim_start_matches('0'), "", "{field}");
    }
    let series = Series { count: 10_000, smallest: 1, largest: 1400 };
    let receivers: Vec<Receiver> = (1..=2)
        .map(|i| {
            let lan = net.lan(i);
            let on = format!("239.2.2.{i}:600{i}").parse().unwrap();
            Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(series))
        })
        .collect();
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 20_000);
    for receiver in receivers {
        let report = receiver.finish(series.count);
        assert_eq!((report.count, report.first_difference), (series.count, None));
    }
    relay.signal(Signal::Interrupt);
    relay.wait_for_line("received  dev0:239.1.1.1:5001  10,000 packets", SOON);
    wait_until(SOON, "the group is left", || {
        !kernel::joined_groups(net.relay(), "dev0").contains(&"239.1.1.1".parse().unwrap())
    });
}

#[test]
fn one_that_doubles_a_relay_of_the_daemon_says_so() {
    let net = Topology::device_relay_lan(2);
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    for (to, is_told) in [("lan1:239.2.2.1:6001", true), ("lan2:239.2.2.1:6001", false)] {
        let mut command = net.relay().command(MCR);
        command.args(["relay", "dev0:239.1.1.1:5001", to, "--datapath", "packet"]).env("MCR_SOCKET", service.socket());
        let mut relay = Process::start(&mut command);
        relay.wait_for_line("ready (packet)", SOON);
        let told = relay.output().contains("relay camera of the daemon sends the same packets to lan1");
        assert_eq!(told, is_told, "{}", relay.output());
        relay.signal(Signal::Interrupt);
    }
}

/// It can't start another: its privileges are given up.
#[test]
fn one_whose_keeper_is_killed_ends_and_says_so() {
    let net = Topology::device_relay_lan(1);
    let mut command = net.relay().command(MCR);
    let mut relay = Process::start(command.args(["relay", "dev0:239.1.1.1:5001", "lan1:239.2.2.1:6001"]));
    relay.wait_for_line("ready", SOON);
    let children = format!("/proc/{0}/task/{0}/children", relay.pid());
    let keeper: i32 = std::fs::read_to_string(children).expect("its children").trim().parse().expect("one child");
    // SAFETY: a plain system call; the process is the keeper that our own relay started.
    assert_eq!(unsafe { libc::kill(keeper, libc::SIGKILL) }, 0);
    relay.wait_for_line("the keeper of this relay (mcr-netd) was ended", SOON);
    assert_eq!(relay.wait(SOON).code(), Some(1));
}

#[test]
fn a_killed_one_leaves_no_keeper_behind() {
    let net = Topology::device_relay_lan(1);
    let mut command = net.relay().command(MCR);
    command.args(["relay", "dev0:239.1.1.1:5001", "lan1:239.2.2.1:6001"]);
    let mut relay = Process::start(&mut command);
    relay.wait_for_line("ready", SOON);
    relay.signal(Signal::Kill);
    wait_until(SOON, "the group is left", || {
        !kernel::joined_groups(net.relay(), "dev0").contains(&"239.1.1.1".parse().unwrap())
    });
}
