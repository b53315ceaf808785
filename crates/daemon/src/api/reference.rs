//! The description of the API, as a document and as a page.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use hyper::body::Bytes;
use utoipa::openapi::OpenApi;

/// The paths of the document and the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let json = Bytes::from(document.to_json().expect("the document is JSON"));
    Router::new()
        .route("/api/v1/openapi.json", get(|| async move { ([(header::CONTENT_TYPE, "application/json")], json) }))
}
