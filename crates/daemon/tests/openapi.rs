//! The OpenAPI document: it is the committed one, and says of every operation what a client has to know.

use std::path::Path;

use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(mcr_daemon::api::openapi()).unwrap()
}

/// `UPDATE_OPENAPI=1 cargo test -p mcr-daemon --test openapi` writes it anew.
#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let current = format!("{:#}\n", document());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/openapi.json is out of date: run UPDATE_OPENAPI=1 cargo test -p mcr-daemon --test openapi"
    );
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| summary.ends_with('.')), "{name}: no summary");
            assert!(operation["x-role"].is_string(), "{name}: no role");
            check_answers(&name, &operation["responses"]);
            operations += 1;
        }
    }
    assert!(operations >= 12, "{operations}");
}

fn check_answers(name: &str, responses: &Value) {
    let responses = responses.as_object().unwrap();
    assert!(responses.keys().any(|status| status.starts_with('2')), "{name}: no success");
    for (status, response) in responses {
        let name = format!("{name}: {status}");
        assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}: no description");
        if status.starts_with(['4', '5']) {
            let problem = &response["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/ProblemDocument", "{name}");
            assert!(problem["examples"].as_object().is_some_and(|examples| !examples.is_empty()), "{name}: no example");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                    assert!(target.is_some(), "{reference}");
                }
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
