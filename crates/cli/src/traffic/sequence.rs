//! What sequence numbers tell: which packets are missing, came twice, or came late.

/// How far back a packet is still known by its number; older ones can't be told from duplicates.
const WINDOW: u64 = 65_536;

/// What the number of a packet says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A number not seen before.
    New,
    /// The number of a packet that arrived already.
    Duplicate,
}

/// The account of one stream. Packets before the first one and after the last one that arrived are unknown to it.
#[derive(Debug)]
pub(crate) struct Sequence {
    first: u64,
    highest: u64,
    distinct: u64,
    duplicates: u64,
    reordered: u64,
    seen: Box<[u64]>,
}

impl Sequence {
    /// An account that begins with the packet numbered `first`.
    pub(crate) fn starting_at(first: u64) -> Self {
        let seen = vec![0; (WINDOW / 64) as usize].into_boxed_slice();
        let mut sequence = Self { first, highest: first, distinct: 1, duplicates: 0, reordered: 0, seen };
        sequence.mark(first);
        sequence
    }

    /// Counts one more packet.
    pub(crate) fn arrived(&mut self, number: u64) -> Arrival {
        if number > self.highest {
            self.advance(number);
        } else if self.highest - number >= WINDOW || !self.is_marked(number) {
            self.reordered += 1;
            self.first = self.first.min(number);
        } else {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        if self.highest - number < WINDOW {
            self.mark(number);
        }
        self.distinct += 1;
        Arrival::New
    }

    /// Packets between the first and the last that are missing by now.
    pub(crate) fn lost(&self) -> u64 {
        (self.highest - self.first).saturating_add(1).saturating_sub(self.distinct)
    }

    /// Packets that came once more.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came after one with a higher number.
    pub(crate) fn reordered(&self) -> u64 {
        self.reordered
    }

    fn advance(&mut self, number: u64) {
        if number - self.highest >= WINDOW {
            self.seen.fill(0);
        } else {
            (self.highest + 1..number).for_each(|skipped| self.clear(skipped));
        }
        self.highest = number;
    }

    fn place(number: u64) -> (usize, u64) {
        let bit = number % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.seen[word] &= !bit;
    }

    fn is_marked(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.seen[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Counts {
        lost: u64,
        duplicates: u64,
        reordered: u64,
    }

    const fn counts(lost: u64, duplicates: u64, reordered: u64) -> Counts {
        Counts { lost, duplicates, reordered }
    }

    fn account(numbers: impl IntoIterator<Item = u64>) -> Counts {
        let mut numbers = numbers.into_iter();
        let mut sequence = Sequence::starting_at(numbers.next().unwrap());
        for number in numbers {
            sequence.arrived(number);
        }
        counts(sequence.lost(), sequence.duplicates(), sequence.reordered())
    }

    #[test]
    fn lost_duplicate_reordered() {
        let table: [(&[u64], Counts); 9] = [
            (&[0, 1, 2, 3], counts(0, 0, 0)),
            (&[5, 6, 7], counts(0, 0, 0)),
            (&[0, 1, 3, 4], counts(1, 0, 0)),
            (&[0, 1, 3, 2, 4], counts(0, 0, 1)),
            (&[0, 0, 1, 1], counts(0, 2, 0)),
            (&[0, 3, 3, 1, 1, 2], counts(0, 2, 2)),
            (&[2, 1, 0], counts(0, 0, 2)),
            // Too old to know whether it came already: taken for late.
            (&[0, WINDOW, WINDOW, 0], counts(WINDOW - 2, 1, 1)),
            // All 2^64 numbers are one more than a count holds.
            (&[0, u64::MAX], counts(u64::MAX - 2, 0, 0)),
        ];
        for (numbers, expected) in table {
            assert_eq!(account(numbers.iter().copied()), expected, "{numbers:?}");
        }
    }

    #[test]
    fn a_long_stream_reuses_its_window() {
        let odd_ones_late = (0..500_000u64).step_by(2).flat_map(|even| [even + 1, even]);
        assert_eq!(account(odd_ones_late), counts(0, 0, 250_000));
        let every_third_lost = (0..300_000u64).filter(|number| number % 3 != 1);
        assert_eq!(account(every_third_lost), counts(100_000, 0, 0));
    }
}
