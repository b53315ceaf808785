//! Schemathesis, which knows the API only by its own description, against the running daemon: over its Unix socket and
//! over the network. No answer may be a failure of the server or contradict the description.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Served, URL};
use crate::service::text;

/// How many cases each endpoint gets, of each phase that makes them up. `make schemathesis` asks for more.
fn examples() -> String {
    std::env::var("SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "10".to_owned())
}

/// How many cases there have to be at least, so that a description without endpoints does not pass.
fn fewest_cases() -> u64 {
    std::env::var("SCHEMATHESIS_CASES").map_or(80, |number| number.parse().unwrap())
}

/// What lasts as long as its caller wants it to would take all the time there is.
const ENDLESS: &str = "/(wait|events)$";

/// A relay may have the right form and still not fit: 409 and 422 say so, with the field.
const NOT_CHECKED: &str = "positive_data_acceptance";

#[test]
fn schemathesis_over_the_network() {
    let served = Served::start("schema-network");
    let path = |name: &str| served.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("boss.pem"), path("boss.key"));
    let options = ["--tls-verify", &ca, "--request-cert", &cert, "--request-cert-key", &key];
    run(&served, URL, &options, "examples,fuzzing");
}

#[test]
fn schemathesis_over_the_unix_socket() {
    let served = Served::start("schema-unix");
    // It speaks TCP only; what it says arrives at the Unix socket byte for byte.
    let listener = served.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let socket = served.service.socket();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let socket = socket.clone();
            std::thread::spawn(move || stream.and_then(|stream| forward(stream, &socket)));
        }
    });
    run(&served, &url, &[], "coverage");
}

fn forward(stream: TcpStream, socket: &Path) -> io::Result<()> {
    let (daemon, client) = (UnixStream::connect(socket)?, stream.try_clone()?);
    let (mut from_daemon, mut to_daemon) = (daemon.try_clone()?, daemon);
    let back = std::thread::spawn(move || {
        let copied = io::copy(&mut from_daemon, &mut &client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        copied
    });
    io::copy(&mut &stream, &mut to_daemon)?;
    to_daemon.shutdown(std::net::Shutdown::Write)?;
    back.join().expect("copying does not panic").map(drop)
}

fn run(served: &Served, url: &str, options: &[&str], phases: &str) {
    let mut command: Command = served.namespace.command(program());
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/remote/schemathesis.toml");
    command.current_dir(served.folder.path()).arg("--config-file").arg(config);
    command.args(["run", &format!("{url}/api/v1/openapi.json")]);
    let phases = std::env::var("SCHEMATHESIS_PHASES").unwrap_or_else(|_| phases.to_owned());
    command.args([
        "--phases",
        &phases,
        "--max-examples",
        &examples(),
        "--continue-on-failure",
        "--no-shrink",
        "--seed",
        "1",
    ]);
    command.args(["--exclude-checks", NOT_CHECKED, "--exclude-path-regex", ENDLESS, "--no-color"]);
    let output = command.args(options).output().expect("run schemathesis");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    let cases =
        said.lines().find_map(|line| line.trim().split_once(" generated")?.0.replace(',', "").parse::<u64>().ok());
    assert!(cases >= Some(fewest_cases()), "{cases:?} cases:\n{said}");
    println!("{url}: {} cases", cases.unwrap_or_default());
    let log = served.service.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

/// Installed by `scripts/tool.sh schemathesis`.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/schemathesis/bin/schemathesis");
    assert!(program.exists(), "schemathesis is not installed: run scripts/tool.sh schemathesis, or make test");
    program
}
