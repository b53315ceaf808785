//! Reporting memberships once more.

use axum::Json;
use axum::extract::Request;
use mcr_model::FieldError;
use mcr_model::rejoin::RejoinReport;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::body::read_body;
use super::document::routes;
use super::rejection::Rejection;
use super::{Backend, Scoped, Shared, request};

const WHAT: &str = "what to report";

pub(super) fn routes<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::new().routes(routes!(B; Operator: rejoin))
}

/// Whose groups to report.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RejoinBody)]
struct Asked {
    /// A relay, or an interface that relays listen on; all unless given.
    #[schema(example = "camera-3")]
    name: Option<String>,
}

/// Reports the groups of relays to switches and routers at once, as hosts do when they are asked: for a network that has
/// forgotten them. Nothing is left and joined anew.
#[utoipa::path(post, path = "/api/v1/rejoin", tag = "interfaces",
    request_body = Option<Asked>,
    responses((status = 200, body = RejoinReport), (status = 422)),
)]
async fn rejoin<B: Backend>(backend: Scoped<B>, request: Request) -> Result<Json<RejoinReport>, Rejection> {
    let (head, body) = request.into_parts();
    let body = read_body(&head.headers, body).await?;
    let Asked { name } = if body.trim_ascii().is_empty() {
        Asked::default()
    } else {
        request::expect_json(&head.headers)?;
        request::read(&body, WHAT)?
    };
    let report = backend.rejoin(name.clone()).await;
    report.map(Json).ok_or_else(|| Rejection::wrong_fields(WHAT, vec![unknown(&name.unwrap_or_default())]))
}

fn unknown(name: &str) -> FieldError {
    let message = format!("there is no relay {name}, and none that listens on an interface {name}");
    FieldError::new("name", message, "see the relays with `mcr list`")
}
