//! The binary as a person or a script meets it, against a daemon that gives fixed answers.

mod check;
mod daemon;
mod errors;
mod help;
mod import;
mod mcr;
mod relays;
mod traffic;
mod units;
