//! RTP (RFC 3550), and what travels in it: raw video (ST 2110-20, RFC 4175), PCM audio (ST 2110-30, AES67, RFC 3190),
//! ancillary data (ST 2110-40, RFC 8331), MPEG-TS (RFC 2250).
//!
//! An RTP header has two bits that are always the same, so one packet proves nothing: source, payload type and running sequence
//! numbers of several have to agree.

use std::time::Duration;

use serde::Serialize;

use crate::bytes::{be16, be32};
use crate::mpeg_ts::{self, Programs};

const HEADER_BYTES: usize = 12;
/// Packets that have to follow one another before a flow is called RTP.
const PROOF: u64 = 2;
/// A gap in the sequence up to here may be loss.
const LARGEST_GAP: u16 = 64;
/// What media clocks run at (RFC 3551 section 5, ST 2110-10, AES67).
const CLOCKS_HZ: [u32; 9] = [8_000, 16_000, 32_000, 44_100, 48_000, 88_200, 90_000, 96_000, 192_000];
/// A clock is guessed from no less than this.
const CLOCK_SPAN: Duration = Duration::from_millis(100);

/// The header of a packet, and what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Ends a frame of video, begins a talk spurt.
    pub marker: bool,
    /// What the payload is; from 96 on as agreed elsewhere.
    pub payload_type: u8,
    /// Counts packets.
    pub sequence: u16,
    /// In ticks of the media clock.
    pub timestamp: u32,
    /// Who sends.
    pub ssrc: u32,
    /// Without padding.
    pub payload: &'a [u8],
}

/// Reads a payload of UDP as RTP; `None` when it can be none.
pub fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    // Version 2; 72 to 76 with the marker is RTCP (RFC 5761 section 4).
    if first >> 6 != 2 || is_rtcp_type(second) {
        return None;
    }
    let mut start = HEADER_BYTES + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        start += 4 + usize::from(be16(bytes, start + 2)?) * 4;
    }
    let padding = if first & 0x20 != 0 { usize::from(*bytes.last()?) } else { 0 };
    let payload = bytes.get(start..bytes.len().checked_sub(padding)?)?;
    Some(Packet {
        marker: second & 0x80 != 0,
        payload_type: second & 0x7f,
        sequence: be16(bytes, 2)?,
        timestamp: be32(bytes, 4)?,
        ssrc: be32(bytes, 8)?,
        payload,
    })
}

const fn is_rtcp_type(byte: u8) -> bool {
    matches!(byte, 200..=204)
}

/// Whether it is a compound packet of RTCP (RFC 3550 section 6.1): reports first, and lengths that add up.
pub(crate) fn is_rtcp(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    if !matches!(bytes.get(1), Some(200 | 201)) {
        return false;
    }
    while let (Some(&first), Some(&kind), Some(words)) = (rest.first(), rest.get(1), be16(rest, 2)) {
        let Some(after) = rest.get((usize::from(words) + 1) * 4..) else { return false };
        if first >> 6 != 2 || !(200..=207).contains(&kind) {
            return false;
        }
        if after.is_empty() {
            return true;
        }
        rest = after;
    }
    false
}

/// A flow of RTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rtp {
    /// As the header says.
    pub payload_type: u8,
    /// Who sends.
    pub ssrc: u32,
    /// What the time stamps count, guessed from how fast they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_hz: Option<u32>,
    /// What travels in it.
    #[serde(flatten)]
    pub media: Media,
}

/// What travels in RTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "media", rename_all = "snake_case")]
pub enum Media {
    /// Not known: compressed video, for example.
    Unknown,
    /// Raw video: ST 2110-20.
    RawVideo,
    /// PCM audio: ST 2110-30, AES67.
    PcmAudio {
        /// Channels in each packet.
        channels: u16,
        /// Bits of a sample.
        bits: u8,
        /// Samples of each channel in a packet.
        packet_samples: u32,
    },
    /// Ancillary data: ST 2110-40.
    AncillaryData,
    /// An MPEG transport stream.
    MpegTs(Programs),
    /// A payload type with a fixed meaning (RFC 3551 section 6).
    Registered {
        /// Its name there.
        encoding: &'static str,
    },
}

/// What the packets of a flow have in common, if they are RTP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    source: Option<(u32, u8)>,
    sequence: u16,
    timestamp: u32,
    followers: u64,
    strangers: u64,
    /// Between the first and the latest change of the time stamp, which are those of the same place in a burst.
    ticks: u64,
    began: Option<Duration>,
    latest: Duration,
    raw_video: u64,
    ancillary: u64,
    transport: u64,
    pcm: Option<Pcm>,
    programs: Programs,
}

/// Packets of sound are all alike: samples and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pcm {
    samples: u32,
    bytes: usize,
    packets: u64,
    is_steady: bool,
}

impl Evidence {
    /// Looks at one more payload, which came at `at`.
    pub(crate) fn see(&mut self, payload: &[u8], at: Duration) {
        let Some(packet) = parse(payload) else {
            self.strangers += 1;
            return;
        };
        let step = packet.sequence.wrapping_sub(self.sequence);
        let is_next = self.source == Some((packet.ssrc, packet.payload_type)) && (1..=LARGEST_GAP).contains(&step);
        if !is_next {
            self.restart(&packet);
            return;
        }
        self.followers += 1;
        let ticks = packet.timestamp.wrapping_sub(self.timestamp);
        self.see_clock(ticks, at);
        self.see_media(&packet, step, ticks);
        (self.sequence, self.timestamp) = (packet.sequence, packet.timestamp);
    }

    fn restart(&mut self, packet: &Packet<'_>) {
        let is_late = self.source == Some((packet.ssrc, packet.payload_type))
            && (1..=LARGEST_GAP).contains(&self.sequence.wrapping_sub(packet.sequence).wrapping_add(1));
        if is_late {
            return;
        }
        if self.source.is_some() {
            self.strangers += 1;
        }
        let (strangers, followers) = (self.strangers, if self.is_rtp() { self.followers } else { 0 });
        *self = Self {
            source: Some((packet.ssrc, packet.payload_type)),
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            strangers,
            followers,
            programs: std::mem::take(&mut self.programs),
            ..Self::default()
        };
    }

    fn see_clock(&mut self, ticks: u32, at: Duration) {
        // Clocks that are set back tell nothing of the rate.
        if (1..1 << 31).contains(&ticks) {
            self.ticks += self.began.map_or(0, |_| ticks.into());
            self.began.get_or_insert(at);
            self.latest = at;
        }
    }

    fn see_media(&mut self, packet: &Packet<'_>, step: u16, ticks: u32) {
        let payload = packet.payload;
        self.raw_video += u64::from(is_raw_video(payload));
        self.ancillary += u64::from(is_ancillary(payload));
        if mpeg_ts::is_transport(payload) {
            self.transport += 1;
            self.programs.see(payload);
        }
        if step == 1 {
            let seen =
                self.pcm.get_or_insert(Pcm { samples: ticks, bytes: payload.len(), packets: 0, is_steady: true });
            seen.packets += 1;
            seen.is_steady &= (seen.samples, seen.bytes) == (ticks, payload.len()) && !packet.marker;
        }
    }

    /// Whether it is RTP for certain.
    pub(crate) fn is_rtp(&self) -> bool {
        self.followers >= PROOF && self.followers > self.strangers
    }

    /// What it is, if it is RTP.
    pub(crate) fn conclude(&self) -> Option<Rtp> {
        let (ssrc, payload_type) = self.source.filter(|_| self.is_rtp())?;
        Some(Rtp { payload_type, ssrc, clock_hz: self.clock_hz(), media: self.media(payload_type) })
    }

    fn media(&self, payload_type: u8) -> Media {
        // Of three quarters of the packets: the capture of a cut packet, or a lucky one, decides nothing.
        let is_most = |packets: u64| packets > 0 && packets * 4 >= self.followers * 3;
        if is_most(self.transport) {
            return Media::MpegTs(self.programs.clone());
        }
        if let Some(encoding) = registered(payload_type) {
            return Media::Registered { encoding };
        }
        match self.pcm.filter(|pcm| pcm.is_steady && pcm.packets >= PROOF).and_then(pcm_audio) {
            _ if is_most(self.ancillary) => Media::AncillaryData,
            _ if is_most(self.raw_video) => Media::RawVideo,
            Some(audio) => audio,
            None => Media::Unknown,
        }
    }

    /// The usual clock that is within 3 % of what was seen.
    fn clock_hz(&self) -> Option<u32> {
        let span = self.latest.saturating_sub(self.began?);
        let seen = self.ticks as f64 / span.as_secs_f64();
        let off = |clock: u32| (seen / f64::from(clock) - 1.0).abs();
        let nearest = CLOCKS_HZ.into_iter().min_by(|a, b| off(*a).total_cmp(&off(*b)))?;
        (span >= CLOCK_SPAN && off(nearest) < 0.03).then_some(nearest)
    }
}

/// Encodings with a payload type of their own (RFC 3551, tables 4 and 5).
const fn registered(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        0 => "PCMU",
        3 => "GSM",
        4 => "G723",
        8 => "PCMA",
        9 => "G722",
        14 => "MPA",
        15 => "G728",
        18 => "G729",
        26 => "JPEG",
        31 => "H261",
        32 => "MPV",
        33 => "MP2T",
        34 => "H263",
        _ => return None,
    })
}

/// RFC 4175 section 4.2: extended sequence, then up to three headers of lines (length, number, offset), whose lengths are those of
/// the data behind them.
fn is_raw_video(payload: &[u8]) -> bool {
    let (mut at, mut data_bytes) = (2, 0);
    for _ in 0..3 {
        let (Some(length), Some(offset)) = (be16(payload, at), be16(payload, at + 4)) else { return false };
        data_bytes += usize::from(length);
        at += 6;
        if offset & 0x8000 == 0 {
            return length > 0 && at + data_bytes == payload.len();
        }
    }
    false
}

/// RFC 8331 section 2.1: extended sequence, length, count of packets, field, 22 reserved bits that are zero.
fn is_ancillary(payload: &[u8]) -> bool {
    const BEFORE_DATA: usize = 8;
    let (Some(length), Some(last)) = (be16(payload, 2), be32(payload, 4)) else { return false };
    let (count, field, reserved) = (last >> 24, last >> 22 & 3, last & 0x3f_ffff);
    let is_whole = BEFORE_DATA + usize::from(length) == payload.len();
    reserved == 0 && field != 1 && is_whole && (count > 0) == (length > 0)
}

/// Samples of 24 bits where the bytes allow it, else of 16.
fn pcm_audio(Pcm { samples, bytes, .. }: Pcm) -> Option<Media> {
    // From 125 µs at 44.1 kHz to 20 ms at 96 kHz.
    let count = usize::try_from(samples).ok().filter(|samples| (5..=1920).contains(samples))?;
    let all_channels = Some(bytes / count).filter(|_| bytes.is_multiple_of(count))?;
    let sample_bytes = [3, 2].into_iter().find(|bytes| all_channels.is_multiple_of(*bytes))?;
    let channels = u16::try_from(all_channels / sample_bytes).ok().filter(|channels| (1..=80).contains(channels))?;
    Some(Media::PcmAudio { channels, bits: sample_bytes as u8 * 8, packet_samples: samples })
}
