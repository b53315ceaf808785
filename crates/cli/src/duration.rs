//! Lengths of time as people type them: `5s`, `500ms`, `1.5m`, `2h`.

use std::time::Duration;

/// Reads a length of time.
///
/// # Errors
/// A sentence that says how to write one.
pub(crate) fn parse(given: &str) -> Result<Duration, String> {
    let digits = given.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(given.len());
    let (number, unit) = given.split_at(digits);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{given:?} has no unit of time; write it as 500ms, 5s, 2m or 1h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{given:?} is not a length of time; write it as 5s"))?;
    match Duration::try_from_secs_f64(number * unit_seconds) {
        Ok(length) if length >= Duration::from_millis(1) => Ok(length),
        Ok(_) => Err(format!("{given:?} is too short; use 1ms or more")),
        Err(_) => Err(format!("{given:?} is too long")),
    }
}

/// The text that the API takes: whole seconds where they are exact, else milliseconds.
pub(crate) fn to_api(length: Duration) -> String {
    match length.subsec_nanos() {
        0 => format!("{}s", length.as_secs()),
        _ => format!("{}ms", length.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (given, milliseconds) in [("5s", 5_000), ("500ms", 500), ("1.5m", 90_000), ("1h", 3_600_000)] {
            assert_eq!(parse(given), Ok(Duration::from_millis(milliseconds)), "{given}");
        }
        for bad in ["", "5", "s", "-1s", "1 s", "0s", "1.2.3s", "99999999999999999999999h", "5days", "NaNs"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_api_gets_reads_back() {
        for length in ["5s", "1500ms", "2m"].map(|text| parse(text).unwrap()) {
            assert_eq!(parse(&to_api(length)), Ok(length));
        }
    }
}
