//! The account of a listener: everything that arrived, by what it was.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::traffic::HEADER_BYTES;
use crate::traffic::payload::{Content, Stamp, parse};
use crate::traffic::sequence::{Arrival, Sequence};

/// More streams or sources than this are counted together, so that a flood of them takes no memory.
const MOST_KEPT: usize = 1024;

/// What arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    packets: u64,
    bytes: u64,
    foreign: u64,
    corrupt: u64,
    duplicates_beyond: u64,
    streams: HashMap<u32, Sequence>,
    sources: BTreeMap<SocketAddr, u64>,
    latency: Latency,
    between: Option<(Instant, Instant)>,
}

/// How long test packets were on their way, by the clocks of both hosts.
#[derive(Debug, Default, Clone, Copy)]
struct Latency {
    packets: u64,
    sum_nanoseconds: u128,
    least_nanoseconds: u64,
    most_nanoseconds: u64,
}

/// Latencies in seconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct LatencySeconds {
    /// The shortest.
    pub(crate) least: f64,
    /// The average.
    pub(crate) mean: f64,
    /// The longest.
    pub(crate) most: f64,
}

impl Tally {
    /// Counts a payload from `source` that arrived at `now`, which is `now_nanoseconds` since 1970.
    pub(crate) fn count(&mut self, payload: &[u8], source: SocketAddr, now: Instant, now_nanoseconds: u64) {
        self.packets += 1;
        self.bytes += payload.len() as u64 + HEADER_BYTES;
        self.between = Some((self.between.map_or(now, |(first, _)| first), now));
        if self.sources.len() < MOST_KEPT || self.sources.contains_key(&source) {
            *self.sources.entry(source).or_default() += 1;
        }
        match parse(payload) {
            Content::Foreign => self.foreign += 1,
            Content::Corrupt => self.corrupt += 1,
            Content::Test(stamp) => self.count_test(stamp, now_nanoseconds),
        }
    }

    fn count_test(&mut self, stamp: Stamp, now_nanoseconds: u64) {
        let Stamp { stream, sequence, sent_nanoseconds } = stamp;
        // A stream is one sender's run, whatever address a relay gave it: the same packet through two relays is a duplicate.
        let is_full = self.streams.len() >= MOST_KEPT;
        let arrival = match self.streams.get_mut(&stream) {
            Some(account) => account.arrived(sequence),
            None if !is_full => {
                self.streams.insert(stream, Sequence::starting_at(sequence));
                Arrival::New
            }
            None => {
                self.duplicates_beyond += 1;
                Arrival::Duplicate
            }
        };
        match (arrival, now_nanoseconds.checked_sub(sent_nanoseconds)) {
            (Arrival::New, Some(latency)) => self.latency.count(latency),
            // A negative latency is a difference of clocks and no latency.
            (Arrival::New, None) | (Arrival::Duplicate, _) => {}
        }
    }

    /// Everything that arrived.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// The bytes of their IP packets.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that are no test packets.
    pub(crate) fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Test packets with wrong bytes.
    pub(crate) fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Test packets missing between the first and last of their streams.
    pub(crate) fn lost(&self) -> u64 {
        self.streams.values().map(Sequence::lost).fold(0, u64::saturating_add)
    }

    /// Test packets that came once more.
    pub(crate) fn duplicates(&self) -> u64 {
        self.streams.values().map(Sequence::duplicates).sum::<u64>() + self.duplicates_beyond
    }

    /// Test packets that came after a later one.
    pub(crate) fn reordered(&self) -> u64 {
        self.streams.values().map(Sequence::reordered).sum()
    }

    /// Packets that count: neither duplicate nor corrupt.
    pub(crate) fn good(&self) -> u64 {
        self.packets - self.duplicates() - self.corrupt
    }

    /// Senders' runs that were seen.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Source addresses and ports with their packets.
    pub(crate) fn sources(&self) -> &BTreeMap<SocketAddr, u64> {
        &self.sources
    }

    /// From the first packet to the last.
    pub(crate) fn span(&self) -> Option<Duration> {
        self.between.map(|(first, last)| last.duration_since(first))
    }

    /// Packets and bits per second between the first and the last packet; unknown with fewer than two.
    pub(crate) fn rates(&self) -> Option<(f64, f64)> {
        let seconds = self.span()?.as_secs_f64();
        // n packets span n - 1 intervals.
        let share = (self.packets - 1) as f64 / self.packets as f64;
        (seconds > 0.0).then(|| (self.packets as f64 * share / seconds, self.bytes as f64 * 8.0 * share / seconds))
    }

    /// Latencies; unknown without test packets or when the sender's clock is ahead.
    pub(crate) fn latency(&self) -> Option<LatencySeconds> {
        let Latency { packets, sum_nanoseconds, least_nanoseconds, most_nanoseconds } = self.latency;
        (packets > 0).then(|| LatencySeconds {
            least: least_nanoseconds as f64 / 1e9,
            mean: sum_nanoseconds as f64 / packets as f64 / 1e9,
            most: most_nanoseconds as f64 / 1e9,
        })
    }
}

impl Latency {
    fn count(&mut self, nanoseconds: u64) {
        self.least_nanoseconds = if self.packets == 0 { nanoseconds } else { self.least_nanoseconds.min(nanoseconds) };
        self.most_nanoseconds = self.most_nanoseconds.max(nanoseconds);
        self.sum_nanoseconds += u128::from(nanoseconds);
        self.packets += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::payload::emit;

    fn packet(stream: u32, sequence: u64) -> Vec<u8> {
        let mut payload = vec![0; 100];
        emit(Stamp { stream, sequence, sent_nanoseconds: 1_000 }, &mut payload);
        payload
    }

    #[test]
    fn every_packet_is_counted_once() {
        let mut tally = Tally::default();
        let start = Instant::now();
        let source = "10.0.0.1:5000".parse().unwrap();
        let mut corrupt = packet(1, 9);
        corrupt[50] ^= 1;
        let packets =
            [packet(1, 0), packet(1, 2), packet(2, 7), packet(1, 2), corrupt, b"hello".to_vec(), packet(1, 1)];
        for (i, payload) in packets.iter().enumerate() {
            tally.count(payload, source, start + Duration::from_millis(i as u64), 3_000);
        }
        assert_eq!((tally.packets(), tally.foreign(), tally.corrupt(), tally.good()), (7, 1, 1, 5));
        assert_eq!((tally.lost(), tally.duplicates(), tally.reordered()), (0, 1, 1));
        assert_eq!(tally.bytes(), 6 * 128 + 33);
        assert_eq!(tally.rates().unwrap().0.round(), 1000.0);
        assert_eq!(tally.latency().unwrap(), LatencySeconds { least: 2e-6, mean: 2e-6, most: 2e-6 });
        assert_eq!(tally.sources()[&source], 7);
    }
}
