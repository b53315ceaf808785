//! The HTTP API: requests become calls of the control thread, answers and refusals become JSON.
//!
//! What a request means is decided by the pure functions of `request`; the handlers here only carry it to the
//! [`Backend`] and back. Everything that is refused is an RFC 9457 problem document (`rejection`). Each handler's
//! attributes describe it in the OpenAPI document (`document`), which a test compares with `docs/openapi.json`.
//! Who may use which endpoint is checked before it (`guard`), and handlers see what their caller may see (`scoped`).

mod admission;
mod body;
mod configuration;
mod document;
mod events;
mod explain;
mod flows;
mod guard;
mod problem;
mod reference;
mod rejection;
mod rejoin;
mod request;
mod scoped;
mod shape;
mod site;
mod tag;
mod tokens;

use std::future::Future;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, RawQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use mcr_diagnose::Link;
use mcr_engine::{Refusal, Replaced, Step};
use mcr_model::flow::FlowReport;
use mcr_model::plan::Plan;
use mcr_model::rejoin::RejoinReport;
use mcr_model::relay::Relay;
use mcr_model::revision::{Applied, History, Revision, RevisionText};
use mcr_model::status::{DaemonStatus, InterfaceStatus, RelayHistory, RelayStatus};
use mcr_model::{Grant, Lease, RelayName, WaitFor};
use mcr_netd::KeeperError;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::access::Gate;
use crate::control::{Application, ApplyError, ChangeError, Claim, Control, Terms, Waited};
use crate::events::EventLog;
use crate::lookout::Chosen;
use crate::metrics::{self, Exposition, Process, Snapshot};
use crate::store::StoreError;

use body::read_body;
use document::routes;
use rejection::Rejection;
use request::{Named, Page, Wanted};
use scoped::Scoped;
use tag::{Expected, Tagged};

/// The largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// What the API asks of the control thread; [`Control`] is it.
pub trait Backend: Clone + Send + Sync + 'static {
    /// All relays, by name.
    fn relays(&self) -> impl Future<Output = Vec<RelayStatus>> + Send;
    /// One relay.
    fn relay(&self, name: &RelayName) -> impl Future<Output = Option<RelayStatus>> + Send;
    /// Makes a relay, for good or for as long as it is renewed.
    fn create(
        &self,
        relay: Relay,
        lease: Option<Lease>,
    ) -> impl Future<Output = Result<RelayStatus, ChangeError>> + Send;
    /// Makes the relay of that name be exactly this one; the one that was there has to be as claimed.
    fn replace(
        &self,
        relay: Relay,
        lease: Option<Lease>,
        claim: Claim,
    ) -> impl Future<Output = Result<(Replaced, RelayStatus), ChangeError>> + Send;
    /// Begins the lease of a relay within `grant` anew, with another length if one is given.
    fn renew(
        &self,
        name: RelayName,
        lease: Option<Lease>,
        grant: Grant,
    ) -> impl Future<Output = Result<RelayStatus, Refusal>> + Send;
    /// Removes a relay that is as claimed.
    fn remove(&self, name: RelayName, claim: Claim) -> impl Future<Output = Result<(), ChangeError>> + Send;
    /// What a configuration would change.
    fn plan(&self, relays: Vec<Relay>) -> impl Future<Output = Result<Plan, Vec<Refusal>>> + Send;
    /// Puts a configuration in force instead of the file's.
    fn apply(&self, application: Application) -> impl Future<Output = Result<Applied, ApplyError>> + Send;
    /// Puts an earlier revision in force again; `None`: the one before.
    fn roll_back(&self, to: Option<u64>, terms: Terms) -> impl Future<Output = Result<Applied, ApplyError>> + Send;
    /// The configuration on trial is to stay.
    fn confirm(&self, by: String) -> impl Future<Output = Result<Revision, ApplyError>> + Send;
    /// The revisions, and which one is in force.
    fn history(&self) -> impl Future<Output = Result<History, StoreError>> + Send;
    /// One revision with its text.
    fn revision(&self, number: u64) -> impl Future<Output = Result<Option<RevisionText>, StoreError>> + Send;
    /// All interfaces, by name.
    fn interfaces(&self) -> impl Future<Output = Vec<InterfaceStatus>> + Send;
    /// The daemon as a whole.
    fn status(&self) -> impl Future<Output = DaemonStatus> + Send;
    /// What a relay within `grant` carried, step by step, of the time `last` or as far back as it is remembered.
    fn relay_history(
        &self,
        name: RelayName,
        step: Step,
        last: Option<Duration>,
        grant: Grant,
    ) -> impl Future<Output = Option<RelayHistory>> + Send;
    /// What happens.
    fn events(&self) -> &EventLog;
    /// The multicast flows that were seen so far.
    fn flows(&self) -> FlowReport;
    /// Looks at these interfaces for so long from now on.
    fn look(
        &self,
        links: Vec<Link>,
        length: Duration,
        chosen: Chosen,
    ) -> impl Future<Output = Result<(), KeeperError>> + Send;
    /// Reports the groups of that relay or interface, or all, as far as they are within `grant`; `None`: there is neither.
    fn rejoin(&self, name: Option<String>, grant: Grant) -> impl Future<Output = Option<RejoinReport>> + Send;
    /// Waits for a condition of a relay within `grant`, at most `timeout`.
    fn wait(
        &self,
        name: RelayName,
        condition: WaitFor,
        timeout: Duration,
        grant: Grant,
    ) -> impl Future<Output = Waited> + Send;
}

/// What handlers share. They reach the backend through [`Scoped`].
#[derive(Clone)]
struct Shared<B> {
    backend: B,
    gate: Gate,
}

/// Every path of the API, for the callers that `gate` lets in. Each request needs a [`Peer`](crate::access::Peer) among
/// its extensions.
pub fn router<B: Backend>(backend: B, gate: Gate) -> Router {
    let (router, document) = endpoints::<B>().split_for_parts();
    let document = document::complete(document);
    let router = router
        .merge(reference::routes(&document))
        .fallback(|uri: Uri| async move { Rejection::unknown_path(uri.path()) })
        .method_not_allowed_fallback(
            // What is possible is in the header `Allow`, which the router adds.
            |method: Method, uri: Uri| async move {
                match method {
                    Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
                    method => Rejection::wrong_method(&method, uri.path()).into_response(),
                }
            },
        );
    let router = guard::guarded(router, &document, &reference::PATHS, gate.clone());
    #[cfg(feature = "otlp")]
    let router = router.layer(axum::middleware::from_fn(crate::otlp::traced));
    router.with_state(Shared { backend, gate })
}

/// The OpenAPI document of [`router`].
pub fn openapi() -> OpenApi {
    document::complete(endpoints::<crate::Control>().into_openapi())
}

/// The problem document for a client whom there is no room for, as JSON.
pub(crate) fn busy() -> String {
    Rejection::busy().to_json()
}

/// Every endpoint with its description; a file of endpoints is merged in here by its own `routes`.
fn endpoints<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::with_openapi(document::frame())
        .routes(routes!(B; Viewer: list, Operator: create))
        .routes(routes!(B; Viewer: show, Operator: replace, Operator: remove))
        .routes(routes!(B; Viewer: wait))
        .routes(routes!(B; Operator: renew))
        .routes(routes!(B; Viewer: relay_history))
        .merge(events::routes::<B>())
        .routes(routes!(B; Viewer: interfaces))
        .routes(routes!(B; Viewer: status))
        .merge(configuration::routes())
        .routes(routes!(B; Anybody: healthz))
        .routes(routes!(B; Anybody: readyz))
        .routes(routes!(B; Viewer: metrics_page))
        .merge(explain::routes())
        .merge(flows::routes())
        .merge(rejoin::routes())
        .merge(tokens::routes())
}

/// The name in the path, decoded; whether it is a name is for [`request`] to say.
struct InPath(String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let Path(name) = Path::from_request_parts(head, state).await.map_err(|_| Rejection::bad_path())?;
        Ok(Self(name))
    }
}

/// All relays, or a page of them.
#[derive(Serialize, ToSchema)]
struct Relays {
    relays: Vec<RelayStatus>,
    /// There are more: ask again with this as `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// All interfaces.
#[derive(Serialize, ToSchema)]
struct Interfaces {
    interfaces: Vec<InterfaceStatus>,
}

/// All relays with their state and counters, by name; with `limit` so many of them at a time.
#[utoipa::path(get, path = "/api/v1/relays", tag = "relays",
    params(
        ("limit" = Option<usize>, Query, description = "So many at most; all unless given", example = 100, minimum = 1),
        ("after" = Option<String>, Query, description = "Only those whose names come after this one",
            example = "camera-3", pattern = "^[a-z0-9][a-z0-9._-]{0,62}$"),
    ),
    responses((status = 200, body = Relays)),
)]
async fn list<B: Backend>(backend: Scoped<B>, RawQuery(query): RawQuery) -> Result<Json<Relays>, Rejection> {
    let Page { after, limit } = request::page(query.as_deref().unwrap_or_default())?;
    let mut relays = backend.relays().await;
    if let Some(after) = after {
        relays.retain(|relay| relay.name.as_str() > after.as_str());
    }
    let is_whole = limit.is_none_or(|limit| relays.len() <= limit);
    relays.truncate(limit.unwrap_or(usize::MAX));
    let next = relays.last().filter(|_| !is_whole).map(|last| last.name.clone());
    Ok(Json(Relays { relays, next }))
}

/// Makes a relay. When this answers, the relay is in force or its `state` says why not.
#[utoipa::path(post, path = "/api/v1/relays", tag = "relays",
    request_body = request::Body,
    responses(
        (status = 201, body = RelayStatus, headers(
            ("Location" = String, description = "The path of the relay"),
            ("ETag" = String, description = "The tag of its definition"),
        )),
        (status = 409),
    ),
)]
async fn create<B: Backend>(backend: Scoped<B>, request: Request) -> Result<Response, Rejection> {
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let Wanted { relay, lease } = request::relay(&read_body(&head.headers, body).await?, Named::InBody)?;
    let status = backend.create(relay, lease).await?;
    tracing::info!(relay = status.name, "created through the API");
    let location = format!("/api/v1/relays/{}", status.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Tagged(status)).into_response())
}

/// One relay with its state and counters. The `ETag` is that of its definition: it stays while state and counters change.
#[utoipa::path(get, path = "/api/v1/relays/{name}", tag = "relays",
    params(("name" = String, Path, description = "The relay's name", example = "camera-3")),
    responses((status = 200, body = RelayStatus, headers(("ETag" = String, description = "The tag of its definition")))),
)]
async fn show<B: Backend>(backend: Scoped<B>, InPath(name): InPath) -> Result<Response, Rejection> {
    let name = request::existing(&name)?;
    Ok(Tagged(backend.relay(&name).await?).into_response())
}

/// Makes the relay of that name be exactly this one; `name` may be left out of the body.
#[utoipa::path(put, path = "/api/v1/relays/{name}", tag = "relays",
    params(
        ("name" = String, Path, description = "The relay's name", example = "camera-3"),
        ("If-Match" = Option<String>, Header,
            description = "Only if the definition has this tag, or one of these; `*`: only if there is such a relay"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is no such relay"),
    ),
    request_body = request::Body,
    responses(
        (status = 200, body = RelayStatus, description = "Changed, or the same as before",
            headers(("ETag" = String, description = "The tag of its definition"))),
        (status = 201, body = RelayStatus, description = "Made",
            headers(("ETag" = String, description = "The tag of its definition"))),
        (status = 409),
        (status = 412),
    ),
)]
async fn replace<B: Backend>(
    backend: Scoped<B>,
    InPath(name): InPath,
    request: Request,
) -> Result<Response, Rejection> {
    let name = request::wanted(&name)?;
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let expected = Expected::of_new(&head.headers)?;
    let Wanted { relay, lease } = request::relay(&read_body(&head.headers, body).await?, Named::InPath(&name))?;
    let (replaced, status) = backend.replace(relay, lease, &expected).await?;
    let code = match replaced {
        Replaced::Created => StatusCode::CREATED,
        Replaced::Changed | Replaced::Unchanged => StatusCode::OK,
    };
    tracing::info!(relay = status.name, change = ?replaced, "put through the API");
    Ok((code, Tagged(status)).into_response())
}

/// Removes a relay. When this answers, its group is left unless another relay wants it.
#[utoipa::path(delete, path = "/api/v1/relays/{name}", tag = "relays",
    params(
        ("name" = String, Path, description = "The relay's name", example = "camera-3"),
        ("If-Match" = Option<String>, Header,
            description = "Only if the definition has this tag, or one of these"),
    ),
    responses((status = 204, description = "Removed"), (status = 409), (status = 412)),
)]
async fn remove<B: Backend>(
    backend: Scoped<B>,
    InPath(name): InPath,
    headers: HeaderMap,
) -> Result<StatusCode, Rejection> {
    let name = request::existing(&name)?;
    backend.remove(name.clone(), &Expected::from_headers(&headers)?).await?;
    tracing::info!(relay = %name, "removed through the API");
    Ok(StatusCode::NO_CONTENT)
}

/// Waits until a relay is ready, has seen its first packet or so many, or is silent.
#[utoipa::path(get, path = "/api/v1/relays/{name}/wait", tag = "relays",
    params(
        ("name" = String, Path, description = "The relay's name", example = "camera-3"),
        ("for" = Option<String>, Query, description = "`ready` (unless given), `first-packet`, `silent` or `packets:N`",
            example = "first-packet", pattern = "^(ready|first-packet|silent|packets:[1-9][0-9]{0,17})$"),
        ("timeout" = Option<String>, Query, description = "How long at most, up to 1h; `5s` unless given",
            example = "500ms", pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"),
    ),
    responses((status = 200, body = RelayStatus), (status = 408)),
)]
async fn wait<B: Backend>(
    backend: Scoped<B>,
    InPath(name): InPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejection> {
    let name = request::existing(&name)?;
    let (condition, timeout) = request::wait(query.as_deref().unwrap_or_default())?;
    match backend.wait(name.clone(), condition, timeout).await {
        Waited::Reached(status) => Ok(Json(status).into_response()),
        Waited::TimedOut(status) => Err(Rejection::timed_out(condition, timeout, status)),
        Waited::NotFound => Err(Refusal::NotFound { name }.into()),
    }
}

/// Begins the lease of a relay anew, with another length if one is given.
#[utoipa::path(put, path = "/api/v1/relays/{name}/lease", tag = "relays",
    params(("name" = String, Path, description = "The relay's name", example = "camera-3")),
    request_body(content = Option<request::Renewal>, description = "None: as long as before"),
    responses((status = 200, body = RelayStatus), (status = 409)),
)]
async fn renew<B: Backend>(backend: Scoped<B>, InPath(name): InPath, request: Request) -> Result<Response, Rejection> {
    let name = request::existing(&name)?;
    let (head, body) = request.into_parts();
    let lease = request::renewal(&head.headers, &read_body(&head.headers, body).await?)?;
    Ok(Json(backend.renew(name, lease).await?).into_response())
}

/// What a relay carried, step by step: the last hour by the second or the last day by the minute.
#[utoipa::path(get, path = "/api/v1/relays/{name}/history", tag = "relays",
    params(
        ("name" = String, Path, description = "The relay's name", example = "camera-3"),
        ("step" = Option<String>, Query, description = "`1s` or `1m`; `1s` unless given", pattern = "^1[sm]$"),
        ("last" = Option<String>, Query, description = "Of which time, up to 24h; all that is remembered unless given",
            example = "10m", pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"),
    ),
    responses((status = 200, body = RelayHistory)),
)]
async fn relay_history<B: Backend>(
    backend: Scoped<B>,
    InPath(name): InPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejection> {
    let name = request::existing(&name)?;
    let (step, last) = request::history(query.as_deref().unwrap_or_default())?;
    Ok(Json(backend.relay_history(name, step, last).await?).into_response())
}

/// The network interfaces, and what was dropped there without a relay to charge.
#[utoipa::path(get, path = "/api/v1/interfaces", tag = "daemon", responses((status = 200, body = Interfaces)))]
async fn interfaces<B: Backend>(backend: Scoped<B>) -> Json<Interfaces> {
    Json(Interfaces { interfaces: backend.interfaces().await })
}

/// The daemon: its version, relays by state, its keeper.
#[utoipa::path(get, path = "/api/v1/status", tag = "daemon", responses((status = 200, body = DaemonStatus)))]
async fn status<B: Backend>(backend: Scoped<B>) -> Json<DaemonStatus> {
    Json(backend.status().await)
}

/// Whether the daemon lives.
#[utoipa::path(get, path = "/healthz", tag = "daemon",
    responses((status = 200, content_type = "text/plain", body = String)),
)]
async fn healthz<B: Backend>(State(_): State<Shared<B>>) -> &'static str {
    "ok\n"
}

/// Whether the daemon serves.
#[utoipa::path(get, path = "/readyz", tag = "daemon",
    responses((status = 200, content_type = "text/plain", body = String)),
)]
async fn readyz<B: Backend>(backend: Scoped<B>) -> &'static str {
    // The API is served only after the relays of the file were loaded, so an answer of the control thread is all that
    // is left to ask for. Relays that wait for an interface do not make the daemon unready.
    backend.status().await;
    "ready\n"
}

/// Counters and states for Prometheus; OpenMetrics for who accepts that.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, content((String = "text/plain"), (String = "application/openmetrics-text")))),
)]
async fn metrics_page<B: Backend>(backend: Scoped<B>, headers: HeaderMap) -> Result<Response, Rejection> {
    let exposition = Exposition::from_accept(&request::accept(&headers));
    let relays = backend.relays().await;
    let (interfaces, daemon) = (backend.interfaces().await, backend.status().await);
    // Ten thousand relays take tens of milliseconds, for which no other request should wait.
    let rendering = tokio::task::spawn_blocking(move || {
        metrics::render(Snapshot { relays, interfaces, daemon, process: Process::look() }, exposition)
    });
    let page = rendering.await.map_err(|error| Rejection::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, exposition.media_type())], page).into_response())
}

impl Backend for Control {
    async fn rejoin(&self, name: Option<String>, grant: Grant) -> Option<RejoinReport> {
        Control::rejoin(self, name, grant).await
    }

    async fn relays(&self) -> Vec<RelayStatus> {
        Control::relays(self).await
    }

    async fn relay(&self, name: &RelayName) -> Option<RelayStatus> {
        Control::relay(self, name).await
    }

    async fn create(&self, relay: Relay, lease: Option<Lease>) -> Result<RelayStatus, ChangeError> {
        Control::create(self, relay, lease).await
    }

    async fn replace(
        &self,
        relay: Relay,
        lease: Option<Lease>,
        claim: Claim,
    ) -> Result<(Replaced, RelayStatus), ChangeError> {
        Control::replace(self, relay, lease, claim).await
    }

    async fn renew(&self, name: RelayName, lease: Option<Lease>, grant: Grant) -> Result<RelayStatus, Refusal> {
        Control::renew(self, name, lease, grant).await
    }

    async fn remove(&self, name: RelayName, claim: Claim) -> Result<(), ChangeError> {
        Control::remove(self, name, claim).await
    }

    async fn plan(&self, relays: Vec<Relay>) -> Result<Plan, Vec<Refusal>> {
        Control::plan(self, relays).await
    }

    async fn apply(&self, application: Application) -> Result<Applied, ApplyError> {
        Control::apply(self, application).await
    }

    async fn roll_back(&self, to: Option<u64>, terms: Terms) -> Result<Applied, ApplyError> {
        Control::roll_back(self, to, terms).await
    }

    async fn confirm(&self, by: String) -> Result<Revision, ApplyError> {
        Control::confirm(self, by).await
    }

    async fn history(&self) -> Result<History, StoreError> {
        Control::history(self).await
    }

    async fn revision(&self, number: u64) -> Result<Option<RevisionText>, StoreError> {
        Control::revision(self, number).await
    }

    async fn interfaces(&self) -> Vec<InterfaceStatus> {
        Control::interfaces(self).await
    }

    async fn status(&self) -> DaemonStatus {
        Control::status(self).await
    }

    async fn relay_history(
        &self,
        name: RelayName,
        step: Step,
        last: Option<Duration>,
        grant: Grant,
    ) -> Option<RelayHistory> {
        Control::relay_history(self, name, step, last, grant).await
    }

    fn flows(&self) -> FlowReport {
        Control::flows(self)
    }

    async fn look(&self, links: Vec<Link>, length: Duration, chosen: Chosen) -> Result<(), KeeperError> {
        Control::look_at(self, links, length, chosen).await
    }

    fn events(&self) -> &EventLog {
        Control::events(self)
    }

    async fn wait(&self, name: RelayName, condition: WaitFor, timeout: Duration, grant: Grant) -> Waited {
        Control::wait(self, name, condition, timeout, grant).await
    }
}

/// The relay that a request to make one has in its body.
#[cfg(fuzzing)]
pub fn relay_body(body: &[u8]) -> Option<Relay> {
    request::relay(body, request::Named::InBody).ok().map(|wanted| wanted.relay)
}
