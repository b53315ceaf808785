//! What monitoring systems are given: the metrics page, the alerts and the dashboard, by the tools of their makers.

mod backend;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::http::Request;
use backend::Bench;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use mcr_daemon::access::{Gate, Peer, Rules};
use mcr_daemon::api;
use mcr_daemon::store::Store;
use serde_json::Value;

const FILE: &str = r#"
[[relay]]
name = "camera-3"
input = { interface = "eth0", group = "239.1.1.1", port = 5001 }
output = [ { interface = "eth1", group = "239.2.2.2", port = 6001 }, { interface = "eth2", address = "10.1.0.20", port = 6001 } ]
"#;

/// `/metrics`, as Prometheus gets it.
async fn scrape() -> String {
    scrape_of(FILE).await.0
}

/// The page of a daemon with these relays, and how long it took.
async fn scrape_of(file: &str) -> (String, std::time::Duration) {
    let gate = Gate::new(Rules::default(), Store::in_memory()).unwrap();
    let service = TowerToHyperService::new(api::router(Bench::with_file(file), gate));
    let root = Peer::Local { user: 0, groups: [].into() };
    let request = Request::builder().uri("/metrics").extension(root).body(Body::empty()).unwrap();
    let start = std::time::Instant::now();
    let body = service.call(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), start.elapsed())
}

/// The names of its families, as queries use them.
fn names(page: &str) -> BTreeSet<String> {
    let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    typed.filter_map(|typed| typed.split(' ').next()).map(str::to_owned).collect()
}

/// The names of ours that a query uses.
fn used(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("mcr_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib").join(path)
}

fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(contrib("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not installed: run scripts/install-packages.sh test");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

/// What a scrape of ten thousand relays takes, from the counters of the engine to the bytes of the page; `--nocapture`
/// shows it. An unoptimised build has more time.
#[tokio::test]
async fn ten_thousand_relays_are_scraped_quickly() {
    let relay = |i: u32| {
        let (high, low) = (i / 250, i % 250 + 1);
        format!(
            "[[relay]]\nname = \"r{i}\"\ninput = {{ interface = \"eth0\", group = \"239.1.{high}.{low}\", port = 5001 }}\n\
             output = [ {{ interface = \"eth1\", group = \"239.2.{high}.{low}\", port = 6001 }} ]\n"
        )
    };
    let file: String = (0..10_000).map(relay).collect();
    let start = std::time::Instant::now();
    let page = scrape_of(&file).await;
    let took = page.1;
    println!(
        "{} lines, {} bytes in {took:?} ({:?} with loading)",
        page.0.lines().count(),
        page.0.len(),
        start.elapsed()
    );
    assert!(page.0.lines().count() > 100_000);
    let limit = if cfg!(debug_assertions) { 10_000 } else { 200 };
    assert!(took < std::time::Duration::from_millis(limit), "{took:?}");
}

#[tokio::test]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    promtool(&["check", "metrics"], &scrape().await);
}

#[test]
fn promtool_accepts_the_alerts_and_they_come_when_they_should() {
    promtool(&["check", "rules", "mcr-alerts.yml"], "");
    promtool(&["test", "rules", "mcr-alerts-test.yml"], "");
}

#[tokio::test]
async fn every_metric_of_the_alerts_and_the_dashboard_exists() {
    let there = names(&scrape().await);
    let alerts = std::fs::read_to_string(contrib("prometheus/mcr-alerts.yml")).unwrap();
    let expressions = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned);
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(contrib("grafana/mcr.json")).unwrap()).unwrap();
    let mut queries: Vec<String> = expressions.collect();
    let mut open = vec![&dashboard];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                let texts = ["expr", "definition"].iter().filter_map(|key| fields.get(*key)?.as_str());
                queries.extend(texts.map(str::to_owned));
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(queries.len() > 20, "{queries:?}");
    for query in queries {
        for name in used(&query) {
            assert!(there.contains(&name), "{name} of {query} is not among {there:?}");
        }
    }
}
