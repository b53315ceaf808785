//! What goes wrong, in words that say what to do.

use std::os::unix::net::UnixListener;

use insta::assert_snapshot;
use serde_json::json;

use crate::daemon::FakeDaemon;
use crate::mcr::run;

#[test]
fn no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    assert_snapshot!("no_socket", run(directory.path(), &["list"]));
    drop(UnixListener::bind(directory.path().join("mcr.sock")).unwrap());
    assert_snapshot!("stale_socket", run(directory.path(), &["list"]));
}

#[test]
fn no_daemon_of_ours() {
    let daemon = FakeDaemon::answering([
        ("GET relays", "200 OK", "<html>hello</html>".into()),
        ("GET relays/a", "404 Not Found", "<html>not here</html>".into()),
        ("GET relays/b", "", "220 mail.example ESMTP\r\n".into()),
        ("GET relays/c", "", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{".into()),
    ]);
    assert_snapshot!("other_json", run(daemon.directory(), &["list"]));
    assert_snapshot!("other_http", run(daemon.directory(), &["show", "a"]));
    assert_snapshot!("other_protocol", run(daemon.directory(), &["show", "b"]));
    assert_snapshot!("cut_off", run(daemon.directory(), &["show", "c"]));
}

#[test]
fn problems() {
    let fields = json!([
        {"field": "input.port", "message": "port 0 is out of range", "remedy": "use 1 to 65535"},
        {"field": "output[0].ttl", "message": "ttl 0 is out of range", "remedy": "use 1 to 255; 0 would never leave the host"},
    ]);
    let wrong = json!({"type": "invalid-relay", "title": "The relay is not valid", "status": 422,
        "detail": "2 fields of the relay are wrong", "errors": fields});
    let daemon = FakeDaemon::answering([("POST relays", "422 Unprocessable Content", wrong.to_string())]);
    let add = ["add", "a", "--from", "eth0:239.1.1.1:0", "--to", "eth1:239.2.2.2:6001,ttl=0"];
    assert_snapshot!("two_wrong_fields", run(daemon.directory(), &add));

    let wrong = json!({"type": "invalid-relay", "title": "The relay is not valid", "status": 422, "field": "input.port",
        "detail": "port 0 is out of range; use 1 to 65535"});
    let exists = json!({"type": "exists", "title": "The name is taken", "status": 409,
        "detail": "there is a relay \"a\" already; replace it with --replace (PUT) or take another name"});
    let daemon = FakeDaemon::answering([
        ("POST relays", "422 Unprocessable Content", wrong.to_string()),
        ("PUT relays/a", "409 Conflict", exists.to_string()),
    ]);
    assert_snapshot!("one_wrong_field", run(daemon.directory(), &add));
    assert_snapshot!("conflict", run(daemon.directory(), &[&add[..], &["--replace"]].concat()));
}

#[test]
fn wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("bad_name", &["show", "Camera"][..]),
        ("bad_endpoint", &["add", "a", "--from", "239.1.1.1:5001", "--to", "eth1:239.2.2.2:6001"]),
        ("bad_option", &["relay", "eth0:239.1.1.1:5001", "eth1:239.2.2.2:6001,tll=3"]),
        ("bad_time", &["wait", "a", "--timeout", "5"]),
        ("bad_size", &["send", "eth0:239.1.1.1:5001", "--size", "8"]),
        ("bad_rate", &["send", "eth0:239.1.1.1:5001", "--rate", "fast"]),
        ("bad_verb", &["lsit"]),
        ("no_output", &["relay", "eth0:239.1.1.1:5001"]),
        ("bad_values", &["relay", "eth0:239.1.1.1:0", "eth1:224.0.0.9:6001,ttl=0"]),
        ("send_bad_values", &["send", "eth0:239.1.1.1:0,ttl=300"]),
    ] {
        assert_snapshot!(name, run(directory.path(), arguments));
    }
}

#[test]
fn sockets() {
    let directory = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("no_interface", &["send", "none0:239.1.1.1:5001"][..]),
        ("listen_no_interface", &["listen", "none0:239.1.1.1:5001"]),
        ("send_vlan", &["send", "lo:239.1.1.1:5001,vlan=7"]),
    ] {
        assert_snapshot!(name, run(directory.path(), arguments));
    }
}
