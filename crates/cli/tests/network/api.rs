//! The API as a program uses it: one connection that is kept, many requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::service::Service;

/// A connection to the daemon.
pub(crate) struct Api {
    stream: BufReader<UnixStream>,
}

impl Api {
    pub(crate) fn of(service: &Service) -> Api {
        let stream = UnixStream::connect(service.socket()).expect("connect to the daemon");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
        Api { stream: BufReader::new(stream) }
    }

    /// One request; the status and the body.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.begin(method, path, body);
        let (status, length) = self.head();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A request that has to succeed.
    #[track_caller]
    pub(crate) fn ok(&mut self, method: &str, path: &str, body: &str) -> Value {
        let (status, body) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {body:#}");
        body
    }

    /// Sends a request whose answer is read line by line.
    pub(crate) fn begin(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: mcr\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("send a request");
    }

    /// The next line of an answer.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stream.read_line(&mut line).expect("a line") > 0, "the daemon ended the connection");
        line.trim_end().to_owned()
    }

    /// Status and length of an answer.
    fn head(&mut self) -> (u16, usize) {
        let status = self.line().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = 0;
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                return (status, length);
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
        }
    }
}

/// The body of a relay from the device to the first lan: number `i` has a group and port of its own.
pub(crate) fn numbered(name: &str, i: usize, lease: Option<&str>) -> String {
    let (high, low) = (i / 250, i % 250 + 1);
    let mut relay = json!({
        "name": name,
        "input": {"interface": "dev0", "group": format!("239.1.{high}.{low}"), "port": 5001},
        "output": [{"interface": "lan1", "group": format!("239.2.{high}.{low}"), "port": 6001}],
    });
    if let Some(lease) = lease {
        relay["lease"] = lease.into();
    }
    relay.to_string()
}
