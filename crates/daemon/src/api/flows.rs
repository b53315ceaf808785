//! What multicast is on the wires: remembered, or looked for now.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use mcr_model::flow::FlowReport;
use mcr_model::{FieldError, duration};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::body::read_body;
use super::document::routes;
use super::rejection::Rejection;
use super::{Backend, Scoped, Shared, request};
use crate::lookout::Chosen;

const WHAT: &str = "the look";
/// How long is looked unless something else is asked for, and at most.
const LOOK: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

pub(super) fn routes<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::new().routes(routes!(B; Viewer: flows, Operator: look))
}

/// Where to look, and how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LookBody)]
struct Asked {
    /// The interfaces; all that are up and that the keeper's policy allows as inputs unless given.
    #[serde(default)]
    #[schema(example = json!(["eth0"]))]
    interfaces: Vec<String>,
    /// How long, 100ms to 60s; `5s` unless given.
    #[schema(example = "5s")]
    duration: Option<String>,
}

/// The flows that were seen since the daemon started. Nothing looks by itself: see POST.
#[utoipa::path(get, path = "/api/v1/flows", tag = "flows", responses((status = 200, body = FlowReport)))]
async fn flows<B: Backend>(backend: Scoped<B>) -> Json<FlowReport> {
    Json(backend.flows())
}

/// Looks at what is sent to groups, joined or not, and answers with everything that was seen. The interfaces are promiscuous
/// meanwhile; nothing is joined, and nothing is taken from relays.
#[utoipa::path(post, path = "/api/v1/flows", tag = "flows",
    request_body = Asked,
    responses((status = 200, body = FlowReport), (status = 409)),
)]
async fn look<B: Backend>(backend: Scoped<B>, request: Request) -> Result<Json<FlowReport>, Rejection> {
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let Asked { interfaces, duration } = request::read(&read_body(&head.headers, body).await?, WHAT)?;
    let length = length(duration.as_deref()).map_err(|error| Rejection::wrong_fields(WHAT, vec![error]))?;
    backend.check_interfaces(&interfaces)?;
    let links = mcr_diagnose::lookable(&interfaces).map_err(|blind| {
        Rejection::wrong_fields(WHAT, vec![FieldError::new("interfaces", blind.reason, blind.remedy)])
    })?;
    let within = links.into_iter().filter(|link| backend.has_interface(&link.name)).collect();
    let chosen = if interfaces.is_empty() { Chosen::AsAll } else { Chosen::ByName };
    backend.look(within, length, chosen).await?;
    tokio::time::sleep(length).await;
    Ok(Json(backend.flows()))
}

fn length(given: Option<&str>) -> Result<Duration, FieldError> {
    const RANGE: &str = "use 100ms to 60s, as \"5s\"";
    let Some(given) = given else { return Ok(LOOK) };
    let wrong = |message: String| FieldError::new("duration", message, RANGE);
    let length = duration::parse(given).map_err(|error| wrong(error.to_string()))?;
    let is_in_range = (SHORTEST..=LONGEST).contains(&length);
    if is_in_range { Ok(length) } else { Err(wrong(format!("a look of {} is out of range", duration::text(length)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(length(None), Ok(LOOK));
        assert_eq!(length(Some("100ms")), Ok(SHORTEST));
        for bad in ["", "99ms", "61s", "1", "-1s"] {
            assert!(length(Some(bad)).is_err(), "{bad}");
        }
    }
}
