//! Why a packet does not arrive, as far as the daemon can see it: without privilege it reads tables and its own counters, and
//! neither the wire nor the kernel's drop reasons. `mcr explain` as root sees everything.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use mcr_diagnose::{NotExplained, Question, Relays, Report, Subject};
use mcr_model::spec::InputSpec;
use mcr_model::{FieldError, Input};
use serde::Deserialize;
use tokio::runtime::Handle;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::body::read_body;
use super::document::routes;
use super::rejection::Rejection;
use super::{Backend, Scoped, Shared, request};

/// How long counters are watched.
const LOOK: Duration = Duration::from_millis(500);

const WHAT: &str = "the question";

pub(super) fn routes<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::new().routes(routes!(B; Viewer: explain))
}

/// What is asked: a relay by its name, or an input as in a relay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExplainQuestion)]
struct Asked {
    /// The name of a relay.
    #[schema(example = "camera-3")]
    relay: Option<String>,
    /// Where packets should arrive.
    input: Option<InputSpec>,
    /// Routers between an output and its receivers, to compare with the output's ttl.
    hops: Option<u8>,
}

/// Follows a packet's way through the host and names the first step on which it is lost. Changes nothing.
#[utoipa::path(post, path = "/api/v1/explain", tag = "daemon",
    request_body = Asked,
    responses((status = 200, body = Report), (status = 404)),
)]
async fn explain<B: Backend>(backend: Scoped<B>, request: Request) -> Result<Json<Report>, Rejection> {
    // The answer tells of interfaces, processes and rules that no limit names.
    let whole = backend.whole()?.clone();
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let Asked { relay, input, hops } = request::read(&read_body(&head.headers, body).await?, WHAT)?;
    let (subject, input) = match (relay, input) {
        (Some(name), None) => (Subject::Relay(name.clone()), input_of_relay(&backend, &name).await?),
        (None, Some(input)) => {
            let input = input.check("input").map_err(|errors| Rejection::wrong_fields(WHAT, errors))?;
            (Subject::Endpoint, input)
        }
        (Some(_), Some(_)) | (None, None) => {
            let error =
                FieldError::new("relay", "one of \"relay\" and \"input\" is needed", "give exactly one of them");
            return Err(Rejection::wrong_fields(WHAT, vec![error]));
        }
    };
    let field = match &subject {
        Subject::Relay(_) => "relay",
        Subject::Endpoint => "input",
    };
    let mut question = Question::new(subject, input, LOOK).map_err(|NotExplained { message, remedy }| {
        Rejection::wrong_fields(WHAT, vec![FieldError::new(field, message, remedy)])
    })?;
    question.hops = hops;
    let runtime = Handle::current();
    let relays = move || Relays::Known(runtime.block_on(whole.relays()));
    let report = tokio::task::spawn_blocking(move || mcr_diagnose::explain(&question, relays)).await;
    Ok(Json(report.map_err(|error| Rejection::internal(&error))?))
}

async fn input_of_relay<B: Backend>(backend: &Scoped<B>, name: &str) -> Result<Input, Rejection> {
    let relay = backend.relay(&request::existing(name)?).await?.relay;
    relay.input.check("input").map_err(|errors| Rejection::wrong_fields(WHAT, errors))
}
