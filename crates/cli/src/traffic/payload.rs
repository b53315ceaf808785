//! The payload of a test packet: a 32-byte header, then a pattern that follows from it.
//!
//! ```text
//!  0      4        8                16               24       28      32
//!  +------+--------+----------------+----------------+--------+-------+-----------
//!  | MCRt | stream | sequence       | sent           | length | check | pattern …
//!  +------+--------+----------------+----------------+--------+-------+-----------
//! ```
//!
//! All numbers are big-endian. `sent` is in nanoseconds since 1970 by the sender's clock, `length` the bytes of the
//! whole payload, `check` FNV-1a over the 28 bytes before it. The pattern differs from packet to packet, so that
//! bytes of another packet are noticed too.

/// Bytes before the pattern, so the smallest payload.
pub(crate) const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"MCRt";
const CHECKED_BYTES: usize = 28;

/// What identifies a test packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Drawn at random by each run of a sender.
    pub(crate) stream: u32,
    /// Counts from 0.
    pub(crate) sequence: u64,
    /// When it was sent, in nanoseconds since 1970.
    pub(crate) sent_nanoseconds: u64,
}

/// What a received payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A test packet, intact.
    Test(Stamp),
    /// A test packet with wrong bytes, or with some missing.
    Corrupt,
    /// No test packet.
    Foreign,
}

/// Fills `payload`, which is as long as the packet shall be and at least [`HEADER_BYTES`].
pub(crate) fn emit(stamp: Stamp, payload: &mut [u8]) {
    let Stamp { stream, sequence, sent_nanoseconds } = stamp;
    let (header, pattern) = payload.split_at_mut(HEADER_BYTES);
    let length = (HEADER_BYTES + pattern.len()) as u32;
    header[0..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&stream.to_be_bytes());
    header[8..16].copy_from_slice(&sequence.to_be_bytes());
    header[16..24].copy_from_slice(&sent_nanoseconds.to_be_bytes());
    header[24..28].copy_from_slice(&length.to_be_bytes());
    let check = fnv1a(&header[..CHECKED_BYTES]);
    header[28..32].copy_from_slice(&check.to_be_bytes());
    for (i, chunk) in pattern.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&pattern_word(stream, sequence, i)[..chunk.len()]);
    }
}

/// What `payload` is. Reads any bytes.
pub(crate) fn parse(payload: &[u8]) -> Content {
    if !payload.starts_with(&MAGIC) {
        return Content::Foreign;
    }
    let Some((header, pattern)) = payload.split_first_chunk::<HEADER_BYTES>() else {
        return Content::Corrupt;
    };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| (u64::from(word(at)) << 32) | u64::from(word(at + 4));
    let stamp = Stamp { stream: word(4), sequence: long(8), sent_nanoseconds: long(16) };
    let is_whole = word(24) as usize == payload.len() && word(28) == fnv1a(&header[..CHECKED_BYTES]);
    let mut chunks = pattern.chunks(8).enumerate();
    let is_intact =
        is_whole && chunks.all(|(i, chunk)| *chunk == pattern_word(stamp.stream, stamp.sequence, i)[..chunk.len()]);
    if is_intact { Content::Test(stamp) } else { Content::Corrupt }
}

/// Eight bytes of the pattern: the mixing step of SplitMix64 over stream, sequence and place.
fn pattern_word(stream: u32, sequence: u64, place: usize) -> [u8; 8] {
    let seed = sequence.wrapping_mul(0x1_0001).wrapping_add(u64::from(stream) << 32).wrapping_add(place as u64);
    mix(seed).to_be_bytes()
}

/// A number that looks random and follows from `seed`; also what varies the sizes of packets.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { stream: 7, sequence: 1 << 40, sent_nanoseconds: 1_800_000_000_000_000_000 };

    fn packet(payload_bytes: usize) -> Vec<u8> {
        let mut payload = vec![0; payload_bytes];
        emit(STAMP, &mut payload);
        payload
    }

    #[test]
    fn what_was_sent_is_read() {
        for payload_bytes in [32, 33, 39, 40, 1250, 65_507] {
            assert_eq!(parse(&packet(payload_bytes)), Content::Test(STAMP), "{payload_bytes}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = packet(61);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 32 { Content::Foreign } else { Content::Corrupt };
            assert_eq!(parse(&bad), expected, "bit {bit}");
        }
    }

    #[test]
    fn every_missing_or_added_byte_is_noticed() {
        let good = packet(61);
        for end in 4..good.len() {
            assert_eq!(parse(&good[..end]), Content::Corrupt, "{end}");
        }
        assert_eq!(parse(&[&good[..], &[0]].concat()), Content::Corrupt);
        assert_eq!(parse(&good[..3]), Content::Foreign);
        assert_eq!(parse(b""), Content::Foreign);
    }
}
