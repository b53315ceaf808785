//! What is on the wire, and what is wrong.

use std::time::Duration;

use clap::Args as ClapArgs;
use mcr_model::{InterfaceName, Prefix};

use super::{Daemon, Output};

/// `mcr explain`
#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// Where packets should arrive, for example eth0:239.1.1.1:5001, or the name of a relay
    #[arg(value_name = "ENDPOINT|RELAY")]
    pub(crate) of: String,
    /// How long to look at the wire; longer for packets that come rarely
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, default_value = "1s")]
    pub(crate) look: Duration,
    /// Routers between an output and its receivers, to compare with the output's ttl
    #[arg(long, value_name = "N")]
    pub(crate) hops: Option<u8>,
    /// Join the group while looking, so that a switch sends it here
    #[arg(long)]
    pub(crate) join: bool,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// How long to listen for membership queries
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, default_value = "1s")]
    pub(crate) look: Duration,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr discover`
#[derive(Debug, ClapArgs)]
pub(crate) struct Discover {
    /// The interfaces to look at [default: all that are up]
    #[arg(value_name = "INTERFACE")]
    pub(crate) interfaces: Vec<String>,
    /// How long to look [default: on a terminal until Ctrl-C, else 10s]
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// Show only flows to these groups, for example 239.1.0.0/16
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    pub(crate) groups: Vec<Prefix>,
    /// Join these groups while looking, 1024 at most, so that a switch sends them here
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    pub(crate) probe_groups: Vec<Prefix>,
    /// Print a configuration that relays what was seen to this interface
    #[arg(long, value_name = "INTERFACE", conflicts_with = "format")]
    pub(crate) to: Option<InterfaceName>,
    /// Which daemon looks, where this process may not.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}
