//! A daemon with fixed answers: one HTTP exchange per connection, on a Unix socket in a directory of its own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

/// An answer: its status line's end and its body.
type Answer = (&'static str, String);

/// The daemon; its thread ends with the test process.
pub(crate) struct FakeDaemon {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeDaemon {
    /// Answers each `METHOD path` below `/api/v1/` with what is given, anything else with a problem.
    pub(crate) fn answering<const N: usize>(answers: [(&'static str, &'static str, String); N]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("mcr.sock")).unwrap();
        let answers: HashMap<String, Answer> =
            answers.into_iter().map(|(request, status, body)| (request.to_owned(), (status, body))).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                exchange(stream.unwrap(), &answers, &seen);
            }
        });
        Self { directory, requests }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("mcr.sock")
    }

    /// Where it is, to be taken out of snapshots.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it was asked: `METHOD path` and the body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn exchange(mut stream: UnixStream, answers: &HashMap<String, Answer>, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the request ended in its head: {head}");
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let mut line = head.lines().next().unwrap().split(' ');
    let request = format!("{} {}", line.next().unwrap(), line.next().unwrap().replace("/api/v1/", ""));
    seen.lock().unwrap().push(format!("{request} {}", String::from_utf8(body).unwrap()).trim_end().to_owned());
    let unknown = ("500 Unexpected", format!("no answer for {request}"));
    let (status, body) = answers.get(&request).unwrap_or(&unknown);
    if status.is_empty() {
        stream.write_all(body.as_bytes()).unwrap();
        return;
    }
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
}
