//! What a relay's flow should be like, so that it is told when it is not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::breaker::Breaker;
use crate::duration;
use crate::problem::FieldError;
use crate::querier::QuerierWatch;

/// What is expected of the packets that a relay receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    silent_after: Duration,
    expected: BitRates,
    breaker: Option<Breaker>,
    querier: QuerierWatch,
}

/// The bit rates that are as they should be, both ends included; bits are those of the IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BitRates {
    /// The least, in bits per second.
    pub least: Option<u64>,
    /// The most, in bits per second.
    pub most: Option<u64>,
}

/// The bit rates that are expected, as a user writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectSpec {
    /// Less than this is told as `degraded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bits_per_second: Option<i64>,
    /// More than this is told as `degraded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bits_per_second: Option<i64>,
}

impl Watch {
    /// After this long without a packet a flow is silent, unless its relay says otherwise.
    pub const SILENT_AFTER: Duration = Duration::from_secs(1);
    const SHORTEST_SILENCE: Duration = Duration::from_millis(100);
    const LONGEST_SILENCE: Duration = Duration::from_secs(24 * 3600);
    const MOST_BITS_PER_SECOND: u64 = 1_000_000_000_000;

    /// After this long without a packet the flow is silent.
    pub fn silent_after(self) -> Duration {
        self.silent_after
    }

    /// The bit rates that are as they should be.
    pub fn expected(self) -> BitRates {
        self.expected
    }

    /// What takes the relay out of the way of a storm.
    pub fn breaker(self) -> Option<Breaker> {
        self.breaker
    }

    /// What is expected of the querier.
    pub fn querier(self) -> QuerierWatch {
        self.querier
    }

    /// The same expectations, with these of the querier.
    #[must_use]
    pub fn with_querier(self, querier: QuerierWatch) -> Self {
        Self { querier, ..self }
    }

    /// The same expectations, with this breaker.
    #[must_use]
    pub fn with_breaker(self, breaker: Option<Breaker>) -> Self {
        Self { breaker, ..self }
    }

    /// The checked form of what a user wrote.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(silent_after: Option<&str>, expect: Option<&ExpectSpec>) -> Result<Self, Vec<FieldError>> {
        let (silent_after, expected) = (check_silence(silent_after), check_rates(expect));
        match (silent_after, expected) {
            (Ok(silent_after), Ok(expected)) => Ok(Self { silent_after, expected, ..Self::default() }),
            (silent_after, expected) => {
                Err(silent_after.err().into_iter().chain(expected.err().into_iter().flatten()).collect())
            }
        }
    }

    /// How a user writes it; what is as it is without a word is left out.
    pub fn spec(self) -> (Option<String>, Option<ExpectSpec>) {
        let silent_after = (self.silent_after != Self::SILENT_AFTER).then(|| duration::text(self.silent_after));
        let BitRates { least, most } = self.expected;
        let expect = (self.expected != BitRates::default()).then(|| ExpectSpec {
            min_bits_per_second: least.map(u64::cast_signed),
            max_bits_per_second: most.map(u64::cast_signed),
        });
        (silent_after, expect)
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            silent_after: Self::SILENT_AFTER,
            expected: BitRates::default(),
            breaker: None,
            querier: QuerierWatch::default(),
        }
    }
}

impl BitRates {
    /// Whether nothing is expected.
    pub fn is_any(self) -> bool {
        self == Self::default()
    }
}

fn check_silence(given: Option<&str>) -> Result<Duration, FieldError> {
    const FIELD: &str = "silent_after";
    const RANGE: &str = "use 100ms to 24h, as silent_after = \"1s\"";
    let Some(given) = given else { return Ok(Watch::SILENT_AFTER) };
    let length = duration::parse(given).map_err(|error| FieldError::new(FIELD, error.to_string(), RANGE))?;
    if (Watch::SHORTEST_SILENCE..=Watch::LONGEST_SILENCE).contains(&length) {
        return Ok(length);
    }
    Err(FieldError::new(FIELD, format!("silence after {} is out of range", duration::text(length)), RANGE))
}

fn check_rates(given: Option<&ExpectSpec>) -> Result<BitRates, Vec<FieldError>> {
    let Some(ExpectSpec { min_bits_per_second, max_bits_per_second }) = given else { return Ok(BitRates::default()) };
    let (least, most) = (check_rate("min", *min_bits_per_second), check_rate("max", *max_bits_per_second));
    match (least, most) {
        (Ok(None), Ok(None)) => Err(vec![FieldError::new(
            "expect",
            "it expects nothing",
            "give min_bits_per_second, max_bits_per_second or both, or leave expect out",
        )]),
        (Ok(Some(least)), Ok(Some(most))) if least > most => Err(vec![FieldError::new(
            "expect.max_bits_per_second",
            format!("no rate is at least {least} and at most {most}"),
            "make it larger than min_bits_per_second",
        )]),
        (Ok(least), Ok(most)) => Ok(BitRates { least, most }),
        (least, most) => Err([least.err(), most.err()].into_iter().flatten().collect()),
    }
}

fn check_rate(end: &str, given: Option<i64>) -> Result<Option<u64>, FieldError> {
    let Some(given) = given else { return Ok(None) };
    match u64::try_from(given) {
        Ok(rate @ 1..=Watch::MOST_BITS_PER_SECOND) => Ok(Some(rate)),
        _ => Err(FieldError::new(
            format!("expect.{end}_bits_per_second"),
            format!("{given} bits per second are out of range"),
            "use 1 to 1000000000000",
        )),
    }
}
