//! A lease: how long a relay lives unless somebody renews it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::duration;

/// A length of time that a relay may be lent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(Duration);

/// Why a lease was refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The text is no length of time.
    #[error(transparent)]
    Text(#[from] duration::DurationError),
    /// Outside of [`Lease::SHORTEST`] and [`Lease::LONGEST`].
    #[error("a lease of {} is out of range", duration::text(*given))]
    OutOfRange {
        /// What was typed.
        given: Duration,
    },
}

impl Lease {
    /// The shortest: a client that renews it in time needs some air.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest: what should live longer needs no lease.
    pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
    /// What is allowed, as an error's remedy.
    pub const RANGE: &str = "use 1s to 24h, as \"30s\"";

    /// Its length.
    pub fn length(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for Lease {
    type Error = LeaseError;

    fn try_from(given: Duration) -> Result<Self, LeaseError> {
        if (Self::SHORTEST..=Self::LONGEST).contains(&given) {
            Ok(Self(given))
        } else {
            Err(LeaseError::OutOfRange { given })
        }
    }
}

impl FromStr for Lease {
    type Err = LeaseError;

    fn from_str(given: &str) -> Result<Self, LeaseError> {
        duration::parse(given)?.try_into()
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        for good in ["1s", "30s", "24h", "1500ms"] {
            assert!(good.parse::<Lease>().is_ok(), "{good}");
        }
        for (bad, says) in [("999ms", "a lease of 999ms is out of range"), ("25h", "90000s"), ("30", "no unit")] {
            let error = bad.parse::<Lease>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
