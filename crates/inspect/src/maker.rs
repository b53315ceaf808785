//! Who made a network interface, by the first half of its address. The table is a choice of the IEEE's, made by `scripts/makers.sh`.

const TABLE: &str = include_str!("makers.txt");

/// The maker of `mac`; `None` when it is not in the table or the address was made up (its local bit is set).
pub fn maker(mac: [u8; 6]) -> Option<&'static str> {
    let [a, b, c, ..] = mac;
    let prefix = format!("{a:02x}{b:02x}{c:02x} ");
    TABLE.lines().find_map(|line| line.strip_prefix(&prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_are_found_and_unknown_ones_are_not() {
        assert_eq!(maker([0x00, 0x1d, 0xc1, 1, 2, 3]), Some("Audinate"));
        assert_eq!(maker([0x02, 0x1d, 0xc1, 1, 2, 3]), None);
    }

    #[test]
    fn the_table_is_sorted_and_has_names() {
        let lines: Vec<&str> = TABLE.lines().collect();
        assert!(lines.is_sorted() && lines.len() > 100, "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.len() > 7 && line.as_bytes()[6] == b' '));
    }
}
