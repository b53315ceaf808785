//! Events: as a stream that goes on (server-sent events, HTML Living Standard section 9.2), or those that are kept.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::RawQuery;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use mcr_model::Event;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::document::routes;
use super::rejection::Rejection;
use super::request::{self, Follow};
use super::scoped::Scoped;
use super::{Backend, Shared};
use crate::events::{From, Reader};

/// A stream without events says this often that it is there; a client that is gone is found out by it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// The events that are kept, the oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Kept {
    events: Vec<Event>,
}

/// The endpoint.
pub(super) fn routes<B: Backend>() -> OpenApiRouter<Shared<B>> {
    OpenApiRouter::new().routes(routes!(B; Viewer: events))
}

/// What happens: a stream of server-sent events that goes on for ever, or those that are kept as JSON.
#[utoipa::path(get, path = "/api/v1/events", tag = "daemon",
    params(
        ("follow" = Option<bool>, Query, description = "`false`: those that are kept; `true` unless given"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last one that the reader has"),
    ),
    responses((status = 200, content((String = "text/event-stream"), (Kept = "application/json")))),
)]
pub(super) async fn events<B: Backend>(
    backend: Scoped<B>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    let last = request::last_event_id(&headers);
    match request::events(query.as_deref().unwrap_or_default())? {
        Follow::Kept => {
            let mut reader = backend.events(last.map_or(From::Oldest, From::After));
            let events = std::iter::from_fn(|| Some(reader.take()).filter(|some| !some.is_empty())).flatten();
            Ok(Json(Kept { events: events.collect() }).into_response())
        }
        Follow::Stream => Ok(stream(backend.events(last.map_or(From::Now, From::After)))),
    }
}

/// The reader takes more only when the client has taken what came before: a client that is slow holds up nobody, and
/// costs what is under way to it.
fn stream(reader: Reader) -> Response {
    let (pieces, received) = mpsc::channel(1);
    tokio::spawn(feed(reader, pieces));
    let body = Body::from_stream(ReceiverStream::new(received).map(Ok::<_, std::convert::Infallible>));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

async fn feed(mut reader: Reader, pieces: mpsc::Sender<Bytes>) {
    // The head of an answer is sent with the first piece of its body.
    let mut piece = Bytes::from_static(b": events of mcr\n\n");
    loop {
        if pieces.send(piece).await.is_err() {
            return;
        }
        piece = tokio::select! {
            () = pieces.closed() => return,
            events = tokio::time::timeout(SIGN_OF_LIFE, reader.next()) => match events {
                Ok(Some(events)) => events.iter().map(text).collect::<String>().into(),
                Ok(None) => return,
                Err(_) => Bytes::from_static(b": still here\n\n"),
            },
        };
    }
}

fn text(event: &Event) -> String {
    let id = event.id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
    // JSON of one line; a type that can't be written would be a bug that the tests of the model find.
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("{id}event: {}\ndata: {data}\n\n", event.kind.name())
}
