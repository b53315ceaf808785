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
//! whole payload with the number of the pattern in its upper byte, `check` FNV-1a over the 28 bytes before it. The pattern
//! differs from packet to packet unless something else is asked for, so that bytes of another packet are noticed too. The
//! listener does not know a text: `check` covers it, too.

/// Bytes before the pattern, so the smallest payload.
pub(crate) const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"MCRt";
const CHECKED_BYTES: usize = 28;
/// A payload is shorter than 64 KiB.
const LENGTH_BITS: u32 = 24;

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

/// What is behind the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Bytes that look random, others in each packet.
    Random,
    /// Nothing but zeros.
    Zero,
    /// Bytes that count up, from the sequence number on.
    Counter,
    /// This text, over and over.
    Text(Vec<u8>),
}

impl Pattern {
    /// Reads `random`, `zero`, `counter` or `text:WORDS`.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub(crate) fn parse(given: &str) -> Result<Self, String> {
        match (given, given.strip_prefix("text:")) {
            ("random", _) => Ok(Self::Random),
            ("zero", _) => Ok(Self::Zero),
            ("counter", _) => Ok(Self::Counter),
            (_, Some(text)) if !text.is_empty() => Ok(Self::Text(text.as_bytes().to_vec())),
            _ => Err(format!("{given:?} is no pattern; use random, zero, counter or text:WORDS")),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Random => RANDOM,
            Self::Zero => ZERO,
            Self::Counter => COUNTER,
            Self::Text(_) => TEXT,
        }
    }

    fn fill(&self, Stamp { stream, sequence, .. }: Stamp, pattern: &mut [u8]) {
        match self {
            Self::Random => {
                for (i, chunk) in pattern.chunks_mut(8).enumerate() {
                    chunk.copy_from_slice(&pattern_word(stream, sequence, i)[..chunk.len()]);
                }
            }
            Self::Zero => pattern.fill(0),
            Self::Counter => pattern.iter_mut().zip(counting(sequence)).for_each(|(byte, next)| *byte = next),
            Self::Text(text) => {
                pattern.chunks_mut(text.len()).for_each(|chunk| chunk.copy_from_slice(&text[..chunk.len()]))
            }
        }
    }
}

const RANDOM: u8 = 0;
const ZERO: u8 = 1;
const COUNTER: u8 = 2;
const TEXT: u8 = 3;

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
pub(crate) fn emit(stamp: Stamp, kind: &Pattern, payload: &mut [u8]) {
    let Stamp { stream, sequence, sent_nanoseconds } = stamp;
    let (header, pattern) = payload.split_at_mut(HEADER_BYTES);
    let length = (u32::from(kind.code()) << LENGTH_BITS) | (HEADER_BYTES + pattern.len()) as u32;
    header[0..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&stream.to_be_bytes());
    header[8..16].copy_from_slice(&sequence.to_be_bytes());
    header[16..24].copy_from_slice(&sent_nanoseconds.to_be_bytes());
    header[24..28].copy_from_slice(&length.to_be_bytes());
    kind.fill(stamp, pattern);
    let check = check(kind.code(), &header[..CHECKED_BYTES], pattern);
    header[28..32].copy_from_slice(&check.to_be_bytes());
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
    let (code, length) = ((word(24) >> LENGTH_BITS) as u8, word(24) & ((1 << LENGTH_BITS) - 1));
    let is_whole = length as usize == payload.len() && word(28) == check(code, &header[..CHECKED_BYTES], pattern);
    if is_whole && is_intact(code, stamp, pattern) { Content::Test(stamp) } else { Content::Corrupt }
}

fn is_intact(code: u8, Stamp { stream, sequence, .. }: Stamp, pattern: &[u8]) -> bool {
    match code {
        RANDOM => {
            pattern.chunks(8).enumerate().all(|(i, chunk)| *chunk == pattern_word(stream, sequence, i)[..chunk.len()])
        }
        ZERO => pattern.iter().all(|byte| *byte == 0),
        COUNTER => pattern.iter().zip(counting(sequence)).all(|(byte, next)| *byte == next),
        // What it is was checked with the header.
        TEXT => true,
        _ => false,
    }
}

fn check(code: u8, header: &[u8], pattern: &[u8]) -> u32 {
    let also = if code == TEXT { pattern } else { &[] };
    fnv1a(header.iter().chain(also))
}

fn counting(sequence: u64) -> impl Iterator<Item = u8> {
    (0_u64..).map(move |place| sequence.wrapping_add(place) as u8)
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

fn fnv1a<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { stream: 7, sequence: 1 << 40, sent_nanoseconds: 1_800_000_000_000_000_000 };

    fn packet(payload_bytes: usize) -> Vec<u8> {
        packet_of(&Pattern::Random, payload_bytes)
    }

    fn packet_of(pattern: &Pattern, payload_bytes: usize) -> Vec<u8> {
        let mut payload = vec![0xa5; payload_bytes];
        emit(STAMP, pattern, &mut payload);
        payload
    }

    fn patterns() -> [Pattern; 4] {
        ["random", "zero", "counter", "text:ab cd"].map(|given| Pattern::parse(given).unwrap())
    }

    #[test]
    fn patterns_are_what_they_are_called() {
        let of = |given: &str| packet_of(&Pattern::parse(given).unwrap(), 42)[HEADER_BYTES..].to_vec();
        assert_eq!(of("zero"), [0; 10]);
        assert_eq!(of("counter"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(of("text:ab cd"), b"ab cdab cd");
        for bad in ["", "text:", "ones", "Zero"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_sent_is_read() {
        for payload_bytes in [32, 33, 39, 40, 1250, 65_507] {
            for pattern in patterns() {
                assert_eq!(parse(&packet_of(&pattern, payload_bytes)), Content::Test(STAMP), "{payload_bytes}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for good in patterns().map(|pattern| packet_of(&pattern, 61)) {
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let expected = if bit < 32 { Content::Foreign } else { Content::Corrupt };
                assert_eq!(parse(&bad), expected, "bit {bit}");
            }
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
