//! What runs out: descriptors, memory, and the reader of the log; and a clock that is set. Relaying goes on, and what is wrong is
//! said.

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use mcr_testbed::{DEVICE, MemoryLimit, Topology, wait_until};

use crate::service::{CAMERA, SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send, send_while};

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

/// The daemon's memory; what the kernel needs for its tables is the keeper's. The kernel ends what needs more than it may have.
#[test]
fn a_thousand_relays_fit_into_64_mebibytes() {
    let net = Topology::device_relay_lan(1);
    let limit = MemoryLimit::new(64 << 20);
    const LIMITED: &str = "folder=$(dirname \"$1\"); shift
        setpriv --pdeathsig TERM KEEPER --socket \"$folder/netd.sock\" >/dev/null 2>&1 &
        until [ -S \"$folder/netd.sock\" ]; do sleep 0.02; done
        ENTER || exit 1; exec \"$@\"";
    let keeper = std::path::Path::new(crate::service::MCR).with_file_name("mcr-netd");
    let script = LIMITED.replace("KEEPER", keeper.to_str().unwrap()).replace("ENTER", &limit.enter_this_shell());
    let service = Service::start_with_script(net.relay(), &with_more(1_000), &script);
    wait_until(SOON * 4, "all are there", || {
        service.http("GET", "/api/v1/status", "").1["relays"]["ready"].as_u64() == Some(1_001)
    });
    assert_flow(&net);
    // Looked at from all sides, as dashboards do.
    for _ in 0..5 {
        assert_eq!(service.http("GET", "/api/v1/relays", "").0, 200);
        assert!(service.http_text("GET", "/metrics", "").1.contains("mcr_relay_received_packets_total"));
    }
    assert_eq!(service.assert_balance()["camera"], 2_000);
    println!("{}", limit.most_used());
}

/// Forwards by a year, back by two, and right again, for the daemon alone: its clock of the day, as `date -s` sets it.
#[test]
fn a_clock_that_is_set_by_a_year_changes_nothing_but_the_times_that_are_told() {
    let net = Topology::device_relay_lan(1);
    // Whoever reads the clock reads the file.
    const FAKE: &str = "folder=$(dirname \"$1\"); echo +0d >\"$folder/clock\"; shift; export FAKETIME_TIMESTAMP_FILE=\"$folder/clock\"
        export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1)
        [ -e \"$LD_PRELOAD\" ] || { echo install libfaketime >&2; exit 1; }
        exec \"$@\"";
    let service = Service::start_with_script(net.relay(), CAMERA, FAKE);
    service.ok(&["wait", "camera"]);
    let lan = net.lan(1);
    let receiver =
        Receiver::start(lan.namespace(), lan.host_address(), "239.2.2.1:6001".parse().unwrap(), Payloads::Count);
    let lent = ["add", "lent", "--lease", "1h", "--from", "dev0:239.1.1.9:5001", "--to", "lan1:239.2.2.9:6001"];
    service.ok(&lent);
    let year = || -> i32 {
        // Something happens, and is told with the time of the daemon.
        service.ok(&["add", "event", "--replace", "--from", "dev0:239.1.1.8:5001", "--to", "lan1:239.2.2.8:6001"]);
        service.ok(&["rm", "event"]);
        let events = service.ok(&["events", "-o", "json"]);
        let last: serde_json::Value = serde_json::from_str(events.lines().last().expect("an event")).unwrap();
        last["time"].as_str().expect("a time")[..4].parse().expect("a year")
    };
    let today = year();
    let goes_on = AtomicBool::new(true);
    let series = Series { count: 10_000_000, smallest: 100, largest: 1_400 };
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_while(&goes_on, net.device(), DEVICE, GROUP, series, 5_000));
        let steps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(SOON, "packets flow", || receiver.count() > 0);
            for (step, expected) in [("+366d", today + 1), ("-366d", today - 1), ("+0d", today)] {
                std::fs::write(service.folder().join("clock"), format!("{step}\n")).unwrap();
                assert!((year() - expected).abs() <= 1 && (step == "+0d" || year() != today), "{step} is seen");
                let refused = service.refused(&["wait", "lent", "--for", "first-packet", "--timeout", "200ms"]);
                assert!(refused.contains("no packet after 200ms"), "{refused}");
                assert_eq!(service.relay("camera")["state"], "flowing");
                let left = service.relay("lent")["lease"]["seconds_left"].as_f64().expect("a lease");
                assert!((3_000.0..=3_600.0).contains(&left), "{left} s of the lease are left");
            }
        }));
        goes_on.store(false, Ordering::Relaxed);
        steps.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sender.join().expect("the sender")
    });
    assert_eq!(receiver.finish(sent).count, sent);
    let events = service.ok(&["events"]);
    assert!(!events.contains("flow-silent") && !events.contains("lease-expired"), "{events}");
    assert_eq!(service.assert_balance()["camera"], sent);
}
