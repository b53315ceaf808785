//! Test traffic.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::Output;

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
