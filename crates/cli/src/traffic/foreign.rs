//! Packets that `mcr send` did not make: what they are, and what their own headers say of loss.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mcr_inspect::mpeg_ts::{Continuity, is_transport};
use mcr_inspect::{Kind, Recogniser, rtp};
use serde::Serialize;

use crate::traffic::sequence::Sequence;

/// More senders, and more sources of RTP of one sender, than this are only counted.
const MOST_SENDERS: usize = 256;
const MOST_SOURCES: usize = 4;

/// All of them, by sender.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    senders: BTreeMap<SocketAddr, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    packets: u64,
    recogniser: Recogniser,
    sources: BTreeMap<(u32, u8), Numbered>,
    continuity: Continuity,
}

/// A stream of RTP, whose numbers of 16 bits are made long: each is the one nearest to the last.
#[derive(Debug)]
struct Numbered {
    last: u64,
    sequence: Sequence,
}

/// What the headers of one sender say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    /// Who sent.
    pub(crate) source: String,
    /// What, as `mcr discover` calls it.
    pub(crate) kind: &'static str,
    /// What more is known of it.
    pub(crate) detail: String,
    /// How many.
    pub(crate) packets: u64,
    /// What only some kinds tell.
    #[serde(flatten)]
    pub(crate) told: Told,
}

/// What headers tell of loss; `None` where they do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// By the numbers of RTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost_packets: Option<u64>,
    /// By the numbers of RTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate_packets: Option<u64>,
    /// By the numbers of RTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reordered_packets: Option<u64>,
    /// Places where the counters of a transport stream jump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) continuity_errors: Option<u64>,
}

impl Foreign {
    /// Counts a payload that was sent to `port`, `at` after the beginning.
    pub(crate) fn count(&mut self, payload: &[u8], source: SocketAddr, port: u16, at: Duration) {
        if self.senders.len() >= MOST_SENDERS && !self.senders.contains_key(&source) {
            return;
        }
        self.senders.entry(source).or_default().count(payload, port, at);
    }

    /// What each sender's headers say.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = Account> {
        self.senders.iter().map(|(source, sender)| {
            let kind = sender.recogniser.kind();
            Account {
                source: source.to_string(),
                kind: kind.name(),
                detail: kind.detail(),
                packets: sender.packets,
                told: sender.told(&kind),
            }
        })
    }

    /// All of what is told, together.
    pub(crate) fn total(&self) -> Told {
        let add = |a: Option<u64>, b: Option<u64>| Some(a.unwrap_or(0) + b.unwrap_or(0));
        let told = self.senders.values().map(|sender| sender.told(&sender.recogniser.kind()));
        told.fold(Told::default(), |sum, told| Told {
            lost_packets: add(sum.lost_packets, told.lost_packets),
            duplicate_packets: add(sum.duplicate_packets, told.duplicate_packets),
            reordered_packets: add(sum.reordered_packets, told.reordered_packets),
            continuity_errors: add(sum.continuity_errors, told.continuity_errors),
        })
    }
}

impl Sender {
    fn count(&mut self, payload: &[u8], port: u16, at: Duration) {
        self.packets += 1;
        self.recogniser.see(port, payload, at);
        if is_transport(payload) {
            self.continuity.see(payload);
        } else if let Some(packet) = rtp::parse(payload) {
            self.number((packet.ssrc, packet.payload_type), packet.sequence);
        }
    }

    fn number(&mut self, source: (u32, u8), sequence: u16) {
        let has_room = self.sources.len() < MOST_SOURCES;
        match self.sources.get_mut(&source) {
            Some(numbered) => numbered.arrived(sequence),
            None if has_room => {
                self.sources.insert(source, Numbered::starting_at(sequence));
            }
            None => {}
        }
    }

    fn told(&self, kind: &Kind) -> Told {
        let sum = |of: fn(&Sequence) -> u64| Some(self.sources.values().map(|numbered| of(&numbered.sequence)).sum());
        match kind {
            Kind::Rtp(_) => Told {
                lost_packets: sum(Sequence::lost),
                duplicate_packets: sum(Sequence::duplicates),
                reordered_packets: sum(Sequence::reordered),
                continuity_errors: None,
            },
            Kind::MpegTs(_) => Told { continuity_errors: Some(self.continuity.errors()), ..Told::default() },
            _ => Told::default(),
        }
    }
}

impl Numbered {
    fn starting_at(sequence: u16) -> Self {
        // Far from zero, for packets that come before the first one.
        let first = (1 << 32) + u64::from(sequence);
        Self { last: first, sequence: Sequence::starting_at(first) }
    }

    fn arrived(&mut self, sequence: u16) {
        let step = sequence.wrapping_sub(self.last as u16).cast_signed();
        let number = self.last.wrapping_add_signed(step.into());
        self.last = self.last.max(number);
        self.sequence.arrived(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(payloads: impl IntoIterator<Item = Vec<u8>>) -> (&'static str, Told) {
        let mut foreign = Foreign::default();
        for (number, payload) in payloads.into_iter().enumerate() {
            foreign.count(&payload, "10.0.0.1:5004".parse().unwrap(), 5004, Duration::from_millis(number as u64));
        }
        let account = foreign.accounts().next().unwrap();
        (account.kind, account.told)
    }

    fn rtp(number: u16) -> Vec<u8> {
        [&[0x80, 96][..], &number.to_be_bytes(), &[0, 0, 1, 0], b"SSRC", &[0; 90]].concat()
    }

    #[test]
    fn the_numbers_of_rtp_are_counted_across_their_end() {
        let mut numbers: Vec<u16> = (0..1000).map(|n| 65_000_u16.wrapping_add(n)).collect();
        numbers.swap(700, 701);
        numbers.insert(300, numbers[298]);
        numbers.drain(532..542);
        let (kind, told) = told(numbers.into_iter().map(rtp));
        assert_eq!(kind, "RTP");
        let expected = Told {
            lost_packets: Some(10),
            duplicate_packets: Some(1),
            reordered_packets: Some(1),
            continuity_errors: None,
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn the_counters_of_a_transport_stream_are_followed() {
        let packet = |counter: u8| {
            let mut packet = vec![0x47, 1, 0, 0x10 | counter & 0x0f];
            packet.resize(188, 0);
            packet
        };
        let whole = |counters: Vec<u8>| told(counters.into_iter().map(packet));
        assert_eq!(whole((0..100).collect()).1.continuity_errors, Some(0));
        let lossy: Vec<u8> = (0..100).filter(|n| ![20, 50, 51].contains(n)).collect();
        assert_eq!(whole(lossy), ("MPEG-TS", Told { continuity_errors: Some(2), ..Told::default() }));
    }

    #[test]
    fn what_has_no_numbers_tells_nothing() {
        assert_eq!(told(vec![b"hello".to_vec(); 20]), ("plain", Told::default()));
        // Alike in all, so no stream of RTP: nothing of it is a duplicate.
        assert_eq!(told(vec![rtp(7); 20]), ("plain", Told::default()));
    }
}
