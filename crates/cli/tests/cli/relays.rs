//! The client verbs with good answers.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::daemon::FakeDaemon;
use crate::mcr::{command, run, shown};

fn camera() -> Value {
    json!({
        "name": "camera-3", "origin": "file", "state": "degraded", "reason": "1 of 2 outputs drops packets",
        "remedy": "see its outputs", "datapath": "packet", "from": "eth0:192.168.168.55@239.1.1.1:5001",
        "received": {"packets": 1_234_567, "bytes": 1_577_776_626, "packets_per_second": 12_345.6, "bits_per_second": 126_200_000.0},
        "last_packet_seconds": 0.0002,
        "outputs": [
            {"to": "eth1:239.2.2.2:6001", "ok": true, "source": "10.0.0.9",
             "sent": {"packets": 1_234_567, "bytes": 1_577_776_626, "packets_per_second": 12_345.6, "bits_per_second": 126_200_000.0},
             "dropped_packets": 0, "dropped": {}},
            {"to": "eth2:10.0.2.7:6001", "ok": false, "reason": "10.0.2.7 does not answer on eth2",
             "remedy": "is it switched on, and in the network of eth2?", "source": "10.0.2.1",
             "sent": {"packets": 1_234_560, "bytes": 1_577_767_680, "packets_per_second": 12_345.6, "bits_per_second": 126_200_000.0},
             "dropped_packets": 7, "dropped": {"no_neighbour": 5, "too_big": 2}},
        ],
        "relay": {
            "name": "camera-3",
            "input": {"interface": "eth0", "group": "239.1.1.1", "port": 5001, "sources": ["192.168.168.55"]},
            "output": [
                {"interface": "eth1", "group": "239.2.2.2", "port": 6001, "ttl": 16, "dscp": 34},
                {"interface": "eth2", "address": "10.0.2.7", "port": 6001, "ttl": 8, "source_port": 7000},
            ],
        },
    })
}

fn waiting() -> Value {
    json!({
        "name": "plc", "origin": "api", "state": "pending", "reason": "interface ot0 does not exist",
        "remedy": "it starts by itself when ot0 is there", "datapath": "packet", "from": "ot0:239.5.5.5:7000",
        "received": {"packets": 0, "bytes": 0},
        "outputs": [
            {"to": "eth1:239.6.6.6:7000", "ok": true, "sent": {"packets": 0, "bytes": 0}, "dropped_packets": 0, "dropped": {}},
        ],
        "relay": {
            "name": "plc",
            "input": {"interface": "ot0", "group": "239.5.5.5", "port": 7000},
            "output": [{"interface": "eth1", "group": "239.6.6.6", "port": 7000, "ttl": 16}],
        },
    })
}

fn ready() -> Value {
    let mut relay = waiting();
    relay["state"] = "ready".into();
    relay["reason"] = "joined and installed; nothing has arrived yet".into();
    relay.as_object_mut().unwrap().remove("remedy");
    relay
}

fn two() -> FakeDaemon {
    FakeDaemon::answering([
        ("GET relays", "200 OK", json!({"relays": [camera(), waiting()]}).to_string()),
        ("GET relays/camera-3", "200 OK", camera().to_string()),
        ("GET relays/plc", "200 OK", ready().to_string()),
    ])
}

#[test]
fn list() {
    let daemon = two();
    assert_snapshot!(run(daemon.directory(), &["list"]));
}

#[test]
fn an_empty_list_says_how_to_fill_it() {
    let daemon = FakeDaemon::answering([("GET relays", "200 OK", r#"{"relays":[]}"#.into())]);
    assert_snapshot!(run(daemon.directory(), &["list"]));
}

#[test]
fn show() {
    let daemon = two();
    assert_snapshot!("show", run(daemon.directory(), &["show", "camera-3"]));
    let mut watched = ready();
    let settings = json!({
        "on_demand": true, "join": "seen", "silent_after": "3s",
        "expect": {"min_bits_per_second": 1_000_000, "max_bits_per_second": 5_000_000},
        "breaker": {"max_packets_per_second": 50_000, "recover_after": "30s"},
        "querier": {"own": true, "timeout": "60s"},
    });
    watched["relay"].as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let with_settings = FakeDaemon::answering([("GET relays/plc", "200 OK", watched.to_string())]);
    assert_snapshot!("show_watched", run(with_settings.directory(), &["show", "plc"]));
    assert_snapshot!("show_ready", run(daemon.directory(), &["show", "plc"]));
}

#[test]
fn stats() {
    let daemon = two();
    assert_snapshot!("stats", run(daemon.directory(), &["stats"]));
    assert_snapshot!("stats_one", run(daemon.directory(), &["stats", "plc"]));
}

#[test]
fn json_is_what_the_api_says() {
    let daemon = two();
    for (arguments, expected) in [
        (&["list", "-o", "json"][..], json!({"relays": [camera(), waiting()]})),
        (&["show", "plc", "--output=json"], ready()),
        (&["stats", "camera-3", "-ojson"], camera()),
    ] {
        let output = command(arguments).args(["--socket".as_ref(), daemon.socket().as_os_str()]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{expected}\n"), "{arguments:?}");
        assert!(output.status.success());
    }
}

#[test]
fn add_posts_the_relay() {
    let daemon = FakeDaemon::answering([
        ("POST relays", "201 Created", ready().to_string()),
        ("PUT relays/plc", "200 OK", waiting().to_string()),
    ]);
    let arguments = ["add", "plc", "--from", "ot0:10.0.0.1@239.5.5.5:7000,vlan=7"];
    let outputs = ["--to", "eth1:239.6.6.6:7000,ttl=8,source-port=9", "--to", "eth2:10.0.0.8:7000", "--allow-ptp"];
    assert_snapshot!("add", run(daemon.directory(), &[&arguments[..], &outputs].concat()));
    assert_snapshot!("add_replace", run(daemon.directory(), &[&arguments[..], &outputs, &["--replace"]].concat()));
    assert_snapshot!("add_requests", daemon.requests().join("\n"));
}

#[test]
fn rm_tries_each_name() {
    let gone = json!({"type": "not-found", "title": "No such relay", "status": 404,
        "detail": "there is no relay \"b\"; GET relays lists those that there are"});
    let daemon = FakeDaemon::answering([
        ("DELETE relays/a", "204 No Content", String::new()),
        ("DELETE relays/b", "404 Not Found", gone.to_string()),
        ("DELETE relays/c", "204 No Content", String::new()),
    ]);
    assert_snapshot!(run(daemon.directory(), &["rm", "a", "b", "c"]));
    assert_eq!(daemon.requests(), ["DELETE relays/a", "DELETE relays/b", "DELETE relays/c"]);
    assert_snapshot!("rm_json", run(daemon.directory(), &["rm", "a", "b", "-o", "json"]));
}

#[test]
fn wait() {
    let late = json!({"type": "timeout", "title": "Not in time", "status": 504,
        "detail": "plc is ready after 500 ms: nothing has arrived yet; is the device sending?"});
    let daemon = FakeDaemon::answering([
        ("GET relays/plc/wait?for=ready&timeout=5s", "200 OK", ready().to_string()),
        ("GET relays/plc/wait?for=first-packet&timeout=500ms", "504 Gateway Timeout", late.to_string()),
    ]);
    assert_snapshot!("wait", run(daemon.directory(), &["wait", "plc"]));
    let late = ["wait", "plc", "--for", "first-packet", "--timeout", "500ms"];
    assert_snapshot!("wait_late", run(daemon.directory(), &late));
}

#[test]
fn watch_ends_by_a_signal_and_writes_lines_of_json() {
    let daemon = two();
    let mut command = command(&["stats", "plc", "--watch", "--interval", "20ms", "-o", "json"]);
    let child = command.env("MCR_SOCKET", daemon.socket()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while daemon.requests().len() < 3 {
        assert!(std::time::Instant::now() < deadline, "only {} requests", daemon.requests().len());
        std::thread::yield_now();
    }
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: no memory is involved; the child was not waited for yet, so its id is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", shown(&output, daemon.directory()));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.lines().count() >= 2);
    let expected = ready().to_string();
    assert!(lines.lines().all(|line| line == expected), "{lines}");
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let daemon = two();
    let mut child = command(&["completions", "bash"])
        .env("MCR_SOCKET", daemon.socket())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
