//! What a multicast flow is: bytes in, kind out. No IO, no clock, and no panic on any bytes.
//!
//! [`Flows`] sorts frames into flows; a [`Recogniser`] says of the payloads of one flow what they are. Protocols that name
//! themselves are told by one datagram ([`message`]); RTP and MPEG-TS, which hardly do, by several that agree.

#![forbid(unsafe_code)]

mod announcement;
mod bytes;
mod flow;
mod kind;
mod maker;
pub mod message;
pub mod mpeg_ts;
mod recent;
mod report;
pub mod rtp;

pub use announcement::{Announcement, Stream};
pub use flow::{Flow, Flows, Key};
pub use kind::{Kind, Recogniser};
pub use maker::maker;
pub use report::Look;
