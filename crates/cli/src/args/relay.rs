//! Relays: making them, looking at them, waiting for them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use mcr_model::{DatapathChoice, Lease, RelayName, WaitFor};

use super::{Daemon, Debugging, Output, datapath};

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
    /// When its groups are joined, and what is expected of its flow.
    #[command(flatten)]
    pub(crate) watch: Watch,
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
    /// When its groups are joined, and what is expected of its flow.
    #[command(flatten)]
    pub(crate) watch: Watch,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
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

/// When the groups of a relay are joined, and what is expected of its flow.
#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    /// Join the input's groups only while a receiver wants what the outputs send
    #[arg(long)]
    pub(crate) on_demand: bool,
    /// Which groups of a range to join: all, or those that are seen on the input [default: all]
    #[arg(long, value_name = "WHICH")]
    pub(crate) join: Option<String>,
    /// Call the flow silent after so long without a packet [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub(crate) silent_after: Option<String>,
    /// Call the relay degraded below this bit rate, for example 500k or 5M
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) expect_min: Option<i64>,
    /// Call the relay degraded above this bit rate
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) expect_max: Option<i64>,
    /// Take the relay out of force for a while when more packets per second than this come, for example 50k: a loop, most likely
    #[arg(long, value_name = "RATE", value_parser = crate::rate::parse)]
    pub(crate) breaker: Option<i64>,
    /// Put it back in force after so long, 1s to 24h [default: 10s]
    #[arg(long, value_name = "TIME", requires = "breaker")]
    pub(crate) recover_after: Option<String>,
    /// Warn when nobody has asked for memberships on the input's network for so long, 1s to 24h [default: 260s]
    #[arg(long, value_name = "TIME")]
    pub(crate) querier_timeout: Option<String>,
    /// Ask for memberships on the input's network, unless another with a lower address does
    #[arg(long)]
    pub(crate) own_querier: bool,
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
