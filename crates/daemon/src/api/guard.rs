//! What stands before every endpoint: who asks, whether their role is enough, and a line in the log for what they
//! change.
//!
//! Which role an endpoint takes is what its description says (`x-role`); one that would say nothing takes an
//! administrator.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use mcr_model::{Grant, Role};
use utoipa::openapi::OpenApi;

use super::admission::Admission;
use super::document;
use super::problem::Kind;
use super::rejection::Rejection;
use super::site;
use crate::access::{Caller, Gate, Identity, Peer};

#[derive(Clone)]
struct Guard {
    gate: Gate,
    roles: Arc<Roles>,
}

/// The role that each endpoint takes, by path and method.
type Roles = HashMap<(String, Method), Role>;

/// The same endpoints, behind `gate`. Those of `public` take no role.
pub(super) fn guarded<S: Clone + Send + Sync + 'static>(
    endpoints: Router<S>,
    document: &OpenApi,
    public: &[&str],
    gate: Gate,
) -> Router<S> {
    let mut roles = document::roles(document);
    roles.extend(public.iter().map(|path| (((*path).to_owned(), Method::GET), Role::Anybody)));
    endpoints.layer(middleware::from_fn_with_state(Guard { gate, roles: Arc::new(roles) }, check))
}

async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let needed = guard.needed(&request);
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        // A listener that says nothing about its peers is a bug, and nobody gets in by it.
        return Rejection::not_admitted(&crate::access::Denied::NothingShown).into_response();
    };
    if let Peer::Remote { site, .. } = &peer
        && let Err(rejection) = site::check(&request, site, guard.gate.rules().remote.as_ref())
    {
        return Entry::of(&request, &Identity::Unknown, &peer).written(rejection.into_response());
    }
    let admission = Admission::of(&guard.gate, &peer, request.headers());
    let caller = match guard.gate.admit(&peer, request.headers()) {
        Ok(caller) => caller,
        Err(_) if needed == Role::Anybody => {
            Caller { identity: Identity::Unknown, grant: Grant::unlimited(Role::Anybody) }
        }
        Err(denied) => {
            let entry = Entry::of(&request, &Identity::Unknown, &peer);
            return entry.written(Rejection::not_admitted(&denied).into_response());
        }
    };
    let entry = Entry::of(&request, &caller.identity, &peer);
    if caller.grant.role() < needed {
        return entry.written(Rejection::role_too_small(caller.grant.role(), needed).into_response());
    }
    let admission = (needed > Role::Anybody).then(|| admission(needed, caller.grant.clone()));
    request.extensions_mut().insert(caller);
    let is_safe = request.method().is_safe();
    let answer = next.run(request);
    entry.written(match admission {
        None => answer.await,
        Some(admission) if is_safe => admission.while_it_lasts(answer).await,
        Some(admission) => admission.after(answer).await,
    })
}

impl Guard {
    /// A path that does not exist says so to everybody who may look at anything; what its description forgot is for
    /// administrators.
    fn needed(&self, request: &Request) -> Role {
        let Some(path) = request.extensions().get::<MatchedPath>() else { return Role::Viewer };
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let endpoint = (path.as_str().to_owned(), method.clone());
        match self.roles.get(&endpoint) {
            Some(role) => *role,
            None if self.roles.keys().any(|(known, _)| *known == endpoint.0) => Role::Viewer,
            None => Role::Admin,
        }
    }
}

/// A request as the audit log has it.
struct Entry {
    who: String,
    from: String,
    method: Method,
    path: String,
}

impl Entry {
    fn of(request: &Request, who: &Identity, peer: &Peer) -> Self {
        let path = request.uri().path().chars().take(200).collect();
        Self { who: who.to_string(), from: peer.to_string(), method: request.method().clone(), path }
    }

    /// Writes what was changed, and who was refused for want of a right.
    fn written(self, response: Response) -> Response {
        let Self { who, from, method, path } = self;
        let status = response.status();
        let changes = !method.is_safe();
        let refused =
            [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::MISDIRECTED_REQUEST].contains(&status);
        if changes || refused {
            let problem = response.extensions().get::<Kind>().map(|kind| kind.name());
            let made = response.headers().get(axum::http::header::LOCATION).and_then(|value| value.to_str().ok());
            tracing::info!(target: "audit", who, from, %method, path, status = status.as_u16(), made, problem);
        }
        response
    }
}
