//! `make bench`: MCR beside its rivals, in one run, interleaved, on this machine.

mod check;
mod count;
mod cpu;
mod generate;
mod kernel;
mod latency;
mod live;
mod measure;
mod path;
mod plain;
mod receive;
mod report;
mod run;
mod scale;
mod series;
mod socket;
mod wire;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::path::Path;
use crate::run::{Extent, Plan};

/// Measures MCR's datapaths beside their rivals, in namespaces of its own. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Times that everything is measured; medians and spread are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Less of everything, for a first look
    #[arg(long)]
    quick: bool,
    /// Measure these paths alone
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    only: Vec<Path>,
    /// Also write the result there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the result there, as the documentation shows it: latest.json, latest.md, and charts
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Measure nothing: whether each path carries the bytes that it should
    Check,
    /// The plain relay itself, in a process of its own
    #[command(hide = true)]
    PlainRelay {
        /// How many LANs
        outputs: u8,
    },
}

fn main() {
    let args = Args::parse();
    match args.part {
        Some(Part::PlainRelay { outputs }) => plain::relay(outputs),
        Some(Part::Check) => check::check(&args.only),
        None => bench(&args),
    }
}

fn bench(args: &Args) {
    cpu::leave_the_generator_alone();
    let extent = if args.quick { Extent::Quick } else { Extent::Full };
    let report = run::run(&Plan::new(extent, usize::from(args.rounds), &args.only));
    println!("{report}");
    if let Some(file) = &args.json {
        std::fs::write(file, report.json()).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
    if let Some(folder) = &args.docs {
        report.write_docs(folder).unwrap_or_else(|error| panic!("cannot write to {}: {error}", folder.display()));
    }
}
