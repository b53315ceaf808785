//! The kernel boundary of MCR: AF_PACKET rings, filters and segmented sends.
//!
//! Only [`open_inputs`], [`open_output`], [`open_eye`], [`open_ear`] and [`open_gaze`] need a privilege; everything else works on descriptors
//! that somebody handed over.

pub mod clock;
pub mod counters;
pub mod packet;
pub mod table;

pub use packet::{
    FilterInstruction, InputWorkers, RingGeometry, TxSocket, WorkerGone, filter, open_ear, open_eye, open_gaze,
    open_inputs, open_output, receive_queues, set_filter,
};
pub use table::{InputTable, OutputAction, OutputEntry, RelayEntry};
