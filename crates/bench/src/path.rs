//! The paths that are measured: each is started as its own documentation recommends, and ends with `Drop`.

use std::net::SocketAddrV4;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcr_testbed::{Topology, wait_until};
use tempfile::TempDir;

/// What the device sends to.
pub(crate) const GROUP: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(239, 1, 1, 1), 5001);
/// The port that every output sends to.
pub(crate) const OUTPUT_PORT: u16 = 6001;
/// A sender with an address that the relay's host has a route to: rivals can't do without.
pub(crate) const ROUTABLE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 55);

/// A way from the device to the LANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
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

    /// Starts it in the relay's namespace; it is ready when this returns.
    pub(crate) fn start(self, net: &Topology, outputs: usize) -> Running {
        let running = match self {
            Self::Packet => packet(net, outputs),
            Self::Sockets => Running::of(vec![plain(net, outputs)], None),
            Self::Socat => Running::of((1..=outputs).map(|output| socat(net, output)).collect(), None),
        };
        let joined = || mcr_testbed::kernel::joined_groups(net.relay(), "dev0").contains(GROUP.ip());
        wait_until(Duration::from_secs(10), "the path joins the group", joined);
        if self == Self::Socat {
            // Nothing tells whether the second and later ones have joined too.
            std::thread::sleep(Duration::from_millis(300));
        }
        running
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

    /// CPU time of all its processes so far, in nanoseconds (`/proc/PID/task/*/schedstat`): system calls and the
    /// soft interrupts that ran within them included.
    pub(crate) fn cpu_nanoseconds(&self) -> u64 {
        self.processes().map(process_nanoseconds).sum()
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

fn process_nanoseconds(process: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let on_cpu = |text: String| text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok().and_then(on_cpu)).sum()
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

fn packet(net: &Topology, outputs: usize) -> Running {
    let list: Vec<String> = (1..=outputs)
        .map(|i| format!("{{ interface = \"lan{i}\", group = \"239.2.2.{i}\", port = {OUTPUT_PORT} }}"))
        .collect();
    daemon(
        net,
        &format!(
            "[[relay]]\nname = \"bench\"\ninput = {{ interface = \"dev0\", group = \"239.1.1.1\", port = 5001 }}\noutput = [{}]\n",
            list.join(", ")
        ),
    )
}

fn socat(net: &Topology, output: usize) -> Child {
    let (from, to) = (
        format!("UDP4-RECV:{},reuseaddr,ip-add-membership=239.1.1.1:dev0", GROUP.port()),
        format!("UDP4-DATAGRAM:239.2.2.{output}:{OUTPUT_PORT},ip-multicast-if=10.0.{output}.1,ip-multicast-ttl=16"),
    );
    quiet(net.relay().command("socat").args(["-u", "-b", "65536", &from, &to]))
}

fn plain(net: &Topology, outputs: usize) -> Child {
    let own = std::env::current_exe().expect("the path of this program");
    quiet(net.relay().command(own).args(["plain-relay", &outputs.to_string()]))
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
