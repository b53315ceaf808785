//! `make bench`: MCR beside its rivals, in one run, interleaved, on this machine.

mod check;
mod clients;
mod cpu;
mod families;
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
use std::time::Duration;

use clap::{Parser, Subcommand};
use mcr_testbed::{Switch, Topology};

use crate::families::Families;
use crate::generate::Ingress;
use crate::measure::{Setup, Stand};
use crate::path::Path;
use crate::run::{Extent, Plan};
use crate::wire::Wire;

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
    /// How long fifty clients at once wait for a relay that they make
    Clients,
    /// Put one path under a load that it carries, or as much as the core can send, to be looked at with `perf`
    Load {
        /// Which
        path: Path,
        /// How many LANs
        #[arg(default_value_t = 1)]
        outputs: usize,
        /// For how long
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Packets per second
        #[arg(long)]
        rate: Option<u32>,
        /// The relay's input gathers
        #[arg(long)]
        coalesce: bool,
        /// What it comes and leaves as
        #[arg(long, default_value = "ipv4")]
        families: Families,
    },
    /// The plain relay itself, in a process of its own
    #[command(hide = true)]
    PlainRelay {
        /// How many LANs
        outputs: u8,
        /// What it comes and leaves as
        families: Families,
    },
}

fn main() {
    let args = Args::parse();
    match args.part {
        Some(Part::PlainRelay { outputs, families }) => plain::relay(outputs, families),
        Some(Part::Check) => check::check(&args.only),
        Some(Part::Clients) => {
            let clients = clients::clients(&Topology::device_relay_lan(1)).expect("MCR starts");
            println!("with a lease: {}\nstored:       {}", clients.lent, clients.stored);
            println!("one write to the disk alone: p99 {:.1} ms", scale::disk());
        }
        Some(Part::Load { path, outputs, seconds, rate, coalesce, families }) => {
            let coalesce = if coalesce { Switch::On } else { Switch::Off };
            let setup = Setup { coalesce, families, ..Setup::plain(path, Ingress::Raw, outputs, 1_250) };
            load(setup, Duration::from_secs(seconds), rate);
        }
        None => bench(&args),
    }
}

fn load(setup: Setup, time: Duration, rate: Option<u32>) {
    cpu::leave_the_generator_alone();
    let mut wire = Wire::new(setup.outputs);
    let mut stand = Stand::start(&mut wire, setup).unwrap_or_else(|why| panic!("{}: {why}", setup.path.name()));
    println!("{}", stand.trial(rate.map_or(measure::FLAT_OUT, f64::from), time));
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
