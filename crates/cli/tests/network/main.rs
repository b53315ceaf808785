//! What users rely on, through the real binaries, in network namespaces, asserted at the receiver. Needs root.

mod bad_input;
mod captures;
mod foreground;
mod frames;
mod interfaces;
mod main_job;
mod membership;
mod players;
mod remote;
mod service;
mod store;
mod traffic;
