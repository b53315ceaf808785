//! `mcr top`: a live view that fills the terminal.
//!
//! [`board`] is what is known and what was pressed, without IO and without a clock; [`draw`] is the one way from there to
//! the screen. [`watch`] asks the daemon. The verb puts them together.

pub(crate) mod board;
pub(crate) mod draw;
mod order;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
