//! The description of the API, as a document and as a page.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use hyper::body::Bytes;
use utoipa::openapi::OpenApi;

/// The paths that [`routes`] serves, to whoever asks: they are the same for every daemon of a version.
pub(super) const PATHS: [&str; 1] = ["/api/v1/openapi.json"];

/// The document and the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let json = Bytes::from(document.to_json().expect("the document is JSON"));
    Router::new().route(PATHS[0], get(|| async move { ([(header::CONTENT_TYPE, "application/json")], json) }))
}
