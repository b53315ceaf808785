//! The paths that are measured: each is started as its own documentation recommends, and ends with `Drop`.

mod mcr;
mod nftables;
mod redirect;
mod rivals;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcr_testbed::Topology;
use tempfile::TempDir;

use crate::cpu;
use crate::families::Families;

pub(crate) use mcr::{daemon, post, ready, relay};

/// What the device sends to.
pub(crate) const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 5001);
/// The port that every output sends to.
pub(crate) const OUTPUT_PORT: u16 = 6001;
/// A sender with an address that the relay's host has a route to: some rivals can't do without.
pub(crate) const ROUTABLE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 55);

/// What another relay, from 1 on, would listen to: it gets nothing.
fn other(relay: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(239, 10, (relay / 250) as u8, (relay % 250) as u8), 5001)
}

/// A way from the device to the LANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Path {
    /// `mcr run`, datapath `xdp`.
    Xdp,
    /// `mcr run`, datapath `tcx`.
    Tcx,
    /// `mcr run`, datapath `packet`.
    Packet,
    /// `mcr run`, and whatever datapath it takes by itself.
    Auto,
    /// Rules at netdev ingress that rewrite, duplicate and forward.
    Nftables,
    /// Kernel multicast forwarding; nothing is rewritten.
    Smcroute,
    /// A plain loop of `recvmmsg` and `sendmmsg`.
    Sockets,
    /// One `socat` for each output.
    Socat,
    /// An XDP program that redirects and does nothing else: the limit.
    Redirect,
}

impl Path {
    pub(crate) const ALL: [Path; 9] = [
        Self::Xdp,
        Self::Tcx,
        Self::Packet,
        Self::Auto,
        Self::Nftables,
        Self::Smcroute,
        Self::Sockets,
        Self::Socat,
        Self::Redirect,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
            Self::Packet => "packet",
            Self::Auto => "auto",
            Self::Nftables => "nftables",
            Self::Smcroute => "smcroute",
            Self::Sockets => "sockets",
            Self::Socat => "socat",
            Self::Redirect => "redirect",
        }
    }

    /// Whether its work is done where the packets come in, on the core that sends. Such a path holds up the generator rather than lose
    /// packets.
    pub(crate) fn is_in_kernel(self) -> bool {
        match self {
            Self::Xdp | Self::Tcx | Self::Auto | Self::Nftables | Self::Smcroute | Self::Redirect => true,
            Self::Packet | Self::Sockets | Self::Socat => false,
        }
    }

    /// Whether it is MCR.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Xdp | Self::Tcx | Self::Packet | Self::Auto)
    }

    pub(crate) fn goes_through_the_stack(self) -> bool {
        match self {
            Self::Smcroute | Self::Sockets | Self::Socat => true,
            Self::Xdp | Self::Tcx | Self::Packet | Self::Auto | Self::Nftables | Self::Redirect => false,
        }
    }

    /// Starts it in the relay's namespace, with this many relays installed; one of them gets the load, which comes and leaves
    /// as `families` say.
    ///
    /// # Errors
    /// Why it can't be measured here.
    pub(crate) fn start(
        self,
        net: &Topology,
        families: Families,
        outputs: usize,
        relays: usize,
    ) -> Result<Running, String> {
        let filter = if self.goes_through_the_stack() { "0" } else { "1" };
        for interface in ["all", "dev0"] {
            net.relay().sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), filter);
        }
        match self {
            Self::Xdp | Self::Tcx | Self::Packet | Self::Auto => {
                mcr::start(net, self.name(), families, outputs, relays)
            }
            Self::Nftables => nftables::start(net, families, outputs, relays),
            Self::Smcroute => rivals::smcroute(net, outputs),
            Self::Sockets => rivals::plain(net, families, outputs),
            Self::Socat => rivals::socat(net, outputs),
            Self::Redirect => Ok(redirect::start(net, outputs)),
        }
    }
}

/// A running path. Its parts end in this order.
#[derive(Default)]
pub(crate) struct Running {
    children: Children,
    folder: Option<TempDir>,
    /// What it has in the kernel.
    _rules: Option<nftables::Rules>,
    _program: Option<aya::Ebpf>,
    /// The datapath that serves the load, of MCR.
    pub(crate) served_by: Option<String>,
}

impl Running {
    fn of(children: Vec<Child>) -> Running {
        Running { children: Children(children), ..Running::default() }
    }

    /// CPU time of all its processes so far, in nanoseconds.
    pub(crate) fn cpu_nanoseconds(&self) -> u64 {
        self.processes().map(cpu::of_process).sum()
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.children.0.iter().map(Child::id)
    }

    /// A file of its own, if it has any.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.as_ref().expect("it was started with a folder").path().join(name)
    }

    /// The API's socket of MCR.
    pub(crate) fn socket(&self) -> PathBuf {
        self.file("mcr.sock")
    }

    fn has_ended(&mut self) -> bool {
        self.children.0.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

/// Programs that are told to end, and killed when they do not.
#[derive(Default)]
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        for child in &mut self.0 {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a program whose errors go to a file.
fn spawn(command: &mut Command, errors: Option<&FilePath>) -> Result<Child, String> {
    let errors = match errors {
        Some(file) => Stdio::from(std::fs::File::create(file).map_err(|error| format!("{}: {error}", file.display()))?),
        None => Stdio::null(),
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    command.spawn().map_err(|error| format!("{} can not be started: {error}", command.get_program().to_string_lossy()))
}
