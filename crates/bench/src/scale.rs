//! A thousand relays: how soon they are ready, how long one more takes, how much memory they need.

use std::io::Write;
use std::time::{Duration, Instant};

use mcr_testbed::Topology;
use serde::Serialize;

use crate::clients::{Clients, clients};
use crate::path::{Running, daemon, post, ready, relay};

const RELAYS: usize = 1000;
const ADDED: usize = 200;

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Scale {
    pub(crate) relays: usize,
    /// From the start of the process until all are ready, in milliseconds.
    pub(crate) ready_ms: f64,
    /// Making one more through the API, connection to answer, in milliseconds.
    pub(crate) add_p50_ms: f64,
    pub(crate) add_p99_ms: f64,
    pub(crate) added: usize,
    /// One write to the same disk with nothing else, until it is there, in milliseconds: each creation waits for one.
    pub(crate) disk_p99_ms: f64,
    /// The same for fifty clients at once that make a thousand, on connections that stay, in milliseconds: with a lease,
    /// and for good.
    pub(crate) lent_p99_ms: f64,
    pub(crate) stored_p99_ms: f64,
    /// Resident memory of daemon and keeper without the packet rings, in MB (a million bytes).
    pub(crate) resident_mb: f64,
    /// Resident memory of the packet rings, in MB.
    pub(crate) rings_mb: f64,
}

/// Nothing when MCR does not start.
pub(crate) fn scale(net: &Topology) -> Option<Scale> {
    let config: String = (0..RELAYS).map(|i| relay(&format!("r{i}"), i)).collect();
    let start = Instant::now();
    let running = daemon(net, &config, RELAYS).map_err(|why| eprintln!("1,000 relays: {why}")).ok()?;
    while ready(&running) < RELAYS as u64 {
        assert!(start.elapsed() < Duration::from_secs(30), "1,000 relays are not ready after 30 s");
        std::thread::sleep(Duration::from_millis(2));
    }
    let ready_ms = start.elapsed().as_secs_f64() * 1000.0;
    let (resident_mb, rings_mb) = memory(&running);
    let mut times: Vec<f64> = (0..ADDED).map(|i| add(&running, i)).collect();
    times.sort_by(f64::total_cmp);
    let disk_p99_ms = disk();
    drop(running);
    let Clients { lent, stored } = clients(net)?;
    Some(Scale {
        relays: RELAYS,
        ready_ms,
        add_p50_ms: times[ADDED / 2],
        add_p99_ms: times[ADDED * 99 / 100],
        added: ADDED,
        disk_p99_ms,
        lent_p99_ms: lent.p99_ms,
        stored_p99_ms: stored.p99_ms,
        resident_mb,
        rings_mb,
    })
}

/// Milliseconds.
fn add(running: &Running, number: usize) -> f64 {
    let body = format!(
        "{{\"name\":\"added-{number}\",\"input\":{{\"interface\":\"dev0\",\"group\":\"239.9.1.{number}\",\"port\":5001}},\
         \"output\":[{{\"interface\":\"lan1\",\"group\":\"239.9.2.{number}\",\"port\":6001}}]}}"
    );
    let start = Instant::now();
    let answer = post(&running.socket(), "/api/v1/relays", &body);
    let time = start.elapsed().as_secs_f64() * 1000.0;
    assert!(answer.contains("\"ready\""), "{answer}");
    time
}

/// The p99 of writing a page beside where the daemon keeps its state, in milliseconds.
pub(crate) fn disk() -> f64 {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let mut write = || {
        let start = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("write to the disk");
        start.elapsed().as_secs_f64() * 1000.0
    };
    let mut times: Vec<f64> = (0..ADDED).map(|_| write()).collect();
    times.sort_by(f64::total_cmp);
    times[ADDED * 99 / 100]
}

/// Resident memory without and of the mappings of packet sockets, in MB (`/proc/PID/smaps`).
fn memory(running: &Running) -> (f64, f64) {
    let (mut other, mut rings) = (0, 0);
    for process in running.processes() {
        let smaps = std::fs::read_to_string(format!("/proc/{process}/smaps")).expect("the memory map");
        let mut of_ring = false;
        for line in smaps.lines() {
            let first = line.split_whitespace().next().unwrap_or_default();
            if first.contains('-') {
                of_ring = line.contains("socket:");
            } else if first == "Rss:" {
                let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
                *(if of_ring { &mut rings } else { &mut other }) += kib * 1024;
            }
        }
    }
    (other as f64 / 1e6, rings as f64 / 1e6)
}
