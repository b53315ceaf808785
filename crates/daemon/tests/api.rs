//! The API as its clients see it, without a socket: each request with its whole answer.

mod backend;

use axum::body::Body;
use axum::http::{Request, header};
use backend::Bench;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use mcr_daemon::access::{Gate, Peer, Rules};
use mcr_daemon::api::{self, MAX_BODY_BYTES};
use mcr_daemon::store::Store;
use serde_json::{Value, json};

const FILE: &str = r#"
[[relay]]
name = "from-file"
input = { interface = "eth0", group = "239.9.9.9", port = 9001 }
output = [ { interface = "eth1", group = "239.9.9.10", port = 9002 } ]
"#;

/// A client that writes down what it asked and what was answered.
struct Client {
    service: TowerToHyperService<axum::Router>,
    transcript: String,
}

struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(header::HeaderName, String)>,
    body: Vec<u8>,
}

fn ask(method: &'static str, path: impl Into<String>) -> Ask {
    Ask { method, path: path.into(), headers: Vec::new(), body: Vec::new() }
}

impl Ask {
    fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header(header::CONTENT_TYPE, "application/json")
    }

    fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }
}

impl Client {
    fn new(file: &str) -> Self {
        let router = api::router(Bench::with_file(file), Gate::new(Rules::default(), Store::in_memory()).unwrap());
        Self { service: TowerToHyperService::new(router), transcript: String::new() }
    }

    async fn send(&mut self, ask: Ask) -> (u16, String) {
        let Ask { method, path, headers, body } = ask;
        let shown = match std::str::from_utf8(&body) {
            Ok(text) if text.len() <= 300 => text.to_owned(),
            Ok(text) => format!("({} bytes)", text.len()),
            Err(_) => "(not UTF-8)".to_owned(),
        };
        let root = Peer::Local { user: 0, groups: [].into() };
        let mut request = Request::builder().method(method).uri(&path).extension(root);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = self.service.call(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let path: String = path.chars().take(120).collect();
        self.transcript.push_str(format!("> {method} {path} {shown}").trim_end());
        self.transcript.push_str(&format!("\n< {}\n", head.status));
        for name in [header::CONTENT_TYPE, header::LOCATION, header::ALLOW, header::ETAG, header::RETRY_AFTER] {
            if let Some(value) = head.headers.get(&name) {
                self.transcript.push_str(&format!("< {name}: {}\n", value.to_str().unwrap()));
            }
        }
        let pretty = serde_json::from_str::<Value>(&body).map(|json| format!("{json:#}")).unwrap_or(body.clone());
        self.transcript.push_str(&format!("{pretty}\n\n"));
        (head.status.as_u16(), body)
    }
}

impl Client {
    /// The tag in the last answer that has one.
    fn last_tag(&self) -> String {
        let tag = self.transcript.lines().rev().find_map(|line| line.strip_prefix("< etag: "));
        tag.expect("an answer with a tag").to_owned()
    }
}

fn camera() -> Value {
    json!({
        "name": "camera-3",
        "input": { "interface": "eth0", "group": "239.1.1.1", "port": 5001, "sources": ["192.168.168.55"] },
        "output": [{ "interface": "eth1", "group": "239.2.2.2", "port": 6001, "ttl": 16 }],
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut relay = camera();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match relay.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        Value::Array(items) => items.push(value),
        other => panic!("{other} has no {key}"),
    }
    relay
}

fn without(key: &str) -> Value {
    let mut relay = camera();
    relay.as_object_mut().unwrap().remove(key);
    relay
}

#[tokio::test]
async fn the_life_of_a_relay() {
    let mut client = Client::new("");
    let path = "/api/v1/relays/camera-3";
    assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&camera())).await.0, 201);
    assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&camera())).await.0, 409);
    assert_eq!(client.send(ask("GET", path)).await.0, 200);
    assert_eq!(client.send(ask("PUT", path).json(&camera())).await.0, 200);
    assert_eq!(client.send(ask("PUT", path).json(&without("name"))).await.0, 200);
    assert_eq!(client.send(ask("PUT", path).json(&with("/output/0/ttl", json!(8)))).await.0, 200);
    assert_eq!(client.send(ask("GET", "/api/v1/relays")).await.0, 200);
    assert_eq!(client.send(ask("GET", format!("{path}/wait?for=ready&timeout=1500ms"))).await.0, 408);
    assert_eq!(client.send(ask("DELETE", path)).await.0, 204);
    assert_eq!(client.send(ask("DELETE", path)).await.0, 404);
    assert_eq!(client.send(ask("GET", format!("{path}/wait"))).await.0, 404);
    assert_eq!(client.send(ask("PUT", path).json(&camera())).await.0, 201);
    insta::assert_snapshot!("api-life", client.transcript);
}

#[tokio::test]
async fn the_configuration_and_its_revisions() {
    let mut client = Client::new(FILE);
    let config = "/api/v1/config";
    assert_eq!(client.send(ask("GET", config)).await.0, 200);
    let toml = |ask: Ask| ask.header(header::CONTENT_TYPE, "application/toml");
    let next = FILE.replace("9001", "9003");
    let dry_run = toml(ask("PUT", format!("{config}?dry_run=true")).body(next.as_str()));
    assert_eq!(client.send(dry_run).await.0, 200);
    let apply = ask("PUT", format!("{config}?note=another%20port")).body(next.as_str());
    assert_eq!(client.send(toml(apply)).await.0, 200);
    assert_eq!(
        client.send(ask("PUT", config).json(&json!({"relay": []})).header(header::IF_MATCH, "\"1\"")).await.0,
        200
    );
    let (_, text) = client.send(ask("GET", config).header(header::ACCEPT, "application/toml")).await;
    assert_eq!(mcr_daemon::config::check_text("", &text).unwrap().len(), 0);
    assert_eq!(client.send(ask("POST", format!("{config}/rollback?to=1"))).await.0, 200);
    let (_, text) = client.send(ask("GET", config).header(header::ACCEPT, "application/toml")).await;
    assert_eq!(text, FILE, "a revision is the text as it was written");
    assert_eq!(client.send(ask("GET", format!("{config}/revisions"))).await.0, 200);
    assert_eq!(client.send(ask("GET", format!("{config}/revisions/2"))).await.0, 200);
    insta::assert_snapshot!("api-config", client.transcript);
}

#[tokio::test]
async fn configurations_that_are_wrong() {
    let mut client = Client::new(FILE);
    let config = "/api/v1/config";
    assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&camera())).await.0, 201);
    let taken = json!({"relay": [camera()]});
    for (ask, expected) in [
        (ask("PUT", config).json(&json!({"relay": [{"name": "a", "inptu": 7}], "other": 1})), 422),
        (ask("PUT", config).json(&json!({"relay": [null]})), 422),
        (ask("PUT", config).json(&json!([])), 422),
        (ask("PUT", config).body("no json"), 400),
        (ask("PUT", config).body(vec![0xff]).header(header::CONTENT_TYPE, "application/toml"), 422),
        (ask("PUT", config).body("x").header(header::CONTENT_TYPE, "text/plain"), 415),
        (ask("PUT", config).json(&taken), 409),
        (ask("PUT", format!("{config}?dry_run=true")).json(&taken), 409),
        (ask("PUT", format!("{config}?confirm=1ms")).json(&json!({})), 400),
        (ask("PUT", format!("{config}?dryrun=true")).json(&json!({})), 400),
        (ask("PUT", config).json(&json!({})).header(header::IF_MATCH, "x"), 400),
        (ask("PUT", format!("{config}?note={}", "x".repeat(201))).json(&json!({})), 400),
        (ask("POST", format!("{config}/confirm")), 409),
        (ask("POST", format!("{config}/rollback?to=9")), 404),
        (ask("POST", format!("{config}/rollback?to=x")), 400),
        (ask("GET", format!("{config}/revisions/9")), 404),
        (ask("GET", format!("{config}/revisions/x")), 404),
    ] {
        let (status, answer) = client.send(ask).await;
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(client.send(ask("GET", "/api/v1/relays/from-file")).await.0, 200);
    insta::assert_snapshot!("api-config-wrong", client.transcript);
}

#[tokio::test]
async fn relays_of_the_file_are_read_only() {
    let mut client = Client::new(FILE);
    let mut relay = camera();
    relay["name"] = json!("from-file");
    assert_eq!(client.send(ask("DELETE", "/api/v1/relays/from-file")).await.0, 409);
    assert_eq!(client.send(ask("PUT", "/api/v1/relays/from-file").json(&relay)).await.0, 409);
    assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&relay)).await.0, 409);
    insta::assert_snapshot!("api-file", client.transcript);
}

#[tokio::test]
async fn relays_that_are_wrong() {
    let mut client = Client::new(FILE);
    let wrong = [
        with("/name", json!("Süd")),
        with("/name", json!(7)),
        without("name"),
        without("input"),
        without("output"),
        with("/output", json!([])),
        with("/input/port", json!("5001")),
        with("/input/port", json!(0)),
        with("/input/port", json!(5001.5)),
        with("/input/group", json!("10.1.1.1")),
        with("/input/group", json!("224.0.0.251")),
        with("/input/grup", json!("239.1.1.1")),
        with("/output/0/ttl", json!(0)),
        with("/output/0/tttl", json!(8)),
        with("/output/0/port", json!(319)),
        with("/output/-", json!({ "interface": "eth0", "group": "239.1.1.1", "port": 5001 })),
        with("/output/-", json!({ "interface": "e/0", "address": "239.1.1.1", "port": 0, "dscp": 64 })),
        with("/colour", json!("x".repeat(100_000))),
        with("/output", json!("y".repeat(100_000))),
        with("/input", json!(["eth0", "239.1.1.1", null, 5001])),
        with("/output/-", json!("eth1:239.2.2.2:6001")),
        with("/querier", json!([null, true])),
        with("/breaker", json!([5])),
        with("/link_local", json!("yes")),
        json!({ "nmae": "a", "input": { "interface": 7, "port": "5001", "vlan": null }, "output": "x", "lease": "1m" }),
        json!(["camera-3"]),
        json!(null),
    ];
    for relay in wrong {
        assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&relay)).await.0, 422, "{relay}");
    }
    assert_eq!(client.send(ask("PUT", "/api/v1/relays/other").json(&camera())).await.0, 422);
    assert_eq!(client.send(ask("PUT", "/api/v1/relays/Bad%20Name").json(&without("name"))).await.0, 422);
    let (_, relays) = client.send(ask("GET", "/api/v1/relays")).await;
    assert_eq!(serde_json::from_str::<Value>(&relays).unwrap()["relays"].as_array().unwrap().len(), 1);
    insta::assert_snapshot!("api-wrong-relays", client.transcript);
}

#[tokio::test]
async fn relays_that_do_not_fit_beside_the_others() {
    let mut client = Client::new(FILE);
    let fed = json!({
        "name": "fed", "input": { "interface": "eth0", "group": "239.9.9.9", "port": 9001 },
        "output": [{ "interface": "eth1", "group": "239.9.9.10", "port": 9002 }],
    });
    let cycle = json!({
        "name": "cycle", "input": { "interface": "eth1", "group": "239.9.9.10", "port": 9002 },
        "output": [{ "interface": "eth0", "group": "239.9.9.9", "port": 9001 }],
    });
    assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&fed)).await.0, 409);
    assert_eq!(client.send(ask("PUT", "/api/v1/relays/cycle").json(&cycle)).await.0, 409);
    insta::assert_snapshot!("api-conflicts", client.transcript);
}

#[tokio::test]
async fn requests_that_are_wrong() {
    let mut client = Client::new(FILE);
    let post = || ask("POST", "/api/v1/relays");
    let form = "application/x-www-form-urlencoded";
    let about_a_range = json!({ "input": { "interface": "eth0", "group": "239.1.0.0/24", "port": 5001 } });
    let cases = [
        (400, post().body("")),
        (400, post().body("{\"name\": \"a\",\n  oops")),
        (400, post().body(b"{\"name\": \"s\xfcd\"}".as_slice())),
        (400, post().body(format!("{} trailing", camera()))),
        (400, post().body("[".repeat(10_000))),
        (413, post().body("x".repeat(MAX_BODY_BYTES + 1))),
        (413, post().body("x".repeat(10_000_000))),
        (413, post().body("x").header(header::CONTENT_LENGTH, "100000000000")),
        (413, post().body("x").header(header::CONTENT_LENGTH, "2000000").header(header::EXPECT, "100-continue")),
        (415, post()),
        (415, post().json(&camera()).header(header::CONTENT_TYPE, form)),
        (404, ask("GET", "/")),
        (404, ask("GET", "/api/v2/relays")),
        (404, ask("GET", "/api/v1/relays/")),
        (404, ask("GET", "/api/v1/relays/a%2Fb")),
        (404, ask("GET", "/api/v1/relays/%3Cscript%3E")),
        (404, ask("DELETE", "/api/v1/relays/..")),
        (404, ask("GET", format!("/{}", "x".repeat(5_000)))),
        (405, ask("PATCH", "/api/v1/relays/from-file")),
        (405, ask("DELETE", "/api/v1/relays")),
        (405, ask("POST", "/metrics")),
        (400, ask("GET", "/api/v1/relays/%ff")),
        (400, ask("GET", "/api/v1/relays?limit=0")),
        (400, ask("GET", "/api/v1/relays?page=2")),
        (400, ask("GET", format!("/api/v1/relays?after={}", "0".repeat(64)))),
        (400, ask("GET", "/api/v1/relays/from-file/wait?for=ever")),
        (400, ask("GET", "/api/v1/relays/from-file/wait?timeout=5")),
        (400, ask("GET", "/api/v1/relays/from-file/wait?timeout=2h")),
        (400, ask("GET", "/api/v1/relays/from-file/wait?patience=5s")),
        (422, ask("POST", "/api/v1/explain").json(&about_a_range)),
    ];
    for (status, ask) in cases {
        let name = format!("{} {}", ask.method, ask.path);
        let (answered, body) = client.send(ask).await;
        assert_eq!(answered, status, "{name}");
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}: {body}"));
        assert_eq!(problem["status"], status, "{name}");
    }
    insta::assert_snapshot!("api-wrong-requests", client.transcript);
}

/// Of two who looked at the same relay, the second one to change it is told.
#[tokio::test]
async fn a_relay_is_changed_as_it_was_looked_at() {
    let mut client = Client::new(FILE);
    let path = "/api/v1/relays/camera-3";
    let (one, other) = (camera(), with("/silent_after", json!("3s")));
    let put = |relay: &Value, tag: &str| ask("PUT", path).json(relay).header(header::IF_MATCH, tag);
    let delete = |tag: &str| ask("DELETE", path).header(header::IF_MATCH, tag);
    assert_eq!(client.send(put(&one, "*")).await.0, 412, "there is none");
    assert_eq!(client.send(put(&one, "\"0123456789abcdef\"")).await.0, 412);
    assert_eq!(client.send(delete("*")).await.0, 404);

    let make = |relay: &Value| ask("PUT", path).header(header::IF_NONE_MATCH, "*").json(relay);
    assert_eq!(client.send(make(&one)).await.0, 201);
    let seen = client.last_tag();
    let (status, problem) = client.send(make(&one)).await;
    assert!(status == 412 && problem.contains("`If-None-Match: *` asks for none"), "{problem}");
    assert_eq!(client.send(put(&other, &format!("\"another\", {seen}"))).await.0, 200);
    let changed = client.last_tag();
    assert_ne!(seen, changed);
    assert_eq!(client.send(ask("GET", path)).await.0, 200);
    assert_eq!(client.last_tag(), changed);

    let (status, problem) = client.send(put(&one, &seen)).await;
    assert!(
        status == 412 && problem.contains("/problems/superseded") && problem.contains("then try again"),
        "{problem}"
    );
    assert_eq!(client.send(delete(&seen)).await.0, 412);
    assert_eq!(client.send(put(&other, &format!("W/{changed}"))).await.0, 412, "a weak tag matches nothing");
    let (status, problem) = client.send(put(&other, "3")).await;
    assert!(status == 400 && problem.contains("If-Match"), "{problem}");
    assert_eq!(client.send(put(&other, &changed)).await.0, 200);
    assert_eq!(client.send(put(&one, "*")).await.0, 200);
    assert_eq!(client.last_tag(), seen, "a definition has one tag");
    assert_eq!(client.send(delete(&seen)).await.0, 204);
}

#[tokio::test]
async fn relays_come_in_pages() {
    let mut client = Client::new("");
    for i in 0..5 {
        let mut relay = camera();
        relay["name"] = json!(format!("r{i}"));
        relay["output"][0]["port"] = json!(7000 + i);
        assert_eq!(client.send(ask("POST", "/api/v1/relays").json(&relay)).await.0, 201);
    }
    let mut page = async |query: &str| {
        let (_, page) = client.send(ask("GET", format!("/api/v1/relays{query}"))).await;
        let page: Value = serde_json::from_str(&page).unwrap();
        let names: Vec<_> = page["relays"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        (names.join(" "), page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(page("?limit=2").await, ("r0 r1".to_owned(), Some("r1".to_owned())));
    assert_eq!(page("?limit=2&after=r1").await, ("r2 r3".to_owned(), Some("r3".to_owned())));
    assert_eq!(page("?after=r3&limit=2").await, ("r4".to_owned(), None));
    assert_eq!(page("?limit=5").await, ("r0 r1 r2 r3 r4".to_owned(), None));
    assert_eq!(page("?after=zzz").await, (String::new(), None));
}

#[tokio::test]
async fn what_a_path_can_do_is_told() {
    let mut client = Client::new("");
    assert_eq!(client.send(ask("OPTIONS", "/api/v1/relays/any")).await.0, 204);
    assert_eq!(client.send(ask("HEAD", "/api/v1/relays")).await, (200, String::new()));
    insta::assert_snapshot!("api-options", client.transcript);
}

#[tokio::test]
async fn the_configuration_keeps_what_counts_for_all_relays() {
    let mut client = Client::new(&format!("datapath = \"packet\"\n{FILE}"));
    let (_, config) = client.send(ask("GET", "/api/v1/config")).await;
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["datapath"], "packet", "{config:#}");
    let (status, plan) = client.send(ask("PUT", "/api/v1/config?dry_run=true").json(&config)).await;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((status, &plan["unchanged"]), (200, &json!(1)), "{plan:#}");
}

#[tokio::test]
async fn the_daemon_and_its_health() {
    let mut client = Client::new("");
    for path in ["/healthz", "/readyz", "/api/v1/status", "/api/v1/interfaces", "/api/v1/relays"] {
        assert_eq!(client.send(ask("GET", path)).await.0, 200, "{path}");
    }
    insta::assert_snapshot!("api-daemon", client.transcript);
}

#[tokio::test]
async fn the_metrics_page_in_both_forms() {
    let mut client = Client::new(FILE);
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    let (_, page) = client.send(ask("GET", "/metrics").header(header::ACCEPT, prometheus)).await;
    assert!(page.ends_with("# EOF\n") && client.transcript.contains("openmetrics-text"), "{page}");
    let (_, page) = client.send(ask("GET", "/metrics").header(header::ACCEPT, "*/*")).await;
    assert!(!page.contains("# EOF") && client.transcript.contains("text/plain; version=0.0.4"), "{page}");
}
