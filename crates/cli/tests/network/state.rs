//! What scripts and operators rely on beside the packets: leases, waiting, events, silence, history.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mcr_testbed::{DEVICE, RawReceiver, Topology, kernel, wait_until};
use serde_json::Value;

use crate::api::{Api, numbered};
use crate::scale::pick;
use crate::service::{MCR, SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 0, 1);

fn to_group() -> SocketAddr {
    SocketAddr::new(GROUP.into(), 5001)
}

/// Whether an Ethernet frame is an IGMPv3 report that leaves [`GROUP`]: a change to "only these sources", without any
/// (RFC 3376 section 4.2.12).
fn leaves_the_group(frame: &[u8]) -> bool {
    const CHANGE_TO_INCLUDE: u8 = 3;
    let Some(ip) = frame.get(14..).filter(|ip| ip.len() > 20 && ip[9] == libc::IPPROTO_IGMP as u8) else {
        return false;
    };
    let igmp = &ip[usize::from(ip[0] & 15) * 4..];
    let records = igmp.get(8..).unwrap_or_default().chunks_exact(8);
    igmp.first() == Some(&0x22)
        && records.clone().any(|record| record[0] == CHANGE_TO_INCLUDE && record[4..] == GROUP.octets())
}

fn wait_for_leave(wire: &RawReceiver, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if wire.next_frame(left).is_some_and(|frame| leaves_the_group(&frame.bytes)) {
            return true;
        }
    }
    false
}

#[test]
fn a_client_that_is_killed_leaves_nothing_behind_after_its_lease() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let wire = RawReceiver::new(net.device_interface());
    let mut client = Command::new(MCR)
        .args(["add", "lent", "--from", "dev0:239.1.0.1:5001", "--to", "lan1:239.2.0.1:6001"])
        .args(["--lease", "2s", "--hold"])
        .env("MCR_SOCKET", service.socket())
        .stdout(Stdio::null())
        .spawn()
        .expect("run mcr add");
    wait_until(SOON, "the relay is there", || service.http("GET", "/api/v1/relays/lent", "").0 == 200);
    std::thread::sleep(Duration::from_millis(2500));
    let relay = service.relay("lent");
    let left = relay["lease"]["seconds_left"].as_f64().expect("it is renewed: it is there after its lease");
    assert!(left > 0.0 && left <= 2.0, "{relay:#}");
    client.kill().expect("kill the client");
    client.wait().expect("wait for the client");
    let killed = Instant::now();
    assert!(wait_for_leave(&wire, Duration::from_secs(6)), "no leave on the wire");
    assert!(killed.elapsed() < Duration::from_secs(pick(5, 3)), "the group was left after {:?}", killed.elapsed());
    assert_eq!(service.http("GET", "/api/v1/relays/lent", "").0, 404);
    assert!(!kernel::joined_groups(net.relay(), "dev0").contains(&GROUP));
    assert!(service.ok(&["events"]).contains("lease-expired"));
}

#[test]
fn a_holder_that_is_told_to_end_takes_its_relay_with_it_and_one_that_lost_it_says_so() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let hold = |lease: &str| {
        let client = Command::new(MCR)
            .args(["add", "held", "--from", "dev0:239.1.0.1:5001", "--to", "lan1:239.2.0.1:6001"])
            .args(["--lease", lease, "--hold"])
            .env("MCR_SOCKET", service.socket())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run mcr add");
        wait_until(SOON, "the relay is there", || service.http("GET", "/api/v1/relays/held", "").0 == 200);
        client
    };
    let mut client = hold("1h");
    // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
    assert_eq!(unsafe { libc::kill(client.id() as i32, libc::SIGTERM) }, 0);
    assert!(client.wait().expect("wait for the client").success());
    assert_eq!(service.http("GET", "/api/v1/relays/held", "").0, 404);

    let client = hold("3s");
    service.ok(&["rm", "held"]);
    let ended = client.wait_with_output().expect("wait for the client");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("there is no relay held"), "{said}");
}

#[test]
fn leases_that_make_no_sense_are_refused_with_words() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let (status, problem) = service.http("POST", "/api/v1/relays", &numbered("a", 0, Some("100ms")));
    assert_eq!((status, problem["field"].as_str()), (422, Some("lease")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("a lease of 100ms is out of range; use 1s to 24h"));
    service.add("good", "dev0:239.1.0.2:5001", &["lan1:239.2.0.2:6001"]);
    let (status, problem) = service.http("PUT", "/api/v1/relays/good/lease", "");
    assert_eq!((status, problem["type"].as_str()), (409, Some("/problems/no-lease")), "{problem:#}");
    let file = service.folder().join("lent.toml");
    let text = "[[relay]]\nname = \"a\"\nlease = \"30s\"\n\
                input = { interface = \"eth0\", group = \"239.1.1.1\", port = 5001 }\n\
                output = [ { interface = \"eth1\", group = \"239.2.2.2\", port = 6001 } ]\n";
    std::fs::write(&file, text).unwrap();
    let said = service.refused(&["check", file.to_str().unwrap()]);
    assert!(said.contains("can have no lease") && said.contains("mcr add --lease"), "{said}");
}

/// What "ready" promises: a packet that is sent after it is never lost.
#[test]
fn nothing_is_lost_after_ready_in_two_hundred_lives_of_a_relay() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let mut api = Api::of(&service);
    let lan = net.lan(1);
    let listen =
        |group: &str| Receiver::start(lan.namespace(), lan.host_address(), group.parse().unwrap(), Payloads::Count);
    let receiver = listen("239.2.0.1:6001");
    for life in 1..=200 {
        api.ok("POST", "/api/v1/relays", &numbered("life", 0, Some("30s")));
        api.ok("GET", "/api/v1/relays/life/wait?for=ready&timeout=5s", "");
        send(net.device(), DEVICE, to_group(), Series::of(1, 200), 1_000_000);
        // The daemon may not be told to forget it before it has seen it.
        api.ok("GET", "/api/v1/relays/life/wait?for=packets:1&timeout=5s", "");
        api.ok("DELETE", "/api/v1/relays/life", "");
        assert_eq!(api.ask("GET", "/api/v1/relays/life", "").0, 404, "life {life}");
    }
    assert_eq!(receiver.finish(200).count, 200);
}

#[test]
fn waiting_ends_when_it_is_so_and_says_how_it_is_when_not() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let mut api = Api::of(&service);
    api.ok("POST", "/api/v1/relays", &numbered("a", 0, None));
    let (status, problem) = api.ask("GET", "/api/v1/relays/a/wait?for=packets:3&timeout=100ms", "");
    assert_eq!((status, &problem["relay"]["state"]), (408, &Value::from("ready")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("has received 0 of 3 packets"), "{problem:#}");
    api.begin("GET", "/api/v1/relays/a/wait?for=packets:3&timeout=10s", "");
    std::thread::sleep(Duration::from_millis(50));
    send(net.device(), DEVICE, to_group(), Series::of(3, 200), 1_000_000);
    let sent = Instant::now();
    assert!(api.line().contains(" 200 "));
    assert!(sent.elapsed() < pick(SOON, Duration::from_millis(500)), "it took {:?}", sent.elapsed());
    let silent = service.ok(&["wait", "a", "--for", "silent", "--timeout", "5s"]);
    assert!(silent.contains("a is silent: no packet"), "{silent}");
    let said = service.refused(&["wait", "b", "--timeout", "1s"]);
    assert!(said.contains("there is no relay b"), "{said}");
}

/// The events of a stream, until one of that kind.
fn events_until(api: &mut Api, kind: &str) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|event| event["kind"] != kind) {
        let line = api.line();
        events.extend(line.strip_prefix("data: ").map(|data| serde_json::from_str(data).expect("JSON")));
    }
    events
}

#[test]
fn a_flow_that_stops_and_comes_back_is_told_with_its_gap_and_stays_in_history() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let mut stream = Api::of(&service);
    stream.begin("GET", "/api/v1/events", "");
    wait_until(SOON, "the stream has begun", || stream.line().starts_with(": events"));
    let watched = ["--silent-after", "300ms"];
    service.ok(&[&["add", "a", "--from", "dev0:239.1.0.1:5001", "--to", "lan1:239.2.0.1:6001"][..], &watched].concat());
    service.ok(&["wait", "a"]);
    send(net.device(), DEVICE, to_group(), Series::of(100, 200), 1000);
    let stopped = Instant::now();
    let events = events_until(&mut stream, "flow-silent");
    let late = stopped.elapsed().saturating_sub(Duration::from_millis(300));
    assert!(late < pick(SOON, Duration::from_millis(400)), "silence was told {late:?} late");
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, ["relay-created", "relay-state", "relay-state", "flow-silent"], "{events:#?}");
    std::thread::sleep(Duration::from_millis(200));
    let gap = stopped.elapsed().as_secs_f64();
    send(net.device(), DEVICE, to_group(), Series::of(10, 200), 1000);
    let events = events_until(&mut stream, "flow-recovered");
    let told = events.last().unwrap()["gap_seconds"].as_f64().unwrap();
    assert!((told - gap).abs() < pick(1.0, 0.3), "a gap of {gap} s was told as {told} s");

    // Whoever comes later reads on from where it was.
    let last = events.last().unwrap()["id"].as_str().unwrap().to_owned();
    service.ok(&["rm", "a"]);
    let later = service.ok(&["events", "--after", &last, "-o", "json"]);
    let kinds: Vec<Value> =
        later.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert!(
        kinds.contains(&Value::from("relay-removed")) && !kinds.contains(&Value::from("flow-recovered")),
        "{later}"
    );
}

#[test]
fn history_has_every_packet() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    service.add("a", "dev0:239.1.0.1:5001", &["lan1:239.2.0.1:6001"]);
    send(net.device(), DEVICE, to_group(), Series::of(1000, 200), 1000);
    let sum = || -> u64 {
        let history = service.http("GET", "/api/v1/relays/a/history?step=1s", "").1;
        history["received_packets"].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    };
    wait_until(SOON, "all packets are in the history", || sum() == 1000);
    let shown = service.ok(&["stats", "a", "--history"]);
    assert!(shown.contains("received") && shown.contains('█'), "{shown}");
}

#[test]
fn a_reader_of_events_that_reads_nothing_holds_up_nobody() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let mut lazy = Api::of(&service);
    lazy.begin("GET", "/api/v1/events", "");
    wait_until(SOON, "the stream has begun", || lazy.line().starts_with(": events"));
    // Far more than the sockets between the two and the daemon's memory of events hold. Relays of an interface that is
    // not there cost nothing but their events.
    let many: String = (0..3000)
        .map(|i| {
            let (high, low) = (i / 250, i % 250);
            format!(
                "[[relay]]\nname = \"r{i}\"\n\
                 input = {{ interface = \"nowhere0\", group = \"239.1.{high}.{low}\", port = 5001 }}\n\
                 output = [{{ interface = \"nowhere1\", group = \"239.2.{high}.{low}\", port = 6001 }}]\n"
            )
        })
        .collect();
    let mut api = Api::of(&service);
    let mut slowest = Duration::ZERO;
    for round in 0..6 {
        let (config, count) = if round % 2 == 0 { (many.as_str(), 3000) } else { ("", 0) };
        service.reload(config);
        wait_until(SOON * 4, "the file is read again", || {
            let asked = Instant::now();
            let status = api.ok("GET", "/api/v1/status", "");
            slowest = slowest.max(asked.elapsed());
            status["relays"]["pending"] == count
        });
    }
    assert!(slowest < Duration::from_secs(pick(5, 2)), "an answer took {slowest:?}");
    let events = events_until(&mut lazy, "missed");
    let missed = events.last().unwrap()["events"].as_u64().expect("how many");
    assert!(missed > 100, "{missed}");
}

/// A thousand relays by fifty clients: made, renewed, waited for and removed. When all are there, what the daemon says of
/// them is what the kernel knows; when all are gone, nothing is left.
#[test]
fn a_thousand_relays_by_fifty_clients_leave_nothing_behind() {
    const CLIENTS: usize = 50;
    const OF_EACH: usize = 20;
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let joined = || {
        let groups = kernel::joined_groups(net.relay(), "dev0").into_iter();
        groups.filter(|group| group.octets()[..2] == [239, 1]).count()
    };
    let make = |client: usize| {
        let mut api = Api::of(&service);
        let names: Vec<String> = (0..OF_EACH).map(|i| format!("c{client}-{i}")).collect();
        for (i, name) in names.iter().enumerate() {
            let relay = api.ok("POST", "/api/v1/relays", &numbered(name, client * OF_EACH + i, Some("1h")));
            assert_eq!(relay["state"], "ready", "{relay:#}");
        }
        for name in &names {
            api.ok("PUT", &format!("/api/v1/relays/{name}/lease"), "{\"lease\": \"30s\"}");
            let relay = api.ok("GET", &format!("/api/v1/relays/{name}/wait?for=ready"), "");
            assert_eq!(relay["lease"]["seconds"], 30.0);
        }
        (api, names)
    };
    let made: Vec<(Api, Vec<String>)> = std::thread::scope(|scope| {
        let make = &make;
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || make(client))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let status = service.http("GET", "/api/v1/status", "").1;
    let all = CLIENTS * OF_EACH;
    assert_eq!((&status["relays"]["ready"], joined()), (&Value::from(all), all), "{status:#}");
    std::thread::scope(|scope| {
        for (mut api, names) in made {
            scope.spawn(move || {
                names.iter().for_each(|name| drop(api.ok("DELETE", &format!("/api/v1/relays/{name}"), "")))
            });
        }
    });
    let list: Value = serde_json::from_str(&service.ok(&["list", "-o", "json"])).unwrap();
    assert_eq!(list["relays"].as_array().map(Vec::len), Some(0), "{list:#}");
    assert_eq!(joined(), 0, "{:?}", kernel::joined_groups(net.relay(), "dev0"));
}
