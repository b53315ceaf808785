//! The breaker of a relay: it is taken out of the way of a storm, and put back after a while.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration;
use crate::problem::FieldError;

/// What a relay's breaker lets through, and for how long it stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    max_packets_per_second: u64,
    recover_after: Duration,
}

/// A breaker as a user writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerSpec {
    /// More than this is a storm: the relay is taken out of force. At least 1.
    #[schema(minimum = 1, example = 50000)]
    pub max_packets_per_second: i64,
    /// After so long it is put back in force, 1s to 24h; none: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10s")]
    pub recover_after: Option<String>,
}

impl Breaker {
    /// How long a breaker stays open, unless it says otherwise.
    pub const RECOVER_AFTER: Duration = Duration::from_secs(10);
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    const MOST_PACKETS_PER_SECOND: u64 = 1_000_000_000;

    /// More than this is a storm.
    pub fn max_packets_per_second(self) -> u64 {
        self.max_packets_per_second
    }

    /// After so long the relay is put back in force.
    pub fn recover_after(self) -> Duration {
        self.recover_after
    }

    /// How a user writes it.
    pub fn spec(self) -> BreakerSpec {
        let recover_after = (self.recover_after != Self::RECOVER_AFTER).then(|| duration::text(self.recover_after));
        BreakerSpec { max_packets_per_second: self.max_packets_per_second.cast_signed(), recover_after }
    }
}

impl BreakerSpec {
    /// The checked breaker.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(&self) -> Result<Breaker, Vec<FieldError>> {
        let Self { max_packets_per_second, recover_after } = self;
        match (check_rate(*max_packets_per_second), check_recovery(recover_after.as_deref())) {
            (Ok(max_packets_per_second), Ok(recover_after)) => Ok(Breaker { max_packets_per_second, recover_after }),
            (rate, recovery) => Err(rate.err().into_iter().chain(recovery.err()).collect()),
        }
    }
}

fn check_rate(given: i64) -> Result<u64, FieldError> {
    match u64::try_from(given) {
        Ok(rate @ 1..=Breaker::MOST_PACKETS_PER_SECOND) => Ok(rate),
        _ => Err(FieldError::new(
            "breaker.max_packets_per_second",
            format!("{given} packets per second are out of range"),
            "use 1 to 1000000000",
        )),
    }
}

fn check_recovery(given: Option<&str>) -> Result<Duration, FieldError> {
    const FIELD: &str = "breaker.recover_after";
    const RANGE: &str = "use 1s to 24h, as recover_after = \"10s\"";
    let Some(given) = given else { return Ok(Breaker::RECOVER_AFTER) };
    let length = duration::parse(given).map_err(|error| FieldError::new(FIELD, error.to_string(), RANGE))?;
    if (Breaker::SHORTEST..=Breaker::LONGEST).contains(&length) {
        return Ok(length);
    }
    Err(FieldError::new(FIELD, format!("recovery after {} is out of range", duration::text(length)), RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rate: i64, recover_after: Option<&str>) -> BreakerSpec {
        BreakerSpec { max_packets_per_second: rate, recover_after: recover_after.map(str::to_owned) }
    }

    #[test]
    fn what_is_checked_is_written_as_it_was() {
        for written in [spec(1, None), spec(50_000, Some("30s")), spec(1_000_000_000, Some("90s"))] {
            assert_eq!(written.check().unwrap().spec(), written);
        }
        assert_eq!(spec(5, Some("10s")).check().unwrap().spec(), spec(5, None), "what goes without saying");
    }

    #[test]
    fn every_wrong_field_is_told() {
        let errors = spec(0, Some("10ms")).check().unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["breaker.max_packets_per_second", "breaker.recover_after"]);
        assert!(spec(-5, None).check().is_err());
        assert!(spec(5, Some("soon")).check().is_err());
    }
}
