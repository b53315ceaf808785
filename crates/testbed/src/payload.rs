//! What test datagrams carry: a stream number, a sequence number, and bytes that follow from both, so that a receiver can tell
//! lost, repeated, reordered, mixed up and damaged ones apart.
//!
//! Layout, big-endian: `b"MCRT"`, stream (u32), sequence (u64), then the pattern to the end.

const MARK: [u8; 4] = *b"MCRT";

/// Bytes of the smallest test payload: mark, stream and sequence.
pub const SMALLEST_PAYLOAD: usize = 16;

/// What was found in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// As it was sent.
    Intact {
        /// The sender's stream number.
        stream: u32,
        /// Counted from 0 in each stream.
        sequence: u64,
    },
    /// Not a test payload, or a damaged one.
    Corrupt,
}

/// Fills `buffer` as datagram `sequence` of `stream`.
///
/// # Panics
/// When the buffer is shorter than [`SMALLEST_PAYLOAD`].
#[track_caller]
pub fn fill(buffer: &mut [u8], stream: u32, sequence: u64) {
    assert!(buffer.len() >= SMALLEST_PAYLOAD, "a test payload has at least {SMALLEST_PAYLOAD} bytes");
    let (head, pattern) = buffer.split_at_mut(SMALLEST_PAYLOAD);
    head[..4].copy_from_slice(&MARK);
    head[4..8].copy_from_slice(&stream.to_be_bytes());
    head[8..].copy_from_slice(&sequence.to_be_bytes());
    let mut words = Pattern::new(stream, sequence, pattern.len());
    for chunk in pattern.chunks_mut(8) {
        chunk.copy_from_slice(&words.next_word()[..chunk.len()]);
    }
}

/// Checks every byte of a payload.
pub fn check(payload: &[u8]) -> Content {
    let Some((head, pattern)) = payload.split_at_checked(SMALLEST_PAYLOAD) else {
        return Content::Corrupt;
    };
    let (Some(&stream), Some(&sequence)) = (head[4..].first_chunk(), head[8..].first_chunk()) else {
        return Content::Corrupt;
    };
    let (stream, sequence) = (u32::from_be_bytes(stream), u64::from_be_bytes(sequence));
    let mut words = Pattern::new(stream, sequence, pattern.len());
    let intact = head.starts_with(&MARK) && pattern.chunks(8).all(|chunk| words.next_word().starts_with(chunk));
    if intact { Content::Intact { stream, sequence } } else { Content::Corrupt }
}

/// Words that follow from stream, sequence and length, so that a cut payload is noticed too (a SplitMix64 generator: a few
/// instructions for 8 bytes, or the check would be the bottleneck).
struct Pattern(u64);

impl Pattern {
    fn new(stream: u32, sequence: u64, pattern_bytes: usize) -> Pattern {
        Pattern(sequence ^ u64::from(stream).rotate_left(40) ^ (pattern_bytes as u64).rotate_left(20))
    }

    fn next_word(&mut self) -> [u8; 8] {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_in_is_found_at_every_length() {
        for length in SMALLEST_PAYLOAD..100 {
            let mut payload = vec![0; length];
            fill(&mut payload, 7, length as u64);
            assert_eq!(check(&payload), Content::Intact { stream: 7, sequence: length as u64 });
        }
    }

    #[test]
    fn any_changed_byte_and_any_cut_in_the_pattern_is_noticed() {
        let mut payload = vec![0; 100];
        fill(&mut payload, 1, 2);
        for at in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[at] ^= 1;
            assert_eq!(check(&damaged), Content::Corrupt, "byte {at}");
        }
        for length in (0..payload.len()).filter(|&length| length != SMALLEST_PAYLOAD) {
            assert_eq!(check(&payload[..length]), Content::Corrupt, "{length} bytes");
        }
    }
}
