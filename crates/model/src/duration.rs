//! Lengths of time as people type them: `5s`, `500ms`, `1.5m`, `2h`.

use std::time::Duration;

/// Why a text is no length of time; each says how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number alone, or an unknown unit.
    #[error("{given:?} has no unit of time; write it as 500ms, 5s, 2m or 1h")]
    NoUnit {
        /// What was typed.
        given: String,
    },
    /// No number before the unit.
    #[error("{given:?} is not a length of time; write it as 5s")]
    NotANumber {
        /// What was typed.
        given: String,
    },
    /// More than can be counted.
    #[error("{given:?} is too long")]
    TooLong {
        /// What was typed.
        given: String,
    },
}

/// Reads a length of time.
///
/// # Errors
/// [`DurationError`].
pub fn parse(given: &str) -> Result<Duration, DurationError> {
    let shown = || given.chars().take(60).collect::<String>();
    let digits = given.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(given.len());
    let (number, unit) = given.split_at(digits);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(DurationError::NoUnit { given: shown() }),
    };
    let number: f64 = number.parse().map_err(|_| DurationError::NotANumber { given: shown() })?;
    Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| DurationError::TooLong { given: shown() })
}

/// The text of a length of time, to the millisecond: whole seconds where they are exact.
pub fn text(length: Duration) -> String {
    match length.subsec_millis() {
        0 => format!("{}s", length.as_secs()),
        _ => format!("{}ms", length.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (given, milliseconds) in [("5s", 5_000), ("500ms", 500), ("1.5m", 90_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(parse(given), Ok(Duration::from_millis(milliseconds)), "{given}");
        }
        for bad in ["", "5", "s", "-1s", "1 s", "1.2.3s", "99999999999999999999999h", "5days", "NaNs"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_reads_back() {
        for length in ["5s", "1500ms", "2m"].map(|text| parse(text).unwrap()) {
            assert_eq!(parse(&text(length)), Ok(length));
        }
    }
}
