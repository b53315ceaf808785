//! MCR as it is installed: `mcr run` and the keeper that it starts.

use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use mcr_testbed::{Topology, program};

use super::{OUTPUT_PORT, Running, other, spawn};
use crate::families::Families;

/// How long it may take until it answers, and then until ten thousand relays are ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// The relay of the bench, and others beside it that get nothing, by this datapath.
pub(super) fn start(
    net: &Topology,
    datapath: &str,
    families: Families,
    outputs: usize,
    relays: usize,
) -> Result<Running, String> {
    let output = |i| {
        let group = families.output_group(i);
        format!("{{ interface = \"lan{i}\", group = \"{group}\", port = {OUTPUT_PORT} }}")
    };
    let list: Vec<String> = (1..=outputs).map(output).collect();
    let group = families.group();
    let mut config = format!(
        "datapath = \"{datapath}\"\n[[relay]]\nname = \"bench\"\n\
         input = {{ interface = \"dev0\", group = \"{}\", port = {} }}\noutput = [{}]\n",
        group.ip(),
        group.port(),
        list.join(", ")
    );
    config.extend((1..relays).map(|i| relay(&format!("other-{i}"), i)));
    let mut running = daemon(net, &config, relays)?;
    let deadline = Instant::now() + PATIENCE;
    while ready(&running) < relays as u64 {
        let bench = bench(&running);
        if bench["state"] == "failed" {
            return Err(bench["reason"].as_str().unwrap_or_default().to_owned());
        }
        if Instant::now() > deadline {
            return Err(format!("{} of {relays} relays are ready after {PATIENCE:?}", ready(&running)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let bench = bench(&running);
    let served_by = bench["datapath"].as_str().unwrap_or_default();
    if datapath != "auto" && served_by != datapath {
        return Err(format!("the relay is served by {served_by}"));
    }
    running.served_by = Some(served_by.to_owned());
    Ok(running)
}

/// What the API says of the relay of the bench.
fn bench(running: &Running) -> serde_json::Value {
    serde_json::from_str(&get(&running.socket(), "/api/v1/relays/bench")).unwrap_or_default()
}

/// The configuration of one relay with a group of its own.
pub(crate) fn relay(name: &str, number: usize) -> String {
    let input = other(number);
    let [_, _, high, low] = input.ip().octets();
    format!(
        "[[relay]]\nname = \"{name}\"\ninput = {{ interface = \"dev0\", group = \"{}\", port = {} }}\n\
         output = [{{ interface = \"lan1\", group = \"239.20.{high}.{low}\", port = {OUTPUT_PORT} }}]\n",
        input.ip(),
        input.port()
    )
}

/// `mcr-netd` and `mcr run`, as their services start them, with this configuration in the relay's namespace.
///
/// # Errors
/// What they said before they ended, or that they do not answer.
pub(crate) fn daemon(net: &Topology, config: &str, relays: usize) -> Result<Running, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (keeper_socket, errors) = (at("netd.sock"), at("errors"));
    std::fs::write(at("mcr.toml"), config).expect("write the configuration");
    std::fs::write(at("policy.toml"), policy(relays)).expect("write the policy");
    let mut command = net.relay().command(program("mcr-netd"));
    command.arg("--end-on-release").arg("--policy").arg(at("policy.toml")).arg("--socket").arg(&keeper_socket);
    let keeper = spawn(&mut command, Some(&errors))?;
    let mut command = net.relay().command(program("mcr"));
    command.arg("run").arg("--config").arg(at("mcr.toml"));
    command.env("MCR_SOCKET", at("mcr.sock")).env("MCR_KEEPER_SOCKET", &keeper_socket);
    let mut running = Running { folder: Some(folder), ..Running::of(vec![keeper]) };
    wait_for(&mut running, &errors, |_| keeper_socket.exists())?;
    let errors = running.file("daemon-errors");
    // It is told to end first: it gives back what it has from the keeper.
    running.children.0.insert(0, spawn(&mut command, Some(&errors))?);
    wait_for(&mut running, &errors, |running| !get(&running.socket(), "/readyz").is_empty())?;
    Ok(running)
}

fn wait_for(running: &mut Running, errors: &FilePath, reached: impl Fn(&Running) -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !reached(running) {
        if running.has_ended() || Instant::now() > deadline {
            return Err(said(errors));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Tables as large as usual, unless there are more relays.
fn policy(relays: usize) -> String {
    const USUAL: usize = 4096;
    if relays <= USUAL {
        return String::new();
    }
    format!("[tables]\nrelays = {relays}\noutputs = {}\n", relays * 4)
}

/// The first lines of what a program said.
fn said(file: &FilePath) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(4).collect();
    if lines.is_empty() { "it ended, or did not answer, without a word".to_owned() } else { lines.join("; ") }
}

/// How many relays are ready.
pub(crate) fn ready(running: &Running) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&get(&running.socket(), "/api/v1/status")).unwrap_or_default();
    status["relays"]["ready"].as_u64().unwrap_or(0)
}

/// The body of a GET over a Unix socket; empty when nobody answers.
fn get(socket: &FilePath, path: &str) -> String {
    request(socket, &format!("GET {path} HTTP/1.1\r\nHost: mcr\r\nConnection: close\r\n\r\n"))
}

/// The body of a POST over a Unix socket; empty when nobody answers.
pub(crate) fn post(socket: &FilePath, path: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nHost: mcr\r\nConnection: close\r\nContent-Type: application/json\r\n");
    request(socket, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn request(socket: &FilePath, request: &str) -> String {
    use std::io::{Read, Write};
    let answer = std::os::unix::net::UnixStream::connect(socket).and_then(|mut stream| {
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    answer.ok().and_then(|answer| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())).unwrap_or_default()
}
