//! What outlives the daemon, through the real binaries: relays of the API and revisions survive kills, full disks and
//! damage; plans, trials and ways back lose no packet of a relay that they do not touch.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mcr_testbed::{DEVICE, Topology, wait_until};
use serde_json::{Value, json};

use crate::service::{SOON, Service, run_command, text};
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

/// Writes a configuration beside the daemon's own; its path.
fn written(service: &Service, name: &str, config: &str) -> String {
    let path = service.folder().join(name);
    std::fs::write(&path, config).expect("write a configuration");
    path.to_str().expect("UTF-8").to_owned()
}

fn in_force(service: &Service) -> u64 {
    let history: Value = serde_json::from_str(&service.ok(&["history", "-o", "json"])).expect("JSON");
    history["in_force"].as_u64().expect("a number")
}

/// While others are planned, applied, put on trial, confirmed and rolled back, a relay that no configuration touches
/// loses nothing.
#[test]
fn plans_and_ways_back_lose_no_packet_of_others() {
    const SERIES: Series = Series::of(150_000, 200);
    let net = Topology::device_relay_lan(1);
    let stays = ("stays", 1);
    let service = Service::start(net.relay(), &file(&[stays, ("goes", 2)]));
    service.ok(&["wait", "stays", "--for", "ready"]);
    let lan = net.lan(1);
    let to = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), to, Payloads::Compare(SERIES));
    let next = written(&service, "next.toml", &file(&[stays, ("comes", 3)]));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), SERIES, 50_000));
        let mut rounds = 0;
        while !sending.is_finished() {
            let plan = service.ok(&["plan", &next]);
            assert!(plan.contains("+ comes") && plan.contains("- goes") && plan.contains("1 unchanged"), "{plan}");
            let applied = service.ok(&["apply", &next, "--confirm", "60s", "--note", "a try"]);
            assert!(applied.contains("1 added, 0 changed, 1 removed, 1 untouched"), "{applied}");
            assert!(applied.contains("is on trial until"), "{applied}");
            assert_eq!(names(&service), ["comes file", "stays file"]);
            service.ok(&["confirm"]);
            service.ok(&["rollback"]);
            assert_eq!(names(&service), ["goes file", "stays file"]);
            rounds += 1;
        }
        assert!(rounds > 2, "{rounds}");
    });
    let report = receiver.finish(SERIES.count);
    assert_eq!((report.count, report.first_difference), (SERIES.count, None));
    service.assert_balance();
    let history = service.ok(&["history"]);
    assert!(
        history.contains("a try") && history.contains("rollback") && history.contains("back to revision"),
        "{history}"
    );
    let other = written(&service, "other.toml", &service.ok(&["history", "show", "1"]));
    assert!(service.ok(&["plan", &other]).starts_with("nothing would change: 2 relays stay"));
}

/// Of a bridge that listens to memberships it is known who receives, of a cable it is not.
#[test]
fn a_plan_says_where_nobody_receives() {
    let net = Topology::device_relay_lan(1);
    net.relay().ip("link add br0 type bridge mcast_snooping 1 mcast_querier 1");
    net.relay().ip("link add port0 type veth peer name far0");
    ["set port0 master br0", "set br0 up", "set port0 up", "set far0 up"].iter().for_each(|it| {
        net.relay().ip(&format!("link {it}"));
    });
    net.relay().output("bridge", &["mdb", "add", "dev", "br0", "port", "port0", "grp", "239.2.2.1", "permanent"]);
    let service = Service::start(net.relay(), "");
    let outputs = "[{interface = \"br0\", group = \"239.2.2.1\", port = 1}, \
                   {interface = \"br0\", group = \"239.2.2.7\", port = 1}, \
                   {interface = \"lan1\", group = \"239.2.2.1\", port = 1, ttl = 1}]";
    let relay = format!(
        "[[relay]]\nname = \"a\"\ninput = {{interface = \"dev0\", group = \"239.1.1.1\", port = 1}}\noutput = {outputs}\n"
    );
    let file = written(&service, "bridge.toml", &relay);
    let plan: Value = serde_json::from_str(&service.ok(&["plan", &file, "-o", "json"])).expect("JSON");
    let kinds: Vec<_> = plan["warnings"].as_array().unwrap().iter().map(|warning| &warning["kind"]).collect();
    assert_eq!(kinds, ["no-receiver", "short-ttl"], "{plan:#}");
    assert!(plan["warnings"][0]["message"].as_str().unwrap().contains("239.2.2.7"), "{plan:#}");
    assert_eq!(plan["outputs_with_unknown_receivers"], 1);
    assert_eq!(names(&service), [""; 0], "a plan changes nothing");
}

/// A trial that nobody confirms ends by itself, also when the daemon was killed meanwhile.
#[test]
fn a_trial_that_nobody_confirms_ends() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start(net.relay(), &file(&[("before", 1)]));
    service.http("POST", "/api/v1/relays", &body("of-the-api", 9));
    let next = written(&service, "next.toml", &file(&[("after", 2)]));
    service.ok(&["apply", &next, "--confirm", "1s"]);
    assert_eq!(names(&service), ["after file", "of-the-api api"]);
    let refused = service.refused(&["apply", &next]);
    assert!(refused.contains("on trial until") && refused.contains("mcr confirm"), "{refused}");
    wait_until(SOON, "the trial ends", || names(&service) == ["before file", "of-the-api api"]);
    let refused = service.refused(&["confirm"]);
    assert!(refused.contains("nothing waits for a confirmation"), "{refused}");

    service.ok(&["apply", &next, "--confirm", "1h"]);
    service.restart_after_kill(net.relay());
    assert_eq!(names(&service), ["before file", "of-the-api api"], "nobody confirmed before the daemon ended");
    assert!(service.ok(&["history"]).contains("unconfirmed"));

    service.ok(&["apply", &next, "--confirm", "1h"]);
    service.ok(&["confirm"]);
    service.restart_after_kill(net.relay());
    assert_eq!(names(&service), ["after file", "of-the-api api"], "what was applied is in force after a restart");
    let revision = in_force(&service);
    service.reload(&file(&[("before", 1), ("edited", 3)]));
    wait_until(SOON, "the file is in force", || names(&service) == ["before file", "edited file", "of-the-api api"]);
    assert_eq!(in_force(&service), revision + 1);
}

/// Meanwhile the API has taken a name of the configuration that should come back: the daemon says so, and goes back as
/// soon as it can.
#[test]
fn a_trial_that_can_not_end_says_so_and_ends_when_it_can() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), &file(&[("before", 1)]));
    let next = written(&service, "next.toml", &file(&[("after", 2)]));
    service.ok(&["apply", &next, "--confirm", "1s"]);
    assert_eq!(service.http("POST", "/api/v1/relays", &body("before", 9)).0, 201);
    let troubles = || service.http("GET", "/api/v1/status", "").1["troubles"].clone();
    wait_until(SOON, "it is told", || troubles()[0]["kind"] == "rollback-overdue");
    let told = service.ok(&["status"]);
    assert!(told.contains("revision 2 was not confirmed in time and is still in force"), "{told}");
    assert!(told.contains("relay before was made through the API") && told.contains("mcr confirm"), "{told}");
    assert!(service.ok(&["events"]).contains("rollback-failed"));
    let metrics = service.http_text("GET", "/metrics", "").1;
    assert!(metrics.contains("mcr_troubles{kind=\"rollback-overdue\"} 1"), "{metrics}");
    assert_eq!(names(&service), ["after file", "before api"]);
    service.ok(&["rm", "before"]);
    wait_until(SOON, "it is in force again", || names(&service) == ["before file"]);
    assert_eq!(troubles(), json!([]));
    assert!(service.ok(&["history"]).contains("unconfirmed"));
}

/// What is kept in memory only, and which relay was left out at the start, is seen in the status.
#[test]
fn what_was_not_kept_is_told() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start(net.relay(), "");
    assert_eq!(service.http("POST", "/api/v1/relays", &body("kept", 1)).0, 201);
    // The same packets to the same place.
    written(&service, "mcr.toml", &file(&[("edited", 1)]));
    service.restart_after_kill(net.relay());
    let told = service.ok(&["status"]);
    assert!(told.contains("relay kept of the API was left out at the start") && told.contains("mcr rm kept"), "{told}");
    service.reload("");
    wait_until(SOON, "there is room for it", || names(&service).is_empty());
    assert_eq!(service.http("POST", "/api/v1/relays", &body("kept", 1)).0, 201);
    assert!(!service.ok(&["status"]).contains("trouble"), "it was put anew as it is stored");
    service.configure(&file(&[("edited", 1)]));
    service.restart_after_kill(net.relay());
    service.ok(&["rm", "kept"]);
    assert!(!service.ok(&["status"]).contains("trouble"));
    service.restart_after_kill(net.relay());
    assert!(!service.ok(&["status"]).contains("trouble"), "it was removed for good");
    drop(service);

    let service = Service::start_without_state(net.relay(), "");
    let told = service.ok(&["status"]);
    assert!(told.contains("end with this daemon: can not keep state in"), "{told}");
}

/// What was applied gives way to a file that was edited since, at a start too.
#[test]
fn whoever_spoke_last_is_right_after_a_restart() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start(net.relay(), &file(&[("of-file", 1)]));
    let next = written(&service, "next.toml", &file(&[("applied", 2)]));
    service.ok(&["apply", &next]);
    service.restart_after_kill(net.relay());
    assert_eq!(names(&service), ["applied file"]);
    written(&service, "mcr.toml", &file(&[("edited", 3)]));
    service.restart_after_kill(net.relay());
    assert_eq!(names(&service), ["edited file"]);
    let wrong = written(&service, "wrong.toml", "[[relay]]\nnmae = \"x\"\n");
    let told = service.refused(&["apply", &wrong]);
    assert!(told.contains("wrong.toml:2:1") && told.contains("did you mean \"name\"?"), "{told}");
}

/// A relay of the API that no longer fits beside an edited file is left out; the file starts.
#[test]
fn the_file_starts_whatever_the_store_says() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start(net.relay(), "");
    service.http("POST", "/api/v1/relays", &body("twice", 1));
    written(&service, "mcr.toml", &file(&[("twice", 2)]));
    service.restart_after_kill(net.relay());
    assert_eq!(names(&service), ["twice file"]);
    assert!(service.log().contains("does not fit beside the file"), "{}", service.log());

    let told = |service: &Service| {
        let status = service.ok(&["status"]);
        assert!(!status.contains("left out") || status.contains("`mcr rm twice`; that of the file stays"), "{status}");
        status.contains("relay twice of the API was left out at the start")
    };
    let next = written(&service, "next.toml", &file(&[("twice", 3)]));
    service.ok(&["apply", &next]);
    assert!(told(&service), "a configuration that has its name does not take it out of the store");
    service.reload(&file(&[("other", 4)]));
    wait_until(SOON, "the file is in force", || names(&service) == ["other file"]);
    service.restart_after_kill(net.relay());
    assert_eq!(names(&service), ["other file", "twice api"], "its name is free again");
    assert!(!told(&service));

    service.configure(&file(&[("twice", 2)]));
    service.restart_after_kill(net.relay());
    assert!(told(&service));
    service.ok(&["rm", "twice"]);
    assert!(!told(&service) && names(&service) == ["twice file"]);
    assert!(service.refused(&["rm", "twice"]).contains("belongs to the configuration file"));
    service.restart_after_kill(net.relay());
    assert!(!told(&service), "for good");

    let store = service.folder().join("mcr.state/store.redb");
    service.kill();
    std::fs::write(&store, "no database ".repeat(9999)).expect("damage the store");
    service.start_again(net.relay());
    assert_eq!(names(&service), ["twice file"]);
    assert!(service.log().contains("the store was damaged and is set aside as"), "{}", service.log());
    assert!(service.ok(&["status"]).contains("the store was damaged and is set aside as"));
    assert_eq!(service.http("POST", "/api/v1/relays", &body("new", 5)).0, 201);
}

/// A daemon that finds its state in use ends as if it had never been there.
#[test]
fn a_state_in_use_is_left_alone_and_no_socket_stays_behind() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mcr.toml"), "").unwrap();
    let mut second = run_command(net.relay(), folder.path());
    let second = second.arg("--state-dir").arg(service.folder().join("mcr.state")).output().expect("run mcr");
    let told = text(&second.stderr);
    assert!(second.status.code() == Some(1) && told.contains("another daemon keeps its state in"), "{told}");
    assert!(!folder.path().join("mcr.sock").exists());
}

/// On a full disk a change is refused with 507 and has changed nothing; reading and relaying go on.
#[test]
fn a_full_disk_refuses_changes() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_with_small_state(net.relay(), &file(&[("of-file", 1)]), 600);
    assert_eq!(service.http("POST", "/api/v1/relays", &body("before", 2)).0, 201);
    let filler = service.state().join("filler");
    let filled = std::fs::write(&filler, vec![0; 1 << 20]);
    assert_eq!(filled.expect_err("it is small").kind(), std::io::ErrorKind::StorageFull);
    let (status, problem) = refused_creation(&service);
    assert_eq!((status, &problem["type"]), (507, &json!("/problems/storage-full")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("df "), "{problem:#}");
    let there = names(&service);
    assert_eq!(service.http("DELETE", "/api/v1/relays/before", "").0, 507);
    let next = written(&service, "next.toml", &(file(&[("other", 3)]) + &"# padding\n".repeat(20_000)));
    assert!(service.refused(&["apply", &next]).contains("there is no room for"));
    assert_eq!(names(&service), there);
    std::fs::remove_file(filler).expect("make room");
    assert_eq!(service.http("DELETE", "/api/v1/relays/before", "").0, 204);
    service.ok(&["apply", &next]);
}

/// A trial can't end on a full disk: what is told to be in force is, until there is room.
#[test]
fn a_full_disk_keeps_what_is_on_trial() {
    let net = Topology::device_relay_lan(1);
    let before = file(&[("before", 1)]) + &"# padding\n".repeat(8_000);
    let service = Service::start_with_small_state(net.relay(), &before, 600);
    let next = written(&service, "next.toml", &file(&[("after", 2)]));
    service.ok(&["apply", &next, "--confirm", "3s"]);
    let filler = service.state().join("filler");
    std::fs::write(&filler, vec![0; 1 << 20]).expect_err("it is small");
    refused_creation(&service);
    let troubles = || service.http("GET", "/api/v1/status", "").1["troubles"].clone();
    wait_until(SOON, "it is told", || troubles()[0]["kind"] == "rollback-overdue");
    let told = troubles()[0]["message"].to_string();
    assert!(told.contains("is still in force") && told.contains("there is no room"), "{told}");
    let there = names(&service);
    assert!(there.contains(&"after file".to_owned()) && !there.contains(&"before file".to_owned()), "{there:?}");
    std::fs::remove_file(filler).expect("make room");
    wait_until(SOON, "it is in force again", || names(&service).contains(&"before file".to_owned()));
    assert_eq!(troubles(), json!([]));
}

/// Creates until the disk is full: pages that the store has already take some.
fn refused_creation(service: &Service) -> (u16, Value) {
    let create = |i: u8| service.http("POST", "/api/v1/relays", &body(&format!("r{i}"), 3 + i));
    (0..200u8).map(create).find(|(status, _)| *status != 201).expect("the disk is full")
}
