//! The way to the collector: HTTP/1.1 over TCP, one connection for each export, on the thread that exports.
//!
//! A collector on the same host or in the same trusted network is the usual one, and it speaks TLS to what is behind
//! it; so this does not.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// How long connecting, and each piece of a request or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer has a status and a few bytes; more than this is not read.
const MOST_BYTES: u64 = 1 << 20;

/// Sends what the SDK exports.
#[derive(Debug)]
pub(super) struct Collector;

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(send(&request)?)
    }
}

fn send(request: &Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let uri = request.uri();
    let host = uri.host().context("the endpoint names no host; write it as http://127.0.0.1:4318")?;
    if uri.scheme_str() != Some("http") {
        bail!("{uri} is not spoken to: use http:// and a collector on this host, which speaks TLS to others");
    }
    let port = uri.port_u16().unwrap_or(80);
    let mut stream = connect(host.trim_matches(['[', ']']), port)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in request.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(format!("content-length: {}\r\n\r\n", request.body().len()).into_bytes());
    stream.write_all(&head)?;
    stream.write_all(request.body())?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    understood(&answer)
}

fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("{host} has no address"), anyhow::Error::from))
}

/// Status and `Retry-After` are all that an exporter goes by; what a collector says of rejected points is left out.
fn understood(answer: &[u8]) -> anyhow::Result<Response<Bytes>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("what answers there speaks no HTTP")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    let mut response = Response::builder().status(status.context("what answers there speaks no HTTP")?);
    let later = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    if let Some((name, seconds)) = later {
        response = response.header(name, seconds);
    }
    Ok(response.body(Bytes::new())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let answer = understood(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nwhatever").unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "7"));
        assert_eq!(understood(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().status(), 200);
        for wrong in [&b""[..], b"220 mail\r\n\r\n", b"HTTP/1.1 twenty\r\n\r\n", b"HTTP/1.1 200 OK\r\n"] {
            assert!(understood(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn where_nobody_listens_and_what_is_not_spoken() {
        let to = |uri: &str| Request::post(uri).body(Bytes::new()).unwrap();
        assert!(send(&to("https://127.0.0.1:4318/v1/traces")).unwrap_err().to_string().contains("use http://"));
        assert!(send(&to("http://127.0.0.1:1/v1/traces")).is_err());
    }
}
