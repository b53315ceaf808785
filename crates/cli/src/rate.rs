//! Rates as arguments: `500k`, `5M`, `1.5G`.

/// Reads a rate, in bits or packets per second. Whether it makes sense is for the daemon to say.
///
/// # Errors
/// A sentence that says how to write one.
pub(crate) fn parse(given: &str) -> Result<i64, String> {
    let wrong = || format!("{given:?} is no rate; write a number, or one as 500k, 5M or 1.5G");
    let digits = given.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(given.len());
    let (number, unit) = given.split_at(digits);
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return Err(wrong()),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * factor;
    // More would not be exact in a float, and is no bit rate of any network.
    if rate <= 1e15 { Ok(rate.round() as i64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (given, rate) in [("500k", 500_000), ("5M", 5_000_000), ("1.5G", 1_500_000_000), ("7", 7), ("0", 0)] {
            assert_eq!(parse(given), Ok(rate), "{given}");
        }
        for bad in ["", "M", "5m", "-5M", "5 M", "1e9", "9999999999G"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
