//! Announcements of sessions: SAP (RFC 2974) with SDP (RFC 8866) in it, as AES67 and Dante devices, encoders and `ffmpeg` send them.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::bytes::shown;

const SDP_TYPE: &[u8] = b"application/sdp\0";
/// More streams than this in one announcement are left.
const MOST_STREAMS: usize = 32;

/// A session that was announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Announcement {
    /// Its name.
    pub session: String,
    /// What it has.
    pub streams: Vec<Stream>,
    /// Whether it was taken back.
    #[serde(skip)]
    pub is_deletion: bool,
}

/// A stream of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// `audio`, `video` and others.
    pub media: String,
    /// Its group.
    pub group: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// As `L24/48000/2`; empty when it is not said.
    pub encoding: String,
}

/// Reads a payload of UDP as SAP; `None` when it is none, is encrypted or compressed.
pub(crate) fn parse(payload: &[u8]) -> Option<Announcement> {
    let (&flags, &authentication_words) = (payload.first()?, payload.get(1)?);
    let (is_version_1, is_ipv6, is_deletion, is_hidden) =
        (flags >> 5 == 1, flags & 0x10 != 0, flags & 0x04 != 0, flags & 0x03 != 0);
    if !is_version_1 || is_hidden {
        return None;
    }
    let origin_bytes = if is_ipv6 { 16 } else { 4 };
    let body = payload.get(4 + origin_bytes + usize::from(authentication_words) * 4..)?;
    let sdp = body.strip_prefix(SDP_TYPE).unwrap_or(body);
    let (session, streams) = parse_sdp(sdp)?;
    Some(Announcement { session, streams, is_deletion })
}

fn parse_sdp(sdp: &[u8]) -> Option<(String, Vec<Stream>)> {
    if !sdp.starts_with(b"v=0") {
        return None;
    }
    let (mut session, mut common, mut streams) = (String::new(), None, Vec::<Draft>::new());
    for line in sdp.split(|byte| *byte == b'\n') {
        let Some((&[name, b'='], value)) = line.split_first_chunk::<2>() else { continue };
        let value = shown(value);
        match name {
            b's' => session = value,
            b'm' if streams.len() < MOST_STREAMS => streams.extend(Draft::of(&value)),
            b'c' => *streams.last_mut().map_or(&mut common, |stream| &mut stream.group) = address(&value),
            b'a' => streams.iter_mut().last().into_iter().for_each(|stream| stream.see_attribute(&value)),
            _ => {}
        }
    }
    Some((session, streams.into_iter().filter_map(|stream| stream.finish(common)).collect()))
}

/// A stream while its lines are read.
struct Draft {
    media: String,
    port: u16,
    group: Option<Ipv4Addr>,
    encoding: String,
}

impl Draft {
    /// `audio 5004 RTP/AVP 97`
    fn of(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let (media, port) = (words.next()?.to_owned(), words.next()?.split('/').next()?.parse().ok()?);
        Some(Self { media, port, group: None, encoding: String::new() })
    }

    /// `rtpmap:97 L24/48000/2`
    fn see_attribute(&mut self, value: &str) {
        if let (Some(map), true) = (value.strip_prefix("rtpmap:"), self.encoding.is_empty()) {
            self.encoding = map.split_once(' ').map(|(_, encoding)| encoding.to_owned()).unwrap_or_default();
        }
    }

    fn finish(self, common: Option<Ipv4Addr>) -> Option<Stream> {
        let Self { media, port, group, encoding } = self;
        Some(Stream { media, group: group.or(common)?, port, encoding })
    }
}

/// `IN IP4 239.1.1.1/32`
fn address(value: &str) -> Option<Ipv4Addr> {
    value.strip_prefix("IN IP4 ")?.split('/').next()?.parse().ok()
}
