//! What network tests and benchmarks stand on: hosts of their own, cables between them, senders, receivers, and frames made by
//! hand.
//!
//! Everything is made by a constructor and goes with `Drop`, also after a panic. Failure of the test bed itself is a panic that
//! says what could not be done, at the line of the test that asked for it; there are no errors to handle.
//!
//! Nothing here uses the product's own packet code, so that a test does not check that code against itself.

mod interface;
mod namespace;
mod requirement;
mod topology;
mod veth;

pub use interface::{Interface, Mac, Offload, Switch};
pub use namespace::Namespace;
pub use topology::{DEVICE, Lan, Topology};
pub use veth::{Bridge, Snooping, Veth};
