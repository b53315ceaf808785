//! What network tests and benchmarks stand on: hosts of their own, cables between them, senders, receivers, and frames made by
//! hand.
//!
//! Everything is made by a constructor and goes with `Drop`, also after a panic. Failure of the test bed itself is a panic that
//! says what could not be done, at the line of the test that asked for it; there are no errors to handle.
//!
//! Nothing here uses the product's own packet code, so that a test does not check that code against itself.

mod capture;
mod deadline;
mod frame;
mod interface;
pub mod kernel;
mod namespace;
pub mod payload;
mod process;
mod raw;
mod receiver;
mod requirement;
mod sender;
mod socket;
mod topology;
mod veth;

pub use capture::{Capture, CapturedPacket, NotACapture};
pub use deadline::{wait_for_state, wait_until};
pub use frame::{Checksum, ETHERNET_BYTES, Frame, Seen, Tag, UDP_BYTES};
pub use interface::{Interface, Mac, Offload, Switch};
pub use namespace::Namespace;
pub use process::{Process, Signal, program};
pub use raw::{ChecksumStatus, RawReceiver, RawSender, Received};
pub use receiver::{Receiver, Tally};
pub use sender::{Sender, Sending, Sent};
pub use topology::{DEVICE, Lan, Topology};
pub use veth::{Bridge, Snooping, Veth};
