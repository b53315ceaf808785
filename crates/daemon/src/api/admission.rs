//! Whether somebody who was let in still may be, asked again as long as their answer lasts.
//!
//! A wait takes up to an hour and a stream of events has no end: a token that is revoked or runs out meanwhile, or a
//! rule that is taken back, ends them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use mcr_model::{Grant, Role};
use tokio::sync::watch;
use tokio_stream::Stream;

use super::rejection::Rejection;
use crate::access::{Gate, Peer};

/// How often it is asked although nothing was changed: tokens and certificates end by themselves.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What somebody was let in by.
pub(super) struct Admission {
    gate: Gate,
    changes: watch::Receiver<u64>,
    peer: Peer,
    shown: HeaderMap,
    needed: Role,
    grant: Grant,
}

impl Admission {
    /// What is known before they are let in, so that no change goes unheard; then what they were granted.
    pub(super) fn of(gate: &Gate, peer: &Peer, headers: &HeaderMap) -> impl FnOnce(Role, Grant) -> Self + use<> {
        let (gate, changes, peer) = (gate.clone(), gate.changes(), peer.clone());
        let token = headers.get(header::AUTHORIZATION).cloned();
        let shown = token.into_iter().map(|token| (header::AUTHORIZATION, token)).collect();
        move |needed, grant| Self { gate, changes, peer, shown, needed, grant }
    }

    /// An answer that may be given up before it is there.
    pub(super) async fn while_it_lasts(self, answer: impl Future<Output = Response>) -> Response {
        let mut over = Box::pin(self.over());
        tokio::select! {
            biased;
            answer = answer => until(over, answer),
            rejection = &mut over => rejection.into_response(),
        }
    }

    /// An answer that is waited for: what was asked changes something. Its body may last, too.
    pub(super) async fn after(self, answer: impl Future<Output = Response>) -> Response {
        let answer = answer.await;
        until(Box::pin(self.over()), answer)
    }

    /// Returns when they may not go on, with the reason.
    async fn over(mut self) -> Rejection {
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(ASK_AGAIN, self.changes.changed()).await {
                // The gate is held by us, so there is somebody to tell of changes.
                std::future::pending::<()>().await;
            }
            if let Err(rejection) = self.check() {
                return rejection;
            }
        }
    }

    fn check(&self) -> Result<(), Rejection> {
        let caller = self.gate.admit(&self.peer, &self.shown).map_err(|denied| Rejection::not_admitted(&denied))?;
        if caller.grant.role() < self.needed {
            return Err(Rejection::role_too_small(caller.grant.role(), self.needed));
        }
        // The answer is made of what the old grant is about.
        if caller.grant.covers(&self.grant) { Ok(()) } else { Err(Rejection::grant_changed()) }
    }
}

type Over = Pin<Box<dyn Future<Output = Rejection> + Send>>;

/// The answer, whose body ends with the admission. One that is there as a whole is sent as a whole.
fn until(over: Over, answer: Response) -> Response {
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    answer.map(|body| Body::from_stream(Until { over, body: body.into_data_stream() }))
}

struct Until {
    over: Over,
    body: BodyDataStream,
}

impl Stream for Until {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.over.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut self.body).poll_next(context),
        }
    }
}
