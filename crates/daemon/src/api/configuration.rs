//! The configuration as a whole: looked at, planned, applied; and the revisions to go back to.

use axum::extract::{Query, Request};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hyper::body::Bytes;
use mcr_model::plan::Plan;
use mcr_model::revision::{Applied, History, Revision, RevisionText};
use mcr_model::spec::ConfigSpec;
use mcr_model::status::Origin;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::body::read_body_up_to;
use super::document::routes;
use super::rejection::Rejection;
use super::scoped::Scoped;
use super::{Backend, InPath, Shared, request};
use crate::access::Caller;
use crate::config::{self, Configuration};
use crate::control::{Application, ApplyError, Terms};

/// The endpoints of this file.
pub(super) fn routes<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::new()
        .routes(routes!(B; Viewer: show_config, Admin: apply_config))
        .routes(routes!(B; Admin: confirm_config))
        .routes(routes!(B; Admin: roll_back_config))
        .routes(routes!(B; Viewer: list_revisions))
        .routes(routes!(B; Viewer: show_revision))
}

/// How a configuration is to be applied.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ApplyQuery {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
    /// The one before comes back unless this one is confirmed within this time, `1s` to `1h`.
    #[param(example = "60s", pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$")]
    confirm: Option<String>,
    /// What the history says about it, at most 200 characters.
    #[param(example = "camera 4 added", max_length = 200)]
    note: Option<String>,
}

/// How to go back.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct RollBackQuery {
    /// The revision to go back to; the one before the one in force unless given.
    to: Option<u64>,
    /// The one in force now comes back unless this is confirmed within this time, `1s` to `1h`.
    #[param(example = "60s", pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$")]
    confirm: Option<String>,
    /// What the history says about it, at most 200 characters.
    #[param(max_length = 200)]
    note: Option<String>,
}

/// What came of a configuration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Outcome {
    /// It is in force.
    Applied(Box<Applied>),
    /// What it would change.
    Planned(Box<Plan>),
}

/// The longest note, in characters.
const MOST_NOTE: usize = 200;
/// The shortest trial, in seconds.
const SHORTEST_TRIAL: u64 = 1;

/// The configuration in force, without the relays of the API: JSON, or the text as it was written for who accepts
/// TOML. The `ETag` is the number of its revision.
#[utoipa::path(get, path = "/api/v1/config", tag = "configuration",
    responses((status = 200, content((ConfigSpec = "application/json"), (String = "application/toml")),
        headers(("ETag" = String, description = "The number of the revision in force, in quotes")))),
)]
async fn show_config<B: Backend>(backend: Scoped<B>, headers: HeaderMap) -> Result<Response, Rejection> {
    let relays = backend.relays().await.into_iter().filter(|relay| relay.origin == Origin::File);
    let relay = relays.map(|status| status.relay).collect();
    let in_force = match backend.whole() {
        Ok(whole) => in_force(whole).await?,
        Err(_) => None,
    };
    // Its relays name theirs already; it counts for what is written from here on.
    let datapath = in_force.as_ref().and_then(|revision| toml::from_str::<ConfigSpec>(&revision.text).ok()?.datapath);
    let config = ConfigSpec { datapath, relay };
    let tag = in_force.as_ref().map(|revision| [(header::ETAG, format!("\"{}\"", revision.revision.number))]);
    if !request::accept(&headers).contains("toml") {
        return Ok((tag, Json(config)).into_response());
    }
    let text = match in_force {
        Some(revision) => revision.text,
        None => toml::to_string(&config).map_err(|error| Rejection::internal(&error))?,
    };
    Ok((tag, [(header::CONTENT_TYPE, "application/toml")], text).into_response())
}

async fn in_force<B: Backend>(backend: &B) -> Result<Option<RevisionText>, Rejection> {
    match backend.history().await?.in_force {
        Some(number) => Ok(backend.revision(number).await?),
        None => Ok(None),
    }
}

/// Puts a configuration in force in the place of the file's: all of it or nothing. Relays that do not change lose no
/// packet; relays of the API stay. The body is that of the file, as TOML or JSON.
#[utoipa::path(put, path = "/api/v1/config", tag = "configuration",
    params(ApplyQuery, ("If-Match" = Option<String>, Header,
        description = "The number of the revision that has to be in force, in quotes")),
    request_body(content((ConfigSpec = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = Outcome), (status = 409), (status = 412), (status = 507)),
)]
async fn apply_config<B: Backend>(
    backend: Scoped<B>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<Outcome>, Rejection> {
    let backend = backend.whole()?;
    let (head, body) = request.into_parts();
    let ApplyQuery { dry_run, confirm, note } = query(&head.uri, "dry_run, confirm and note")?;
    let terms = terms(&caller, confirm.as_deref(), note, expected(&head.headers)?)?;
    let body = read_body_up_to(config::MAX_BYTES, &head.headers, body).await?;
    let configuration = configuration(&head.headers, &body)?;
    if dry_run {
        let plan = backend.plan(configuration.relays).await.map_err(ApplyError::Unfit)?;
        return Ok(Json(Outcome::Planned(Box::new(plan))));
    }
    let applied = backend.apply(Application { configuration, terms }).await?;
    Ok(Json(Outcome::Applied(Box::new(applied))))
}

/// The configuration on trial is to stay.
#[utoipa::path(post, path = "/api/v1/config/confirm", tag = "configuration",
    responses((status = 200, body = Revision), (status = 409), (status = 507)),
)]
async fn confirm_config<B: Backend>(
    backend: Scoped<B>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Revision>, Rejection> {
    Ok(Json(backend.whole()?.confirm(caller.identity.to_string()).await?))
}

/// Puts an earlier revision in force again, as a new one. A trial ends by it.
#[utoipa::path(post, path = "/api/v1/config/rollback", tag = "configuration", params(RollBackQuery),
    responses((status = 200, body = Applied), (status = 404), (status = 409), (status = 507)),
)]
async fn roll_back_config<B: Backend>(
    backend: Scoped<B>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Applied>, Rejection> {
    let RollBackQuery { to, confirm, note } = query(&uri, "to, confirm and note")?;
    let terms = terms(&caller, confirm.as_deref(), note, None)?;
    Ok(Json(backend.whole()?.roll_back(to, terms).await?))
}

/// The configurations that were in force, oldest first.
#[utoipa::path(get, path = "/api/v1/config/revisions", tag = "configuration",
    responses((status = 200, body = History), (status = 507)),
)]
async fn list_revisions<B: Backend>(backend: Scoped<B>) -> Result<Json<History>, Rejection> {
    Ok(Json(backend.whole()?.history().await?))
}

/// One of them, with its text.
#[utoipa::path(get, path = "/api/v1/config/revisions/{number}", tag = "configuration",
    params(("number" = u64, Path, description = "The number of the revision", example = 7)),
    responses((status = 200, body = RevisionText), (status = 507)),
)]
async fn show_revision<B: Backend>(
    backend: Scoped<B>,
    InPath(number): InPath,
) -> Result<Json<RevisionText>, Rejection> {
    let number = number.parse().map_err(|_| Rejection::no_such_revision(0))?;
    let found = backend.whole()?.revision(number).await?;
    found.map(Json).ok_or_else(|| Rejection::no_such_revision(number))
}

fn query<Q: for<'de> Deserialize<'de>>(uri: &Uri, known: &str) -> Result<Q, Rejection> {
    let parsed = Query::<Q>::try_from_uri(uri).map(|Query(query)| query);
    let given = uri.query().unwrap_or_default();
    parsed.map_err(|error| {
        Rejection::bad_query("query", given, &format!("{}; the parameters are {known}", error.body_text()))
    })
}

fn terms(
    caller: &Caller,
    confirm: Option<&str>,
    note: Option<String>,
    expected: Option<u64>,
) -> Result<Terms, Rejection> {
    let confirm = confirm.map(|text| request::length("confirm", text)).transpose()?;
    if confirm.is_some_and(|length| length.as_secs() < SHORTEST_TRIAL) {
        return Err(Rejection::bad_query(
            "confirm",
            "less than 1s",
            "nobody confirms in less than a second; write 60s",
        ));
    }
    if note.as_ref().is_some_and(|note| note.chars().count() > MOST_NOTE) {
        return Err(Rejection::bad_query("note", "", "the note has more than 200 characters; shorten it"));
    }
    Ok(Terms { by: caller.identity.to_string(), note, confirm, expected })
}

/// What `If-Match` expects to be in force; `*`: whatever is.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse();
    let wrong = |_| Rejection::bad_header("If-Match", text, "write the number of a revision, as in its ETag: \"7\"");
    number.map(Some).map_err(wrong)
}

fn configuration(headers: &HeaderMap, body: &Bytes) -> Result<Configuration, Rejection> {
    const NAME: &str = "configuration";
    let media_type = request::media_type(headers);
    let text = if media_type == "application/toml" {
        std::str::from_utf8(body).map_err(|error| Rejection::no_configuration(&error))?.to_owned()
    } else if request::is_json(&media_type) {
        // Read as what it means in the file: there is one reader, which knows every key and says every mistake.
        let json: Value = serde_json::from_slice(body).map_err(|error| Rejection::bad_json(&error))?;
        toml::to_string(&json).map_err(|error| Rejection::no_configuration(&error))?
    } else {
        return Err(Rejection::not_a_configuration(&media_type));
    };
    config::parse(NAME, text).map_err(|error| Rejection::wrong_config(&error))
}
