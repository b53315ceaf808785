//! What network tests and benchmarks stand on: hosts of their own, cables between them, senders, receivers, and frames made by
//! hand.
//!
//! Everything is made by a constructor and goes with `Drop`, also after a panic; namespaces go even when the test is killed. Failure of the test bed itself is a panic that
//! says what could not be done, at the line of the test that asked for it; there are no errors to handle.
//!
//! A test reads as a story of hosts, cables and what arrives:
//!
//! ```no_run
//! use std::time::Duration;
//! use mcr_testbed::{Process, Receiver, Sender, Topology, program};
//!
//! let net = Topology::device_relay_lan(1);
//! let lan = net.lan(1);
//! let listener = Receiver::group(lan.host_side(), "239.2.2.2:6001");
//!
//! let mut command = net.relay().command(program("mcr"));
//! let mut relay = Process::start(command.args(["relay", "dev0:239.1.1.1:5001", "lan1:239.2.2.2:6001"]));
//! relay.wait_for_line("ready", Duration::from_secs(5));
//!
//! let sent = Sender::new(net.device(), "239.1.1.1:5001").datagrams_per_second(20_000).send(10_000);
//! let heard = listener.expect(&sent, Duration::from_secs(5));
//! assert!(heard.sources.iter().all(|source| *source.ip() == lan.relay_address()));
//! relay.terminate(Duration::from_secs(5));
//! ```
//!
//! Nothing here uses the product's own packet code, so that a test does not check that code against itself; of `mcr-wire` it
//! knows the words only, for the table of frames that all datapaths have to agree with ([`table`]).

mod capture;
mod deadline;
mod frame;
mod guard;
mod interface;
pub mod kernel;
mod memory_limit;
mod namespace;
pub mod payload;
mod pieces;
mod process;
mod pty;
mod raw;
mod receiver;
mod requirement;
mod sender;
mod service_manager;
mod socket;
pub mod table;
mod tap;
mod topology;
mod veth;

pub use capture::{Capture, CapturedPacket, NotACapture};
pub use deadline::{wait_for_state, wait_until};
pub use frame::{Checksum, ETHERNET_BYTES, Frame, Seen, Tag, UDP_BYTES};
pub use interface::{Interface, Mac, Offload, Switch};
pub use memory_limit::MemoryLimit;
pub use namespace::Namespace;
pub use pieces::put_together;
pub use process::{Process, Signal, program};
pub use pty::Pty;
pub use raw::{ChecksumStatus, OffloadingSender, RawReceiver, RawSender, Received};
pub use receiver::{Receiver, Tally};
pub use sender::{Sender, Sending, Sent};
pub use service_manager::ServiceManager;
pub use tap::Tap;
pub use topology::{DEVICE, DEVICE6, Lan, Topology};
pub use veth::{Bridge, Snooping, Veth};
