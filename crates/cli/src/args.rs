//! What was typed. Help and completions come from here; what it means is decided in [`crate::verbs`].

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use mcr_confine::Confinement;
use mcr_model::Prefix;
use mcr_model::{DatapathChoice, InterfaceName, Lease, RelayName, WaitFor};

const EXAMPLES: &str = "\
Endpoints are INTERFACE:[SOURCE@]ADDRESS:PORT, with options after commas:
  eth0:239.1.1.1:5001                      a group
  eth0:192.168.168.55@239.1.1.1:5001       only from this source
  eth0:239.1.0.0/24:5000-5010              a prefix of groups, a range of ports
  eth0:[ff3e::1]:5001                      IPv6
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

/// The special addresses and ports that a relay may carry when it says so.
#[derive(Debug, ClapArgs)]
pub(crate) struct Scope {
    /// Allow 224.0.0.0/24, the link-local groups that no router forwards
    #[arg(long)]
    pub(crate) link_local: bool,
    /// Allow 255.255.255.255 as an input, which every host of the network takes, this one included
    #[arg(long)]
    pub(crate) broadcast: bool,
    /// Allow ports 319 and 320, although a relay falsifies the clock of PTP
    #[arg(long)]
    pub(crate) allow_ptp: bool,
}

/// How much a relay takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Caps {
    /// Drop what comes faster than so many packets a second, for example 500 or 10k
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) max_packets_per_second: Option<i64>,
    /// Drop what comes faster than this bit rate, for example 500k or 5M
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) max_bits_per_second: Option<i64>,
}

fn datapath(text: &str) -> Result<DatapathChoice, String> {
    text.parse().map_err(|error| format!("{error}; {}", DatapathChoice::WANTED))
}

/// `mcr relay`
#[derive(Debug, ClapArgs)]
pub(crate) struct Relay {
    /// Where to listen, for example eth0:239.1.1.1:5001
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Where the copies go, for example eth1:239.2.2.2:6001,ttl=8
    #[arg(value_name = "TO", required = true)]
    pub(crate) to: Vec<String>,
    /// What moves the packets: auto, xdp, tcx or packet [default: auto]
    #[arg(long, value_name = "DATAPATH", value_parser = datapath)]
    pub(crate) datapath: Option<DatapathChoice>,
    /// What it may carry.
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// How much it takes.
    #[command(flatten)]
    pub(crate) caps: Caps,
    /// The keeper to start, when it is not beside mcr or in the PATH
    #[arg(long, value_name = "PROGRAM", env = "MCR_NETD", hide_env_values = true)]
    pub(crate) keeper: Option<PathBuf>,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
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

/// `mcr add`
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit code: 0 also when the relay is pending (it starts by itself), 1 when it is refused or has failed."
)]
pub(crate) struct Add {
    /// The new relay's name
    pub(crate) name: RelayName,
    /// Where it listens, for example eth0:239.1.1.1:5001
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) from: String,
    /// Where a copy goes, for example eth1:239.2.2.2:6001,ttl=8; may repeat
    #[arg(long, value_name = "ENDPOINT", required = true)]
    pub(crate) to: Vec<String>,
    /// What moves the packets: auto, xdp, tcx or packet [default: auto]
    #[arg(long, value_name = "DATAPATH", value_parser = datapath)]
    pub(crate) datapath: Option<DatapathChoice>,
    /// What it may carry.
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// How much it takes.
    #[command(flatten)]
    pub(crate) caps: Caps,
    /// Replace a relay of this name, if there is one
    #[arg(long)]
    pub(crate) replace: bool,
    /// Let the relay go when nobody has renewed it for so long, 1s to 24h
    #[arg(long, value_name = "TIME")]
    pub(crate) lease: Option<Lease>,
    /// Go on renewing the lease; the relay goes with this command
    #[arg(long, requires = "lease")]
    pub(crate) hold: bool,
    /// What is expected of its flow.
    #[command(flatten)]
    pub(crate) watch: Watch,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What is expected of a relay's flow.
#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    /// Call the flow silent after so long without a packet [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub(crate) silent_after: Option<String>,
    /// Call the relay degraded below this bit rate, for example 500k or 5M
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) expect_min: Option<i64>,
    /// Call the relay degraded above this bit rate
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) expect_max: Option<i64>,
    /// Take the relay out of force for a while when more packets per second than this come: a loop, most likely
    #[arg(long, value_name = "PPS")]
    pub(crate) breaker: Option<i64>,
}

/// `mcr rm`
#[derive(Debug, ClapArgs)]
pub(crate) struct Rm {
    /// The relays to remove
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<RelayName>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr show`
#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    /// The relay
    pub(crate) name: RelayName,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr list`
#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr stats`
#[derive(Debug, ClapArgs)]
pub(crate) struct Stats {
    /// Only this relay
    pub(crate) name: Option<RelayName>,
    /// Show it again and again until Ctrl-C; json is one line each time
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// How long between two looks
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, default_value = "1s", requires = "watch")]
    pub(crate) interval: Duration,
    /// Show what the relay carried in the last hour or day
    #[arg(long, requires = "name", conflicts_with = "watch")]
    pub(crate) history: bool,
    /// By the second (the last hour) or by the minute (the last day)
    #[arg(long, value_enum, value_name = "STEP", default_value_t = Step::Second, requires = "history")]
    pub(crate) step: Step,
    /// Of which time [default: the last 60 steps]
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, requires = "history")]
    pub(crate) last: Option<Duration>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
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

/// The step of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// By the second
    #[value(name = "1s")]
    Second,
    /// By the minute
    #[value(name = "1m")]
    Minute,
}

/// `mcr top`
#[derive(Debug, ClapArgs)]
pub(crate) struct Top {
    /// How long between two looks; longer over a slow line
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, default_value = "1s")]
    pub(crate) interval: Duration,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `mcr wait`
#[derive(Debug, ClapArgs)]
pub(crate) struct Wait {
    /// The relay
    pub(crate) name: RelayName,
    /// What to wait for: ready (a packet that is sent from now on is relayed), first-packet, packets:N or silent
    #[arg(long = "for", value_name = "WHAT", default_value_t = WaitFor::Ready)]
    pub(crate) until: WaitFor,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, default_value = "5s")]
    pub(crate) timeout: Duration,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr token`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token; it is printed once and kept nowhere
    Create(TokenCreate),
    /// List the tokens that have not expired or been revoked
    List(TokenList),
    /// Revoke tokens, at once
    Revoke(TokenRevoke),
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look at relays, interfaces and metrics
    Viewer,
    /// Make, change and remove relays, too
    Operator,
    /// Everything: configurations and tokens, too
    Admin,
}

impl From<Role> for mcr_model::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

/// `mcr token create`
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenCreate {
    /// What it allows
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// The only interfaces that its relays may be on, for example eth1,eth2 [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) interfaces: Vec<String>,
    /// The only addresses that its relays may take from and send to, for example 239.2.0.0/16 [default: all]
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    pub(crate) groups: Vec<String>,
    /// How long it lasts
    #[arg(long, value_name = "TIME", default_value = mcr_model::token::DEFAULT_LIFETIME)]
    pub(crate) expires: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `mcr token list`
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenList {
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `mcr token revoke`
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenRevoke {
    /// The tokens to revoke
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `mcr context`
#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    /// List the contexts; * marks the one in use
    List,
    /// Make a context, or make it anew
    Set(ContextSet),
    /// Talk to this one unless something else is said
    Use {
        /// The context
        name: String,
    },
    /// Talk to the daemon of this host again unless something else is said
    None,
    /// Remove a context
    Rm {
        /// The context
        name: String,
    },
}

/// `mcr context set`
#[derive(Debug, ClapArgs)]
pub(crate) struct ContextSet {
    /// Its name
    pub(crate) name: String,
    /// The daemon
    #[arg(long, value_name = "URL", help = "The daemon, as https://relay.example.net:7443")]
    pub(crate) server: String,
    /// The authorities that its certificate may be signed by [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// A token for it, which is kept in a file of its own
    #[arg(long, value_name = "TOKEN", env = "MCR_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// A client certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
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

/// `mcr send`
#[derive(Debug, ClapArgs)]
pub(crate) struct Send {
    /// Where to send, for example eth0:239.1.1.1:5001, eth0:239.1.1.1:5001,ttl=8,dscp=34, or eth0:239.1.1.1+100:5001 for
    /// a hundred groups; with --pcap also an interface alone
    #[arg(value_name = "ENDPOINT")]
    pub(crate) to: String,
    /// Packets per second to each group, for example 50 or 10k; max sends as fast as it can
    #[arg(long, value_name = "PPS", default_value = "100", conflicts_with = "pcap")]
    pub(crate) rate: String,
    /// How many packets to each group; without it until Ctrl-C
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Payload bytes, or a range to vary within, for example 1250 or 32-1400
    #[arg(long, value_name = "BYTES", default_value = "1250", conflicts_with = "pcap")]
    pub(crate) size: String,
    /// What is behind the header of a test packet: random, zero, counter or text:WORDS
    #[arg(long, value_name = "PATTERN", default_value = "random", conflicts_with = "pcap")]
    pub(crate) pattern: String,
    /// Send the UDP datagrams to groups of a capture (pcap or pcapng) again, with their timing
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
    /// How much faster than they came, for example 2 or 0.5; max sends without pauses
    #[arg(long, value_name = "FACTOR", default_value = "1", requires = "pcap")]
    pub(crate) speed: String,
    /// How often the capture is sent; 0: until Ctrl-C
    #[arg(long = "loop", value_name = "N", default_value_t = 1, requires = "pcap")]
    pub(crate) times: u64,
    /// Send what went to one group to another, as 239.1.1.1=239.2.2.2 or 239.1.1.1:5001=239.2.2.2:6001; may repeat
    #[arg(long, value_name = "FROM=TO", requires = "pcap")]
    pub(crate) map: Vec<String>,
    /// Send the captured frames as they are, with their own addresses, as root
    #[arg(long, requires = "pcap", conflicts_with_all = ["map", "ttl", "source"])]
    pub(crate) raw: bool,
    /// Time to live [default: 16]
    #[arg(long, value_parser = clap::value_parser!(i64))]
    pub(crate) ttl: Option<i64>,
    /// The source address; as root also one that this host does not have, to play a device
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<String>,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr listen`
#[derive(Debug, ClapArgs)]
pub(crate) struct Listen {
    /// Where to listen, for example eth1:239.2.2.2:6001, eth1:10.0.0.9@239.2.2.2:6001, or eth1:239.2.2.1+100:6001 for a
    /// hundred groups
    #[arg(value_name = "ENDPOINT", required = true)]
    pub(crate) from: Vec<String>,
    /// End after so many packets in all (duplicates not counted); fewer is a failure
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// End when nothing has arrived for this time
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `mcr completions`
#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
