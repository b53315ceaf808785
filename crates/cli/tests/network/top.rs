//! `mcr top` on a real terminal, against a real daemon.

use mcr_model::Datapath;
use mcr_testbed::{Namespace, Pty, Sender, Signal, Topology};

use crate::service::{MCR, SOON, Service};

const CONFIG: &str = r#"
[[relay]]
name = "camera"
input = { interface = "dev0", group = "239.1.1.1", port = 5001 }
output = [{ interface = "lan1", group = "239.2.2.2", port = 6001 }]

[[relay]]
name = "other"
input = { interface = "dev0", group = "239.1.1.9", port = 5001 }
output = [{ interface = "lan1", group = "239.2.2.9", port = 6001 }]
"#;

fn top(service: &Service, namespace: &Namespace) -> Pty {
    let mut command = namespace.command(MCR);
    command.args(["top", "--interval", "100ms"]).env("MCR_SOCKET", service.socket());
    Pty::start(&mut command, 80, 24)
}

#[test]
fn relays_are_followed_live_through_the_end_of_the_daemon_and_back() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start_on(Datapath::Tcx, net.relay(), CONFIG);
    let mut top = top(&service, net.relay());
    let screen = top.wait_for("2 relays  2 ready", SOON);
    assert!(screen.starts_with("mcr top  ") && screen.contains("F10Quit"), "{screen}");

    let sending = Sender::new(net.device(), "239.1.1.1:5001").datagrams_per_second(2_000).start();
    let screen = top.wait_for("1 flowing  1 ready", SOON);
    let row = screen.lines().find(|line| line.starts_with("camera")).expect("its row");
    assert!(row.contains("flowing") && row.contains("dev0:239.1.1.1:5001"), "{screen}");
    top.press("/OTH");
    top.wait_for("filter: OTH_", SOON);
    assert!(!top.screen().lines().any(|line| line.starts_with("camera")), "{}", top.screen());
    top.press("\x7f\x7f\x7fcam\r");
    top.wait_for("[cam] camera is flowing", SOON);
    top.press("\r");
    top.wait_for("█", SOON);
    let screen = top.wait_for("relay-state", SOON);
    assert!(screen.contains("camera is flowing: ") && screen.contains("to lan1:239.2.2.2:6001: sent "), "{screen}");

    service.kill();
    top.wait_for("no daemon for ", SOON);
    service.start_again(net.relay());
    top.wait_for("the daemon was started again", SOON);
    sending.stop();
    top.press("q");
    assert!(top.wait(SOON).success());
}

#[test]
fn it_gives_the_terminal_back_when_it_is_told_to_end() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), CONFIG);
    let mut top = top(&service, net.relay());
    top.wait_for("2 relays", SOON);
    top.signal(Signal::Terminate);
    assert!(top.wait(SOON).success());
    assert_eq!(top.screen().trim(), "", "the screen of before is back");
}

#[test]
fn without_a_terminal_or_a_daemon_it_says_so() {
    let net = Topology::device_relay_lan(1);
    let output = net.relay().command(MCR).args(["top", "--socket", "/nowhere"]).output().expect("run mcr");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("mcr list -o json"), "{told}");
    let mut command = net.relay().command(MCR);
    let mut top = Pty::start(command.args(["top", "--socket", "/nowhere"]), 80, 24);
    top.wait_for("no daemon is running", SOON);
    assert_eq!(top.wait(SOON).code(), Some(1));
}
