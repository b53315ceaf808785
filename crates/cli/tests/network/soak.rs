//! A long run with faults all the while: the ledger balances to the packet, and nothing grows.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mcr_testbed::{DEVICE, Topology};

use crate::api::Api;
use crate::reload::memory_kib;
use crate::service::{SOON, Service};
use crate::traffic::{Series, send_while};

/// Memory and descriptors are what they are by then.
const WARM_UP: Duration = Duration::from_secs(120);
/// How long it may take until there have been more events than are kept.
const FILLING: Duration = Duration::from_secs(600);
/// What memory may grow by in an hour, in KiB.
const SLOPE_KIB: f64 = 1_024.0;
const SERIES: Series = Series { count: u64::MAX, smallest: 60, largest: 1_400 };

/// A look at the daemon.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    memory_kib: u64,
    descriptors: usize,
}

fn sample(begun: Instant, service: &Service) -> Sample {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", service.pid())).expect("a living daemon").count();
    Sample { at: begun.elapsed(), memory_kib: memory_kib(service.pid()), descriptors }
}

/// One fault after the other: interfaces, addresses, relays, the file.
fn fault(net: &Topology, service: &Service, number: u64) {
    match number % 6 {
        0 => {
            net.lan(1).relay_side().down();
            net.lan(1).relay_side().up();
        }
        1 => net.lan(2).relay_side().add_address("10.0.2.77/24"),
        2 => net.lan(2).relay_side().remove_address("10.0.2.77/24"),
        3 => {
            let to = ["--to", "lan1:239.2.9.9:6009"];
            service.ok(&[&["add", "guest", "--from", "dev0:239.1.9.9:5009"][..], &to].concat());
        }
        4 => drop(service.ok(&["rm", "guest"])),
        _ => service.signal(libc::SIGHUP),
    }
}

/// Growth in KiB per hour: the slope of the straight line with the least squares.
fn slope(samples: &[Sample]) -> f64 {
    let points = samples.iter().map(|sample| (sample.at.as_secs_f64() / 3600.0, sample.memory_kib as f64));
    let points: Vec<(f64, f64)> = points.collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    above / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

#[test]
fn the_slope_of_a_line_is_its_own() {
    let at = |minutes: u64, memory_kib| Sample { at: Duration::from_secs(minutes * 60), memory_kib, descriptors: 9 };
    let samples = [at(0, 10_000), at(30, 10_500), at(60, 11_000)];
    assert!((slope(&samples) - 1_000.0).abs() < 1e-6);
}

/// `make soak`: as long as `SOAK_SECONDS` says.
#[test]
#[ignore = "takes as long as SOAK_SECONDS says; run by `make soak`"]
fn a_long_run_with_faults() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_800);
    let net = Topology::device_relay_lan(2);
    let service = Service::start(net.relay(), "");
    let relays = [("a", "packet", 1), ("b", "tcx", 2), ("c", "auto", 3)];
    for (name, datapath, number) in relays {
        let from = format!("dev0:239.1.1.{number}:5001");
        let [one, two] = [1, 2].map(|lan| format!("lan{lan}:239.2.{lan}.{number}:6001"));
        service.ok(&["add", name, "--datapath", datapath, "--from", &from, "--to", &one, "--to", &two]);
        service.ok(&["wait", name]);
    }
    let goes_on = AtomicBool::new(true);
    let samples = std::thread::scope(|scope| {
        for (_, _, number) in relays {
            let (goes_on, device) = (&goes_on, net.device());
            let group = SocketAddr::new(Ipv4Addr::new(239, 1, 1, number).into(), 5001);
            scope.spawn(move || send_while(goes_on, device, DEVICE, group, SERIES, 2_000));
        }
        let run = || {
            fill_what_is_kept(&net, &service);
            soak(&net, &service, Duration::from_secs(seconds))
        };
        let samples = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        goes_on.store(false, Ordering::Relaxed);
        samples.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let totals = service.assert_balance();
    let growth = slope(&samples);
    println!(
        "{seconds} s: {totals:?}; memory grows by {growth:.0} KiB/h; first {:?}, last {:?}",
        samples[0],
        samples[samples.len() - 1]
    );
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    assert!(last.descriptors <= first.descriptors, "descriptors: {first:?}, then {last:?}");
    // A shorter run says nothing about an hour.
    assert!(seconds < 600 || growth < SLOPE_KIB, "memory grows by {growth:.0} KiB/h");
    assert!(last.memory_kib < first.memory_kib + 1_024, "memory: {first:?}, then {last:?}");
}

/// Faults one right after the other, until there have been more events than are kept: what grows from then on would grow
/// for ever.
fn fill_what_is_kept(net: &Topology, service: &Service) {
    let (begun, mut api) = (Instant::now(), Api::of(service));
    let mut has_room = || {
        let kept = api.ok("GET", "/api/v1/events?follow=false", "");
        kept["events"][0]["id"].as_str().expect("an id").ends_with("-0")
    };
    while has_room() {
        (0..60).for_each(|number| fault(net, service, number));
        assert!(begun.elapsed() < FILLING, "there are still fewer events than are kept");
    }
    println!("all events that are kept happened in {:?}", begun.elapsed());
}

/// Faults for so long; the samples after each round of them.
fn soak(net: &Topology, service: &Service, length: Duration) -> Vec<Sample> {
    let (begun, warm_up) = (Instant::now(), WARM_UP.min(length / 3));
    let (mut samples, mut number, mut next_ledger) = (Vec::new(), 0, Duration::from_secs(60));
    while begun.elapsed() < length {
        fault(net, service, number);
        number += 1;
        std::thread::sleep(Duration::from_millis(500));
        if number % 6 == 0 && begun.elapsed() > warm_up {
            samples.push(sample(begun, service));
        }
        if begun.elapsed() > next_ledger {
            next_ledger += Duration::from_secs(60);
            balanced_to_the_packet(service);
        }
    }
    assert!(samples.len() > 1, "too short a run: {length:?}");
    samples
}

/// `received = sent + dropped` at a moment that no packet is on its way at some look.
fn balanced_to_the_packet(service: &Service) {
    let imbalance = || {
        let list: serde_json::Value = serde_json::from_str(&service.ok(&["list", "-o", "json"])).expect("JSON");
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        let of = |relay: &serde_json::Value| {
            let received = number(&relay["received"]["packets"]);
            let outputs = relay["outputs"].as_array().expect("outputs").iter();
            outputs
                .map(|out| received.abs_diff(number(&out["sent"]["packets"]) + number(&out["dropped_packets"])))
                .sum::<u64>()
        };
        list["relays"].as_array().expect("relays").iter().map(of).sum::<u64>()
    };
    let looked = Instant::now();
    while imbalance() > 0 {
        assert!(looked.elapsed() < SOON, "the ledger does not balance while packets flow");
        std::thread::sleep(Duration::from_millis(7));
    }
}
