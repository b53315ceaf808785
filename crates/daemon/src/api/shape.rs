//! All the mistakes in the shape of a relay's JSON at once: `serde` stops at the first.

use mcr_model::FieldError;
use serde_json::{Map, Value};

use super::request::Named;
use crate::config;

/// What is wrong with a body that `serde` could not read, by the reader of the file, which reads on after a mistake.
pub(super) fn mistakes(body: &[u8], named: Named<'_>) -> Vec<FieldError> {
    let Ok(Value::Object(relay)) = serde_json::from_slice(body) else { return Vec::new() };
    let mut relay = without_nulls(relay);
    // A file has none; whether it is one is asked elsewhere.
    relay.remove("lease");
    if let Named::InPath(name) = named {
        relay.insert("name".to_owned(), name.as_str().into());
    }
    let Ok(text) = toml::to_string(&serde_json::json!({ "relay": [relay] })) else { return Vec::new() };
    let Err(wrong) = config::parse("the relay", text) else { return Vec::new() };
    wrong.fields().iter().cloned().map(in_the_body).collect()
}

/// `null` is the same as nothing, and TOML knows none.
fn without_nulls(object: Map<String, Value>) -> Map<String, Value> {
    let kept = object.into_iter().filter(|(_, value)| !value.is_null());
    kept.map(|(key, value)| (key, within(value))).collect()
}

fn within(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(without_nulls(object)),
        Value::Array(items) => Value::Array(items.into_iter().map(within).collect()),
        other => other,
    }
}

fn in_the_body(error: FieldError) -> FieldError {
    let field = error.field.strip_prefix("relay[0]").unwrap_or(&error.field).trim_start_matches('.').to_owned();
    FieldError { field, ..error }
}
