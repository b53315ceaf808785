//! The `packet` datapath: frames come in through memory-mapped AF_PACKET rings and go out through
//! AF_PACKET sockets, rewritten, in batches and in segmented runs.
//!
//! ```text
//! ring ── input ── forward ── run ── transmit ── socket
//!  slots   whole    look up,   what     messages,
//!          frames   count      goes     errors by
//!                              as one   name
//! ```

mod eye;
mod fanout;
pub mod filter;
mod forward;
mod fragments;
mod input;
mod mailbox;
mod queues;
mod ring;
mod run;
mod socket;
mod transmit;
mod virtio;
mod wait;
mod wake;
mod worker;

pub use eye::{open_ear, open_eye, open_gaze};
pub use filter::FilterInstruction;
pub use queues::receive_queues;
pub use ring::RingGeometry;
pub use socket::{open_inputs, open_output, set_filter};
pub use transmit::TxSocket;
pub use worker::{InputWorkers, WorkerGone};
