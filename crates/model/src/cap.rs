//! How much a relay takes, and how much an output sends.

use mcr_wire::RateCap;

use crate::problem::FieldError;

/// Caps on a rate, each for a second; bits are those of the IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RateCaps {
    packets: Option<u64>,
    bits: Option<u64>,
}

impl RateCaps {
    const MOST_PACKETS: u64 = 1_000_000_000;
    const LEAST_BITS: u64 = 1_000;
    const MOST_BITS: u64 = 1_000_000_000_000;

    /// The checked form of what a user wrote in `part`, which is empty or ends with a full stop.
    ///
    /// # Errors
    /// Every number that is out of range.
    pub fn check(part: &str, packets: Option<i64>, bits: Option<i64>) -> Result<Self, Vec<FieldError>> {
        let check = |key: &str, what: &str, given: Option<i64>, least: u64, most: u64| match given.map(u64::try_from) {
            None => Ok(None),
            Some(Ok(rate)) if (least..=most).contains(&rate) => Ok(Some(rate)),
            Some(_) => Err(FieldError::new(
                format!("{part}{key}"),
                format!("{} {what} per second are out of range", given.unwrap_or_default()),
                format!("use {least} to {most}, or leave it out for no cap"),
            )),
        };
        let packets = check("max_packets_per_second", "packets", packets, 1, Self::MOST_PACKETS);
        let bits = check("max_bits_per_second", "bits", bits, Self::LEAST_BITS, Self::MOST_BITS);
        match (packets, bits) {
            (Ok(packets), Ok(bits)) => Ok(Self { packets, bits }),
            (packets, bits) => Err([packets.err(), bits.err()].into_iter().flatten().collect()),
        }
    }

    /// How a user writes it: packets, bits.
    pub fn spec(self) -> (Option<i64>, Option<i64>) {
        (self.packets.map(u64::cast_signed), self.bits.map(u64::cast_signed))
    }

    /// Whether there is no cap.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What the datapaths are told.
    pub fn on_wire(self) -> RateCap {
        RateCap::new(self.packets, self.bits)
    }
}
