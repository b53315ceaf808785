//! `mcr-netd`: the keeper as a program.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mcr_confine::Confinement;
use mcr_netd::{DEFAULT_SOCKET_PATH, Door, PolicyChoice, ServeError, ServeOptions, WhenReleased, memory, serve};

/// The privileged keeper of MCR: opens packet sockets, joins groups and keeps neighbours for the
/// daemon, and holds them while the daemon restarts.
///
/// It works with CAP_NET_RAW and CAP_NET_ADMIN, and CAP_BPF and CAP_PERFMON where it has them, and gives up every other capability at start.
#[derive(Debug, Parser)]
#[command(name = "mcr-netd", version)]
struct Arguments {
    /// Listen on this socket [default: /run/mcr/netd.sock, unless --fd is given]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Serve the connection inherited as this descriptor; without --socket, end with it
    #[arg(long, value_name = "NUMBER")]
    fd: Option<RawFd>,

    /// Read the policy from this file, and again at SIGHUP [default: /etc/mcr/policy.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Allow this interface as an input, instead of what the policy says; `*` and `?` are wildcards; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_input: Vec<String>,

    /// Allow this interface as an output, instead of what the policy says; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_output: Vec<String>,

    /// Let this user run the daemon, besides root
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Let the in-kernel datapath outlive the keeper in the BPF file system that is mounted there
    #[arg(long, value_name = "PATH", default_value = mcr_netd::BPFFS)]
    bpffs: PathBuf,

    /// End when the daemon has released everything
    #[arg(long)]
    end_on_release: bool,

    /// Keep system calls and files that are not needed (no seccomp, no Landlock), for debugging only
    #[arg(long, env = mcr_confine::UNCONFINED_VARIABLE, hide_env_values = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    unconfined: bool,
}

fn main() -> ExitCode {
    memory::keep_one_arena();
    let arguments = Arguments::parse();
    let is_told = arguments.fd.is_some();
    match serve(options(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who handed over a connection was told through it, and says so itself.
            if !is_told || matches!(error, ServeError::Descriptor { .. }) {
                eprintln!("mcr-netd: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: Arguments) -> ServeOptions {
    let Arguments { socket, fd, policy, allow_input, allow_output, user, bpffs, end_on_release, unconfined } =
        arguments;
    let door = match (socket, fd) {
        (None, None) => Door::Listening(PathBuf::from(DEFAULT_SOCKET_PATH)),
        (Some(path), None) => Door::Listening(path),
        (None, Some(fd)) => Door::Inherited(fd),
        (Some(path), Some(fd)) => Door::ListeningWithFirst(path, fd),
    };
    ServeOptions {
        door,
        policy: PolicyChoice { file: policy, inputs: allow_input, outputs: allow_output },
        user,
        bpffs,
        when_released: if end_on_release { WhenReleased::End } else { WhenReleased::Stay },
        confinement: Confinement::unless(unconfined),
    }
}
