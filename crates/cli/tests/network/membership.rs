//! Groups are joined while a relay is there, left when it goes, and survive the daemon in the keeper.

use std::net::Ipv4Addr;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Process, RawReceiver, Topology, kernel, wait_until};

use crate::service::{SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send};

for_each_datapath!(
    sources_are_joined_one_by_one_and_others_are_not_relayed,
    where_igmp_version_2_is_spoken_sources_are_sorted_out_here,
    a_killed_daemon_leaves_its_groups_joined_and_the_next_one_takes_them_over,
    a_killed_keeper_is_told_and_the_next_one_is_found,
);

#[test]
fn a_group_is_joined_with_its_relay_and_left_with_it() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let joined = || kernel::joined_groups(net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1));
    assert!(!joined());
    service.add("a", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    service.add("b", "dev0:239.1.1.1:5002", &["lan1:239.2.2.1:6002"]);
    assert!(joined());
    service.ok(&["rm", "a"]);
    assert!(joined(), "another relay still wants it");
    service.ok(&["rm", "b"]);
    assert!(!joined());
}

fn sources_are_joined_one_by_one_and_others_are_not_relayed(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:192.168.168.99@239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let wanted = ("dev0".to_owned(), Ipv4Addr::new(239, 1, 1, 1), Ipv4Addr::new(192, 168, 168, 99));
    assert!(kernel::joined_sources(net.relay()).contains(&wanted));
    let lan = net.lan(1);
    let receiver =
        Receiver::start(lan.namespace(), lan.host_address(), "239.2.2.1:6001".parse().unwrap(), Payloads::Count);
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), Series::of(100, 200), 10_000);
    assert_eq!(receiver.finish(0).count, 0);
    assert_eq!(service.assert_balance()["camera"], 0, "it is not this relay's packet");
    let interfaces = service.http("GET", "/api/v1/interfaces", "").1;
    let dev0 = interfaces["interfaces"].as_array().unwrap().iter().find(|one| one["name"] == "dev0").unwrap();
    assert_eq!(dev0["unattributed"]["source_not_listed"], 100, "{dev0:#}");
}

/// A report of version 2 for the group is on the wire, which names no source.
fn where_igmp_version_2_is_spoken_sources_are_sorted_out_here(datapath: Datapath) {
    const REPORT_V2: u8 = 0x16;
    let net = Topology::device_relay_lan(1);
    net.relay().sysctl("net/ipv4/conf/dev0/force_igmp_version", "2");
    let wire = RawReceiver::new(net.device_interface());
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:192.168.168.55@239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    service.add("other", "dev0:192.168.168.99@239.1.1.2:5001", &["lan1:239.2.2.2:6001"]);
    let is_report = |bytes: &[u8]| bytes.get(38) == Some(&REPORT_V2) && bytes[42..46] == [239, 1, 1, 1];
    wait_until(SOON, "the report", || {
        wire.next_frame(SOON).is_some_and(|frame| frame.bytes.len() >= 46 && is_report(&frame.bytes))
    });
    wait_until(SOON, "the warning", || service.relay("camera")["warnings"][0]["kind"] == "sources-not-asked");
    let shown = service.ok(&["show", "camera"]);
    assert!(shown.contains("dev0 speaks IGMPv2, in which no sources are named"), "{shown}");
    let lan = net.lan(1);
    let receive = |on: &str| Receiver::start(lan.namespace(), lan.host_address(), on.parse().unwrap(), Payloads::Count);
    let (wanted, unwanted) = (receive("239.2.2.1:6001"), receive("239.2.2.2:6001"));
    for group in ["239.1.1.2:5001", "239.1.1.1:5001"] {
        send(net.device(), DEVICE, group.parse().unwrap(), Series::of(100, 200), 10_000);
    }
    assert_eq!((wanted.finish(100).count, unwanted.finish(0).count), (100, 0));
    let balance = service.assert_balance();
    assert_eq!((balance["camera"], balance["other"]), (100, 0));
    net.relay().sysctl("net/ipv4/conf/dev0/force_igmp_version", "0");
    wait_until(SOON, "no warning", || service.relay("camera")["warnings"].is_null());
}

fn a_killed_daemon_leaves_its_groups_joined_and_the_next_one_takes_them_over(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let config = r#"
        [[relay]]
        name = "camera"
        input = { interface = "dev0", group = "239.1.1.1", port = 5001 }
        output = [{ interface = "lan1", group = "239.2.2.1", port = 6001 }]
    "#;
    let stale = config.replace("camera", "stale").replace("239.1.1.1", "239.1.1.2").replace("239.2.2.1", "239.2.2.2");
    let mut service = Service::start_on(datapath, net.relay(), &format!("{config}{stale}"));
    service.ok(&["wait", "stale"]);
    let keeper = service.keeper_pid();
    service.kill();
    service.configure(config);
    service.start_again(net.relay());
    assert_eq!(service.keeper_pid(), keeper, "the keeper outlives the daemon");
    service.ok(&["wait", "camera", "--for", "ready"]);
    let joined = kernel::joined_groups(net.relay(), "dev0");
    assert!(joined.contains(&Ipv4Addr::new(239, 1, 1, 1)));
    wait_until(SOON, "the group of no relay is left", || {
        !kernel::joined_groups(net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 2))
    });

    let lan = net.lan(1);
    let series = Series { count: 5_000, smallest: 1, largest: 1400 };
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(series));
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 20_000);
    let report = receiver.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    service.assert_balance();
    service.stop();
    wait_until(SOON, "a keeper that was started ends with an orderly stop", || {
        // Nobody may be there to reap it.
        kernel::process_status(keeper, "State").is_none_or(|state| state.starts_with('Z'))
    });
    assert!(!kernel::joined_groups(net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1)));
}

fn a_killed_keeper_is_told_and_the_next_one_is_found(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let joined = || kernel::joined_groups(net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1));
    let killed = service.keeper_pid();
    // SAFETY: a plain system call; the process is the keeper that our own daemon started and just named.
    assert_eq!(unsafe { libc::kill(killed as i32, libc::SIGKILL) }, 0);
    service.wait_for_state("camera", "failed", SOON);
    assert!(!joined(), "a membership lives as long as its socket");

    let keeper_program = std::path::Path::new(crate::service::MCR).with_file_name("mcr-netd");
    let socket = service.socket().with_file_name("netd.sock");
    let keeper = Process::start(net.relay().command(keeper_program).arg("--socket").arg(socket));
    service.wait_for_state("camera", "ready", SOON);
    assert!(joined());
    assert_eq!(service.keeper_pid(), keeper.pid());
    let lan = net.lan(1);
    let series = Series { count: 5_000, smallest: 1, largest: 1400 };
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(series));
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 20_000);
    let report = receiver.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    service.assert_balance();
}

#[test]
fn a_thousand_groups_are_joined_from_a_file_with_the_kernels_limits_as_they_are() {
    use std::fmt::Write;
    let net = Topology::device_relay_lan(1);
    let mut config = String::new();
    for i in 0..1000 {
        let (high, low) = (i / 250, i % 250);
        writeln!(
            config,
            "[[relay]]\nname = \"r{i}\"\ninput = {{ interface = \"dev0\", group = \"239.1.{high}.{low}\", port = 5001 }}\n\
             output = [{{ interface = \"lan1\", group = \"239.2.{high}.{low}\", port = 6001 }}]"
        )
        .unwrap();
    }
    let service = Service::start(net.relay(), &config);
    service.ok(&["wait", "r999", "--for", "ready"]);
    let joined = kernel::joined_groups(net.relay(), "dev0");
    let ours = joined.iter().filter(|group| group.octets()[..2] == [239, 1]).count();
    assert_eq!(ours, 1000);
    let status = service.http("GET", "/api/v1/status", "").1;
    assert_eq!(status["relays"]["ready"], 1000, "{status:#}");
}

#[test]
fn a_keeper_that_hangs_holds_up_one_request_and_is_used_again_when_it_answers() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let keeper = service.keeper_pid() as i32;
    // SAFETY: a plain system call; the process is the keeper that our own daemon started and just named.
    assert_eq!(unsafe { libc::kill(keeper, libc::SIGSTOP) }, 0);
    // Waits for its own effects only: five seconds.
    let told = service.refused(&["add", "second", "--from", "dev0:239.1.1.2:5001", "--to", "lan1:239.2.2.2:6001"]);
    assert!(told.contains("second is failed: joining a group: the keeper does not answer"), "{told}");
    let asked = std::time::Instant::now();
    let relay = service.relay("second");
    assert_eq!(relay["state"], "failed", "{relay:#}");
    assert!(asked.elapsed() < std::time::Duration::from_secs(1), "an answer took {:?}", asked.elapsed());
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(keeper, libc::SIGCONT) }, 0);
    service.wait_for_state("second", "ready", SOON * 6);
    assert_eq!(service.relay("camera")["state"], "ready");
}
