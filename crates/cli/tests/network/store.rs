//! What outlives the daemon, through the real binaries: relays of the API and revisions survive kills, full disks and
//! damage; plans, trials and ways back lose no packet of a relay that they do not touch.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mcr_testbed::Topology;
use serde_json::{Value, json};

use crate::service::Service;

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

/// The daemon is killed in the middle of creations by several clients, again and again: what was answered with 201 is
/// there.
#[test]
fn what_was_created_survives_a_kill() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start(net.relay(), &file(&[("of-file", 1)]));
    let mut answered: Vec<String> = Vec::new();
    for round in 0..8 {
        let (socket, pid) = (service.socket(), service.pid());
        std::thread::scope(|scope| {
            let client = |client: u8| {
                let socket = &socket;
                scope.spawn(move || {
                    let names = (0..50u8).map(|i| (format!("r{round}-{client}-{i}"), i));
                    let made = names.take_while(|(name, i)| {
                        create(socket, &body(name, 2 + (round * 4 + client) * 7 + i % 7)) == Some(201)
                    });
                    made.map(|(name, _)| name).collect::<Vec<_>>()
                })
            };
            let clients: Vec<_> = (0..4).map(client).collect();
            std::thread::sleep(Duration::from_millis(15 + 9 * u64::from(round)));
            // SAFETY: a plain system call on the id of the service's child, which is not waited for yet.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            clients.into_iter().for_each(|client| answered.extend(client.join().expect("a client")));
        });
        service.restart_after_kill(net.relay());
        let there = names(&service);
        assert!(there.contains(&"of-file file".to_owned()));
        for name in &answered {
            assert!(there.contains(&format!("{name} api")), "{name} was answered with 201 and is gone: {there:?}");
        }
        // Each client may have had one creation that was stored and not answered yet.
        assert!(there.len() <= 1 + answered.len() + 4 * (usize::from(round) + 1), "{there:?}");
    }
    assert!(answered.len() > 8, "{answered:?}");
    service.ok(&["rm", &answered[0]]);
    service.restart_after_kill(net.relay());
    assert!(!names(&service).contains(&format!("{} api", answered[0])), "what was removed is back");
}

/// The status of one creation; `None`: the daemon is gone.
fn create(socket: &Path, body: &str) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let head = "POST /api/v1/relays HTTP/1.1\r\nhost: mcr\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
