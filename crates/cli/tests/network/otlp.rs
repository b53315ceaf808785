//! OTLP through the real binary (`make otlp`): a small collector of the test's own gets the counters and the requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mcr_testbed::{DEVICE, Topology, wait_until};

use crate::service::{SOON, Service};
use crate::traffic::{Series, send};

/// Bodies by path.
type Bodies = Arc<Mutex<BTreeMap<String, Vec<Vec<u8>>>>>;

/// Takes what is exported, as a collector does.
struct Collector {
    bodies: Bodies,
    endpoint: String,
}

impl Collector {
    fn start(net: &Topology) -> Collector {
        net.relay().ip("link set lo up");
        let listener = net.relay().run(|| TcpListener::bind("127.0.0.1:0")).expect("listen");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let bodies = Bodies::default();
        let taken = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (path, body) = take(stream);
                taken.lock().expect("the bodies").entry(path).or_default().push(body);
            }
        });
        Collector { bodies, endpoint }
    }

    /// Whether one of the bodies of `path` has all of these bytes.
    fn has(&self, path: &str, all: &[&[u8]]) -> bool {
        let bodies = self.bodies.lock().expect("the bodies");
        bodies.get(path).is_some_and(|bodies| {
            bodies.iter().any(|body| all.iter().all(|part| body.windows(part.len()).any(|bytes| bytes == *part)))
        })
    }
}

/// Path and body of a request, which is answered.
fn take(stream: TcpStream) -> (String, Vec<u8>) {
    let mut stream = BufReader::new(stream);
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).expect("a request") > 0, "the request ended in its head");
        if path.is_empty() {
            path = line.split(' ').nth(1).expect("a path").to_owned();
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a length");
        } else if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answer");
    (path, body)
}

#[test]
fn counters_and_requests_arrive_at_a_collector() {
    const SERIES: Series = Series::of(4_321, 200);
    let net = Topology::device_relay_lan(1);
    let collector = Collector::start(&net);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
        ("OTEL_BSP_SCHEDULE_DELAY", "300"),
        ("OTEL_RESOURCE_ATTRIBUTES", "site=studio-7"),
    ];
    let service = Service::start_with_variables(net.relay(), "", &variables);
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), SERIES, 20_000);
    // A number is eight bytes, little-endian; texts are as they are (protobuf, `sfixed64 as_int`).
    let count = SERIES.count.to_le_bytes();
    for name in ["mcr.relay.received.packets", "mcr.output.sent.packets"] {
        let all = [name.as_bytes(), b"camera", &count, b"service.name", b"mcr", b"studio-7"];
        wait_until(SOON, name, || collector.has("/v1/metrics", &all));
    }
    wait_until(SOON, "the states", || collector.has("/v1/metrics", &[b"mcr.relay.state", b"flowing"]));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let caller = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    ask(&service, &["-H", &caller, "http://mcr/api/v1/relays/camera"]);
    let id = u128::from_str_radix(trace, 16).expect("hexadecimal").to_be_bytes();
    let all = [&b"GET /api/v1/relays/{name}"[..], b"http.response.status_code", b"/api/v1/relays/camera", &id];
    wait_until(SOON, "the request", || collector.has("/v1/traces", &all));
    assert!(collector.has("/v1/traces", &[b"POST /api/v1/relays"]), "the relay was made by a request");
    // What was counted last is sent at the end.
    ask(&service, &["-X", "DELETE", "http://mcr/api/v1/relays/camera"]);
    service.stop();
    assert!(collector.has("/v1/traces", &[b"DELETE /api/v1/relays/{name}"]));
}

/// A collector that is not there costs nothing but a line in the log.
#[test]
fn nobody_waits_for_a_collector_that_is_not_there() {
    let net = Topology::device_relay_lan(1);
    net.relay().ip("link set lo up");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_METRIC_EXPORT_INTERVAL", "200")];
    let service = Service::start_with_variables(net.relay(), "", &variables);
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    wait_until(SOON, "it is told", || service.log().contains("opentelemetry"));
    let began = std::time::Instant::now();
    service.stop();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn ask(service: &Service, arguments: &[&str]) {
    let mut curl = std::process::Command::new("curl");
    let asked =
        curl.args(["-s", "-f", "-o", "/dev/null", "--unix-socket"]).arg(service.socket()).args(arguments).status();
    assert!(asked.expect("run curl").success(), "{arguments:?}");
}
