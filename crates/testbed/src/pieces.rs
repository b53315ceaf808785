//! Putting fragments together again, strictly, as no receiver has to (RFC 791 section 3.2, RFC 8200 section 4.5).

use crate::frame::sum;

/// Bytes of the IPv6 header and the fragment header behind it.
const IPV6_AND_FRAGMENT_BYTES: usize = 48;

/// One fragment, read.
struct Piece<'a> {
    ethernet: &'a [u8],
    ip: &'a [u8],
    behind: &'a [u8],
    identification: u32,
    /// "More fragments" and the offset, as in an IPv4 header.
    place: u16,
}

/// The identification of a fragment, and the untagged or tagged frame that these fragments are made of: a whole datagram, or a
/// larger fragment when the first does not begin it or the last does not end it.
///
/// # Errors
/// What is wrong: a gap, an overlap, a length that no offset follows, a wrong checksum, headers that differ.
pub fn put_together(frames: &[Vec<u8>]) -> Result<(u32, Vec<u8>), String> {
    let pieces: Option<Vec<Piece<'_>>> = frames.iter().map(|frame| Piece::read(frame)).collect();
    let pieces = pieces.ok_or("a frame is no fragment")?;
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Err("there is none".to_owned()) };
    let mut behind: Vec<u8> = Vec::new();
    for piece in &pieces {
        let offset = usize::from(piece.place & 0x1fff) * 8;
        if offset != usize::from(first.place & 0x1fff) * 8 + behind.len() {
            return Err(format!("{offset} follows {} bytes", behind.len()));
        }
        let is_last = std::ptr::eq(piece, last);
        if !is_last && (piece.place & 0x2000 == 0 || piece.behind.len() % 8 != 0) {
            return Err(format!("{} bytes at {offset} are told to be the last", piece.behind.len()));
        }
        let same = |piece: &Piece<'_>| (piece.ethernet.to_vec(), piece.fixed(), piece.identification);
        if same(piece) != same(first) {
            return Err(format!("headers differ at {offset}"));
        }
        behind.extend(piece.behind);
    }
    let place = last.place & 0x2000 | first.place & 0x1fff;
    let mut frame = first.ethernet.to_vec();
    frame.extend(first.header_of_all(behind.len(), place));
    frame.extend(behind);
    Ok((first.identification, frame))
}

impl<'a> Piece<'a> {
    fn read(frame: &'a [u8]) -> Option<Piece<'a>> {
        let mut at = 12;
        while let [0x81, 0x00] | [0x88, 0xa8] = frame.get(at..at + 2)? {
            at += 4;
        }
        let (ethernet, packet) = frame.split_at_checked(at + 2)?;
        let word = |at: usize| packet.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        match frame.get(at..at + 2)? {
            [0x08, 0x00] => {
                let (ip, behind) = packet.split_at_checked(20)?;
                let is_sound = usize::from(word(2)?) == packet.len() && sum(ip) == 0xffff && word(6)? & 0xc000 == 0;
                let piece =
                    Piece { ethernet, ip, behind, identification: u32::from(word(4)?), place: word(6)? & 0x3fff };
                is_sound.then_some(piece)
            }
            _ => {
                let (ip, behind) = packet.split_at_checked(IPV6_AND_FRAGMENT_BYTES)?;
                let is_sound = usize::from(word(4)?) + 40 == packet.len() && ip[6] == 44 && ip[40..42] == [17, 0];
                let place = word(42)?;
                let identification = u32::from(word(44)?) << 16 | u32::from(word(46)?);
                let piece = Piece { ethernet, ip, behind, identification, place: place >> 3 | (place & 1) << 13 };
                (is_sound && place & 6 == 0).then_some(piece)
            }
        }
    }

    /// What all fragments of a datagram have alike in the IP header.
    fn fixed(&self) -> Vec<u8> {
        let mut fixed = self.ip.to_vec();
        if fixed.len() == IPV6_AND_FRAGMENT_BYTES {
            fixed[4..6].fill(0);
            fixed[42..44].fill(0);
        } else {
            fixed[2..4].fill(0);
            fixed[6..8].fill(0);
            fixed[10..12].fill(0);
        }
        fixed
    }

    /// The IP header in front of so many bytes at a place.
    fn header_of_all(&self, bytes: usize, place: u16) -> Vec<u8> {
        let mut header = self.ip.to_vec();
        let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
        if header.len() == IPV6_AND_FRAGMENT_BYTES {
            header[42..44].copy_from_slice(&(place << 3 | place >> 13 & 1).to_be_bytes());
            if place == 0 {
                header.truncate(40);
                header[6] = 17;
            }
            let before = header.len() - 40;
            header[4..6].copy_from_slice(&length(before + bytes));
        } else {
            let before = header.len();
            header[2..4].copy_from_slice(&length(before + bytes));
            header[6..8].copy_from_slice(&place.to_be_bytes());
            header[10..12].fill(0);
            let checksum = !sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Frame;

    #[test]
    fn fragments_of_the_test_bed_make_the_frame_they_are_of() {
        for (from, to) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            let whole = Frame::udp(from, to, vec![7; 100]).identification(9).flags_and_offset(0);
            let frames = whole.fragments(48);
            assert_eq!(put_together(&frames), Ok((9, whole.bytes())));
            let later = whole.clone().without_udp_header().fragment(9, 0x0006).bytes();
            let (_, end) = put_together(&frames[1..]).expect("two that follow each other");
            assert_eq!((end.len() + 40, &end[..14]), (later.len(), &later[..14]));
            assert!(put_together(&[frames[0].clone(), frames[2].clone()]).is_err());
            assert!(put_together(&[frames[0].clone(), frames[0].clone()]).is_err());
            assert!(put_together(&[whole.bytes()[..20].to_vec()]).is_err());
        }
    }
}
