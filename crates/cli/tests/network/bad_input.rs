//! Bad input: each a clear error that names the field, nothing changed, nothing lost.

use mcr_testbed::{DEVICE, Topology};

use crate::service::{Service, text};
use crate::traffic::{Payloads, Receiver, Series, send};

const GOOD: &str = r#"{"name":"camera",
    "input":{"interface":"dev0","group":"239.1.1.1","port":5001},
    "output":[{"interface":"lan1","group":"239.2.2.1","port":6001}]}"#;

/// Body, status, the field that is named, words of the detail.
const BAD: &[(&str, u16, &str, &str)] = &[
    ("{", 400, "", "line 1"),
    ("[]", 422, "", "object"),
    (r#"{"name":"x"}"#, 422, "input", "missing"),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"239.1.1.1","port":"5001"},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "input.port",
        "5001",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","grup":"239.1.1.1","port":5001},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "input.grup",
        "did you mean",
    ),
    (
        r#"{"name":"X!","input":{"interface":"dev0","group":"239.1.1.1","port":5001},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "name",
        "relay name",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"10.1.1.1","port":5001},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "input.group",
        "not a multicast group",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"224.0.0.5","port":5001},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "input.group",
        "link_local = true",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"239.1.1.1","port":0},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "input.port",
        "out of range",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"239.1.1.1","port":5001},"output":[{"interface":"lan1","group":"239.2.2.2","port":1,"ttl":0}]}"#,
        422,
        "output[0].ttl",
        "out of range",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"239.1.1.1","port":319},"output":[{"interface":"lan1","group":"239.2.2.2","port":1}]}"#,
        422,
        "input.port",
        "clock",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"239.1.1.1","port":5001},"output":[{"interface":"dev0","group":"239.1.1.1","port":5001}]}"#,
        422,
        "output[0]",
        "own input",
    ),
    (
        r#"{"name":"x","input":{"interface":"dev0","group":"239.1.1.1","port":5001},"output":[{"interface":"lan1","group":"239.2.2.1","port":6001}]}"#,
        409,
        "",
        "camera",
    ),
    (
        r#"{"name":"x","input":{"interface":"lan1","group":"239.2.2.1","port":6001},"output":[{"interface":"dev0","group":"239.1.1.1","port":5001}]}"#,
        409,
        "",
        "cycle",
    ),
];

#[test]
fn the_api_refuses_by_field_and_changes_nothing() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    assert_eq!(service.http("POST", "/api/v1/relays", GOOD).0, 201);
    let lan = net.lan(1);
    let series = Series { count: 10_000, smallest: 1, largest: 1400 };
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(series));
    std::thread::scope(|scope| {
        scope.spawn(|| send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 10_000));
        for (body, status, field, words) in BAD {
            let (got, problem) = service.http("POST", "/api/v1/relays", body);
            assert_eq!(got, *status, "{body}: {problem:#}");
            let said = problem.to_string();
            assert!(said.contains(words), "{body}: {said}");
            assert!(field.is_empty() || problem["field"] == *field, "{body}: {said}");
            assert_eq!(problem["status"], *status, "{said}");
        }
        assert_eq!(service.http("POST", "/api/v1/relays", GOOD).0, 409);
        assert_eq!(service.http("GET", "/api/v1/relays/nobody", "").0, 404);
        assert_eq!(service.http("DELETE", "/api/v1/relays/nobody", "").0, 404);
        assert_eq!(service.http("PUT", "/api/v1/relays/other", GOOD).0, 422);
        assert_eq!(service.http("PATCH", "/api/v1/relays/camera", "{}").0, 405);
        assert_eq!(service.http("GET", "/api/v1/nothing", "").0, 404);
        assert_eq!(service.http("PUT", "/api/v1/relays/..%2fetc", GOOD).0, 422);
    });
    let report = receiver.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    assert_eq!(service.assert_balance().into_iter().collect::<Vec<_>>(), [("camera".to_owned(), series.count)]);
}

#[test]
fn ten_megabytes_and_bytes_that_are_no_text_are_refused() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let folder = tempfile::tempdir().unwrap();
    let post = |bytes: &[u8]| {
        let file = folder.path().join("body");
        std::fs::write(&file, bytes).unwrap();
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                "Content-Type: application/json",
                "-H",
                "Expect:",
            ])
            .arg("--data-binary")
            .arg(format!("@{}", file.display()))
            .arg("--unix-socket")
            .arg(service.socket())
            .arg("http://mcr/api/v1/relays")
            .output()
            .unwrap();
        text(&output.stdout)
    };
    assert_eq!(post(&vec![b'x'; 10 << 20]), "413");
    assert_eq!(post(b"{\"name\":\"\xff\xfe\"}"), "400");
    assert_eq!(service.http("GET", "/healthz", "").0, 200);
}

#[test]
fn a_reload_is_a_difference_and_a_wrong_file_changes_nothing() {
    let net = Topology::device_relay_lan(2);
    let relay = |name: &str, group: &str, lan: usize, extra: &str| {
        format!(
            "[[relay]]\nname = \"{name}\"\ninput = {{ interface = \"dev0\", group = \"{group}\", port = 5001 }}\n\
             output = [{{ interface = \"lan{lan}\", group = \"239.2.2.{lan}\", port = 600{lan}{extra} }}]\n"
        )
    };
    let stays = relay("stays", "239.1.1.1", 1, "");
    let service = Service::start(net.relay(), &(stays.clone() + &relay("goes", "239.1.1.2", 2, "")));
    service.ok(&["wait", "stays"]);
    let lan = net.lan(1);
    let series = Series { count: 40_000, smallest: 1, largest: 1400 };
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(series));
    std::thread::scope(|scope| {
        scope.spawn(|| send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), series, 20_000));
        for i in 0..10 {
            let extra = format!(", ttl = {}", i + 1);
            service.reload(&(stays.clone() + &relay("comes", "239.1.1.3", 2, &extra)));
            mcr_testbed::wait_until(crate::service::SOON, "the reload is in force", || {
                let relay = service.http("GET", "/api/v1/relays/comes", "").1;
                relay["relay"]["output"][0]["ttl"] == i + 1
            });
            service.reload("[[relay]]\nname = \"broken\"\ninput = 7\n");
        }
    });
    let report = receiver.finish(series.count);
    assert_eq!((report.count, report.first_difference), (series.count, None));
    let names: Vec<String> = service.assert_balance().into_keys().collect();
    assert_eq!(names, ["comes", "stays"]);
    let refused = service.refused(&["rm", "stays"]);
    assert!(refused.contains("mcr.toml"), "{refused}");
    let log = service.stop();
    assert!(log.contains("the configuration is wrong; the one in force stays"), "{log}");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_disturbs_nothing() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start(net.relay(), "");
    let folder = service.socket().parent().unwrap().to_owned();
    let second = crate::service::run_command(net.relay(), &folder).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", text(&second.stderr));
    let said = text(&second.stderr);
    assert!(said.contains("mcr.sock"), "{said}");
    service.ok(&["list"]);
    service.ok(&["add", "x", "--from", "dev0:239.1.1.1:5001", "--to", "lan1:239.2.2.1:6001"]);
}

#[test]
fn a_wrong_file_ends_the_start_with_line_and_column() {
    let net = Topology::device_relay_lan(1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mcr.toml"), "[[relay]]\nname = \"a\"\ninptu = { interface = \"dev0\" }\n")
        .unwrap();
    let output = crate::service::run_command(net.relay(), folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("mcr.toml:3:1") && said.contains("did you mean"), "{said}");
    assert!(!folder.path().join("mcr.sock").exists() && !folder.path().join("netd.sock").exists());
}
