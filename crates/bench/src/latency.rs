//! The time that a path adds to each packet: from the device to the receiver behind the relay, less the same on the bare wire.

use std::time::Duration;

use serde::Serialize;

use crate::families::Families;
use crate::generate::{Ingress, Load, Spacing, Stamp};
use crate::measure::{Setup, Stand};
use crate::path::Path;
use crate::receive::Latencies;
use crate::wire::Wire;

const PAYLOAD_BYTES: usize = 1_250;

/// A load whose latency is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Pace {
    /// Packets per second.
    pub(crate) rate: u64,
    /// Packets that follow each other at once.
    pub(crate) burst: usize,
}

impl Pace {
    /// One by one, as audio and process data come; and in bursts, as media does.
    pub(crate) const ALL: [Pace; 2] = [Pace { rate: 20_000, burst: 1 }, Pace { rate: 50_000, burst: 16 }];

    fn load(self, path: Path, ingress: Ingress, time: Duration) -> Load {
        let spacing = if self.burst == 1 { Spacing::Single } else { Spacing::Bursts };
        let (source, group) = (Families::Ipv4.source(path), Families::Ipv4.group());
        let (payload_bytes, rate) = (PAYLOAD_BYTES, self.rate);
        Load { ingress, source, group, payload_bytes, rate, time, spacing, stamp: Stamp::Time }
    }
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Percentiles {
    /// Nothing when no packet came.
    fn of(latencies: &Latencies) -> Option<Percentiles> {
        let at = |share| latencies.percentile(share);
        Some(Percentiles { p50: at(0.5)?, p99: at(0.99)?, p999: at(0.999)? })
    }

    /// What is more than on the bare wire.
    pub(crate) fn less(self, bare: Percentiles) -> Percentiles {
        Percentiles { p50: self.p50 - bare.p50, p99: self.p99 - bare.p99, p999: self.p999 - bare.p999 }
    }
}

/// From the device to a receiver at the relay's input, at each pace.
pub(crate) fn of_the_bare_wire(wire: &mut Wire, ingress: Ingress, time: Duration) -> [Option<Percentiles>; 2] {
    Pace::ALL.map(|pace| Percentiles::of(&wire.bare_latencies(pace.load(Path::Redirect, ingress, time))))
}

/// From the device to the receiver behind the relay, one output, at each pace that the path can carry.
///
/// # Errors
/// Why the path can't be measured here.
pub(crate) fn of_a_path(
    wire: &mut Wire,
    path: Path,
    ingress: Ingress,
    time: Duration,
) -> Result<[Option<Percentiles>; 2], String> {
    let mut stand = Stand::start(wire, Setup::plain(path, ingress, 1, PAYLOAD_BYTES))?;
    Ok(Pace::ALL.map(|pace| Percentiles::of(&stand.latencies(pace.load(path, ingress, time))?)))
}
