//! Requests as spans, by the semantic conventions for HTTP servers.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer};
use opentelemetry::{KeyValue, global};
use opentelemetry_http::HeaderExtractor;

/// One request: which endpoint, how long, with which status. It is part of its caller's trace where that names one
/// (`traceparent`, W3C Trace Context).
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let tracer = global::tracer(super::NAME);
    let caller = global::get_text_map_propagator(|known| known.extract(&HeaderExtractor(request.headers())));
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let name = route.as_ref().map_or_else(|| method.clone(), |route| format!("{method} {route}"));
    let mut known = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.path", request.uri().path().chars().take(200).collect::<String>()),
    ];
    known.extend(route.map(|route| KeyValue::new("http.route", route)));
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(known);
    let mut span = tracer.build_with_context(builder, &caller);
    let answer = next.run(request).await;
    let status = answer.status();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if status.is_server_error() {
        span.set_status(Status::error(status.to_string()));
    }
    span.end();
    answer
}
