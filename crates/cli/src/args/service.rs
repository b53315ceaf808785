//! The daemon itself.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use mcr_confine::Confinement;
use mcr_model::DatapathChoice;

use super::{DEFAULT_SOCKET, Daemon, Output, datapath};

/// `mcr run`
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// The relays to start with; without it /etc/mcr/mcr.toml, if there is one
    #[arg(long, short, value_name = "FILE", env = "MCR_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Who may use the API, and where it listens on the network; without it /etc/mcr/access.toml, if there is one
    #[arg(long, value_name = "FILE", env = "MCR_ACCESS", hide_env_values = true)]
    pub(crate) access: Option<PathBuf>,
    /// The socket that the API listens on
    #[arg(long, value_name = "PATH", env = "MCR_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    /// The keeper's socket; a keeper is started when none listens there
    #[arg(long, value_name = "PATH", env = "MCR_KEEPER_SOCKET", hide_env_values = true)]
    #[arg(default_value = "/run/mcr/netd.sock")]
    pub(crate) keeper_socket: PathBuf,
    /// The keeper to start, when it is not beside mcr or in the PATH
    #[arg(long, value_name = "PROGRAM", env = "MCR_NETD", hide_env_values = true)]
    pub(crate) keeper: Option<PathBuf>,
    /// Where to keep what outlives the daemon [default: /var/lib/mcr; with a socket of its own, beside that]
    #[arg(long, value_name = "FOLDER", env = "MCR_STATE_DIR", hide_env_values = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// What moves the packets of relays that do not say: auto, xdp, tcx or packet
    #[arg(long, value_name = "DATAPATH", value_parser = datapath, default_value_t)]
    pub(crate) datapath: DatapathChoice,
    /// Remove what a daemon or keeper that was killed left in the kernel, and end
    #[arg(long)]
    pub(crate) clean: bool,
    /// The user to become once the keeper is reached
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Threads of the packet datapath for each input, 16 at most [default: its receive queues, at most the processors]
    #[arg(long, value_name = "COUNT", env = "MCR_WORKERS", hide_env_values = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) workers: Option<u8>,
    /// How to write the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What to log, for example info, debug or mcr_engine=debug
    #[arg(long, value_name = "FILTER", env = "MCR_LOG", hide_env_values = true, default_value = "info")]
    pub(crate) log: String,
    /// Whether it is confined.
    #[command(flatten)]
    pub(crate) debugging: Debugging,
}

/// How the daemon writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people and journald
    Text,
    /// One JSON object per line
    Json,
}

/// What a process keeps that is to be looked into.
#[derive(Debug, ClapArgs)]
pub(crate) struct Debugging {
    /// Keep system calls and files that are not needed (no seccomp, no Landlock), for debugging only
    #[arg(long, env = mcr_confine::UNCONFINED_VARIABLE, hide_env_values = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    unconfined: bool,
}

impl Debugging {
    pub(crate) fn confinement(&self) -> Confinement {
        Confinement::unless(self.unconfined)
    }
}

/// `mcr status`
#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr events`
#[derive(Debug, ClapArgs)]
pub(crate) struct Events {
    /// Go on with what happens, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only what came after the event of this id
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written; json is one line for each event
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr rejoin`
#[derive(Debug, ClapArgs)]
pub(crate) struct Rejoin {
    /// Only those of this relay, or of the relays that listen on this interface
    #[arg(value_name = "NAME|INTERFACE")]
    pub(crate) name: Option<String>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}
