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
    let mut command = command(&["listen", &endpoint, "-o", "json", "--timeout", "3s"]);
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
