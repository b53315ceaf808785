//! The body of a request: bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Bytes;

use super::MAX_BODY_BYTES;
use super::rejection::Rejection;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much of a body that is too large is read and thrown away. A client that is still writing when its connection
/// ends sees only the broken connection and never the answer that says why.
const MOST_DISCARDED_BYTES: usize = 16 << 20;

/// The whole body, at most [`MAX_BODY_BYTES`].
pub(super) async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Rejection> {
    read_body_up_to(MAX_BODY_BYTES, headers, body).await
}

/// The whole body, at most `most_bytes`.
pub(super) async fn read_body_up_to(most_bytes: usize, headers: &HeaderMap, body: Body) -> Result<Bytes, Rejection> {
    // A client that asks first (`Expect: 100-continue`) is told no before it sends anything, and so is one whose
    // body would not be discarded to its end anyway.
    let announced = announced(headers);
    let asks = headers.contains_key(header::EXPECT);
    if announced.is_some_and(|bytes| bytes > if asks { most_bytes } else { MOST_DISCARDED_BYTES }) {
        return Err(Rejection::too_large(most_bytes));
    }
    match tokio::time::timeout(PATIENCE, collect(most_bytes, body)).await {
        Ok(collected) => collected,
        Err(_) => Err(Rejection::too_slow(PATIENCE)),
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(most_bytes: usize, mut body: Body) -> Result<Bytes, Rejection> {
    let mut collected = Vec::new();
    let mut arrived = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Rejection::broken_body(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        arrived += data.len();
        if arrived <= most_bytes {
            collected.extend_from_slice(data);
        } else if arrived > MOST_DISCARDED_BYTES {
            break;
        }
    }
    if arrived > most_bytes { Err(Rejection::too_large(most_bytes)) } else { Ok(collected.into()) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use tokio::time::Instant;

    use super::*;

    /// The clock of the test jumps to the next timer when nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never =
            http_body_util::StreamBody::new(tokio_stream::pending::<Result<hyper::body::Frame<Bytes>, axum::Error>>());
        let start = Instant::now();
        let rejection = read_body(&HeaderMap::new(), Body::new(never)).await.unwrap_err();
        assert_eq!((start.elapsed().as_secs(), rejection.into_response().status().as_u16()), (PATIENCE.as_secs(), 408));
    }
}
