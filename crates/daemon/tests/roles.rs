//! Who may do what: every endpoint for every role, with and without a limit to interfaces and groups.

mod backend;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::{Request, header};
use axum::response::Response;
use backend::Bench;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use mcr_daemon::access::{Certificate, Gate, Peer, Rules, Site};
use mcr_daemon::api;
use mcr_daemon::store::Store;
use serde_json::{Value, json};

/// Relays of the file: what a limited caller has to do with, and what not; the former takes a pair of the latter's.
const FILE: &str = r#"
[[relay]]
name = "mine"
input = { interface = "eth0", group = "239.1.1.1", port = 5001 }
output = [ { interface = "eth1", group = "239.2.2.2", port = 6001 } ]
[[relay]]
name = "theirs"
input = { interface = "eth0", group = "239.1.1.0/30", port = 5001 }
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
        row("PUT", "/api/v1/relays/mine/lease", None, [NOBODY, NO, NO, 409, 409]),
        row("GET", "/api/v1/relays/mine/history", None, look),
        row("GET", "/api/v1/events?follow=false", None, look),
        row("GET", "/api/v1/interfaces", None, look),
        row("GET", "/api/v1/status", None, look),
        row("GET", "/api/v1/config", None, look),
        row("PUT", "/api/v1/config", Some(json!({"relay": []})), [NOBODY, NO, NO, NO, 200]),
        row("PUT", "/api/v1/config?dry_run=true", Some(json!({"relay": []})), [NOBODY, NO, NO, NO, 200]),
        row("POST", "/api/v1/config/confirm", None, [NOBODY, NO, NO, NO, 409]),
        row("POST", "/api/v1/config/rollback?to=1", None, [NOBODY, NO, NO, NO, 200]),
        row("POST", "/api/v1/config/rollback", None, [NOBODY, NO, NO, NO, 404]),
        row("GET", "/api/v1/config/revisions", None, look),
        row("GET", "/api/v1/config/revisions/1", None, look),
        row("POST", "/api/v1/explain", Some(json!({ "relay": "mine" })), look),
        row("GET", "/api/v1/flows", None, look),
        row("POST", "/api/v1/flows", Some(json!({ "interfaces": ["nope0"] })), [NOBODY, NO, NO, 422, 422]),
        row("POST", "/api/v1/rejoin", None, [NOBODY, NO, NO, 200, 200]),
        row("POST", "/api/v1/rejoin", Some(json!({ "name": "nope0" })), [NOBODY, NO, NO, 422, 422]),
        row("GET", "/metrics", None, look),
        row("GET", "/api/v1/tokens", None, [NOBODY, NO, NO, NO, 200]),
        row("POST", "/api/v1/tokens", Some(json!({ "role": "viewer" })), [NOBODY, NO, NO, NO, 201]),
        row("DELETE", "/api/v1/tokens/none", None, [NOBODY, NO, NO, NO, 404]),
        row("GET", "/healthz", None, [200; 5]),
        row("GET", "/readyz", None, [200; 5]),
        row("GET", "/api/v1/openapi.json", None, [200; 5]),
        row("GET", "/api/v1/docs", None, [200; 5]),
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

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let client = Client::new();
    let limited = json!({
        "role": "operator", "interfaces": ["eth1"], "groups": ["239.2.5.0/24"], "note": "rack 7", "expires": "12h",
    });
    for (token, expected) in [
        (json!({ "role": "viewer" }), 403),
        (json!({ "role": "viewer", "interfaces": ["eth1"] }), 403),
        (json!({ "role": "viewer", "interfaces": ["eth2"], "groups": ["239.2.0.0/16"] }), 403),
        (json!({ "role": "anybody", "interfaces": ["eth1"], "groups": ["239.2.0.0/16"] }), 422),
        (json!({ "role": "viewer", "colour": "red" }), 422),
        (limited, 201),
    ] {
        let (status, answer) = client.ask("limited-admin", "POST", "/api/v1/tokens", Some(&token)).await;
        assert_eq!(status, expected, "{token}: {answer}");
    }
    let (_, whole) = client.ask("admin", "POST", "/api/v1/tokens", Some(&json!({ "role": "viewer" }))).await;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let path = format!("/api/v1/tokens/{}", whole["id"].as_str().unwrap());
    let listed = async |role: &str| {
        let (_, answer) = client.ask(role, "GET", "/api/v1/tokens", None).await;
        serde_json::from_str::<Value>(&answer).unwrap()["tokens"].as_array().unwrap().len()
    };
    assert_eq!((listed("limited-admin").await, listed("admin").await), (1, 2));
    assert_eq!(client.ask("limited-admin", "DELETE", &path, None).await.0, 404);
    assert_eq!(client.ask("admin", "DELETE", &path, None).await.0, 204);
    assert_eq!(listed("admin").await, 1);
}

#[tokio::test]
async fn a_token_is_its_grant_until_it_is_revoked() {
    let client = Client::new();
    let wanted = json!({ "role": "operator", "interfaces": ["eth0", "eth1"], "groups": ["239.0.0.0/8"] });
    let (_, made) = client.ask("admin", "POST", "/api/v1/tokens", Some(&wanted)).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let bearer = format!("Bearer {}", made["secret"].as_str().unwrap());
    let (inside, outside) = (relay("new", "eth1", "239.2.2.3"), relay("new", "eth2", "239.2.2.3"));
    assert_eq!(client.ask(&bearer, "POST", "/api/v1/relays", Some(&outside)).await.0, 403);
    assert_eq!(client.ask(&bearer, "POST", "/api/v1/relays", Some(&inside)).await.0, 201);
    assert_eq!(client.ask(&bearer, "GET", "/api/v1/tokens", None).await.0, 403);
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(client.ask("admin", "DELETE", &path, None).await.0, 204);
    for wrong in [&bearer, "Bearer", "Bearer mcr_0_0", "Basic YTpi", "Bearer  "] {
        assert_eq!(client.ask(wrong, "GET", "/api/v1/relays", None).await.0, 401, "{wrong}");
    }
}

/// A stream that was opened with a token ends with it, and one of another caller goes on.
#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let client = Client::new();
    let (_, made) = client.ask("admin", "POST", "/api/v1/tokens", Some(&json!({ "role": "viewer" }))).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let bearer = format!("Bearer {}", made["secret"].as_str().unwrap());
    let mut of_token = client.answer(&bearer, "GET", "/api/v1/events", None).await.into_body();
    let mut of_viewer = client.answer("viewer", "GET", "/api/v1/events", None).await.into_body();
    for stream in [&mut of_token, &mut of_viewer] {
        assert!(stream.frame().await.is_some_and(|first| first.is_ok()));
    }
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(client.ask("admin", "DELETE", &path, None).await.0, 204);
    let ended = tokio::time::timeout(Duration::from_secs(2), of_token.frame()).await;
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    assert_eq!(client.ask("operator", "POST", "/api/v1/relays", Some(&relay("new", "eth1", "239.2.2.3"))).await.0, 201);
    let goes_on = tokio::time::timeout(Duration::from_secs(2), of_viewer.frame()).await;
    assert!(matches!(goes_on, Ok(Some(Ok(_)))), "{goes_on:?}");
}

#[tokio::test]
async fn the_reference_page_needs_nothing_from_elsewhere() {
    let (_, page) = Client::new().ask("", "GET", "/api/v1/docs", None).await;
    let (_, document) = Client::new().ask("", "GET", "/api/v1/openapi.json", None).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path} is not on the page");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("id=\"type-{name}\"")), "{name} is not on the page");
    }
    assert!(page.contains("<code>/problems/wrong-relay</code>") && page.contains("&quot;camera-3&quot;"));
    for foreign in ["<script", "src=", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let targets = page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
    for target in targets {
        assert!(page.contains(&format!("id=\"{target}\"")), "a link to #{target} leads nowhere");
    }
}

struct Client(TowerToHyperService<axum::Router>);

impl Client {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.toml");
        std::fs::write(&path, ACCESS).unwrap();
        Self(TowerToHyperService::new(api::router(
            Bench::with_file(FILE),
            Gate::new(Rules::load(&path).unwrap(), Store::in_memory()).unwrap(),
        )))
    }

    /// Asks with a certificate of that name, with a token (`Bearer …`), or with nothing.
    async fn ask(&self, shown: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let (head, body) = self.answer(shown, method, path, body).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    async fn answer(&self, shown: &str, method: &str, path: &str, body: Option<&Value>) -> Response {
        let expires = SystemTime::now() + Duration::from_secs(3600);
        let is_certificate = !shown.is_empty() && !shown.contains(['B', ' ']);
        let certificate = is_certificate.then(|| Arc::new(Certificate { names: vec![shown.to_owned()], expires }));
        let site = Arc::new(Site { address: ([10, 0, 0, 9], 7443).into(), names: [].into() });
        let peer = Peer::Remote { from: ([10, 0, 0, 1], 40_000).into(), site, certificate };
        let request = Request::builder().method(method).uri(path).extension(peer);
        let request = request.header(header::HOST, "10.0.0.9:7443").header(header::CONTENT_TYPE, "application/json");
        let request =
            if is_certificate || shown.is_empty() { request } else { request.header(header::AUTHORIZATION, shown) };
        let body = body.map(Value::to_string).unwrap_or_default();
        self.0.call(request.body(Body::from(body)).unwrap()).await.unwrap()
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
    let path = path.split('?').next().unwrap_or_default();
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(t, p)| t.starts_with('{') || *t == p)
}

#[tokio::test]
async fn a_limited_caller_has_only_what_is_within() {
    let client = Client::new();
    let (_, mine) = client.ask("viewer", "GET", "/api/v1/relays/mine", None).await;
    assert!(mine.contains(r#""taken_from":[{"relay":"theirs","what":"239.1.1.1:5001","pairs":1}]"#), "{mine}");
    for role in ["limited-viewer", "limited-operator", "limited-admin"] {
        for page in ["/api/v1/relays", "/api/v1/config", "/metrics"] {
            let (status, answer) = client.ask(role, "GET", page, None).await;
            assert!(status == 200 && answer.contains("mine") && !answer.contains("theirs"), "{role} {page}: {answer}");
        }
        let (_, mine) = client.ask(role, "GET", "/api/v1/relays/mine", None).await;
        assert!(!mine.contains("theirs"), "{role}: {mine}");
        for (name, expected) in [("mine", 200), ("theirs", 404)] {
            assert_eq!(client.ask(role, "GET", &format!("/api/v1/relays/{name}"), None).await.0, expected, "{role}");
        }
        for part in ["wait", "history"] {
            assert_eq!(client.ask(role, "GET", &format!("/api/v1/relays/theirs/{part}"), None).await.0, 404, "{role}");
        }
        assert_eq!(client.ask(role, "GET", "/api/v1/config/revisions", None).await.0, 403, "{role}");
    }
}

/// What is wrong with the daemon names relays of others.
#[tokio::test]
async fn a_limited_caller_sees_no_troubles() {
    let client = Client::new();
    for (role, is_told) in [("viewer", true), ("limited-viewer", false), ("limited-admin", false)] {
        let (_, status) = client.ask(role, "GET", "/api/v1/status", None).await;
        assert_eq!(status.contains("was left out at the start"), is_told, "{role}: {status}");
    }
}

/// Events of others are not told, and those of the own relays are.
#[tokio::test]
async fn a_limited_caller_hears_only_of_what_is_within() {
    let client = Client::new();
    for relay in [relay("new", "eth1", "239.2.2.3"), relay("others", "eth2", "239.2.2.3")] {
        assert_eq!(client.ask("operator", "POST", "/api/v1/relays", Some(&relay)).await.0, 201);
    }
    let heard = async |role: &str| {
        let (status, answer) = client.ask(role, "GET", "/api/v1/events?follow=false", None).await;
        assert_eq!(status, 200, "{role}: {answer}");
        let events: Value = serde_json::from_str(&answer).unwrap();
        let name = |event: &Value| event["relay"].as_str().unwrap_or("(none)").to_owned();
        events["events"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(heard("viewer").await, ["mine", "theirs", "(none)", "new", "others"]);
    for role in ["limited-viewer", "limited-operator", "limited-admin"] {
        assert_eq!(heard(role).await, ["mine", "new"], "{role}");
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
            ("PUT", "/api/v1/relays/theirs/lease", None, 404, ""),
            ("PUT", "/api/v1/relays/new/lease", None, 409, "no-lease"),
            ("DELETE", "/api/v1/relays/new", None, 204, ""),
        ];
        for (method, path, body, expected, field) in cases {
            let (status, answer) = client.ask(role, method, path, body).await;
            assert_eq!(status, expected, "{role} {method} {path}: {answer}");
            assert!(answer.contains(field), "{role} {method} {path}: {answer}");
        }
        let config = Some(json!({"relay": []}));
        assert_eq!(client.ask(role, "PUT", "/api/v1/config", config.as_ref()).await.0, 403, "{role}");
        let taken = relay("theirs", "eth1", "239.2.2.3");
        let (status, answer) = client.ask(role, "PUT", "/api/v1/relays/theirs", Some(&taken)).await;
        assert!(status == 403 && !answer.contains("eth2"), "{role}: {status} {answer}");
    }
}

#[tokio::test]
async fn a_limited_caller_sees_the_flows_within() {
    let client = Client::new();
    let seen = async |role: &str| {
        let (_, answer) = client.ask(role, "GET", "/api/v1/flows", None).await;
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let all = seen("viewer").await;
    assert_eq!((all["flows"].as_array().unwrap().len(), &all["missed_packets"]), (3, &json!(3)));
    let within = seen("limited-viewer").await;
    assert_eq!((&within["interfaces"], &within["missed_packets"]), (&json!(["eth0"]), &json!(0)), "{within}");
    assert_eq!(within["flows"].as_array().unwrap().len(), 1, "{within}");
    assert_eq!((&within["flows"][0]["interface"], &within["flows"][0]["group"]), (&json!("eth0"), &json!("239.1.1.1")));
    let elsewhere = json!({ "interfaces": ["eth2"] });
    let (status, answer) = client.ask("limited-operator", "POST", "/api/v1/flows", Some(&elsewhere)).await;
    assert!(status == 403 && answer.contains("interfaces[0]"), "{answer}");
}
