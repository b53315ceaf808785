//! `make bench`: MCR beside its rivals, in one run, interleaved, on this machine.

mod count;
mod generate;
mod measure;
mod path;
mod plain;
mod report;
mod scale;
mod socket;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::generate::Ingress;
use crate::measure::{Setup, Stand, latency, network};
use crate::path::Path;
use crate::report::{Report, Row, median};

/// Measures MCR beside socat and a plain receive/send loop, in namespaces of its own. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Times that everything is measured; medians and spread are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Less of everything, for a first look
    #[arg(long)]
    quick: bool,
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

const PATHS: [Path; 3] = [Path::Packet, Path::Sockets, Path::Socat];

fn main() {
    let args = Args::parse();
    if let Some(Part::PlainRelay { outputs }) = args.part {
        plain::relay(outputs);
    }
    let rounds = if args.quick { 1 } else { args.rounds.max(1) };
    let mut report = Report::new(rounds);
    for setup in setups(args.quick) {
        report.push(compare(setup, rounds, args.quick));
    }
    for path in PATHS {
        let net = network(1);
        let added: Vec<_> = (0..rounds).map(|_| latency(&net, path, 20_000, 20_000)).collect();
        report.latency(path, &added);
    }
    report.fan_out(fan_out(args.quick));
    report.scale(scale::scale());
    println!("{report}");
    if let Some(file) = args.json {
        std::fs::write(&file, report.json())
            .unwrap_or_else(|error| panic!("can not write {}: {error}", file.display()));
        println!("written to {}", file.display());
    }
}

/// Everything that is compared: each of these with every path.
fn setups(quick: bool) -> Vec<(Ingress, usize, usize)> {
    let mut setups = vec![(Ingress::Raw, 1, 1_250)];
    if !quick {
        setups.extend([
            (Ingress::Raw, 1, 64),
            (Ingress::Raw, 4, 1_250),
            (Ingress::Raw, 4, 64),
            (Ingress::Socket, 1, 1_250),
            (Ingress::Socket, 4, 1_250),
        ]);
    }
    setups
}

/// One setup for each path, rounds interleaved, so that whatever else the machine does hits all of them.
fn compare((ingress, outputs, payload_bytes): (Ingress, usize, usize), rounds: usize, quick: bool) -> Vec<Row> {
    let net = network(outputs);
    let (time, steps) = if quick { (Duration::from_millis(500), 3) } else { (Duration::from_secs(1), 4) };
    let mut rates = vec![Vec::new(); PATHS.len()];
    let mut costs = vec![Vec::new(); PATHS.len()];
    for round in 1..=rounds {
        for (i, path) in PATHS.into_iter().enumerate() {
            let setup = Setup { path, ingress, outputs, payload_bytes };
            let stand = Stand::start(&net, setup, time);
            let rate = stand.loss_free_rate(steps);
            rates[i].push(rate);
            costs[i].push(stand.cpu_per_packet((rate / 2.0) as u64));
            eprintln!(
                "round {round}/{rounds} {:8} {ingress:?} 1:{outputs} {payload_bytes} bytes: {:.0} pps",
                path.name(),
                rate
            );
        }
    }
    let rows = PATHS.into_iter().zip(rates).zip(costs);
    rows.map(|((path, rates), costs)| Row::new(path, ingress, outputs, payload_bytes, rates, costs)).collect()
}

/// The loss-free rate to one output, and whether four outputs lose nothing at 0.3 of it.
fn fan_out(quick: bool) -> (f64, bool) {
    let time = if quick { Duration::from_millis(500) } else { Duration::from_secs(2) };
    let net = network(4);
    let setup = |outputs| Setup { path: Path::Packet, ingress: Ingress::Raw, outputs, payload_bytes: 1_250 };
    let one = Stand::start(&net, setup(1), time).loss_free_rate(4);
    let four = Stand::start(&net, setup(4), time);
    let lossless: Vec<f64> = (0..3).map(|_| f64::from(u8::from(four.is_loss_free_at((one * 0.3) as u64)))).collect();
    (one, median(&lossless) > 0.5)
}
