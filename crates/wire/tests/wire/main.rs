//! The wire crate from outside: its verdicts on frames that other code made, and what other code reads of its own.

mod frames;
mod ipv6;
mod rewrite;
mod split;
mod table;
mod verdicts;
