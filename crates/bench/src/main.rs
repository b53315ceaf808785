//! `make bench`: MCR beside its rivals, in one run, interleaved, on this machine.

mod count;
mod cpu;
mod generate;
mod latency;
mod measure;
mod path;
mod plain;
mod report;
mod run;
mod scale;
mod socket;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::path::Path;
use crate::run::{Extent, Plan};

/// Measures MCR beside socat and a plain receive/send loop, in namespaces of its own. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Times that everything is measured; medians and spread are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Less of everything, for a first look
    #[arg(long)]
    quick: bool,
    /// Measure this path alone
    #[arg(long, value_name = "PATH")]
    only: Option<Path>,
    /// Also write the result there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The plain relay itself, in a process of its own
    #[command(hide = true)]
    PlainRelay {
        /// How many LANs
        outputs: u8,
    },
}

fn main() {
    let args = Args::parse();
    if let Some(Part::PlainRelay { outputs }) = args.part {
        plain::relay(outputs);
    }
    let extent = if args.quick { Extent::Quick } else { Extent::Full };
    let report = run::run(&Plan::new(extent, usize::from(args.rounds), args.only));
    println!("{report}");
    if let Some(file) = args.json {
        std::fs::write(&file, report.json()).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        println!("written to {}", file.display());
    }
}
