//! What outlives the daemon, through the real binaries: relays of the API and revisions survive kills, full disks and
//! damage; plans, trials and ways back lose no packet of a relay that they do not touch.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mcr_testbed::{DEVICE, Topology, wait_until};
use serde_json::{Value, json};

use crate::service::{SOON, Service, text};
use crate::traffic::{Payloads, Receiver, Series, send};

fn file(relays: &[(&str, u8)]) -> String {
    relays
        .iter()
        .map(|(name, last)| {
            format!(
                "[[relay]]\nname = \"{name}\"\ninput = {{ interface = \"dev0\", group = \"239.1.1.{last}\", port = 5001 }}\n\
                 output = [ {{ interface = \"lan1\", group = \"239.2.2.{last}\", port = 6001 }} ]\n"
            )
        })
        .collect()
}

fn body(name: &str, last: u8) -> String {
    json!({
        "name": name,
        "input": {"interface": "dev0", "group": format!("239.1.1.{last}"), "port": 5001},
        "output": [{"interface": "lan1", "group": format!("239.2.2.{last}"), "port": 6001}],
    })
    .to_string()
}

fn names(service: &Service) -> Vec<String> {
    let list: Value = serde_json::from_str(&service.ok(&["list", "-o", "json"])).expect("JSON");
    let relays = list["relays"].as_array().expect("relays");
    relays
        .iter()
        .map(|relay| format!("{} {}", relay["name"].as_str().unwrap(), relay["origin"].as_str().unwrap()))
        .collect()
}

/// The daemon is killed in the middle of creations again and again: what was answered with 201 is there.
#[test]
fn what_was_created_survives_a_kill() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start(net.relay(), &file(&[("of-file", 1)]));
    let mut answered = Vec::new();
    for round in 0..6 {
        let socket = service.socket();
        let pid = service.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + 13 * round));
            // SAFETY: a plain system call; the service waits for its child only after this thread has ended.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        });
        for i in 0..200 {
            let name = format!("r{round}-{i}");
            if create(&socket, &body(&name, 2 + answered.len() as u8 % 200)) != 201 {
                break;
            }
            answered.push(name);
        }
        killer.join().expect("the killer");
        service.restart_after_kill(net.relay());
        let there = names(&service);
        assert!(there.contains(&"of-file file".to_owned()));
        for name in &answered {
            assert!(there.contains(&format!("{name} api")), "{name} was answered with 201 and is gone: {there:?}");
        }
        assert!(there.len() <= answered.len() + 1 + round as usize + 1, "{there:?}");
    }
    assert!(answered.len() > 6, "{answered:?}");
    service.ok(&["rm", &answered[0]]);
    service.restart_after_kill(net.relay());
    assert!(!names(&service).contains(&format!("{} api", answered[0])), "what was removed is back");
}

/// The status of one creation; 0 when the daemon is gone.
fn create(socket: &Path, body: &str) -> u16 {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json", "-d", body]);
    let output = curl.arg("--unix-socket").arg(socket).arg("http://mcr/api/v1/relays").output().expect("run curl");
    text(&output.stdout).parse().expect("a status")
}
