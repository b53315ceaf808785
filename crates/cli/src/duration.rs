//! Lengths of time as arguments: as [`mcr_model::duration`] reads them, but never nothing.

use std::time::Duration;

/// Reads a length of time.
///
/// # Errors
/// A sentence that says how to write one.
pub(crate) fn parse(given: &str) -> Result<Duration, String> {
    match mcr_model::duration::parse(given) {
        Ok(length) if length >= Duration::from_millis(1) => Ok(length),
        Ok(_) => Err(format!("{given:?} is too short; use 1ms or more")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_length() {
        assert_eq!(parse("1ms"), Ok(Duration::from_millis(1)));
        for bad in ["0s", "0.5ms", "5", "1 s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
