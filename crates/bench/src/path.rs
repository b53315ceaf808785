//! The paths that are measured: each is started as its own documentation recommends, and ends with `Drop`.

use std::net::SocketAddrV4;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcr_testbed::{Topology, wait_until};
use tempfile::TempDir;

use crate::cpu;
use crate::generate::NICE;

/// What the device sends to.
pub(crate) const GROUP: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(239, 1, 1, 1), 5001);
/// The port that every output sends to.
pub(crate) const OUTPUT_PORT: u16 = 6001;
/// A sender with an address that the relay's host has a route to: rivals can't do without.
pub(crate) const ROUTABLE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 55);

/// A way from the device to the LANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Path {
    /// `mcr run`, AF_PACKET datapath.
    Packet,
    /// A plain loop of `recvmmsg` and `sendmmsg`.
    Sockets,
    /// One `socat` for each output.
    Socat,
}

impl Path {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Sockets => "sockets",
            Self::Socat => "socat",
        }
    }

    /// The source of the load: only MCR takes what the reverse path refuses.
    pub(crate) fn source(self) -> std::net::Ipv4Addr {
        match self {
            Self::Packet => mcr_testbed::DEVICE,
            Self::Sockets | Self::Socat => ROUTABLE,
        }
    }

    /// Whether the relay's host refuses sources that it has no route to. The rivals get nothing unless it does not.
    fn reverse_path_filter(self) -> &'static str {
        match self {
            Self::Packet => "1",
            Self::Sockets | Self::Socat => "0",
        }
    }

    /// Starts it in the relay's namespace, with this many relays in its configuration if it has one.
    pub(crate) fn start(self, net: &Topology, outputs: usize, relays: usize) -> Running {
        for interface in ["all", "dev0"] {
            net.relay().sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), self.reverse_path_filter());
        }
        match self {
            Self::Packet => packet(net, outputs, relays),
            Self::Sockets => Running::of(vec![plain(net, outputs)], None),
            Self::Socat => Running::of((1..=outputs).map(|output| socat(net, output)).collect(), None),
        }
    }
}

/// A running path.
pub(crate) struct Running {
    children: Vec<Child>,
    /// Processes of it that are not our children.
    others: Vec<u32>,
    folder: Option<TempDir>,
}

impl Running {
    fn of(children: Vec<Child>, folder: Option<TempDir>) -> Running {
        Running { children, others: Vec::new(), folder }
    }

    /// CPU time of all its processes so far, in nanoseconds.
    pub(crate) fn cpu_nanoseconds(&self) -> u64 {
        self.processes().map(cpu::of_process).sum()
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(Child::id).chain(self.others.iter().copied())
    }

    /// The API's socket, if it has one.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.as_ref().expect("only MCR has an API").path().join("mcr.sock")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        for child in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A binary that was built with this one.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let path = own.with_file_name(name);
    assert!(path.exists(), "{} is missing; `make bench` builds it", path.display());
    path
}

/// `mcr run` with this configuration in the relay's namespace.
pub(crate) fn daemon(net: &Topology, config: &str) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("mcr.toml"), config).expect("write the configuration");
    let at = |name: &str| folder.path().join(name);
    let mut command = net.relay().command(beside("mcr"));
    command.arg("run").arg("--config").arg(at("mcr.toml")).arg("--keeper").arg(beside("mcr-netd"));
    command.env("MCR_SOCKET", at("mcr.sock")).env("MCR_KEEPER_SOCKET", at("netd.sock"));
    let child = quiet(&mut command);
    let mut running = Running::of(vec![child], Some(folder));
    wait_until(Duration::from_secs(10), "the daemon answers", || !get(&running.socket(), "/readyz").is_empty());
    let status: serde_json::Value =
        serde_json::from_str(&get(&running.socket(), "/api/v1/status")).expect("the daemon's status");
    running.others.extend(status["keeper_pid"].as_u64().map(|pid| pid as u32));
    running
}

/// The relay of the bench, and others beside it that get nothing.
fn packet(net: &Topology, outputs: usize, relays: usize) -> Running {
    let list: Vec<String> = (1..=outputs)
        .map(|i| format!("{{ interface = \"lan{i}\", group = \"239.2.2.{i}\", port = {OUTPUT_PORT} }}"))
        .collect();
    let mut config = format!(
        "[[relay]]\nname = \"bench\"\ninput = {{ interface = \"dev0\", group = \"{}\", port = {} }}\noutput = [{}]\n",
        GROUP.ip(),
        GROUP.port(),
        list.join(", ")
    );
    config.extend((1..relays).map(|i| relay(&format!("other-{i}"), i)));
    let running = daemon(net, &config);
    wait_until(Duration::from_secs(10), "all relays are ready", || ready(&running) == relays as u64);
    running
}

/// The configuration of one relay with a group of its own.
pub(crate) fn relay(name: &str, number: usize) -> String {
    let (high, low) = (number / 250, number % 250);
    format!(
        "[[relay]]\nname = \"{name}\"\ninput = {{ interface = \"dev0\", group = \"239.10.{high}.{low}\", port = 5001 }}\n\
         output = [{{ interface = \"lan1\", group = \"239.20.{high}.{low}\", port = 6001 }}]\n"
    )
}

/// How many relays are ready.
pub(crate) fn ready(running: &Running) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&get(&running.socket(), "/api/v1/status")).unwrap_or_default();
    status["relays"]["ready"].as_u64().unwrap_or(0)
}

/// One `socat` for each output: it has no way to send to several. Its buffer is as large as `net.core.rmem_max` allows (it
/// has no way to force more), so that a burst is not what it loses.
fn socat(net: &Topology, output: usize) -> Child {
    let (from, to) = (
        format!("UDP4-RECV:{},reuseaddr,ip-add-membership={}:dev0,so-rcvbuf=16777216", GROUP.port(), GROUP.ip()),
        format!("UDP4-DATAGRAM:239.2.2.{output}:{OUTPUT_PORT},ip-multicast-if=10.0.{output}.1,ip-multicast-ttl=16"),
    );
    with_precedence(quiet(net.relay().command("socat").args(["-u", "-b", "65536", &from, &to])))
}

fn plain(net: &Topology, outputs: usize) -> Child {
    let own = std::env::current_exe().expect("the path of this program");
    with_precedence(quiet(net.relay().command(own).args(["plain-relay", &outputs.to_string()])))
}

/// Gives a rival the precedence on the CPU that MCR takes for itself.
fn with_precedence(child: Child) -> Child {
    // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, child.id(), NICE) };
    child
}

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("can not start {command:?}: {error}"))
}

/// The body of a GET over a Unix socket; empty when nobody answers.
pub(crate) fn get(socket: &FilePath, path: &str) -> String {
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
