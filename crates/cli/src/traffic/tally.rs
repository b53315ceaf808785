//! The account of a listener: everything that arrived, by what it was.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::traffic::foreign::{Account, Foreign};
use crate::traffic::header_bytes;
use crate::traffic::payload::{Content, Stamp};
use crate::traffic::sequence::{Arrival, Sequence};
use crate::traffic::spread::{Spread, SpreadSeconds};

/// More streams or sources than this are counted together, so that a flood of them takes no memory.
const MOST_KEPT: usize = 1024;

/// A payload that arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard<'a> {
    pub(crate) payload: &'a [u8],
    /// What it is.
    pub(crate) content: Content,
    pub(crate) source: SocketAddr,
    /// The port that it was sent to.
    pub(crate) port: u16,
    /// When it came.
    pub(crate) now: Instant,
    /// The same, since 1970.
    pub(crate) nanoseconds: u64,
}

/// What arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    packets: u64,
    bytes: u64,
    foreign_packets: u64,
    foreign: Foreign,
    corrupt: u64,
    duplicates_beyond: u64,
    streams: HashMap<u32, TestStream>,
    sources: BTreeMap<SocketAddr, u64>,
    latency: Spread,
    jitter: Spread,
    between: Option<(Instant, Instant)>,
}

/// A run of a sender.
#[derive(Debug)]
struct TestStream {
    sequence: Sequence,
    /// Between the clocks of both hosts, by the last packet that was not a duplicate.
    transit_nanoseconds: i128,
}

impl Tally {
    /// Counts a payload.
    pub(crate) fn count(&mut self, heard: &Heard<'_>) {
        let Heard { payload, content, source, port, now, nanoseconds } = *heard;
        self.packets += 1;
        self.bytes += payload.len() as u64 + header_bytes(source.ip());
        self.between = Some((self.between.map_or(now, |(first, _)| first), now));
        if self.sources.len() < MOST_KEPT || self.sources.contains_key(&source) {
            *self.sources.entry(source).or_default() += 1;
        }
        match content {
            Content::Foreign => {
                self.foreign_packets += 1;
                let at = self.between.map_or(Duration::ZERO, |(first, _)| now.duration_since(first));
                self.foreign.count(payload, source, port, at);
            }
            Content::Corrupt => self.corrupt += 1,
            Content::Test(stamp) => self.count_test(stamp, nanoseconds),
        }
    }

    fn count_test(&mut self, stamp: Stamp, now_nanoseconds: u64) {
        let Stamp { stream, sequence, sent_nanoseconds } = stamp;
        let transit_nanoseconds = i128::from(now_nanoseconds) - i128::from(sent_nanoseconds);
        // A stream is one sender's run, whatever address a relay gave it: the same packet through two relays is a duplicate.
        let is_full = self.streams.len() >= MOST_KEPT;
        match self.streams.get_mut(&stream) {
            Some(account) => {
                if account.sequence.arrived(sequence) == Arrival::Duplicate {
                    return;
                }
                // RFC 3550 section 6.4.1, without its smoothing; a difference of clocks does not matter.
                let change = (transit_nanoseconds - account.transit_nanoseconds).unsigned_abs();
                self.jitter.count(u64::try_from(change).unwrap_or(u64::MAX));
                account.transit_nanoseconds = transit_nanoseconds;
            }
            None if !is_full => {
                let sequence = Sequence::starting_at(sequence);
                self.streams.insert(stream, TestStream { sequence, transit_nanoseconds });
            }
            None => {
                self.duplicates_beyond += 1;
                return;
            }
        }
        // A negative latency is a difference of clocks and no latency.
        if let Ok(latency) = u64::try_from(transit_nanoseconds) {
            self.latency.count(latency);
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
        self.foreign_packets
    }

    /// Test packets with wrong bytes.
    pub(crate) fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// What the headers of packets that are no test packets say.
    pub(crate) fn foreign_accounts(&self) -> impl Iterator<Item = Account> {
        self.foreign.accounts()
    }

    /// Places where the counters of transport streams jump.
    pub(crate) fn continuity_errors(&self) -> u64 {
        self.foreign.total().continuity_errors.unwrap_or(0)
    }

    /// Test packets, and packets of RTP, missing between the first and last of their streams.
    pub(crate) fn lost(&self) -> u64 {
        self.sequences().map(Sequence::lost).fold(self.foreign.total().lost_packets.unwrap_or(0), u64::saturating_add)
    }

    /// Those that came once more.
    pub(crate) fn duplicates(&self) -> u64 {
        let foreign = self.foreign.total().duplicate_packets.unwrap_or(0);
        self.sequences().map(Sequence::duplicates).sum::<u64>() + self.duplicates_beyond + foreign
    }

    /// Those that came after a later one.
    pub(crate) fn reordered(&self) -> u64 {
        let foreign = self.foreign.total().reordered_packets.unwrap_or(0);
        self.sequences().map(Sequence::reordered).sum::<u64>() + foreign
    }

    fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.streams.values().map(|stream| &stream.sequence)
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

    /// How long test packets were on their way; unknown without them or when the sender's clock is ahead.
    pub(crate) fn latency(&self) -> Option<SpreadSeconds> {
        self.latency.seconds()
    }

    /// How much longer or shorter than the one before it; unknown of fewer than two.
    pub(crate) fn jitter(&self) -> Option<SpreadSeconds> {
        self.jitter.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::payload::{Pattern, emit, parse};

    fn packet(stream: u32, sequence: u64) -> Vec<u8> {
        let mut payload = vec![0; 100];
        emit(Stamp { stream, sequence, sent_nanoseconds: 1_000 }, &Pattern::Random, &mut payload);
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
            let now = start + Duration::from_millis(i as u64);
            tally.count(&Heard { payload, content: parse(payload), source, port: 5000, now, nanoseconds: 3_000 });
        }
        assert_eq!((tally.packets(), tally.foreign(), tally.corrupt(), tally.good()), (7, 1, 1, 5));
        assert_eq!((tally.lost(), tally.duplicates(), tally.reordered()), (0, 1, 1));
        assert_eq!(tally.bytes(), 6 * 128 + 33);
        assert_eq!(tally.rates().unwrap().0.round(), 1000.0);
        let latency = tally.latency().unwrap();
        assert_eq!([latency.least, latency.mean, latency.p50, latency.p999, latency.most], [2e-6; 5]);
        assert_eq!(tally.jitter().unwrap().most, 0.0);
        assert_eq!(tally.sources()[&source], 7);
    }
}
