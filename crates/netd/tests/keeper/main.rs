//! The keeper as a program, in namespaces of its own: what it holds, for whom, and how it lets go.

mod abandoned;
mod descriptors;
mod interfaces;
mod lifetime;
mod memberships;
mod one_way;
mod policy;
mod strangers;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mcr_datapath::{FilterInstruction, RingGeometry, filter};
use mcr_netd::{Added, FailureKind, Held, HeldInput, HeldMembership, Keeper, KeeperError, KeeperErrorKind, SpawnMode};
use mcr_testbed::{
    Interface, Namespace, Process, ServiceManager, Signal, Veth, kernel, program, wait_for_state, wait_until,
};

const LIMIT: Duration = Duration::from_secs(5);

/// A namespace with two interfaces, `in0` and `out0`, the ends of one veth pair.
struct Bed {
    namespace: Namespace,
    input: Interface,
    output: Interface,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new(name: &str) -> Self {
        let namespace = Namespace::new(name);
        let veth = Veth::between(&namespace, "in0", &namespace, "out0");
        let (input, output) = (veth.near().clone(), veth.far().clone());
        input.up();
        output.up();
        output.add_address("10.9.0.1/24");
        Self { namespace, input, output, folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("netd.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(program("mcr-netd"));
        command.arg("--socket").arg(self.socket()).args(arguments);
        command
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let process = Process::start(&mut self.command(arguments));
        wait_until(LIMIT, "the keeper listens", || match Keeper::connect(&self.socket()) {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_nobody_there(), "{error}");
                false
            }
        });
        process
    }

    fn connect(&self) -> Keeper {
        connect(&self.socket())
    }

    fn spawn(&self, mode: &SpawnMode) -> Result<Keeper, KeeperError> {
        self.namespace.run(|| Keeper::spawn(mode, Some(&program("mcr-netd"))))
    }

    fn listening(&self) -> SpawnMode {
        SpawnMode::Listening { path: self.socket() }
    }

    fn groups(&self) -> Vec<Ipv4Addr> {
        let mut groups = kernel::joined_groups(&self.namespace, "in0");
        groups.sort();
        groups
    }

    fn packet_sockets(&self) -> usize {
        let table = self.namespace.run(|| fs::read_to_string("/proc/thread-self/net/packet")).unwrap();
        table.lines().count() - 1
    }

    fn neighbours(&self) -> String {
        self.namespace.output("ip", &["neighbour", "show", "dev", "out0"])
    }
}

/// The keeper notices within a moment that the daemon before is gone.
fn connect(path: &Path) -> Keeper {
    let connected = wait_for_state(LIMIT, "the keeper is free", || Keeper::connect(path), Result::is_ok);
    connected.unwrap()
}

fn group(number: usize) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(239, 7, 0, 0)) + number as u32).into()
}

fn source(number: usize) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 8, 0, 1)) + number as u32).into()
}

/// Tells apart sockets; the same for every descriptor of one.
fn identity(socket: &OwnedFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap()
}

fn refused(error: &KeeperError, kind: FailureKind) -> String {
    assert_eq!(error.kind(), KeeperErrorKind::Refused(kind), "{error}");
    assert_eq!(error.to_string(), format!("{}; {}", error.reason(), error.remedy()));
    error.to_string()
}

fn is_running(process: u32) -> bool {
    kernel::process_status(process, "State").is_some_and(|state| !state.starts_with('Z'))
}
