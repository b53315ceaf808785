//! Fifty clients that make, renew, wait for and remove a thousand relays: how long a creation takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use mcr_testbed::Topology;

use crate::path::daemon;

const CLIENTS: usize = 50;
const OF_EACH: usize = 20;

/// What it came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clients {
    /// Relays with a lease, which are not stored.
    pub(crate) lent: Creation,
    /// Relays that are on the disk when their creation is answered.
    pub(crate) stored: Creation,
}

/// How long creations took, from the request to the answer, on connections that stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Creation {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) longest_ms: f64,
}

impl std::fmt::Display for Creation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Creation { p50_ms, p99_ms, longest_ms } = self;
        write!(f, "p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, longest {longest_ms:.1} ms")
    }
}

/// Nothing when MCR does not start.
pub(crate) fn clients(net: &Topology) -> Option<Clients> {
    let running = daemon(net, "", CLIENTS * OF_EACH).map_err(|why| eprintln!("50 clients: {why}")).ok()?;
    // Opens the interfaces, which takes its time once.
    Connection::to(&running.socket()).ask("POST", "relays", &relay("first", 4_000, ""));
    let series = |lease: &str| creation(&running.socket(), lease);
    Some(Clients { lent: series(r#","lease":"1h""#), stored: series("") })
}

fn creation(socket: &FilePath, lease: &str) -> Creation {
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let client = |client| scope.spawn(move || lives(&mut Connection::to(socket), client, lease));
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    times.sort();
    let ms = |at: usize| times[at].as_secs_f64() * 1000.0;
    Creation { p50_ms: ms(times.len() / 2), p99_ms: ms(times.len() * 99 / 100), longest_ms: ms(times.len() - 1) }
}

/// The lives of the relays of one client; how long each creation took.
fn lives(api: &mut Connection, client: usize, lease: &str) -> Vec<Duration> {
    let names: Vec<String> = (0..OF_EACH).map(|i| format!("c{client}-{i}")).collect();
    let mut times = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let body = relay(name, client * OF_EACH + i, lease);
        let asked = Instant::now();
        let made = api.ask("POST", "relays", &body);
        times.push(asked.elapsed());
        assert!(made.contains("\"ready\""), "{made}");
    }
    for name in &names {
        if !lease.is_empty() {
            api.ask("PUT", &format!("relays/{name}/lease"), r#"{"lease":"30s"}"#);
        }
        api.ask("GET", &format!("relays/{name}/wait?for=ready"), "");
    }
    names.iter().for_each(|name| drop(api.ask("DELETE", &format!("relays/{name}"), "")));
    times
}

fn relay(name: &str, number: usize, lease: &str) -> String {
    let (high, low) = (number / 250, number % 250 + 1);
    format!(
        "{{\"name\":\"{name}\",\"input\":{{\"interface\":\"dev0\",\"group\":\"239.11.{high}.{low}\",\"port\":5001}},\
         \"output\":[{{\"interface\":\"lan1\",\"group\":\"239.12.{high}.{low}\",\"port\":6001}}]{lease}}}"
    )
}

/// A connection to the API that stays.
struct Connection(BufReader<UnixStream>);

impl Connection {
    fn to(socket: &FilePath) -> Connection {
        Connection(BufReader::new(UnixStream::connect(socket).expect("connect to the daemon")))
    }

    /// The body of an answer that has to be a good one.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> String {
        let head = format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: mcr\r\nContent-Type: application/json\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(request.as_bytes()).expect("send a request");
        let (status, length) = self.head();
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).expect("read an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(status.starts_with("HTTP/1.1 2"), "{method} {path}: {status}{answer}");
        answer
    }

    /// Status line and length of an answer.
    fn head(&mut self) -> (String, usize) {
        let (mut status, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("read an answer") > 0, "the daemon ended the connection");
            if status.is_empty() {
                status = line;
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            } else if line == "\r\n" {
                return (status, length);
            }
        }
    }
}
