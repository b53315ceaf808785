//! The story in the README is what `mcr explain` really prints. `UPDATE_DOCS=1 cargo test` writes it anew.

use std::time::Duration;

use mcr_testbed::{DEVICE, Frame, Namespace, Process, Veth};

use crate::service::MCR;
use crate::stand::{Pump, nowhere};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const PROMPT: &str = "$ sudo mcr explain eth0:239.1.1.1:5001\n";

/// An application that listens on a host with strict checks, and a device that the host has no route to.
fn story() -> String {
    let (device, host) = (Namespace::new("device"), Namespace::new("host"));
    let cable = Veth::between(&device, "eth0", &host, "eth0");
    cable.far().add_address("10.9.0.1/24");
    host.sysctl("net/ipv4/conf/all/rp_filter", "1");
    let mut listening = host.command(MCR);
    let mut application = Process::start(listening.args(["listen", "eth0:239.1.1.1:5001"]));
    application.wait_for_line("listening", Duration::from_secs(5));
    let frame = Frame::udp(&format!("{DEVICE}:5000"), "239.1.1.1:5001", vec![7; 1316]).ttl(1);
    let _pump = Pump::start(cable.near(), vec![frame.bytes()]);
    let mut command = host.command(MCR);
    command.args(["explain", "eth0:239.1.1.1:5001", "--look", "200ms"]).env("MCR_SOCKET", nowhere());
    let output = command.output().expect("run mcr");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Numbers differ from run to run, and with them where lines end.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for c in text.split_whitespace().flat_map(|word| word.chars().chain([' '])) {
        match c {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn the_story_of_a_packet_that_disappears_is_true() {
    let told = story();
    let mut page = std::fs::read_to_string(PAGE).expect("the README");
    let start = page.find(PROMPT).expect("the story in the README") + PROMPT.len();
    let end = start + page[start..].find("```").expect("the end of the story");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        page.replace_range(start..end, &told);
        std::fs::write(PAGE, &page).expect("write the README");
        return;
    }
    let written = without_numbers(&page[start..end]);
    assert_eq!(written, without_numbers(&told), "run UPDATE_DOCS=1 cargo test -p mcr-cli --test explain readme");
}
