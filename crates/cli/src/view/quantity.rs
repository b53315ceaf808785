//! Numbers as people read them. Prefixes are SI (powers of 1,000), as network rates use them.

/// A count with its thousands apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 packet`, `2 packets`.
pub(crate) fn packets(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "packet" } else { "packets" })
}

/// Datagrams per second: `12.3 kpps`.
pub(crate) fn packet_rate(per_second: f64) -> String {
    si(per_second, "pps")
}

/// Bits per second: `98.4 Mbit/s`.
pub(crate) fn bit_rate(per_second: f64) -> String {
    si(per_second, "bit/s")
}

/// Bytes: `1.54 GB`.
pub(crate) fn bytes(number: u64) -> String {
    si(number as f64, "B")
}

/// A length of time: `20 µs`, `0.3 s`, `4 min`.
pub(crate) fn seconds(length: f64) -> String {
    match length {
        x if x < 0.001 => format!("{:.0} µs", x * 1e6),
        x if x < 0.1 => format!("{:.1} ms", x * 1e3),
        x if x < 10.0 => format!("{x:.1} s"),
        x if x < 120.0 => format!("{x:.0} s"),
        x if x < 7200.0 => format!("{:.0} min", x / 60.0),
        x if x < 172_800.0 => format!("{:.0} h", x / 3600.0),
        x => format!("{:.0} days", x / 86_400.0),
    }
}

/// Three significant digits and a prefix. 999.9 must become 1.00 k, not 1000.
fn si(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let mut scaled = value;
    let mut step = 0;
    while scaled >= 999.5 && step + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        step += 1;
    }
    let is_whole = step == 0 && (scaled - scaled.round()).abs() < 0.005;
    let decimals = match scaled {
        _ if is_whole => 0,
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$} {}{unit}", PREFIXES[step])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (12_345, "12,345")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(packets(1), "1 packet");
        assert_eq!(packets(0), "0 packets");
    }

    #[test]
    fn rates_have_three_digits() {
        let table = [
            (0.0, "0 pps"),
            (0.5, "0.50 pps"),
            (12.34, "12.3 pps"),
            (50.0, "50 pps"),
            (999.4, "999 pps"),
            (999.6, "1.00 kpps"),
            (1000.0, "1.00 kpps"),
            (9_999.0, "10.0 kpps"),
            (99_990.0, "100 kpps"),
            (123_456.0, "123 kpps"),
            (1_234_567.0, "1.23 Mpps"),
        ];
        for (rate, text) in table {
            assert_eq!(packet_rate(rate), text);
        }
        assert_eq!(bit_rate(98_400_000.0), "98.4 Mbit/s");
        assert_eq!(bytes(1_536_000_000), "1.54 GB");
        assert_eq!(bytes(512), "512 B");
    }

    #[test]
    fn lengths_of_time() {
        let table = [
            (0.00002, "20 µs"),
            (0.0123, "12.3 ms"),
            (0.25, "0.2 s"),
            (59.0, "59 s"),
            (240.0, "4 min"),
            (7200.0, "2 h"),
        ];
        for (length, text) in table {
            assert_eq!(seconds(length), text);
        }
    }
}
