//! Copies between two drivers. A relay numbers the frames that it hands to its outputs, on each CPU for itself, and an output
//! notes the number of the last copy that came. The kernel is silent about those that it drops in between, so they are
//! counted with the next copy that comes on the same CPU (`count_copy` in `bpf/xdp.h`). Where none comes they are found here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mcr_wire::{DropReason, OutputSnapshot};

use crate::counters::{OutputCounters, RelayCounters};

/// Far longer than a frame is on its way from one driver to the other.
const CROSSING: Duration = Duration::from_millis(40);

/// What of a relay's crossings is over, as far as whoever reads its counters has looked.
#[derive(Debug, Default)]
pub struct Crossings(Vec<Missed>);

/// A CPU on which an output lacks copies; there are few.
#[derive(Debug)]
struct Missed {
    cpu: usize,
    older: Mark,
    newest: Mark,
    /// Up to this number copies have come or do not come.
    settled: Option<u32>,
}

/// The last frame that had crossed at a look.
#[derive(Debug, Clone, Copy)]
struct Mark {
    crossed: u32,
    seen: Instant,
}

impl Crossings {
    /// All that crossed so far is over, whatever may still be on its way.
    #[must_use]
    pub fn at_rest(relay: &RelayCounters, outputs: &[Arc<OutputCounters>]) -> Self {
        let mut all = Self::default();
        all.look(relay, outputs, Instant::now());
        all.0.iter_mut().for_each(|missed| missed.settled = Some(missed.newest.crossed));
        all
    }

    /// Looks at what has crossed by now. What had crossed a while ago is over then.
    pub fn look(&mut self, relay: &RelayCounters, outputs: &[Arc<OutputCounters>], now: Instant) {
        for (cpu, crossed) in relay.crossed().enumerate() {
            let lacks = |output: &Arc<OutputCounters>| missing(crossed, output.arrived(cpu)) > 0;
            let known = self.0.iter().position(|missed| missed.cpu == cpu);
            match (known, crossed != 0 && outputs.iter().any(lacks)) {
                (Some(place), true) => self.0[place].look(crossed, now),
                (Some(place), false) => drop(self.0.swap_remove(place)),
                (None, true) => self.0.push(Missed::new(cpu, crossed, now)),
                (None, false) => {}
            }
        }
    }

    /// What left for an output and what did not, with the copies that are lost by the last look.
    #[must_use]
    pub fn snapshot(&self, output: &OutputCounters) -> OutputSnapshot {
        let mut lost = self.lost_at(output);
        loop {
            let mut seen = output.snapshot();
            let before = std::mem::replace(&mut lost, self.lost_at(output));
            // Else the kernel has counted them just now, and the snapshot may have them or not.
            if lost == before {
                seen.dropped.add(DropReason::SendFailed, lost);
                return seen;
            }
        }
    }

    /// Copies that did not come to an output and that the kernel has not counted.
    fn lost_at(&self, output: &OutputCounters) -> u64 {
        let of_cpu = |missed: &Missed| {
            missed.settled.map_or(0, |settled| u64::from(missing(settled, output.arrived(missed.cpu))))
        };
        self.0.iter().map(of_cpu).sum()
    }
}

impl Missed {
    fn new(cpu: usize, crossed: u32, now: Instant) -> Self {
        let mark = Mark { crossed, seen: now };
        Self { cpu, older: mark, newest: mark, settled: None }
    }

    fn look(&mut self, crossed: u32, now: Instant) {
        let is_over = |mark: Mark| now.duration_since(mark.seen) >= CROSSING;
        if is_over(self.older) {
            self.settled = Some(self.older.crossed);
            self.older = self.newest;
        }
        if is_over(self.newest) {
            self.settled = Some(self.newest.crossed);
        }
        if self.newest.crossed != crossed {
            self.newest = Mark { crossed, seen: now };
        }
    }
}

/// How many numbers of crossings lie behind `arrived`, up to `crossed`: they wrap, and none is 0.
fn missing(crossed: u32, arrived: u32) -> u32 {
    let gap = crossed.wrapping_sub(arrived).wrapping_sub(u32::from(crossed < arrived));
    // The output is ahead: the relay was read a moment earlier.
    if gap < 1 << 31 { gap } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_crossings_wrap_and_leave_out_0() {
        assert_eq!((missing(0, 0), missing(7, 7), missing(7, 5)), (0, 0, 2));
        assert_eq!(missing(1, u32::MAX), 1);
        assert_eq!(missing(2, u32::MAX - 1), 3);
        assert_eq!(missing(5, 7), 0, "read a moment apart");
    }

    /// What a look settles of numbers that were seen to cross, each at a time in milliseconds.
    fn settled(looks: &[(u32, u64)]) -> Vec<Option<u32>> {
        let begun = Instant::now();
        let mut missed = Missed::new(0, looks[0].0, begun);
        let look = |&(crossed, at): &(u32, u64)| {
            missed.look(crossed, begun + Duration::from_millis(at));
            missed.settled
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn what_crossed_is_over_a_while_later_at_rest_or_not() {
        assert_eq!(settled(&[(9, 0), (9, 39), (9, 40)]), [None, None, Some(9)]);
        assert_eq!(settled(&[(9, 0), (12, 39), (12, 79)]), [None, None, Some(12)], "two looks, and all is settled");
        let flowing = [(1, 0), (2, 10), (3, 20), (4, 30), (5, 40), (6, 50), (7, 90)];
        assert_eq!(settled(&flowing), [None, None, None, None, Some(1), Some(1), Some(6)]);
    }
}
