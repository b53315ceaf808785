//! Who may do what: every endpoint for every role, with and without a limit to interfaces and groups.

mod backend;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::{Request, header};
use backend::Bench;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use mcr_daemon::access::{Certificate, Gate, Peer, Rules};
use mcr_daemon::api;
use serde_json::{Value, json};

/// Relays of the file: what a limited caller has to do with, and what not.
const FILE: &str = r#"
[[relay]]
name = "mine"
input = { interface = "eth0", group = "239.1.1.1", port = 5001 }
output = [ { interface = "eth1", group = "239.2.2.2", port = 6001 } ]
[[relay]]
name = "theirs"
input = { interface = "eth0", group = "239.1.1.2", port = 5001 }
output = [ { interface = "eth2", group = "239.2.2.2", port = 6001 } ]
"#;

const ACCESS: &str = r#"
[remote]
listen = ["127.0.0.1:7443"]
certificate = "server.pem"
key = "server.key"
client_ca = "clients.pem"
[[allow]]
certificate = "viewer"
role = "viewer"
[[allow]]
certificate = "operator"
role = "operator"
[[allow]]
certificate = "admin"
role = "admin"
[[allow]]
certificate = "limited-viewer"
role = "viewer"
interfaces = ["eth0", "eth1"]
groups = ["239.1.0.0/16", "239.2.0.0/16"]
[[allow]]
certificate = "limited-operator"
role = "operator"
interfaces = ["eth0", "eth1"]
groups = ["239.1.0.0/16", "239.2.0.0/16"]
[[allow]]
certificate = "limited-admin"
role = "admin"
interfaces = ["eth0", "eth1"]
groups = ["239.1.0.0/16", "239.2.0.0/16"]
"#;

/// What is asked for.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    /// What is answered to a client with no or an unknown certificate, then to each of [`ROLES`].
    answers: [u16; 5],
}

/// The certificates of the table's columns; the first is one that nobody allowed.
const ROLES: [&str; 5] = ["", "stranger", "viewer", "operator", "admin"];

const NOBODY: u16 = 401;
const NO: u16 = 403;

fn table() -> Vec<Endpoint> {
    let row = |method, path, body, answers| Endpoint { method, path, body, answers };
    let look = [NOBODY, NO, 200, 200, 200];
    let new = || Some(relay("new", "eth1", "239.2.2.3"));
    vec![
        row("GET", "/api/v1/relays", None, look),
        row("POST", "/api/v1/relays", new(), [NOBODY, NO, NO, 201, 201]),
        row("GET", "/api/v1/relays/mine", None, look),
        row("PUT", "/api/v1/relays/new", new(), [NOBODY, NO, NO, 201, 201]),
        row("DELETE", "/api/v1/relays/mine", None, [NOBODY, NO, NO, 409, 409]),
        row("GET", "/api/v1/relays/mine/wait", None, [NOBODY, NO, 408, 408, 408]),
        row("GET", "/api/v1/interfaces", None, look),
        row("GET", "/api/v1/status", None, look),
        row("GET", "/api/v1/config", None, look),
        row("GET", "/metrics", None, look),
        row("GET", "/healthz", None, [200; 5]),
        row("GET", "/readyz", None, [200; 5]),
        row("GET", "/api/v1/openapi.json", None, [200; 5]),
        row("GET", "/nothing/here", None, [NOBODY, NO, 404, 404, 404]),
        row("PATCH", "/api/v1/relays", None, [NOBODY, NO, 405, 405, 405]),
    ]
}

fn relay(name: &str, output: &str, group: &str) -> Value {
    json!({
        "name": name,
        "input": { "interface": "eth0", "group": "239.1.1.9", "port": 5001 },
        "output": [{ "interface": output, "group": group, "port": 6001 }],
    })
}

struct Client(TowerToHyperService<axum::Router>);

impl Client {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.toml");
        std::fs::write(&path, ACCESS).unwrap();
        Self(TowerToHyperService::new(api::router(Bench::with_file(FILE), Gate::new(Rules::load(&path).unwrap()))))
    }

    async fn ask(&self, certificate: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let expires = SystemTime::now() + Duration::from_secs(3600);
        let shown = Certificate { names: vec![certificate.to_owned()], expires };
        let certificate = (!certificate.is_empty()).then(|| Arc::new(shown));
        let peer = Peer::Remote { from: ([10, 0, 0, 1], 40_000).into(), certificate };
        let request = Request::builder().method(method).uri(path).extension(peer);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let (head, body) = self.0.call(request.body(Body::from(body)).unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn every_endpoint_for_every_role() {
    for Endpoint { method, path, body, answers } in table() {
        for (role, expected) in ROLES.into_iter().zip(answers) {
            let (status, answer) = Client::new().ask(role, method, path, body.as_ref()).await;
            assert_eq!(status, expected, "{method} {path} for {role:?}: {answer}");
        }
    }
}

/// A new endpoint needs a row above.
#[test]
fn the_table_has_every_endpoint() {
    let document = serde_json::to_value(api::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let is_it = |row: &Endpoint| row.method.eq_ignore_ascii_case(method) && fits(path, row.path);
            assert!(table().iter().any(is_it), "{method} {path} has no row in the table of tests/roles.rs");
        }
    }
}

/// Whether `path` is one of `template`, as `/relays/{name}`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(t, p)| t.starts_with('{') || *t == p)
}

#[tokio::test]
async fn a_limited_caller_has_only_what_is_within() {
    let client = Client::new();
    for role in ["limited-viewer", "limited-operator", "limited-admin"] {
        for page in ["/api/v1/relays", "/api/v1/config", "/metrics"] {
            let (status, answer) = client.ask(role, "GET", page, None).await;
            assert!(status == 200 && answer.contains("mine") && !answer.contains("theirs"), "{role} {page}: {answer}");
        }
        for (name, expected) in [("mine", 200), ("theirs", 404)] {
            assert_eq!(client.ask(role, "GET", &format!("/api/v1/relays/{name}"), None).await.0, expected, "{role}");
        }
        assert_eq!(client.ask(role, "GET", "/api/v1/relays/theirs/wait", None).await.0, 404, "{role}");
    }
}

#[tokio::test]
async fn a_limited_caller_changes_only_what_is_within() {
    for role in ["limited-operator", "limited-admin"] {
        let client = Client::new();
        let (inside, interface, group) =
            (relay("new", "eth1", "239.2.2.3"), relay("new", "eth2", "239.2.2.3"), relay("new", "eth1", "239.3.2.3"));
        let cases = [
            ("POST", "/api/v1/relays", Some(&interface), 403, "output[0].interface"),
            ("POST", "/api/v1/relays", Some(&group), 403, "output[0].group"),
            ("PUT", "/api/v1/relays/new", Some(&group), 403, "output[0].group"),
            ("POST", "/api/v1/relays", Some(&inside), 201, ""),
            ("PUT", "/api/v1/relays/new", Some(&inside), 200, ""),
            ("PUT", "/api/v1/relays/new", Some(&interface), 403, "output[0].interface"),
            ("DELETE", "/api/v1/relays/theirs", None, 404, ""),
            ("DELETE", "/api/v1/relays/new", None, 204, ""),
        ];
        for (method, path, body, expected, field) in cases {
            let (status, answer) = client.ask(role, method, path, body).await;
            assert_eq!(status, expected, "{role} {method} {path}: {answer}");
            assert!(answer.contains(field), "{role} {method} {path}: {answer}");
        }
        let taken = relay("theirs", "eth1", "239.2.2.3");
        let (status, answer) = client.ask(role, "PUT", "/api/v1/relays/theirs", Some(&taken)).await;
        assert!(status == 403 && !answer.contains("eth2"), "{role}: {status} {answer}");
    }
}
