//! How lengths of time are spread: the least, the most, the mean exactly, and percentiles to within 1.6 %.

/// Steps that each power of two is divided into.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();
/// Powers of two that are kept apart: up to 73 minutes in nanoseconds; longer ones are in the last.
const OCTAVES: u64 = 36;

/// Lengths of time, counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spread {
    count: u64,
    sum_nanoseconds: u128,
    least_nanoseconds: u64,
    most_nanoseconds: u64,
    places: Vec<u64>,
}

/// A spread in seconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct SpreadSeconds {
    /// The shortest.
    pub(crate) least: f64,
    /// The average.
    pub(crate) mean: f64,
    /// Half are no longer.
    pub(crate) p50: f64,
    /// 99 % are no longer.
    pub(crate) p99: f64,
    /// 99.9 % are no longer.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) most: f64,
}

impl Spread {
    /// Counts one more.
    pub(crate) fn count(&mut self, nanoseconds: u64) {
        self.least_nanoseconds = if self.count == 0 { nanoseconds } else { self.least_nanoseconds.min(nanoseconds) };
        self.most_nanoseconds = self.most_nanoseconds.max(nanoseconds);
        self.sum_nanoseconds += u128::from(nanoseconds);
        self.count += 1;
        let place = place(nanoseconds);
        if self.places.len() <= place {
            self.places.resize(place + 1, 0);
        }
        self.places[place] += 1;
    }

    /// In seconds; `None` of nothing.
    pub(crate) fn seconds(&self) -> Option<SpreadSeconds> {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        (self.count > 0).then(|| SpreadSeconds {
            least: seconds(self.least_nanoseconds),
            mean: self.sum_nanoseconds as f64 / self.count as f64 / 1e9,
            p50: seconds(self.percentile(500)),
            p99: seconds(self.percentile(990)),
            p999: seconds(self.percentile(999)),
            most: seconds(self.most_nanoseconds),
        })
    }

    /// What so many thousandths do not exceed.
    fn percentile(&self, thousandths: u64) -> u64 {
        let wanted = u128::from(self.count) * u128::from(thousandths);
        let mut below = 0;
        let place = self.places.iter().position(|count| {
            below += u128::from(*count) * 1000;
            below >= wanted
        });
        place.map_or(self.most_nanoseconds, upper_end).clamp(self.least_nanoseconds, self.most_nanoseconds)
    }
}

/// Exact below 64; above, the power of two and the 64th of it.
fn place(nanoseconds: u64) -> usize {
    let octave = u64::from((nanoseconds | 1).ilog2().saturating_sub(STEP_BITS));
    let place = match octave {
        0 => nanoseconds,
        octave if octave < OCTAVES => octave * STEPS + (nanoseconds >> octave),
        _ => OCTAVES * STEPS + STEPS,
    };
    place as usize
}

/// The longest length of a place.
fn upper_end(place: usize) -> u64 {
    let place = place as u64;
    if place < 2 * STEPS {
        return place;
    }
    match place / STEPS - 1 {
        octave if octave < OCTAVES => ((place - octave * STEPS + 1) << octave) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_lengths() {
        let mut spread = Spread::default();
        assert_eq!(spread.seconds(), None);
        (1..=10_000_u64).for_each(|number| spread.count(number * 1000));
        let seen = spread.seconds().unwrap();
        assert_eq!((seen.least, seen.most, seen.mean), (1e-6, 1e-2, 5.0005e-3));
        for (percentile, exact) in [(seen.p50, 5e-3), (seen.p99, 9.9e-3), (seen.p999, 9.99e-3)] {
            assert!((percentile / exact - 1.0).abs() < 0.016, "{percentile} for {exact}");
        }
    }

    #[test]
    fn each_length_is_in_its_place() {
        for shift in 0..63 {
            for length in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + (1 << shift) / 3] {
                let end = upper_end(place(length));
                let is_last = length >> (OCTAVES + u64::from(STEP_BITS)) > 0;
                assert!(is_last || (end >= length && end as f64 <= length as f64 * 1.016), "{length}: {end}");
            }
        }
    }
}
