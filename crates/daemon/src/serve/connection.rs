//! One connection, whatever carries it: HTTP/1.1 with bounds on time and size.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::farewell;
use super::seats::Seat;
use crate::access::Peer;

/// How long a request may take to say what it wants, and a kept connection to begin its next one.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Serves one connection until its client ends it, its seat is needed, or `ended` closes. A client that may still be
/// writing when it ends has a moment to read why.
pub(super) async fn talk<I>(mut stream: I, router: Router, peer: Peer, seat: Seat, ended: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let seat = Arc::new(seat);
    let talking = async {
        let how = answer_all(&mut stream, router, &peer, &seat, ended).await;
        if how == Parting::WhileItWrites {
            farewell::part(&mut stream).await;
        }
    };
    tokio::select! {
        () = talking => {}
        () = seat.taken_away() => tracing::debug!(%peer, "a connection that asked for nothing made room"),
    }
}

/// How the requests of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    /// All that came was read.
    AllRead,
    /// The last answer was given before its request had come whole.
    WhileItWrites,
}

/// Answers the requests of one connection until its client ends it or `ended` closes.
async fn answer_all<I>(
    stream: &mut I,
    router: Router,
    peer: &Peer,
    seat: &Seat,
    mut ended: watch::Receiver<()>,
) -> Parting
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let left_body = AtomicBool::new(false);
    let left = &left_body;
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (head, body) = request.into_parts();
        let (body, work) = seat.watch(body);
        let answer = router.call(Request::from_parts(head, body));
        async move {
            let mut answer = answer.await;
            // A client that was refused early would use a connection again that is about to end.
            if let Ok(answer) = &mut answer
                && work.left_body()
            {
                left.store(true, Ordering::Relaxed);
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer.map(|answer| answer.map(|body| work.on(body)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = &outcome {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
    // A head that is no request is answered before its end, too.
    if outcome.is_err() || left.load(Ordering::Relaxed) { Parting::WhileItWrites } else { Parting::AllRead }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    use super::super::seats::{Occupant, Seats};
    use super::*;

    /// The clock of the test jumps to the next timer when nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_ends_the_connection() {
        for beginning in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"] {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(beginning).await.unwrap();
            let (_ending, ended) = watch::channel(());
            let seat = Seats::new(1, 1).take(Occupant::User(0)).unwrap();
            let start = Instant::now();
            talk(server, Router::new(), Peer::Local { user: 0, groups: [].into() }, seat, ended).await;
            assert_eq!(start.elapsed().as_secs(), HEADER_PATIENCE.as_secs(), "{beginning:?}");
        }
    }
}
