//! What was typed. Help and completions come from here; what it means is decided in [`crate::verbs`].

mod access;
mod configuration;
mod diagnosis;
mod relay;
mod service;
mod traffic;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use mcr_model::DatapathChoice;

pub(crate) use access::{ContextSet, ContextVerb, TokenCreate, TokenList, TokenRevoke, TokenVerb};
pub(crate) use configuration::{Apply, Check, Confirm, History, HistoryOf, Import, Plan, Rollback};
pub(crate) use diagnosis::{Discover, Doctor, Explain};
pub(crate) use relay::{Add, Caps, List, Relay, Rm, Scope, Show, Stats, Step, Top, Wait, Watch};
pub(crate) use service::{Debugging, Events, LogFormat, Rejoin, Run, Status};
pub(crate) use traffic::{Listen, Send};

const EXAMPLES: &str = "\
Endpoints are INTERFACE:[SOURCE@]ADDRESS:PORT, with options after commas:
  eth0:239.1.1.1:5001                      a group
  eth0:192.168.168.55@239.1.1.1:5001       only from this source
  eth0:239.1.0.0/24:5000-5010              a prefix of groups, a range of ports
  eth0:[ff15::1]:5001                      IPv6
  eth1:239.2.2.2:6001,ttl=8,source=10.0.0.9,source-port=6000,dscp=34,vlan=100,outer-vlan=7

Examples:
  mcr relay eth0:239.1.1.1:5001 eth1:239.2.2.2:6001     one relay, until Ctrl-C
  mcr run --config /etc/mcr/mcr.toml                    the daemon
  mcr add camera-3 --from eth0:239.1.1.1:5001 --to eth1:239.2.2.2:6001
  mcr wait camera-3 --for first-packet --timeout 5s

Exit code: 0 done, 1 failed, 2 wrong usage.";

/// Relay UDP multicast from devices with unroutable addresses to the networks that want it.
#[derive(Debug, Parser)]
#[command(name = "mcr", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run one relay in the foreground, without a daemon, until Ctrl-C
    Relay(Relay),
    /// Run the daemon
    Run(Run),
    /// Add a relay to the running daemon
    Add(Add),
    /// Remove relays from the running daemon
    Rm(Rm),
    /// Show one relay: its state, why, and what to do
    Show(Show),
    /// List all relays
    List(List),
    /// Show packets, rates and drops by reason
    Stats(Stats),
    /// Show all relays live, in the whole terminal
    Top(Top),
    /// Show the daemon as a whole, and what is wrong with it
    Status(Status),
    /// Wait until a relay is ready, has seen packets, or is silent
    Wait(Wait),
    /// Make, list and revoke tokens for the API on the network
    #[command(subcommand)]
    Token(TokenVerb),
    /// Name daemons on the network, and choose one
    #[command(subcommand)]
    Context(ContextVerb),
    /// Show what happened, or what happens
    Events(Events),
    /// Check a configuration file; needs no daemon
    Check(Check),
    /// Show what a configuration file would change
    Plan(Plan),
    /// Make a configuration file the one in force: all of it or nothing
    Apply(Apply),
    /// Keep the configuration that is on trial
    Confirm(Confirm),
    /// List the configurations that were in force, or show one
    History(History),
    /// Put an earlier configuration in force again
    Rollback(Rollback),
    /// Print the configuration that does what a smcroute.conf or a socat line does
    Import(Import),
    /// Say why a packet does not arrive: follow its way and name what is wrong; changes nothing
    Explain(Explain),
    /// Look at this host as a whole: what it lacks, and what is set so that multicast gets lost
    Doctor(Doctor),
    /// Show what multicast is on the wire, joined or not, and what it is
    Discover(Discover),
    /// Report the groups of relays to switches and routers once more
    Rejoin(Rejoin),
    /// Send test traffic from an ordinary socket
    Send(Send),
    /// Receive with an ordinary socket and count what is lost, duplicate, reordered or corrupt
    Listen(Listen),
    /// Print completions for a shell
    Completions(Completions),
}

/// Which daemon to talk to, and what to show it.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Daemon")]
pub(crate) struct Daemon {
    /// The daemon's socket on this host [env: MCR_SOCKET] [default: /run/mcr/mcr.sock]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["server", "context"])]
    pub(crate) socket: Option<PathBuf>,
    /// A daemon on the network
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "context",
        help = "A daemon on the network, as https://relay.example.net:7443 [env: MCR_SERVER]"
    )]
    pub(crate) server: Option<String>,
    /// A daemon of `mcr context list` [env: MCR_CONTEXT]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// A token for it; other users of this host can see what is typed, so rather use a file [env: MCR_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// A file with the token [env: MCR_TOKEN_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// The authorities that its certificate may be signed by [env: MCR_CACERT] [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// A client certificate [env: MCR_CERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key [env: MCR_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Where the daemon's API is unless somebody says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/mcr/mcr.sock";

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// The choice of how the result is written.
#[derive(Debug, ClapArgs)]
pub(crate) struct Output {
    /// How to write the result
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

fn datapath(text: &str) -> Result<DatapathChoice, String> {
    text.parse().map_err(|error| format!("{error}; {}", DatapathChoice::WANTED))
}

/// `mcr completions`
#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
