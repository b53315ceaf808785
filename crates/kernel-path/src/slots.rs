//! Numbers that are used again only when no packet can still see what they stood for.

use std::ops::Range;

/// The numbers of one array.
#[derive(Debug)]
pub(crate) struct Slots {
    range: Range<u32>,
    free: Vec<u32>,
    /// Given back, but a packet in flight may still look there.
    resting: Vec<u32>,
}

impl Slots {
    /// All numbers of `range`, but for those in use.
    pub(crate) fn new(range: Range<u32>, is_used: impl Fn(u32) -> bool) -> Self {
        // Taken from the end: small numbers first.
        let free = range.clone().rev().filter(|&slot| !is_used(slot)).collect();
        Self { range, free, resting: Vec::new() }
    }

    /// How many can be taken now.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes one.
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Gives one back, to be used again after a grace period.
    pub(crate) fn rest(&mut self, slot: u32) {
        debug_assert!(self.range.contains(&slot));
        self.resting.push(slot);
    }

    /// A grace period has passed since the last one was given back.
    pub(crate) fn wake(&mut self) {
        self.free.append(&mut self.resting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_before_it_is_taken_again() {
        let mut slots = Slots::new(1..4, |slot| slot == 2);
        assert_eq!((slots.take(), slots.take(), slots.take()), (Some(1), Some(3), None));
        slots.rest(3);
        assert_eq!(slots.take(), None);
        slots.wake();
        assert_eq!(slots.take(), Some(3));
    }
}
