//! Captures of real traffic to be sent again: the classic pcap format, in either byte order, with times in micro- or nanoseconds
//! (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>, sections 4 and 5).

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Bytes of the file header and of the header before each packet.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// A capture file's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The `LINKTYPE_` number; 1 is Ethernet.
    pub link_type: u16,
    /// In the order of the file.
    pub packets: Vec<CapturedPacket>,
}

/// A packet as captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedPacket {
    /// Since the beginning of 1970.
    pub time: Duration,
    /// Length on the wire in bytes; more than `bytes` has when the capture cut it.
    pub wire_bytes: u32,
    /// What was kept of it.
    pub bytes: Vec<u8>,
}

/// Why bytes are no capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotACapture {
    /// The first four bytes are those of no classic pcap file (a pcapng file, perhaps).
    UnknownFormat,
    /// The file ends within a header or packet; the number of whole packets before it.
    CutShort {
        /// Whole packets before the cut.
        after: usize,
    },
}

impl fmt::Display for NotACapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotACapture::UnknownFormat => write!(f, "not a classic pcap file; convert with `editcap -F pcap`"),
            NotACapture::CutShort { after } => write!(f, "the file ends within the packet after the first {after}"),
        }
    }
}

impl std::error::Error for NotACapture {}

impl Capture {
    /// Reads a file.
    ///
    /// # Panics
    /// When it cannot be read or is no capture.
    #[track_caller]
    pub fn open(path: impl AsRef<Path>) -> Capture {
        let path = path.as_ref();
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Capture::parse(&bytes).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// When they are not, or not all, of a capture.
    pub fn parse(file: &[u8]) -> Result<Capture, NotACapture> {
        let magic = file.first_chunk().ok_or(NotACapture::UnknownFormat)?;
        let format = Format::of(*magic).ok_or(NotACapture::UnknownFormat)?;
        let header = file.get(..FILE_HEADER).ok_or(NotACapture::CutShort { after: 0 })?;
        // The upper bits of the field may hold the length of a frame check sequence.
        let link_type = (format.read(header, 20) & 0xffff) as u16;
        let mut packets = Vec::new();
        let mut rest = &file[FILE_HEADER..];
        while !rest.is_empty() {
            let cut = NotACapture::CutShort { after: packets.len() };
            let (header, after) = rest.split_at_checked(PACKET_HEADER).ok_or(cut)?;
            let (bytes, after) = after.split_at_checked(format.read(header, 8) as usize).ok_or(cut)?;
            let seconds = Duration::from_secs(format.read(header, 0).into());
            let time = seconds + Duration::from_nanos(format.read(header, 4).into()) * format.fraction_ns;
            packets.push(CapturedPacket { time, wire_bytes: format.read(header, 12), bytes: bytes.to_vec() });
            rest = after;
        }
        Ok(Capture { link_type, packets })
    }
}

/// How a file's numbers are written.
struct Format {
    number: fn([u8; 4]) -> u32,
    fraction_ns: u32,
}

impl Format {
    fn of(magic: [u8; 4]) -> Option<Format> {
        let orders: [fn([u8; 4]) -> u32; 2] = [u32::from_be_bytes, u32::from_le_bytes];
        orders.into_iter().find_map(|number| match number(magic) {
            MICROSECONDS => Some(Format { number, fraction_ns: 1_000 }),
            NANOSECONDS => Some(Format { number, fraction_ns: 1 }),
            _ => None,
        })
    }

    /// The number at `at`, which lies within the header of fixed size that `header` is.
    fn read(&self, header: &[u8], at: usize) -> u32 {
        (self.number)([header[at], header[at + 1], header[at + 2], header[at + 3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(magic: u32, number: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let fields = [magic, 0, 0, 0, 65_535, 0xf000_0001, 10, 500, 3, 60];
        let mut bytes: Vec<u8> = fields.into_iter().flat_map(number).collect();
        bytes.extend([1, 2, 3]);
        bytes
    }

    #[test]
    fn both_byte_orders_and_both_units_of_time_are_read() {
        for number in [u32::to_be_bytes, u32::to_le_bytes] {
            for (magic, fraction) in [(MICROSECONDS, 500_000), (NANOSECONDS, 500)] {
                let capture = Capture::parse(&file(magic, number)).expect("a capture");
                assert_eq!(capture.link_type, 1);
                let packet = CapturedPacket { time: Duration::new(10, fraction), wire_bytes: 60, bytes: vec![1, 2, 3] };
                assert_eq!(capture.packets, [packet]);
            }
        }
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let whole = file(MICROSECONDS, u32::to_le_bytes);
        for length in (4..whole.len()).filter(|&length| length != FILE_HEADER) {
            assert_eq!(Capture::parse(&whole[..length]), Err(NotACapture::CutShort { after: 0 }), "{length} bytes");
        }
        let pcapng = [0x0a, 0x0d, 0x0d, 0x0a, 0x1c, 0, 0, 0];
        assert_eq!(Capture::parse(&pcapng), Err(NotACapture::UnknownFormat));
        assert_eq!(Capture::parse(&[]), Err(NotACapture::UnknownFormat));
    }
}
