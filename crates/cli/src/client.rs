//! The daemon's API: HTTP/1.1, one connection per request, over its Unix socket or over the network.

pub(crate) mod choice;
mod follow;
mod server;

use std::future::Future;
use std::time::Duration;

use self::choice::Choice;
use self::server::Server;
use crate::args::Daemon;
use crate::failure::Failure;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use mcr_model::status::{Problem, ProblemField};
use serde::de::DeserializeOwned;

/// How long an answer may take that waits for nothing; the daemon answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer may take that is good to know and no more.
const GLANCE: Duration = Duration::from_secs(1);

const JSON: &str = "application/json";

/// A body with its media type.
type Content = Option<(&'static str, String)>;

/// Where the daemon is reached.
#[derive(Debug)]
pub(crate) struct Client {
    server: Server,
    runtime: tokio::runtime::Runtime,
}

/// A good answer of the daemon.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Bytes,
    server: Server,
}

impl Client {
    /// A client of the daemon that was asked for. Nothing is sent yet.
    pub(crate) fn new(daemon: Daemon) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("cannot prepare to talk: {error}")))?;
        Ok(Self { server: Server::of(Choice::of(daemon)?)?, runtime })
    }

    /// Whether anybody listens there; without permission to know, or far away, somebody may.
    pub(crate) fn is_served(&self) -> bool {
        self.server.is_served()
    }

    /// Whether the daemon is on another host, for all that is known.
    pub(crate) fn is_remote(&self) -> bool {
        self.server.is_remote()
    }

    /// Where it is, as a person names it.
    pub(crate) fn server(&self) -> String {
        self.server.to_string()
    }

    /// Gets what is at `path`, below `/api/v1/`.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::GET, path, None, PATIENCE)
    }

    /// As [`Client::get`], for what is good to know and not worth a wait.
    pub(crate) fn get_in_passing(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::GET, path, None, GLANCE)
    }

    /// Gets an answer for which the daemon itself waits up to `wait`.
    pub(crate) fn get_waiting(&self, path: &str, wait: Duration) -> Result<Answer, Failure> {
        self.request(Method::GET, path, None, wait.saturating_add(PATIENCE))
    }

    /// Makes something new.
    pub(crate) fn post(&self, path: &str, json: String) -> Result<Answer, Failure> {
        self.request(Method::POST, path, Some((JSON, json)), PATIENCE)
    }

    /// Posts what the daemon itself takes `wait` to answer.
    pub(crate) fn post_waiting(&self, path: &str, json: String, wait: Duration) -> Result<Answer, Failure> {
        self.request(Method::POST, path, Some((JSON, json)), wait.saturating_add(PATIENCE))
    }

    /// Makes or replaces what is at `path`.
    pub(crate) fn put(&self, path: &str, json: String) -> Result<Answer, Failure> {
        self.request(Method::PUT, path, Some((JSON, json)), PATIENCE)
    }

    /// Replaces what is at `path` by a configuration.
    pub(crate) fn put_toml(&self, path: &str, toml: String) -> Result<Answer, Failure> {
        self.request(Method::PUT, path, Some(("application/toml", toml)), PATIENCE)
    }

    /// As [`Client::put`], with the daemon's refusal apart from what kept it from being asked.
    pub(crate) fn try_put(&self, path: &str, json: String) -> Result<Result<Answer, Failure>, Failure> {
        let exchange = self.exchange(self.builder(Method::PUT, path), Some((JSON, json)));
        Ok(self.answer(self.within(PATIENCE, exchange)?))
    }

    /// Removes what is at `path`.
    pub(crate) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::DELETE, path, None, PATIENCE)
    }

    fn request(&self, method: Method, path: &str, content: Content, patience: Duration) -> Result<Answer, Failure> {
        let exchange = self.exchange(self.builder(method, path), content);
        self.answer(self.within(patience, exchange)?)
    }

    fn within<T>(&self, patience: Duration, talk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let talk = async { tokio::time::timeout(patience, talk).await };
        self.runtime.block_on(talk).map_err(|_| {
            let (server, seconds) = (&self.server, patience.as_secs());
            Failure::failed(format!("the daemon at {server} has not answered for {seconds} s; see its log"))
        })?
    }

    fn answer(&self, (status, body): (StatusCode, Bytes)) -> Result<Answer, Failure> {
        let server = &self.server;
        if status.is_success() {
            return Ok(Answer { body, server: server.clone() });
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Failure::failed(sentence(&problem)),
            Err(_) => Failure::failed(format!(
                "what answers at {server} is no MCR daemon of this version (HTTP {status} without a problem document); \
                 {}",
                server.how_to_name()
            )),
        })
    }

    fn builder(&self, method: Method, path: &str) -> request::Builder {
        let builder = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(header::HOST, self.server.host())
            .header(header::ACCEPT, "application/json, application/problem+json")
            .header(header::CONNECTION, "close");
        let shown = self.server.authorization();
        shown.into_iter().fold(builder, |builder, shown| builder.header(header::AUTHORIZATION, shown))
    }

    async fn exchange(&self, request: request::Builder, content: Content) -> Result<(StatusCode, Bytes), Failure> {
        let answer = self.open(request, content).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| self.server.broken(&error))?;
        Ok((status, body.to_bytes()))
    }

    /// Sends a request; its answer, of which the body may still come.
    async fn open(&self, mut request: request::Builder, content: Content) -> Result<Response<Incoming>, Failure> {
        let stream = self.server.connect().await?;
        let broken = |error: hyper::Error| self.server.broken(&error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        if let Some((media_type, _)) = content {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let request = request
            .body(Full::<Bytes>::from(content.map(|(_, text)| text).unwrap_or_default()))
            .map_err(|error| Failure::failed(format!("this can not be asked for: {error}")))?;
        // How the connection ends is told by the answer, or by its body.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)
    }
}

impl Answer {
    /// The JSON as the daemon wrote it, with one newline at its end.
    pub(crate) fn json(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        format!("{}\n", text.trim_end())
    }

    /// The answer's meaning.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let server = &self.server;
            Failure::failed(format!(
                "cannot understand the answer of the daemon at {server}: {error}; is it of the same version as mcr \
                 {}? -o json shows what it says",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }
}

/// A problem document as a person reads it: what is wrong, then each wrong field that this did not say already.
fn sentence(problem: &Problem) -> String {
    let Problem { kind: _, title, status: _, detail, field, errors } = problem;
    let mut text = if detail.is_empty() { title.clone() } else { detail.clone() };
    if let Some(field) = field
        && errors.is_empty()
        && !text.contains(field.as_str())
    {
        text = format!("{field}: {text}");
    }
    for ProblemField { field, message, remedy } in errors {
        if text.contains(message.as_str()) && errors.len() == 1 {
            continue;
        }
        text.push_str("\n  ");
        let pieces = [(field.as_str(), ": "), (message.as_str(), "; "), (remedy.as_str(), "")];
        let pieces: Vec<_> = pieces.into_iter().filter(|(piece, _)| !piece.is_empty()).collect();
        for (i, (piece, separator)) in pieces.iter().enumerate() {
            text.push_str(piece);
            text.push_str(if i + 1 < pieces.len() { separator } else { "" });
        }
    }
    text
}
