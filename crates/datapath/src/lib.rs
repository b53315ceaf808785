//! The kernel boundary of MCR: AF_PACKET rings, filters and segmented sends.

pub mod packet;

pub use packet::{FilterInstruction, RingGeometry, filter, open_input, open_output, set_filter};
