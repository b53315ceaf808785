//! The socket: who may have it, what strange clients get, how it ends.

mod backend;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backend::Bench;
use mcr_daemon::access::{Gate, Rules};
use mcr_daemon::store::Store;
use mcr_daemon::{api, serve};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A server in a thread of its own, on a socket in a directory of its own.
struct Server {
    home: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = serve::listen(&home.path().join("run/mcr.sock")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let router = api::router(Bench::with_file(""), Gate::new(Rules::default(), Store::in_memory()).unwrap());
            runtime.block_on(serve::serve_until(listener, router, async { drop(stopped.await) }));
        });
        Self { home, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("run/mcr.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    fn talk(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

const GET: &[u8] = b"GET /api/v1/relays HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn owner_and_group_may_talk_and_the_directory_is_made() {
    let server = Server::start();
    let mode = fs::metadata(server.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let answer = server.talk(GET);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("{\"relays\":[]}"), "{answer}");
}

#[test]
fn a_living_daemon_keeps_its_socket() {
    let server = Server::start();
    let error = serve::listen(&server.socket()).unwrap_err().to_string();
    assert!(error.starts_with("another daemon answers on "), "{error}");
    assert!(server.talk(GET).starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_daemon_that_hangs_is_alive() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcr.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    // Nobody accepts: the backlog fills until a connect would wait.
    let mut waiting = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    while let Ok(stream) = runtime.block_on(tokio::net::UnixStream::connect(&path)) {
        waiting.push(stream);
        assert!(waiting.len() < 100_000);
    }
    assert!(matches!(serve::listen(&path), Err(serve::ListenError::Live { .. })));
}

#[test]
fn a_socket_that_was_left_behind_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcr.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = serve::listen(&path).unwrap();
    assert!(matches!(serve::listen(&path), Err(serve::ListenError::Live { .. })));
    drop(listener);
    serve::remove(&path);
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notes.txt");
    fs::write(&path, "precious").unwrap();
    let error = serve::listen(&path).unwrap_err().to_string();
    assert!(error.ends_with("notes.txt is not a socket; move it away, or name another path with --socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let error = serve::listen(&path.join("mcr.sock")).unwrap_err().to_string();
    assert!(error.contains("can not create the directory"), "{error}");
    let error = serve::listen(&home.path().join("x".repeat(120))).unwrap_err().to_string();
    assert!(error.contains("at most 107 bytes"), "{error}");
}

#[test]
fn of_two_that_start_together_one_gets_the_stale_socket() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcr.sock");
    for _ in 0..20 {
        let _ = fs::remove_file(&path);
        drop(UnixListener::bind(&path).unwrap());
        let start = || {
            std::thread::spawn({
                let path = path.clone();
                move || serve::listen(&path)
            })
        };
        let outcomes: Vec<_> = [start(), start(), start()].map(|thread| thread.join().unwrap()).into();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    }
}

#[test]
fn a_body_of_ten_megabytes_gets_its_answer() {
    let server = Server::start();
    let mut request = b"POST /api/v1/relays HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 10000000\r\n\r\n"
        .to_vec();
    request.resize(request.len() + 10_000_000, b'x');
    let answer = server.talk(&request);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[test]
fn who_is_refused_before_the_body_came_learns_that_the_connection_ends() {
    let server = Server::start();
    let refused = server.talk(b"POST /api/v1/relays HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 415 ") && refused.contains("connection: close"), "{refused}");
}

/// Clients that write all of a body before they read, slowly enough that the refusal is there first.
#[test]
fn who_is_refused_early_can_write_on_and_reads_why() {
    const BODY: usize = 1 << 20;
    let server = Server::start();
    let refused = |request: &str, headers: &str, status: u16| {
        let mut stream = server.connect();
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        for piece in vec![b'x'; BODY].chunks(BODY / 8) {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(piece).unwrap_or_else(|error| panic!("{request}: {error}"));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{request}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(status == 431 || answer.contains("application/problem+json"), "{request}: {answer}");
    };
    let (length, long) = (format!("Content-Length: {BODY}\r\n"), format!("X: {}\r\n", "x".repeat(300_000)));
    let toml = format!("Content-Type: application/toml\r\n{length}");
    let huge = "Content-Type: application/json\r\nContent-Length: 1000000000\r\n".to_owned();
    std::thread::scope(|scope| {
        for (request, headers, status) in [
            ("PUT /api/v1/config?nonsense=1", &toml, 400),
            ("PUT /api/v1/nothing", &toml, 404),
            ("POST /api/v1/status", &toml, 405),
            ("POST /api/v1/relays", &toml, 415),
            ("POST /api/v1/relays", &huge, 413),
            ("PUT /api/v1/config", &long, 431),
        ] {
            let refused = &refused;
            scope.spawn(move || refused(request, headers, status));
        }
    });
}

#[test]
fn noise_is_answered_and_costs_nobody_else_anything() {
    let server = Server::start();
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        &[b'A'; 200_000],
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = server.connect();
        let _ = stream.write_all(noise);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let _silent: Vec<_> = (0..100).map(|_| server.connect()).collect();
    assert!(server.talk(GET).starts_with("HTTP/1.1 200 OK"));
}

/// More connections that ask for nothing than one user may have: the stream that somebody listens to is not among those
/// that make room.
#[test]
fn a_stream_of_events_keeps_its_seat() {
    let server = Server::start();
    let mut stream = BufReader::new(server.connect());
    stream.get_mut().write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut wait_for = |beginning: &str| {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended before {beginning}");
        }
    };
    wait_for(": events of mcr");
    let _silent: Vec<_> = (0..300).map(|_| server.connect()).collect();
    let body = r#"{"name": "a", "input": {"interface": "eth0", "group": "239.1.1.1", "port": 5001},
        "output": [{"interface": "eth1", "group": "239.2.2.2", "port": 6001}]}"#;
    let head = "POST /api/v1/relays HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json";
    let made = server.talk(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    assert!(made.starts_with("HTTP/1.1 201 "), "{made}");
    wait_for("event: relay-created");
}

#[test]
fn ending_closes_idle_connections_and_is_prompt() {
    let mut server = Server::start();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(UnixStream::connect(server.socket()).is_err());
}
