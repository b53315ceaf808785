//! The `packet` datapath: frames come in through memory-mapped AF_PACKET rings and go out through
//! AF_PACKET sockets, rewritten, in batches and in segmented runs.

pub mod filter;
mod ring;
mod socket;
mod virtio;

pub use filter::FilterInstruction;
pub use ring::RingGeometry;
pub use socket::{open_input, open_output, set_filter};
