//! What runs out: descriptors, and the reader of the log. Relaying goes on, and what is wrong is said.

use std::fmt::Write;
use std::os::unix::net::UnixStream;

use mcr_testbed::{DEVICE, Topology, wait_until};

use crate::service::{CAMERA, SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send};

/// The camera, and so many relays more with a group each.
fn with_more(relays: u32) -> String {
    let mut config = CAMERA.to_owned();
    for number in 0..relays {
        let (high, low) = (number / 250, number % 250);
        let input = format!("{{ interface = \"dev0\", group = \"239.3.{high}.{low}\", port = 5001 }}");
        let output = format!("{{ interface = \"lan1\", group = \"239.4.{high}.{low}\", port = 6001 }}");
        writeln!(config, "[[relay]]\nname = \"r{number}\"\ninput = {input}\noutput = [{output}]").unwrap();
    }
    config
}

/// A flow of the camera loses nothing.
#[track_caller]
fn assert_flow(net: &Topology) {
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
    send(net.device(), DEVICE, GROUP, Series::of(2_000, 200), 10_000);
    assert_eq!(receiver.finish(2_000).count, 2_000);
}

#[test]
fn groups_beyond_the_limit_on_descriptors_are_told_one_by_one() {
    let net = Topology::device_relay_lan(1);
    // 20 groups to a socket: the keeper has descriptors for some hundred of them.
    const FEW: &str = "shift && ulimit -n 64 && exec \"$@\"";
    let service = Service::start_with_script(net.relay(), &with_more(1_000), FEW);
    service.wait_for_state("camera", "ready", SOON);
    wait_until(SOON * 2, "the rest is told", || {
        service.http("GET", "/api/v1/status", "").1["relays"]["failed"].as_u64() > Some(10)
    });
    let list: serde_json::Value = serde_json::from_str(&service.ok(&["list", "-o", "json"])).unwrap();
    let relays = list["relays"].as_array().unwrap();
    for relay in relays.iter().filter(|relay| relay["state"] == "failed") {
        assert!(relay["reason"].as_str().unwrap().contains("can not join 239.3."), "{relay:#}");
        assert!(relay["remedy"].as_str().unwrap().contains("LimitNOFILE"), "{relay:#}");
    }
    assert_flow(&net);
    service.assert_balance();
}

#[test]
fn connections_that_take_all_descriptors_do_not_touch_the_relays() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_with_script(net.relay(), CAMERA, "shift && ulimit -n 64 && exec \"$@\"");
    service.ok(&["wait", "camera"]);
    // As many as are let in; the rest waits in the queue of the socket.
    let hold: Vec<UnixStream> = (0..100).map_while(|_| UnixStream::connect(service.socket()).ok()).collect();
    assert!(hold.len() > 60, "{}", hold.len());
    assert_flow(&net);
    drop(hold);
    wait_until(SOON * 2, "it answers again", || service.mcr(&["list"]).status.success());
    assert_eq!(service.assert_balance()["camera"], 2_000);
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let net = Topology::device_relay_lan(1);
    // Somebody has the pipe open and does not read it.
    const UNREAD: &str = "pipe=\"$1.pipe\"; mkfifo \"$pipe\"; shift; sleep 60 < \"$pipe\" & exec \"$@\" 2> \"$pipe\"";
    let service = Service::start_with_script(net.relay(), CAMERA, UNREAD);
    service.ok(&["wait", "camera"]);
    // Each of them says how it does: more than a pipe holds.
    service.reload(&with_more(1_000));
    wait_until(SOON * 4, "all are there", || {
        service.http("GET", "/api/v1/status", "").1["relays"]["ready"].as_u64() == Some(1_001)
    });
    let status = service.http("GET", "/api/v1/status", "").1;
    let troubles = status["troubles"].as_array().expect("troubles");
    assert!(troubles.iter().any(|trouble| trouble["kind"] == "log-unread"), "{status:#}");
    assert_flow(&net);
    assert_eq!(service.assert_balance()["camera"], 2_000);
}
