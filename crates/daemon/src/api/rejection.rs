//! Every refusal as a problem document (RFC 9457): what kind it is, what happened, what to do.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mcr_engine::{Refusal, RefusalKind};
use mcr_model::grant::Outside;
use mcr_model::name::NameError;
use mcr_model::status::{Problem, ProblemField, RelayStatus};
use mcr_model::{FieldError, Role, WaitFor};
use mcr_netd::KeeperError;
use serde::Serialize;
use utoipa::ToSchema;

use super::MAX_BODY_BYTES;
use super::problem::Kind;
use crate::access::{Denied, TokenError};
use crate::config::ConfigError;
use crate::control::{ApplyError, ChangeError};
use crate::store::StoreError;

/// A request that was not done, and why.
#[derive(Debug)]
pub(super) struct Rejection(Box<Document>);

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProblemDocument)]
pub(super) struct Document {
    #[serde(skip)]
    kind: Kind,
    #[serde(flatten)]
    problem: Problem,
    /// How the relay does that was waited for in vain (an extension member, RFC 9457 section 3.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<RelayStatus>,
}

impl Rejection {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let problem = Problem {
            kind: kind.reference(),
            title: kind.title().to_owned(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            field: None,
            errors: Vec::new(),
        };
        Self(Box::new(Document { kind, problem, relay: None }))
    }

    /// A relay that is wrong in itself.
    pub(super) fn wrong_relay(errors: Vec<FieldError>) -> Self {
        Self::fields(Kind::WrongRelay, "the relay", errors)
    }

    /// Something else that is wrong in itself.
    pub(super) fn wrong_fields(what: &str, errors: Vec<FieldError>) -> Self {
        Self::fields(Kind::WrongFields, what, errors)
    }

    fn fields(kind: Kind, what: &str, errors: Vec<FieldError>) -> Self {
        let detail = match &errors[..] {
            [only] => only.to_string(),
            several => format!("{} fields of {what} are wrong", several.len()),
        };
        let mut rejection = Self::new(kind, detail);
        rejection.0.problem.field = errors.first().map(|error| error.field.clone()).filter(|field| !field.is_empty());
        rejection.0.problem.errors = errors.into_iter().map(ProblemField::from).collect();
        rejection
    }

    /// A name that no relay can have.
    pub(super) fn no_such_name(error: &NameError) -> Self {
        let detail = format!("there is no such relay: {error}");
        Self::new(Kind::RelayNotFound, detail)
    }

    pub(super) fn timed_out(condition: WaitFor, timeout: Duration, status: RelayStatus) -> Self {
        let RelayStatus { name, state, reason, remedy, received, .. } = &status;
        let awaited = match condition {
            WaitFor::Ready => "is not ready".to_owned(),
            WaitFor::FirstPacket => "has received no packet".to_owned(),
            WaitFor::Silent => "is not silent".to_owned(),
            WaitFor::Packets(count) => format!("has received {} of {count} packets", received.packets),
        };
        let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let detail = format!("relay {name} {awaited} after {timeout:?}; it is {state}: {reason}{remedy}");
        let mut rejection = Self::new(Kind::WaitTimedOut, detail);
        rejection.0.relay = Some(status);
        rejection
    }

    /// A configuration that is wrong in itself: the report as `mcr check` shows it, and each mistake.
    pub(super) fn wrong_config(error: &ConfigError) -> Self {
        let mut rejection = Self::new(Kind::WrongConfig, error.to_string());
        rejection.0.problem.errors = error.fields().iter().cloned().map(ProblemField::from).collect();
        let first = error.fields().first().map(|error| error.field.clone());
        rejection.0.problem.field = first.filter(|field| !field.is_empty());
        rejection
    }

    pub(super) fn bad_query(parameter: &str, value: &str, remedy: &str) -> Self {
        let given: String = if value.is_empty() { parameter } else { value }.chars().take(80).collect();
        let detail = format!("{given:?} is not understood in the query; {remedy}");
        let mut rejection = Self::new(Kind::BadQuery, detail);
        rejection.0.problem.field = Some(parameter.chars().take(80).collect());
        rejection
    }

    pub(super) fn bad_header(name: &str, value: &str, remedy: &str) -> Self {
        let given: String = value.chars().take(80).collect();
        let mut rejection =
            Self::new(Kind::BadQuery, format!("{given:?} is not understood in the header {name}; {remedy}"));
        rejection.0.problem.field = Some(name.to_owned());
        rejection
    }

    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        let detail = format!("the body is not JSON: {error}; check it with `jq . FILE`");
        Self::new(Kind::BadJson, detail)
    }

    pub(super) fn no_body() -> Self {
        let detail =
            "the request has no body; send the relay as JSON, as in {\"name\": …, \"input\": {…}, \"output\": [{…}]}";
        Self::new(Kind::BadJson, detail)
    }

    pub(super) fn broken_body(error: &axum::Error) -> Self {
        let detail = format!("the body did not arrive whole: {error}; send it again");
        Self::new(Kind::BrokenBody, detail)
    }

    pub(super) fn too_slow(patience: Duration) -> Self {
        let detail = format!("the body did not arrive within {patience:?}; send it at once");
        Self::new(Kind::BodyTimedOut, detail)
    }

    pub(super) fn too_large(most_bytes: usize) -> Self {
        let (limit, what) = (most_bytes >> 20, if most_bytes > MAX_BODY_BYTES { "configuration" } else { "relay" });
        let detail = format!("the body is larger than {limit} MiB, which no {what} needs; send one {what} at a time");
        Self::new(Kind::TooLarge, detail)
    }

    pub(super) fn not_json(given: &str) -> Self {
        let given: String = given.chars().take(80).collect();
        let said = if given.is_empty() { "missing".to_owned() } else { format!("{given:?}") };
        let detail = format!("the content type of the body is {said}; send JSON with `Content-Type: application/json`");
        Self::new(Kind::NotJson, detail)
    }

    pub(super) fn not_a_configuration(given: &str) -> Self {
        let detail = format!(
            "the content type {:?} of the body is no configuration's; send TOML with `Content-Type: application/toml`, \
             or JSON with `application/json`",
            given.chars().take(80).collect::<String>()
        );
        Self::new(Kind::NotJson, detail)
    }

    /// A body that can't be the text of a configuration.
    pub(super) fn no_configuration(error: &dyn std::error::Error) -> Self {
        let detail = format!("the body is no configuration: {error}; send {{\"relay\": [{{…}}]}}, or a file in UTF-8");
        Self::new(Kind::WrongConfig, detail)
    }

    pub(super) fn no_such_revision(number: u64) -> Self {
        ApplyError::NoRevision { number }.into()
    }

    pub(super) fn unknown_path(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let detail = format!("there is nothing at {path}; relays are at /api/v1/relays and /api/v1/relays/NAME");
        Self::new(Kind::NotFound, detail)
    }

    pub(super) fn bad_path() -> Self {
        let detail = "the path is not UTF-8 when its %-codes are decoded; relay names are plain ASCII";
        Self::new(Kind::BadPath, detail)
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let detail = format!("{method} is not possible on {path}; the Allow header names the methods that are");
        Self::new(Kind::WrongMethod, detail)
    }

    /// A caller who is not let in.
    pub(super) fn not_admitted(denied: &Denied) -> Self {
        let kind = if denied.is_for_want_of_proof() { Kind::NotAdmitted } else { Kind::Forbidden };
        Self::new(kind, denied.to_string())
    }

    pub(super) fn role_too_small(role: Role, needed: Role) -> Self {
        let detail = format!("this takes the role {needed}, and this access has {role}; ask for a greater one");
        Self::new(Kind::Forbidden, detail)
    }

    /// An access that became another one while its answer lasted.
    pub(super) fn grant_changed() -> Self {
        Self::new(Kind::Forbidden, "what this access is limited to was changed meanwhile; ask again")
    }

    /// Something that concerns all relays, asked by a caller whose access does not.
    pub(super) fn limited() -> Self {
        let detail = "this concerns all relays, and this access is limited to some interfaces or groups; use one \
                      without limits";
        Self::new(Kind::Forbidden, detail)
    }

    pub(super) fn outside(outside: &Outside) -> Self {
        let mut rejection = Self::new(Kind::OutOfScope, outside.to_string());
        rejection.0.problem.field = Some(outside.field.clone());
        rejection
    }

    /// A grant that its giver does not have.
    pub(super) fn more_than_own() -> Self {
        let detail = "the token would allow more than this access does; give it at most the same role, interfaces and \
                      groups";
        Self::new(Kind::Forbidden, detail)
    }

    pub(super) fn no_such_token(id: &str) -> Self {
        let id: String = id.chars().take(80).collect();
        Self::new(Kind::NoSuchToken, format!("there is no token {id:?}; `mcr token list` shows those there are"))
    }

    pub(super) fn token(error: &TokenError) -> Self {
        match error {
            TokenError::Store(error) => error.clone().into(),
            TokenError::Random(_) => Self::internal(error),
        }
    }

    pub(super) fn wrong_host(given: &str) -> Self {
        let given: String = given.chars().take(80).collect();
        let detail = format!(
            "{given:?} is no name of this daemon; use its address or a name of its certificate, or have the name added \
             to `hosts` in its access file"
        );
        Self::new(Kind::WrongHost, detail)
    }

    pub(super) fn wrong_origin(given: &str) -> Self {
        let given: String = given.chars().take(80).collect();
        let detail =
            format!("pages of {given:?} may not use this daemon; have it added to `origins` in its access file");
        Self::new(Kind::WrongOrigin, detail)
    }

    pub(super) fn busy() -> Self {
        Self::new(Kind::Busy, Kind::Busy.meaning())
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// A bug of the daemon, which the log has, too.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request could not be answered");
        let detail = format!("the daemon could not write its answer: {error}; please report this with its log");
        Self::new(Kind::Internal, detail)
    }
}

impl From<ChangeError> for Rejection {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => refusal.into(),
            ChangeError::NotStored(store) => Self::new(store_kind(&store), ChangeError::NotStored(store).to_string()),
        }
    }
}

impl From<KeeperError> for Rejection {
    fn from(error: KeeperError) -> Self {
        Self::new(Kind::NoLook, error.to_string())
    }
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        Self::new(store_kind(&error), error.to_string())
    }
}

impl From<ApplyError> for Rejection {
    fn from(error: ApplyError) -> Self {
        let kind = match &error {
            ApplyError::OnTrial { .. } => Kind::OnTrial,
            ApplyError::Superseded { .. } => Kind::Superseded,
            ApplyError::Unfit(_) => Kind::ConfigConflict,
            ApplyError::Unusable(_) => Kind::WrongConfig,
            ApplyError::NoRevision { .. } | ApplyError::NothingEarlier => Kind::RevisionNotFound,
            ApplyError::NothingToConfirm => Kind::NothingToConfirm,
            ApplyError::NotStored(store) => store_kind(store),
        };
        Self::new(kind, error.to_string())
    }
}

fn store_kind(error: &StoreError) -> Kind {
    match error {
        StoreError::Full { .. } => Kind::StorageFull,
        StoreError::Failed { .. } => Kind::StoreFailed,
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.kind() {
            RefusalKind::NotFound => Kind::RelayNotFound,
            RefusalKind::Exists => Kind::RelayExists,
            RefusalKind::Owned => Kind::RelayOwned,
            RefusalKind::Foreign => Kind::OutOfScope,
            RefusalKind::Superseded => Kind::Superseded,
            RefusalKind::NoLease => Kind::NoLease,
            RefusalKind::Conflict => Kind::RelayConflict,
        };
        Self::new(kind, refusal.to_string())
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = self.0.kind;
        let mut response = (status, Json(self.0)).into_response();
        // For the audit log.
        response.extensions_mut().insert(kind);
        if kind == Kind::NotAdmitted {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mcr\""));
        }
        if let Some(seconds) = kind.worth_another_try() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        response
    }
}
