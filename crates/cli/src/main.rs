//! `mcr`: everything that a person or a script runs.
//!
//! [`args`] is what was typed; each file of [`verbs`] turns its part into what it means and does it. Results go to
//! stdout, everything else to stderr. Exit 0: done; 1: failed; 2: wrong usage.

mod args;
mod client;
mod discover;
mod duration;
mod failure;
mod import;
mod interrupt;
mod rate;
mod top;
mod traffic;
mod verbs;
mod view;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match verbs::run(args.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
