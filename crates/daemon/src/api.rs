//! The HTTP API: requests become calls of the control thread, answers and refusals become JSON.
//!
//! What a request means is decided by the pure functions of `request`; the handlers here only carry it to the
//! [`Backend`] and back. Everything that is refused is an RFC 9457 problem document (`rejection`).

mod body;
mod rejection;
mod request;

use std::future::Future;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, RawQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mcr_engine::{Refusal, Replaced};
use mcr_model::RelayName;
use mcr_model::relay::Relay;
use mcr_model::spec::ConfigSpec;
use mcr_model::status::{DaemonStatus, InterfaceStatus, RelayStatus};
use serde::Serialize;

use crate::control::{Control, WaitFor, Waited};
use crate::metrics::{self, Exposition, Process, Snapshot};

use body::read_body;
use rejection::Rejection;
use request::Named;

/// The largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// What the API asks of the control thread; [`Control`] is it.
pub trait Backend: Clone + Send + Sync + 'static {
    /// All relays, by name.
    fn relays(&self) -> impl Future<Output = Vec<RelayStatus>> + Send;
    /// One relay.
    fn relay(&self, name: &RelayName) -> impl Future<Output = Option<RelayStatus>> + Send;
    /// Makes a relay.
    fn create(&self, relay: Relay) -> impl Future<Output = Result<RelayStatus, Refusal>> + Send;
    /// Makes the relay of that name be exactly this one.
    fn replace(&self, relay: Relay) -> impl Future<Output = Result<(Replaced, RelayStatus), Refusal>> + Send;
    /// Removes a relay.
    fn remove(&self, name: RelayName) -> impl Future<Output = Result<(), Refusal>> + Send;
    /// All interfaces, by name.
    fn interfaces(&self) -> impl Future<Output = Vec<InterfaceStatus>> + Send;
    /// The daemon as a whole.
    fn status(&self) -> impl Future<Output = DaemonStatus> + Send;
    /// Waits for a condition of a relay, at most `timeout`.
    fn wait(&self, name: RelayName, condition: WaitFor, timeout: Duration) -> impl Future<Output = Waited> + Send;
}

/// Every path of the API.
pub fn router<B: Backend>(backend: B) -> Router {
    Router::new()
        .route("/api/v1/relays", get(list::<B>).post(create::<B>))
        .route("/api/v1/relays/{name}", get(show::<B>).put(replace::<B>).delete(remove::<B>))
        .route("/api/v1/relays/{name}/wait", get(wait::<B>))
        .route("/api/v1/interfaces", get(interfaces::<B>))
        .route("/api/v1/status", get(status::<B>))
        .route("/api/v1/config", get(config::<B>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<B>))
        .route("/metrics", get(metrics_page::<B>))
        .fallback(|uri: Uri| async move { Rejection::unknown_path(uri.path()) })
        .method_not_allowed_fallback(
            |method: Method, uri: Uri| async move { Rejection::wrong_method(&method, uri.path()) },
        )
        .with_state(backend)
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

#[derive(Serialize)]
struct Relays {
    relays: Vec<RelayStatus>,
}

#[derive(Serialize)]
struct Interfaces {
    interfaces: Vec<InterfaceStatus>,
}

async fn list<B: Backend>(State(backend): State<B>) -> Json<Relays> {
    Json(Relays { relays: backend.relays().await })
}

async fn create<B: Backend>(State(backend): State<B>, request: Request) -> Result<Response, Rejection> {
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let relay = request::relay(&read_body(&head.headers, body).await?, Named::InBody)?;
    let status = backend.create(relay).await?;
    tracing::info!(relay = status.name, "created through the API");
    let location = format!("/api/v1/relays/{}", status.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(status)).into_response())
}

async fn show<B: Backend>(State(backend): State<B>, InPath(name): InPath) -> Result<Response, Rejection> {
    let name = request::existing(&name)?;
    let status = backend.relay(&name).await.ok_or(Refusal::NotFound { name })?;
    Ok(Json(status).into_response())
}

async fn replace<B: Backend>(
    State(backend): State<B>,
    InPath(name): InPath,
    request: Request,
) -> Result<Response, Rejection> {
    let name = request::wanted(&name)?;
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let relay = request::relay(&read_body(&head.headers, body).await?, Named::InPath(&name))?;
    let (replaced, status) = backend.replace(relay).await?;
    let code = match replaced {
        Replaced::Created => StatusCode::CREATED,
        Replaced::Changed | Replaced::Unchanged => StatusCode::OK,
    };
    tracing::info!(relay = status.name, change = ?replaced, "put through the API");
    Ok((code, Json(status)).into_response())
}

async fn remove<B: Backend>(State(backend): State<B>, InPath(name): InPath) -> Result<StatusCode, Rejection> {
    let name = request::existing(&name)?;
    backend.remove(name.clone()).await?;
    tracing::info!(relay = %name, "removed through the API");
    Ok(StatusCode::NO_CONTENT)
}

async fn wait<B: Backend>(
    State(backend): State<B>,
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

async fn interfaces<B: Backend>(State(backend): State<B>) -> Json<Interfaces> {
    Json(Interfaces { interfaces: backend.interfaces().await })
}

async fn status<B: Backend>(State(backend): State<B>) -> Json<DaemonStatus> {
    Json(backend.status().await)
}

/// The relays in force as a configuration: JSON, or TOML for who accepts that.
async fn config<B: Backend>(State(backend): State<B>, headers: HeaderMap) -> Result<Response, Rejection> {
    let relays = backend.relays().await.into_iter().map(|status| status.relay);
    let config = ConfigSpec { relay: relays.collect() };
    if !request::accept(&headers).contains("toml") {
        return Ok(Json(config).into_response());
    }
    let text = toml::to_string(&config).map_err(|error| Rejection::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], text).into_response())
}

/// The API is served only after the relays of the file were loaded, so an answer of the control thread is all that
/// is left to ask for. Relays that wait for an interface do not make the daemon unready.
async fn readyz<B: Backend>(State(backend): State<B>) -> &'static str {
    backend.status().await;
    "ready\n"
}

async fn metrics_page<B: Backend>(State(backend): State<B>, headers: HeaderMap) -> Result<Response, Rejection> {
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
    async fn relays(&self) -> Vec<RelayStatus> {
        Control::relays(self).await
    }

    async fn relay(&self, name: &RelayName) -> Option<RelayStatus> {
        Control::relay(self, name).await
    }

    async fn create(&self, relay: Relay) -> Result<RelayStatus, Refusal> {
        Control::create(self, relay).await
    }

    async fn replace(&self, relay: Relay) -> Result<(Replaced, RelayStatus), Refusal> {
        Control::replace(self, relay).await
    }

    async fn remove(&self, name: RelayName) -> Result<(), Refusal> {
        Control::remove(self, name).await
    }

    async fn interfaces(&self) -> Vec<InterfaceStatus> {
        Control::interfaces(self).await
    }

    async fn status(&self) -> DaemonStatus {
        Control::status(self).await
    }

    async fn wait(&self, name: RelayName, condition: WaitFor, timeout: Duration) -> Waited {
        Control::wait(self, name, condition, timeout).await
    }
}
