//! What a relay carried: the last hour by the second, the last day by the minute, in little memory.
//!
//! Samples are kept in chunks of 60. A sample is a header byte that says which of its three numbers differ from those
//! of the sample before, and the differences; samples that do not differ share one byte, up to 32 of them. A relay that
//! never carried anything has no history at all; one that rests costs 7 kB after a day, a steady flow some 4 bytes for a
//! sample, 22 kB in all. The worst that traffic can do is 31 bytes for a sample, 160 kB in all.

use std::collections::VecDeque;
use std::time::Duration;

/// What went through a relay in one step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Datagrams that arrived.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
    /// Copies that were dropped, on all outputs.
    pub dropped: u64,
}

/// How long a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The last hour.
    Second,
    /// The last day.
    Minute,
}

impl Step {
    /// Its length.
    pub fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(SECONDS_PER_MINUTE),
        }
    }
}

/// Samples that follow each other without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The number of the first step since the daemon's clock began.
    pub first: u64,
    /// The samples, oldest first.
    pub samples: Vec<Sample>,
}

/// Records one relay.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    seconds: Series,
    minutes: Series,
    /// The totals when the last second was over.
    base: Sample,
    /// The number of the next second.
    next: u64,
    /// What the minute that runs has brought so far.
    minute: Sample,
}

const CHUNK: u64 = 60;
const SECOND_CHUNKS: usize = 60;
const MINUTE_CHUNKS: usize = 24;
const SECONDS_PER_MINUTE: u64 = 60;

impl Recorder {
    /// Records from `second` on what comes on top of `base`.
    pub(crate) fn new(second: u64, base: Sample) -> Self {
        Self {
            seconds: Series::new(SECOND_CHUNKS),
            minutes: Series::new(MINUTE_CHUNKS),
            base,
            next: second,
            minute: Sample::default(),
        }
    }

    /// The relay has another definition, which counts from zero.
    pub(crate) fn restart(&mut self) {
        self.base = Sample::default();
    }

    /// All seconds before `second` are over, and the totals are these. Where several are over at once, what came is
    /// spread over them.
    pub(crate) fn record(&mut self, second: u64, totals: Sample) {
        let over = second.saturating_sub(self.next);
        if over == 0 {
            return;
        }
        let came = totals.since(self.base);
        self.base = totals;
        for i in 0..over {
            self.push(self.next + i, came.share(i, over));
        }
        self.next = second;
    }

    fn push(&mut self, second: u64, sample: Sample) {
        self.seconds.push(second, sample);
        self.minute = self.minute.plus(sample);
        if (second + 1).is_multiple_of(SECONDS_PER_MINUTE) {
            let minute = std::mem::take(&mut self.minute);
            self.minutes.push(second / SECONDS_PER_MINUTE, minute);
        }
    }

    /// What was recorded.
    pub(crate) fn track(&self, step: Step) -> Track {
        match step {
            Step::Second => self.seconds.track(),
            Step::Minute => self.minutes.track(),
        }
    }

    /// The memory that it takes, in bytes.
    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.seconds.heap_bytes() + self.minutes.heap_bytes()
    }
}

impl Sample {
    fn since(self, base: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(base.packets),
            bytes: self.bytes.saturating_sub(base.bytes),
            dropped: self.dropped.saturating_sub(base.dropped),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            dropped: self.dropped + other.dropped,
        }
    }

    /// Part `i` of `parts`; all parts together are the whole.
    fn share(self, i: u64, parts: u64) -> Self {
        let part = |whole: u64| whole / parts + u64::from(i < whole % parts);
        Self { packets: part(self.packets), bytes: part(self.bytes), dropped: part(self.dropped) }
    }

    fn numbers(self) -> [u64; 3] {
        [self.packets, self.bytes, self.dropped]
    }
}

#[derive(Debug, Clone)]
struct Series {
    chunks: VecDeque<Chunk>,
    /// So many full chunks are kept.
    keep: usize,
}

#[derive(Debug, Clone)]
struct Chunk {
    first: u64,
    samples: u64,
    bytes: Vec<u8>,
    last: Sample,
    /// So many samples the last byte stands for, when they are as the one before.
    run: u8,
}

impl Series {
    fn new(keep: usize) -> Self {
        Self { chunks: VecDeque::new(), keep }
    }

    /// Steps come in order, without gaps.
    fn push(&mut self, step: u64, sample: Sample) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.samples < CHUNK => chunk.push(sample),
            full => {
                if let Some(full) = full {
                    full.bytes.shrink_to_fit();
                }
                let mut chunk = Chunk { first: step, samples: 0, bytes: Vec::new(), last: Sample::default(), run: 0 };
                chunk.push(sample);
                self.chunks.push_back(chunk);
                if self.chunks.len() > self.keep + 1 {
                    self.chunks.pop_front();
                }
            }
        }
    }

    fn track(&self) -> Track {
        let samples: Vec<Sample> = self.chunks.iter().flat_map(Chunk::samples).collect();
        let surplus = samples.len().saturating_sub(self.keep * CHUNK as usize);
        let first = self.chunks.front().map_or(0, |chunk| chunk.first);
        Track { first: first + surplus as u64, samples: samples[surplus..].to_vec() }
    }

    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let bytes: usize = self.chunks.iter().map(|chunk| chunk.bytes.capacity()).sum();
        self.chunks.capacity() * size_of::<Chunk>() + bytes
    }
}

/// The low bits of a header byte say which numbers differ; when none does, the others say how often that is so again.
const DIFFERS: [u8; 3] = [1, 2, 4];
const AGAIN: u8 = 8;
const MOST_RUN: u8 = u8::MAX / AGAIN + 1;

impl Chunk {
    fn push(&mut self, sample: Sample) {
        self.samples += 1;
        if sample != self.last {
            self.push_differing(sample);
            self.run = 0;
        } else if let Some(run) = self.bytes.last_mut().filter(|_| (1..MOST_RUN).contains(&self.run)) {
            *run += AGAIN;
            self.run += 1;
        } else {
            self.bytes.push(0);
            self.run = 1;
        }
        self.last = sample;
    }

    fn push_differing(&mut self, sample: Sample) {
        let header = self.bytes.len();
        self.bytes.push(0);
        let numbers = sample.numbers().into_iter().zip(self.last.numbers());
        for ((now, before), bit) in numbers.zip(DIFFERS) {
            if now != before {
                self.bytes[header] |= bit;
                push_number(&mut self.bytes, now.wrapping_sub(before).cast_signed());
            }
        }
    }

    fn samples(&self) -> impl Iterator<Item = Sample> {
        let mut rest = self.bytes.iter().copied();
        let mut numbers = Sample::default().numbers();
        let mut again = 0;
        std::iter::from_fn(move || {
            if again > 0 {
                again -= 1;
            } else {
                let header = rest.next()?;
                for (number, _) in numbers.iter_mut().zip(DIFFERS).filter(|(_, bit)| header & bit != 0) {
                    *number = number.wrapping_add_signed(take_number(&mut rest)?);
                }
                again = header / AGAIN;
            }
            let [packets, bytes, dropped] = numbers;
            Some(Sample { packets, bytes, dropped })
        })
    }
}

/// Seven bits a byte, the lowest first, the high bit set where more follow; the sign is the lowest bit.
fn push_number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn take_number(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let (mut number, mut shift) = (0u64, 0);
    loop {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(packets: u64, bytes: u64, dropped: u64) -> Sample {
        Sample { packets, bytes, dropped }
    }

    proptest! {
        #[test]
        fn what_is_recorded_reads_back(
            values in prop::collection::vec((0..3u64, prop_oneof![0..5u64, any::<u64>()], 0..2u64), 0..400)
        ) {
            let mut series = Series::new(4);
            let samples: Vec<Sample> = values.iter().map(|&(p, b, d)| sample(p, b, d)).collect();
            samples.iter().enumerate().for_each(|(i, sample)| series.push(1000 + i as u64, *sample));
            let track = series.track();
            let kept = &samples[samples.len().saturating_sub(240)..];
            prop_assert_eq!(&track.samples, kept);
            if !samples.is_empty() {
                prop_assert_eq!(track.first, 1000 + (samples.len() - kept.len()) as u64);
            }
        }
    }

    #[test]
    fn late_looks_are_spread_and_nothing_is_lost() {
        let mut recorder = Recorder::new(10, sample(100, 1000, 0));
        recorder.record(10, sample(150, 1500, 0));
        recorder.record(13, sample(107, 1007, 1));
        let track = recorder.track(Step::Second);
        assert_eq!((track.first, track.samples), (10, vec![sample(3, 3, 1), sample(2, 2, 0), sample(2, 2, 0)]));
    }

    #[test]
    fn minutes_are_the_sums_of_their_seconds() {
        let mut recorder = Recorder::new(30, Sample::default());
        (31..=180).for_each(|second| recorder.record(second, sample(second - 30, 0, 0)));
        let track = recorder.track(Step::Minute);
        let packets: Vec<u64> = track.samples.iter().map(|sample| sample.packets).collect();
        assert_eq!((track.first, packets), (0, vec![30, 60, 60]));
    }

    /// The figures of the module's head.
    #[test]
    fn memory_is_bounded() {
        let day = |traffic: &mut dyn FnMut(u64) -> Sample| {
            let mut recorder = Recorder::new(0, Sample::default());
            let mut totals = Sample::default();
            for second in 1..=90_000 {
                totals = totals.plus(traffic(second));
                recorder.record(second, totals);
            }
            assert_eq!(recorder.track(Step::Second).samples.len(), 3600);
            assert_eq!(recorder.track(Step::Minute).samples.len(), 1440);
            recorder.memory_bytes()
        };
        let rests = day(&mut |second| sample(u64::from(second == 1), 0, 0));
        let steady = day(&mut |second| sample(10_000 + second % 2, 13_780_000 + 1378 * (second % 2), 0));
        let mut noise = 1u64;
        let mut random = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise >> 24
        };
        let worst = day(&mut |_| sample(random(), random(), random()));
        println!("rests {rests}, steady {steady}, worst {worst}");
        assert!(rests < 8_000, "{rests}");
        assert!(steady < 28_000, "{steady}");
        assert!(worst < 160_000, "{worst}");
    }
}
