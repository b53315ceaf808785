//! What a list of sources says of those in it.

use core::net::IpAddr;

use crate::Prefix;

/// What becomes of a source that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listing {
    /// It is accepted, and no other, unless none is listed.
    #[default]
    Accepts,
    /// It is refused, and every other is accepted.
    Refuses,
}

impl Listing {
    /// Prefixes of so many lengths at most may be in a list, whole addresses aside: the kernel's tables are asked once for each.
    pub const MOST_LENGTHS: usize = 4;

    /// Whether a source passes a list that is not empty.
    #[inline]
    pub const fn passes(self, is_listed: bool) -> bool {
        match self {
            Self::Accepts => is_listed,
            Self::Refuses => !is_listed,
        }
    }
}

/// Makes of a list one that [`is_listed`] can read: sorted, and without the prefixes that lie within another. So many are left, at its
/// beginning.
pub fn put_in_order(list: &mut [Prefix]) -> usize {
    list.sort_unstable();
    let mut kept = 0;
    for at in 0..list.len() {
        // An outer prefix comes before those within it.
        if kept == 0 || !list[kept - 1].covers(&list[at]) {
            list[kept] = list[at];
            kept += 1;
        }
    }
    kept
}

/// Whether `source` is in a list that is sorted, of which no prefix lies within another.
#[inline]
pub fn is_listed(list: &[Prefix], source: IpAddr) -> bool {
    let before = list.partition_point(|prefix| prefix.first() <= source);
    before.checked_sub(1).and_then(|at| list.get(at)).is_some_and(|prefix| prefix.contains(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_begins_before_a_source_decides() {
        let prefix = |last: u8, length| Prefix::new([10, 0, 0, last].into(), length).unwrap();
        let list = [prefix(4, 32), prefix(8, 30), prefix(64, 26)];
        let listed: [bool; 256] = core::array::from_fn(|last| is_listed(&list, [10, 0, 0, last as u8].into()));
        for (last, is_listed) in listed.into_iter().enumerate() {
            assert_eq!(is_listed, last == 4 || (8..12).contains(&last) || (64..128).contains(&last), "10.0.0.{last}");
        }
        assert!(!is_listed(&[], [10, 0, 0, 4].into()));
    }

    #[test]
    fn of_prefixes_within_another_the_outer_one_stays() {
        let prefix = |last: u8, length| Prefix::new([10, 0, 0, last].into(), length).unwrap();
        let mut list =
            [prefix(9, 32), prefix(64, 26), prefix(4, 32), prefix(8, 30), prefix(8, 30), prefix(8, 29), prefix(64, 32)];
        let kept = put_in_order(&mut list);
        assert_eq!(list[..kept], [prefix(4, 32), prefix(8, 29), prefix(64, 26)]);
        assert_eq!(put_in_order(&mut []), 0);
    }
}
