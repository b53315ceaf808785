//! Tokens: made, listed and revoked by administrators.
//!
//! Nobody gives away more than they have: an administrator who is limited to interfaces or groups makes and sees only
//! tokens that are limited to those, too.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use mcr_model::token::{NewToken, Token, TokenSpec, Tokens};
use utoipa_axum::router::OpenApiRouter;

use super::body::read_body;
use super::document::routes;
use super::rejection::Rejection;
use super::{Backend, InPath, Shared, request};
use crate::access::{Caller, Gate};

pub(super) fn routes<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::new()
        .routes(routes!(B; Admin: list_tokens, Admin: create_token))
        .routes(routes!(B; Admin: revoke_token))
}

/// The tokens that have not expired or been revoked, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = Tokens)))]
async fn list_tokens<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(caller): Extension<Caller>,
) -> Json<Tokens> {
    Json(Tokens { tokens: visible(&shared.gate, &caller) })
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens",
    request_body = TokenSpec,
    responses(
        (status = 201, body = NewToken, headers(("Location" = String, description = "The path of the token"))),
    ),
)]
async fn create_token<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Rejection> {
    let (head, body) = request.into_parts();
    request::expect_json(&head.headers)?;
    let spec: TokenSpec = request::read(&read_body(&head.headers, body).await?, "the token")?;
    let (grant, lifetime) = spec.check().map_err(|errors| Rejection::wrong_fields("the token", errors))?;
    if !caller.grant.covers(&grant) {
        return Err(Rejection::more_than_own());
    }
    let (gate, by) = (shared.gate, caller.identity.to_string());
    let made = blocking(move || gate.create_token(spec.note, &grant, lifetime, by)).await?;
    let made = made.map_err(|error| Rejection::token(&error))?;
    let location = format!("/api/v1/tokens/{}", made.token.id);
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Json(made)).into_response())
}

/// Revokes a token: the next request with it is refused.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "The token's id", example = "5f0c9a1e")),
    responses((status = 204, description = "Revoked")),
)]
async fn revoke_token<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
) -> Result<StatusCode, Rejection> {
    if !visible(&shared.gate, &caller).iter().any(|token| token.id == id) {
        return Err(Rejection::no_such_token(&id));
    }
    let gate = shared.gate;
    blocking(move || gate.revoke_token(&id)).await?.map_err(|error| Rejection::token(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn visible(gate: &Gate, caller: &Caller) -> Vec<Token> {
    let mut tokens = gate.tokens();
    tokens.retain(|token| token.grant.check().is_ok_and(|grant| caller.grant.covers(&grant)));
    tokens
}

/// The store waits for the disk.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Rejection> {
    tokio::task::spawn_blocking(act).await.map_err(|error| Rejection::internal(&error))
}
