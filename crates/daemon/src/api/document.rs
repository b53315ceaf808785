//! The OpenAPI document, made from the handlers and types that serve.
//!
//! A file with endpoints has a `routes` function, whose [`routes!`] names for each handler the role that it takes; the
//! handler's `#[utoipa::path]` says its path, parameters, body and answers. What all endpoints have in common is added
//! here: the problem documents that follow from having a path parameter, a query or a body, and an example of each.

use std::collections::HashMap;

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::MethodRouter;
use mcr_model::Role;
use serde_json::json;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem, Paths};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder, ServerBuilder,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::PathItemExt;
use utoipa_axum::router::UtoipaMethodRouter;

use super::Shared;
use super::problem::Kind;
use super::rejection::Document;

/// The extension of an operation that names the least role that may use it.
const ROLE: &str = "x-role";

/// Handlers of one path with the role that each takes, for `OpenApiRouter::routes`:
/// `routes!(B; Viewer: list, Operator: create)`, where `B` is the [`Backend`](super::Backend).
macro_rules! routes {
    ($backend:ident; $($role:ident: $handler:ident),+ $(,)?) => {
        utoipa_axum::paste! {
            $crate::api::document::Described::<$backend>::default()
                $(.with([<__path_ $handler>], mcr_model::Role::$role, $handler::<$backend>))+
                .done()
        }
    };
}
pub(super) use routes;

/// Handlers of one path, with their descriptions.
pub(super) struct Described<B> {
    schemas: Vec<(String, RefOr<Schema>)>,
    paths: Paths,
    handlers: MethodRouter<Shared<B>>,
}

impl<B: Clone + Send + Sync + 'static> Default for Described<B> {
    fn default() -> Self {
        Self { schemas: Vec::new(), paths: Paths::new(), handlers: MethodRouter::new() }
    }
}

impl<B: Clone + Send + Sync + 'static> Described<B> {
    /// One more handler. `_description` is what `#[utoipa::path]` made of its attributes.
    pub(super) fn with<D, H, T>(mut self, _description: D, role: Role, handler: H) -> Self
    where
        D: utoipa::Path + SchemaReferences + for<'t> Tags<'t>,
        H: Handler<T, Shared<B>>,
        T: 'static,
    {
        D::schemas(&mut self.schemas);
        let methods = D::methods();
        for method in &methods {
            self.handlers = self.handlers.on(method.to_method_filter(), handler.clone());
        }
        let mut operation = D::operation();
        operation.extensions = Some(ExtensionsBuilder::new().add(ROLE, role.name()).build());
        self.paths.add_path_operation(D::path(), methods, operation);
        self
    }

    pub(super) fn done(self) -> UtoipaMethodRouter<Shared<B>> {
        (self.schemas, self.paths, self.handlers)
    }
}

/// The document before any endpoint is in it.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("MCR, the multicast relay")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Relays, their state and counters. Every refusal is a problem document (RFC 9457) and changes nothing.",
        ))
        .build();
    OpenApiBuilder::new().info(info).servers(Some([ServerBuilder::new().url("/").build()])).build()
}

/// The document with what all its operations have in common.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let mut schemas = Vec::new();
    Document::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.schemas.insert(Document::name().into_owned(), Document::schema());
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(complete_operation);
    }
    document
}

/// The role that each operation takes.
pub(super) fn roles(document: &OpenApi) -> HashMap<(String, Method), Role> {
    let paths = document.paths.paths.iter();
    let operations = paths.flat_map(|(path, item)| {
        let PathItem { get, put, post, delete, patch, .. } = item;
        let operations = [
            (Method::GET, get),
            (Method::PUT, put),
            (Method::POST, post),
            (Method::DELETE, delete),
            (Method::PATCH, patch),
        ];
        operations.into_iter().filter_map(move |(method, operation)| Some((path, method, operation.as_ref()?)))
    });
    operations
        .filter_map(|(path, method, operation)| {
            let named = operation.extensions.as_ref()?.get(ROLE)?.as_str()?;
            let role = Role::ALL.into_iter().find(|role| role.name() == named)?;
            Some(((path.clone(), method), role))
        })
        .collect()
}

/// Every operation of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn complete_operation(operation: &mut Operation) {
    let parameters = operation.parameters.iter().flatten();
    let places: Vec<ParameterIn> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter.parameter_in.clone()),
            RefOr::Ref(_) => None,
        })
        .collect();
    let mut implied = vec!["500"];
    if operation.extensions.as_ref().and_then(|extensions| extensions.get(ROLE)) != Some(&json!(Role::Anybody.name())) {
        implied.extend(["401", "403", "421"]);
    }
    if places.iter().any(|place| matches!(place, ParameterIn::Path)) {
        implied.extend(["400", "404"]);
    }
    if places.iter().any(|place| matches!(place, ParameterIn::Query)) {
        implied.push("400");
    }
    if operation.request_body.is_some() {
        implied.extend(["400", "408", "413", "415", "422"]);
    }
    let responses = &mut operation.responses.responses;
    for status in implied {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(Response::new("")));
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with(['4', '5']) && response.content.is_empty() {
            *response = problem_response(status, &response.description);
        } else if response.description.is_empty() {
            let status = status.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
            response.description = status.and_then(|status| status.canonical_reason()).unwrap_or_default().to_owned();
        }
    }
}

/// An answer that is one of the problems with that status.
fn problem_response(status: &str, description: &str) -> Response {
    let kinds = || Kind::ALL.into_iter().filter(|kind| kind.status().as_str() == status);
    let examples = kinds().map(|kind| {
        let value = json!({
            "type": kind.reference(),
            "title": kind.title(),
            "status": kind.status().as_u16(),
            "detail": kind.meaning(),
        });
        (kind.name(), RefOr::T(ExampleBuilder::new().value(Some(value)).build()))
    });
    let content = ContentBuilder::new()
        .schema(Some(RefOr::Ref(Ref::from_schema_name(Document::name()))))
        .examples_from_iter(examples)
        .build();
    let titles: Vec<&str> = kinds().map(Kind::title).collect();
    let description = if description.is_empty() { titles.join("; ") } else { description.to_owned() };
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}
