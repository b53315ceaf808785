//! `send` and `listen` together, over the loopback interface with unicast: it needs no privileges and leaves the host
//! as it is. Groups over real interfaces are for the network tests.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::mcr::command;

/// A listener that listens.
fn listening(port: u16, arguments: &[&str]) -> Child {
    let endpoint = format!("lo:127.0.0.1:{port}");
    let mut command = command(&["listen", &endpoint, "-o", "json"]);
    if !arguments.contains(&"--timeout") {
        command.args(["--timeout", "3s"]);
    }
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on lo:127.0.0.1:"), "{line}");
    child
}

fn send(port: u16, arguments: &[&str]) -> Output {
    command(&["send", &format!("lo:127.0.0.1:{port}"), "-o", "json"]).args(arguments).output().unwrap()
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A port that nobody has now.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn all_that_is_sent_arrives() {
    let port = free_port();
    let listener = listening(port, &["--count", "500"]);
    let sent = send(port, &["--count", "500", "--rate", "5k", "--size", "32-8972"]);
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(summary(&sent)["sent_packets"], 500);
    let heard = listener.wait_with_output().unwrap();
    assert!(heard.status.success(), "{heard:?}");
    let heard = summary(&heard);
    assert_eq!(heard["complete"], true);
    assert_eq!(heard["received_packets"], 500);
    assert_eq!(heard["received_bytes"], summary(&sent)["sent_bytes"]);
    for none in ["lost", "duplicate", "reordered", "corrupt", "foreign"] {
        assert_eq!(heard[format!("{none}_packets")], 0, "{none}");
    }
    assert_eq!(heard["sources"].as_object().unwrap().len(), 1);
}

#[test]
fn too_few_is_a_failure() {
    let port = free_port();
    let listener = listening(port, &["--count", "20", "--duration", "1s"]);
    assert!(send(port, &["--count", "10", "--rate", "max"]).status.success());
    let heard = listener.wait_with_output().unwrap();
    assert_eq!(heard.status.code(), Some(1));
    assert_eq!(summary(&heard)["received_packets"], 10);
}

#[test]
fn nothing_is_a_failure() {
    let heard = listening(free_port(), &["--duration", "100ms"]).wait_with_output().unwrap();
    assert_eq!(heard.status.code(), Some(1));
    assert_eq!(summary(&heard)["received_packets"], 0);
}

#[test]
fn foreign_traffic_is_counted() {
    let port = free_port();
    let listener = listening(port, &["--count", "3"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for payload in [&b"a"[..], b"", b"ccc"] {
        socket.send_to(payload, ("127.0.0.1", port)).unwrap();
    }
    let heard = listener.wait_with_output().unwrap();
    assert!(heard.status.success(), "{heard:?}");
    let heard = summary(&heard);
    assert_eq!((&heard["foreign_packets"], &heard["received_bytes"]), (&3.into(), &(3 * 28 + 4).into()));
}

/// What `mcr send` sends, taken by a socket of ours.
fn recorded(count: usize) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let receive = || {
        let mut buffer = [0; 2000];
        let bytes = socket.recv(&mut buffer).unwrap();
        buffer[..bytes].to_vec()
    };
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| send(port, &["--count", &count.to_string(), "--rate", "5k", "--size", "100"]));
        let payloads = (0..count).map(|_| receive()).collect();
        assert!(sent.join().unwrap().status.success());
        payloads
    })
}

/// What the listener says of these payloads.
fn heard(payloads: &[Vec<u8>]) -> Value {
    let port = free_port();
    let listener = listening(port, &["--timeout", "300ms"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (number, payload) in payloads.iter().enumerate() {
        socket.send_to(payload, ("127.0.0.1", port)).unwrap();
        if number % 16 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    summary(&listener.wait_with_output().unwrap())
}

fn counts(heard: &Value) -> [u64; 5] {
    ["received", "lost", "duplicate", "reordered", "corrupt"]
        .map(|what| heard[format!("{what}_packets")].as_u64().unwrap_or_else(|| panic!("{what}: {heard}")))
}

/// Loses 20, sends 30 twice, moves 15 back, and damages 5; the same for any payloads.
fn injured(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        match number % 100 {
            10 | 55 if number < 1000 => {}
            20 | 21 | 60 if number < 1000 => sent.extend([payload.clone(), payload.clone()]),
            // It comes after three that follow it.
            30 if number < 1500 => {}
            33 if number < 1500 => sent.extend([payload.clone(), payloads[number - 3].clone()]),
            _ => sent.push(payload.clone()),
        }
    }
    sent
}

#[test]
fn what_was_injected_is_counted_exactly() {
    let mut payloads = recorded(2000);
    let heard_all = heard(&injured(&payloads));
    assert_eq!(counts(&heard_all), [2010, 20, 30, 15, 0], "{heard_all}");
    assert_eq!(heard_all["complete"], false);
    // A damaged packet is corrupt, and missing.
    [5, 305, 805, 1205, 1905].into_iter().for_each(|number: usize| payloads[number][60] ^= 1);
    assert_eq!(counts(&heard(&injured(&payloads))), [2010, 25, 30, 15, 5]);
    for spread in ["latency_seconds", "jitter_seconds"] {
        let spread = ["least", "p50", "p99", "p999", "most"].map(|key| heard_all[spread][key].as_f64().unwrap());
        assert!(spread.is_sorted() && spread[4] > 0.0, "{spread:?}");
    }
}

#[test]
fn what_was_injected_into_rtp_of_others_is_counted_exactly() {
    let rtp = |number: u16| {
        [&[0x80, 97][..], &number.wrapping_add(64_500).to_be_bytes(), &[0; 4], b"SSRC", &[0; 88]].concat()
    };
    let payloads: Vec<Vec<u8>> = (0..2000).map(rtp).collect();
    let heard = heard(&injured(&payloads));
    assert_eq!(counts(&heard), [2010, 20, 30, 15, 0], "{heard}");
    assert_eq!(
        (&heard["foreign"][0]["kind"], &heard["foreign"][0]["lost_packets"]),
        (&"RTP".into(), &20.into()),
        "{heard}"
    );
}

#[test]
fn a_source_of_others_needs_a_privilege() {
    let mut unprivileged = std::process::Command::new("setpriv");
    unprivileged.args(["--bounding-set", "-all", "--inh-caps", "-all", env!("CARGO_BIN_EXE_mcr"), "send"]);
    let output = unprivileged.args(["lo:127.0.0.1:9", "--source", "203.0.113.77", "--count", "1"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("203.0.113.77 is no address of this host; to send as if it were, run as root"), "{told}");
}
