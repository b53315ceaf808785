//! Where the keeper writes down what it hears and what has happened to it, for the daemon to read whenever it likes: it waits for
//! nobody.
//!
//! ```text
//! FNV-1a of the rest u64 | hears u8 (0: no queries) | disturbed: times u32, last u64, mended u8
//!   | count u32 | count × (interface u32 | querier 16 bytes | heard last, CLOCK_MONOTONIC in ms, u64)
//! ```
//!
//! Times are those of CLOCK_MONOTONIC in ms. Queriers of IPv4 have mapped addresses (RFC 4291 section 2.5.5.2).

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use mcr_datapath::clock;

use crate::fd_store::{fnv, memory_file};

/// Bytes of one querier.
const ENTRY_BYTES: usize = 4 + 16 + 8;
/// Longest board: more than the keeper remembers.
const MOST_BYTES: usize = 8 + HEAD_BYTES + 2_048 * ENTRY_BYTES;
/// Bytes between the sum and the queriers.
const HEAD_BYTES: usize = 1 + 4 + 8 + 1 + 4;

/// A memory file that the keeper writes and the daemon reads.
#[derive(Debug)]
pub struct Board(File);

/// What is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Everybody who was heard to ask for memberships; `None`: nobody can be heard.
    pub queriers: Option<Vec<HeardQuerier>>,
    /// What others did to the one-way rules of the policy.
    pub disturbance: Disturbance,
}

/// Changes that others made to the one-way rules of the policy, as whoever flushes the rules of the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disturbance {
    /// How often, since the keeper started.
    pub times: u32,
    /// When last, by `CLOCK_MONOTONIC`.
    pub last: Duration,
    /// How it stands with the rules since then.
    pub outcome: Outcome,
}

/// How it stands with rules that somebody has disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// They were made anew.
    #[default]
    Mended,
    /// They can not be kept: nothing is handed over any more.
    Broken,
}

/// Who asks for memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardQuerier {
    /// The index of the interface that its queries come on.
    pub interface: u32,
    /// Its address.
    pub querier: IpAddr,
    /// When the last of them came, by `CLOCK_MONOTONIC`.
    pub at: Duration,
}

/// The time by the clock of boards.
pub(crate) fn now() -> Duration {
    Duration::from_nanos(clock::monotonic_nanoseconds())
}

impl Board {
    pub(crate) fn new() -> io::Result<Self> {
        let board = Self(memory_file()?);
        board.write(None, Disturbance::default());
        Ok(board)
    }

    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Writes everybody who was heard, if anybody can be, and what was done to the rules.
    pub(crate) fn write(&self, heard: Option<&[HeardQuerier]>, disturbance: Disturbance) {
        let mut entries = Vec::new();
        let mut count = 0_u32;
        for HeardQuerier { interface, querier, at } in heard.unwrap_or_default() {
            entries.extend(interface.to_le_bytes());
            entries.extend(mapped(*querier).octets());
            entries.extend((at.as_millis() as u64).to_le_bytes());
            count += 1;
        }
        let Disturbance { times, last, outcome } = disturbance;
        let mut rest = vec![u8::from(heard.is_some())];
        rest.extend(times.to_le_bytes());
        rest.extend((last.as_millis() as u64).to_le_bytes());
        rest.push(u8::from(outcome == Outcome::Mended));
        rest.extend(count.to_le_bytes());
        rest.extend(entries);
        // Memory is all that can be missing; what was written before stays then.
        let _ = self.0.write_all_at(&[&fnv(&rest).to_le_bytes()[..], &rest].concat(), 0);
    }

    /// What is written there. `None`: it is being written just now.
    #[must_use]
    pub fn read(&self) -> Option<Written> {
        let mut bytes = vec![0; MOST_BYTES];
        let length = self.0.read_at(&mut bytes, 0).ok()?;
        let (sum, rest) = bytes[..length].split_first_chunk()?;
        let (head, entries) = rest.split_first_chunk::<HEAD_BYTES>()?;
        let number = |at: usize| head[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
        let length = (number(14) as usize).checked_mul(ENTRY_BYTES)?;
        let entries = entries.get(..length)?;
        if fnv(&rest[..HEAD_BYTES + length]) != u64::from_le_bytes(*sum) {
            return None;
        }
        let last = head[5..13].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let outcome = if head[13] == 1 { Outcome::Mended } else { Outcome::Broken };
        Some(Written {
            queriers: (head[0] == 1).then(|| entries.as_chunks().0.iter().map(entry).collect()),
            disturbance: Disturbance { times: number(1), last: Duration::from_millis(last), outcome },
        })
    }
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> HeardQuerier {
    let part = |from: usize, bytes_of_it: usize| &bytes[from..from + bytes_of_it];
    let querier = Ipv6Addr::from(<[u8; 16]>::try_from(part(4, 16)).unwrap_or_default());
    HeardQuerier {
        interface: u32::from_le_bytes(part(0, 4).try_into().unwrap_or_default()),
        querier: querier.to_canonical(),
        at: Duration::from_millis(u64::from_le_bytes(part(20, 8).try_into().unwrap_or_default())),
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl AsFd for Board {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_unless_it_is_torn() {
        let board = Board::new().unwrap();
        let nothing = Written { queriers: None, disturbance: Disturbance::default() };
        assert_eq!(board.read(), Some(nothing));
        let disturbance = Disturbance { times: 70_000, last: Duration::from_secs(9), outcome: Outcome::Broken };
        let querier =
            |last| HeardQuerier { interface: 7, querier: [10, 0, 0, last].into(), at: Duration::from_secs(3) };
        let of_ipv6 = HeardQuerier { querier: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 9]), ..querier(1) };
        for count in [3, 1, 2] {
            let heard: Vec<HeardQuerier> = (0..count).map(querier).chain([of_ipv6]).collect();
            board.write(Some(&heard), disturbance);
            let written = Written { queriers: Some(heard), disturbance };
            assert_eq!(board.read(), Some(written), "one that is shorter than the last too");
        }
        board.0.write_all_at(&[0xff], 20).unwrap();
        assert_eq!(board.read(), None);
    }
}
