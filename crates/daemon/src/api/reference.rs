//! The description of the API, as a document and as a page.
//!
//! The page is made here, once, of the same document: one file without scripts and without anything from elsewhere, so
//! that it reads the same on a host without a way to the internet.

use std::fmt::Write as _;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use hyper::body::Bytes;
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

use super::problem::Kind;

/// The paths that [`routes`] serves, to whoever asks: they are the same for every daemon of a version.
pub(super) const PATHS: [&str; 2] = ["/api/v1/openapi.json", "/api/v1/docs"];

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}\
h3{margin:2rem 0 .3rem;font-size:1.05rem}code,pre{font-family:ui-monospace,monospace;font-size:.92em}\
pre{background:var(--soft);padding:.6rem .8rem;overflow:auto}\
table{border-collapse:collapse;width:100%;margin:.5rem 0}\
td,th{border-top:1px solid var(--line);padding:.25rem .6rem .25rem 0;text-align:left;vertical-align:top}\
.method{display:inline-block;min-width:4.2rem;font-weight:700}.role{color:#888;font-weight:400;font-size:.9em}";

/// The document and the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let json = serde_json::to_value(document).expect("the document is JSON");
    let (text, page) = (Bytes::from(json.to_string()), Bytes::from(page(&json)));
    Router::new()
        .route(PATHS[0], get(|| async move { ([(header::CONTENT_TYPE, "application/json")], text) }))
        .route(PATHS[1], get(|| async move { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page) }))
}

fn page(document: &Value) -> String {
    let mut html = String::with_capacity(128 << 10);
    let info = &document["info"];
    let (title, version) = (text(&info["title"]), text(&info["version"]));
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style><h1>{title} <small>{version}</small>\
         </h1><p>{}</p><p>The same for programs: <a href=\"openapi.json\">openapi.json</a> (OpenAPI {}).</p>",
        text(&info["description"]),
        text(&document["openapi"]),
    );
    html.push_str("<h2>Endpoints</h2>");
    for (path, item) in fields(&document["paths"]) {
        for (method, operation) in fields(item) {
            endpoint(&mut html, document, path, method, operation);
        }
    }
    html.push_str("<h2 id=\"problems\">Problems</h2><table>");
    for kind in Kind::ALL {
        let _ = write!(
            html,
            "<tr id=\"{name}\"><td>{}<td><code>{}</code><td>{}: {}",
            kind.status().as_u16(),
            kind.reference(),
            escaped(kind.title()),
            escaped(kind.meaning()),
            name = kind.name(),
        );
    }
    html.push_str("</table><h2>Types</h2>");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        named_type(&mut html, name, schema);
    }
    html
}

fn endpoint(html: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let method = method.to_ascii_uppercase();
    let _ = write!(
        html,
        "<h3 id=\"{}\"><span class=\"method\">{method}</span><code>{}</code> <span class=\"role\">{}</span></h3><p>{}",
        escaped(operation["operationId"].as_str().unwrap_or_default()),
        escaped(path),
        text(&operation["x-role"]),
        text(&operation["summary"]),
    );
    let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        html.push_str("<table>");
        for parameter in parameters {
            let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
            let (of, about) = (type_of(&parameter["schema"]), text(&parameter["description"]));
            let _ = write!(html, "<tr><td><code>{name}</code><td>{place}<td>{of}<td>{about}");
        }
        html.push_str("</table>");
    }
    for (media, content) in fields(&operation["requestBody"]["content"]) {
        let _ = write!(html, "<p>Body: {} as <code>{}</code>", type_of(&content["schema"]), escaped(media));
        let example = example(document, &content["schema"], 0);
        let _ = write!(html, "<pre>{}</pre>", escaped(&format!("{example:#}")));
    }
    html.push_str("<table>");
    for (status, response) in fields(&operation["responses"]) {
        let contents = fields(&response["content"]).map(|(media, content)| {
            let of = if media == "application/problem+json" {
                "<a href=\"#problems\">problem</a>".to_owned()
            } else {
                type_of(&content["schema"])
            };
            format!("{of} <code>{}</code>", escaped(media))
        });
        let contents = contents.collect::<Vec<_>>().join("<br>");
        let _ = write!(html, "<tr><td>{}<td>{}<td>{contents}", escaped(status), text(&response["description"]));
    }
    html.push_str("</table>");
}

fn named_type(html: &mut String, name: &str, schema: &Value) {
    let name = escaped(name);
    let _ = write!(html, "<h3 id=\"type-{name}\">{name}</h3><p>{}", text(&schema["description"]));
    let parts = schema["allOf"].as_array().into_iter().flatten().chain([schema]);
    html.push_str("<table>");
    for part in parts {
        if part["$ref"].is_string() {
            let _ = write!(html, "<tr><td colspan=\"3\">everything of {}", type_of(part));
        }
        let required: Vec<&str> = part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field, of) in fields(&part["properties"]) {
            let must = if required.contains(&field) { "" } else { " <small>(optional)</small>" };
            let (of_text, about) = (type_of(of), text(&of["description"]));
            let _ = write!(html, "<tr><td><code>{}</code>{must}<td>{of_text}<td>{about}", escaped(field));
        }
    }
    html.push_str("</table>");
    if schema["enum"].is_array() {
        let _ = write!(html, "<p>One of {}.", type_of(schema));
    }
}

/// A type in a few words, with a link where it has a name.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#type-{name}\">{name}</a>");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().map(|value| format!("<code>{}</code>", escaped(&value.to_string())));
        return values.collect::<Vec<_>>().join(", ");
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let either = either.iter().filter(|one| one["type"] != "null").map(type_of);
        return either.collect::<Vec<_>>().join(" or ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("any"),
        kind => kind.as_str().unwrap_or("any"),
    };
    match kind {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", type_of(&schema["additionalProperties"]))
        }
        kind => match (&schema["minimum"], &schema["maximum"]) {
            (Value::Number(least), Value::Number(most)) => format!("{}, {least} to {most}", escaped(kind)),
            _ => escaped(kind),
        },
    }
}

/// A value of that type, put together from the examples of its fields; those without one are left out.
fn example(document: &Value, schema: &Value, depth: usize) -> Value {
    if let Some(given) = schema.get("example") {
        return given.clone();
    }
    if let Some(target) = schema["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?)) {
        return if depth < 8 { example(document, target, depth + 1) } else { Value::Null };
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("array") => match example(document, &schema["items"], depth) {
            Value::Null => Value::Null,
            item => Value::Array(vec![item]),
        },
        Some("object") => {
            let values =
                fields(&schema["properties"]).map(|(name, of)| (name.to_owned(), example(document, of, depth)));
            Value::Object(values.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

fn fields(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
