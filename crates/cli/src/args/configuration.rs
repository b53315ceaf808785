//! Configurations: checked, put in force, taken back, made from those of others.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::{Daemon, Output};

/// `mcr check`
#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// The configuration file
    #[arg(required_unless_present = "access")]
    pub(crate) file: Option<PathBuf>,
    /// The keeper's policy: also tell which relays it forbids
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(crate) policy: Option<PathBuf>,
    /// The access file: also tell what is wrong with it, or with the certificates that it names
    #[arg(long, value_name = "FILE")]
    pub(crate) access: Option<PathBuf>,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr plan`
#[derive(Debug, ClapArgs)]
pub(crate) struct Plan {
    /// The configuration file
    pub(crate) file: PathBuf,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr apply`
#[derive(Debug, ClapArgs)]
pub(crate) struct Apply {
    /// The configuration file
    pub(crate) file: PathBuf,
    /// Only show what would change, as mcr plan
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go back by itself unless mcr confirm comes within this time
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, conflicts_with = "dry_run")]
    pub(crate) confirm: Option<Duration>,
    /// What mcr history says about it
    #[arg(long, value_name = "TEXT", conflicts_with = "dry_run")]
    pub(crate) note: Option<String>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr confirm`
#[derive(Debug, ClapArgs)]
pub(crate) struct Confirm {
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr history`
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct History {
    /// What of it.
    #[command(subcommand)]
    pub(crate) what: Option<HistoryOf>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What of the history is shown.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum HistoryOf {
    /// Print the text of one revision, as it was applied
    Show {
        /// Its number
        revision: u64,
    },
}

/// `mcr rollback`
#[derive(Debug, ClapArgs)]
pub(crate) struct Rollback {
    /// The revision to go back to; without it the one before
    pub(crate) revision: Option<u64>,
    /// Return by itself unless mcr confirm comes within this time
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) confirm: Option<Duration>,
    /// What mcr history says about it
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr import`
#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// A smcroute.conf
    #[arg(value_name = "FILE", required_unless_present = "socat", conflicts_with = "socat")]
    pub(crate) file: Option<PathBuf>,
    /// A UDP port that its routes carry; may repeat: a route names none
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ports: Vec<u16>,
    /// The two addresses of a socat line, in quotes; may repeat
    #[arg(long, value_name = "LINE", conflicts_with = "ports", allow_hyphen_values = true)]
    pub(crate) socat: Vec<String>,
    /// Where the socat line listens, when it does not name an interface
    #[arg(long, value_name = "INTERFACE", requires = "socat")]
    pub(crate) input: Option<String>,
    /// Where it sends
    #[arg(long, value_name = "INTERFACE", requires = "socat")]
    pub(crate) output: Option<String>,
}
