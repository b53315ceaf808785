//! Captures, packet by packet as the file is read: pcap in either byte order with times in micro- or nanoseconds
//! (draft-ietf-opsawg-pcap, sections 4 and 5), and pcapng (draft-ietf-opsawg-pcapng, section 4).

use std::io::{self, Read};
use std::time::Duration;

/// No packet and no block is longer.
const MOST_BYTES: u32 = 16 << 20;

/// A packet as captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Since some beginning.
    pub(crate) time: Duration,
    /// What it begins with (a `LINKTYPE_` number).
    pub(crate) link_type: u16,
    /// What was kept of it.
    pub(crate) bytes: Vec<u8>,
}

/// Reads a capture.
pub(crate) struct Reader<R> {
    file: R,
    format: Format,
    packets: u64,
}

#[derive(Debug)]
enum Format {
    Classic { order: Order, link_type: u16, fraction: u32 },
    Blocks { order: Order, interfaces: Vec<Interface>, time: Duration },
}

/// The order of the bytes of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

/// An interface of a pcapng file.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: u16,
    units_per_second: u64,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// A sentence that says why it is no capture.
    pub(crate) fn open(mut file: R) -> Result<Self, String> {
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(|_| "it is shorter than the header of a capture".to_owned())?;
        let format = match (u32::from_be_bytes(magic), u32::from_le_bytes(magic)) {
            (SECTION, _) => Format::Blocks { order: Order::Big, interfaces: Vec::new(), time: Duration::ZERO },
            (MICROSECONDS, _) => Format::classic(&mut file, Order::Big, 1_000)?,
            (NANOSECONDS, _) => Format::classic(&mut file, Order::Big, 1)?,
            (_, MICROSECONDS) => Format::classic(&mut file, Order::Little, 1_000)?,
            (_, NANOSECONDS) => Format::classic(&mut file, Order::Little, 1)?,
            _ => return Err("it is neither pcap nor pcapng".to_owned()),
        };
        let mut reader = Self { file, format, packets: 0 };
        if let Format::Blocks { .. } = reader.format {
            reader.section()?;
        }
        Ok(reader)
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and after how many packets.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, String> {
        let packet = match self.format {
            Format::Classic { order, link_type, fraction } => self.record(order, link_type, fraction),
            Format::Blocks { .. } => self.block(),
        };
        let packet = packet.map_err(|what| format!("{what} after {} packets", self.packets))?;
        self.packets += u64::from(packet.is_some());
        Ok(packet)
    }

    fn record(&mut self, order: Order, link_type: u16, fraction: u32) -> Result<Option<Packet>, String> {
        let Some(header) = self.header::<16>()? else { return Ok(None) };
        let number = |at: usize| order.u32(&header[at..]);
        let time = Duration::from_secs(number(0).into()) + Duration::from_nanos(number(4).into()) * fraction;
        Ok(Some(Packet { time, link_type, bytes: self.bytes(number(8))? }))
    }

    /// The next block with a packet.
    fn block(&mut self) -> Result<Option<Packet>, String> {
        loop {
            let Some(kind) = self.header::<4>()? else { return Ok(None) };
            // The same in both orders.
            if u32::from_be_bytes(kind) == SECTION {
                self.section()?;
                continue;
            }
            let order = self.order();
            let length = self.number(order)?;
            if length < 12 || length % 4 != 0 {
                return Err(format!("a block of {length} bytes"));
            }
            let body = self.bytes(length - 12)?;
            self.number(order)?;
            if let Some(packet) = self.take_block(order.u32(&kind), order, &body)? {
                return Ok(Some(packet));
            }
        }
    }

    fn take_block(&mut self, kind: u32, order: Order, body: &[u8]) -> Result<Option<Packet>, String> {
        let Format::Blocks { interfaces, time, .. } = &mut self.format else { return Ok(None) };
        let short = || "a block that is too short".to_owned();
        let head = |length: usize| body.split_at_checked(length).ok_or_else(short);
        let (number, stamp, kept, data) = match kind {
            INTERFACE => {
                interfaces.push(Interface::of(order, body).ok_or_else(short)?);
                return Ok(None);
            }
            ENHANCED => {
                let (head, data) = head(20)?;
                let stamp = (u64::from(order.u32(&head[4..])) << 32) | u64::from(order.u32(&head[8..]));
                (order.u32(head), Some(stamp), order.u32(&head[12..]), data)
            }
            // Of the first interface, and without a time: as soon as the one before.
            SIMPLE => {
                let (head, data) = head(4)?;
                (0, None, order.u32(head).min(data.len() as u32), data)
            }
            _ => return Ok(None),
        };
        let interface = interfaces.get(number as usize).ok_or("a packet of an interface that is not described")?;
        if let Some(stamp) = stamp {
            *time = interface.time(stamp);
        }
        let bytes = data.get(..kept as usize).ok_or_else(short)?.to_vec();
        Ok(Some(Packet { time: *time, link_type: interface.link_type, bytes }))
    }

    /// The rest of a section's header, which says the order of its bytes; its interfaces are counted anew.
    fn section(&mut self) -> Result<(), String> {
        let cut = "the file ends within a section's header";
        let head: [u8; 8] = self.header()?.ok_or(cut)?;
        let order = match (
            u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        ) {
            (BYTE_ORDER, _) => Order::Big,
            (_, BYTE_ORDER) => Order::Little,
            _ => return Err("a section without its byte order".to_owned()),
        };
        let length = order.u32(&head);
        self.bytes(length.checked_sub(12).ok_or(cut)?)?;
        let time = if let Format::Blocks { time, .. } = self.format { time } else { Duration::ZERO };
        self.format = Format::Blocks { order, interfaces: Vec::new(), time };
        Ok(())
    }

    fn order(&self) -> Order {
        match self.format {
            Format::Classic { order, .. } | Format::Blocks { order, .. } => order,
        }
    }

    fn number(&mut self, order: Order) -> Result<u32, String> {
        let bytes: [u8; 4] = self.header()?.ok_or("the file ends within a block")?;
        Ok(order.u32(&bytes))
    }

    /// So many bytes, or `None` at the end of the file.
    fn header<const N: usize>(&mut self) -> Result<Option<[u8; N]>, String> {
        let mut header = [0; N];
        let mut filled = 0;
        while filled < N {
            match self.file.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err("the file ends within a header".to_owned()),
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("it can not be read: {error},")),
            }
        }
        Ok(Some(header))
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, String> {
        if length > MOST_BYTES {
            return Err(format!("a length of {length} bytes, which no packet has,"));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(|_| "the file ends within a packet".to_owned())?;
        Ok(bytes)
    }
}

impl Format {
    fn classic(file: &mut impl Read, order: Order, fraction: u32) -> Result<Self, String> {
        let mut header = [0; 20];
        file.read_exact(&mut header).map_err(|_| "it is shorter than the header of a capture".to_owned())?;
        // The upper bits of the field may hold the length of a frame check sequence.
        let link_type = (order.u32(&header[16..]) & 0xffff) as u16;
        Ok(Self::Classic { order, link_type, fraction })
    }
}

impl Interface {
    /// From the body of its block. The option `if_tsresol` says the unit of its times: a power of ten, or of two.
    fn of(order: Order, body: &[u8]) -> Option<Self> {
        const RESOLUTION: u16 = 9;
        let (head, mut options) = body.split_at_checked(8)?;
        let mut units_per_second = 1_000_000;
        while let Some((option, rest)) = options.split_at_checked(4) {
            let (code, length) = (order.u16(option), usize::from(order.u16(&option[2..])));
            if code == 0 {
                break;
            }
            if let (RESOLUTION, Some(unit)) = (code, rest.first()) {
                let exponent = u32::from(unit & 0x7f);
                let base: u64 = if unit & 0x80 == 0 { 10 } else { 2 };
                units_per_second = base.checked_pow(exponent)?;
            }
            options = rest.get(length.next_multiple_of(4)..)?;
        }
        Some(Self { link_type: order.u16(head), units_per_second })
    }

    fn time(self, stamp: u64) -> Duration {
        let units = self.units_per_second;
        let nanoseconds = u128::from(stamp % units) * 1_000_000_000 / u128::from(units);
        Duration::new(stamp / units, nanoseconds as u32)
    }
}

impl Order {
    /// The number at the beginning of `bytes`, which has four at least.
    fn u32(self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    fn u16(self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Kinds of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(file: &[u8]) -> Result<Vec<Packet>, String> {
        let mut reader = Reader::open(file)?;
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    fn classic(magic: u32, number: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let fields = [magic, 0, 0, 0, 65_535, 0xf000_0001, 10, 500, 3, 60];
        [&fields.into_iter().flat_map(number).collect::<Vec<u8>>()[..], &[1, 2, 3]].concat()
    }

    /// A section with an interface whose times are in units of `resolution`, and two packets.
    fn blocks(number: fn(u32) -> [u8; 4], half: fn(u16) -> [u8; 2], resolution: u8) -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let length = number(body.len() as u32 + 12);
            [&number(kind)[..], &length, body, &length].concat()
        };
        let numbers = |numbers: &[u32]| numbers.iter().copied().flat_map(number).collect::<Vec<u8>>();
        let interface =
            [&half(1)[..], &half(0), &number(65_535), &half(9), &half(1), &[resolution, 0, 0, 0], &half(0), &half(0)]
                .concat();
        let enhanced = [&numbers(&[0, 1, 0, 3, 60])[..], &[1, 2, 3, 0]].concat();
        let simple = [&number(60)[..], &[4, 5, 6, 7]].concat();
        let section = [&numbers(&[BYTE_ORDER, 1, u32::MAX, u32::MAX])[..]].concat();
        [
            block(SECTION, &section),
            block(INTERFACE, &interface),
            block(99, &[0; 4]),
            block(ENHANCED, &enhanced),
            block(SIMPLE, &simple),
        ]
        .concat()
    }

    #[test]
    fn both_formats_in_both_orders() {
        for number in [u32::to_be_bytes, u32::to_le_bytes] {
            for (magic, fraction) in [(MICROSECONDS, 500_000), (NANOSECONDS, 500)] {
                let packet = Packet { time: Duration::new(10, fraction), link_type: 1, bytes: vec![1, 2, 3] };
                assert_eq!(all(&classic(magic, number)), Ok(vec![packet]));
            }
        }
        type Order = (fn(u32) -> [u8; 4], fn(u16) -> [u8; 2]);
        let orders: [Order; 2] = [(u32::to_be_bytes, u16::to_be_bytes), (u32::to_le_bytes, u16::to_le_bytes)];
        for (number, half) in orders {
            for (resolution, time) in [(6, 4294.967296), (9, 4.294967296), (0x80 | 32, 1.0)] {
                let time = Duration::from_secs_f64(time);
                let first = Packet { time, link_type: 1, bytes: vec![1, 2, 3] };
                let second = Packet { time, link_type: 1, bytes: vec![4, 5, 6, 7] };
                assert_eq!(all(&blocks(number, half, resolution)), Ok(vec![first, second]));
            }
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused_and_nothing_panics() {
        assert!(all(b"").is_err() && all(b"hello, world").is_err());
        let whole = [classic(MICROSECONDS, u32::to_le_bytes), blocks(u32::to_le_bytes, u16::to_le_bytes, 6)];
        for file in whole {
            for end in 0..file.len() {
                let _ = all(&file[..end]);
                let mut bent = file.clone();
                bent[end] = !bent[end];
                let _ = all(&bent);
            }
            assert!(all(&file[..file.len() - 1]).unwrap_err().contains("after"));
        }
    }
}
