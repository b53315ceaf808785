//! Header fields of a copy that may be set, kept, or made from what arrived; and what becomes of one that is too large.

/// The time to live of copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeToLive {
    /// This one.
    Set(u8),
    /// As it arrived.
    Keep,
    /// One less than it arrived with, as a router does (RFC 1812 section 5.3.1).
    Decrement,
}

impl TimeToLive {
    /// Of a copy of what arrived with `arrived`. What [`TimeToLive::least`] refuses is 0, and must not be sent.
    #[inline]
    pub const fn of(self, arrived: u8) -> u8 {
        match self {
            Self::Set(value) => value,
            Self::Keep => arrived,
            Self::Decrement => arrived.saturating_sub(1),
        }
    }

    /// The least that a datagram has to arrive with for its copy to be sent: none leaves with 0
    /// (RFC 1122 section 3.2.1.7).
    #[inline]
    pub const fn least(self) -> u8 {
        match self {
            Self::Set(_) => 0,
            Self::Keep => 1,
            Self::Decrement => 2,
        }
    }
}

/// What becomes of copies that are larger than the MTU of their output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Oversize {
    /// They are dropped, by the name of `too_big`.
    #[default]
    Drop,
    /// They leave in fragments.
    Fragment,
}

/// The code point of copies, 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodePoint {
    /// As it arrived.
    Keep,
    /// This one.
    Set(u8),
    /// By the one that it arrived with.
    Map(CodePointMap),
}

impl CodePoint {
    /// Of a copy of what arrived with `arrived`.
    #[inline]
    pub fn of(&self, arrived: u8) -> u8 {
        match self {
            Self::Keep => arrived,
            Self::Set(value) => *value,
            Self::Map(map) => map.of(arrived),
        }
    }
}

/// Code points by code points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodePointMap {
    from: [u8; Self::MOST],
    to: [u8; Self::MOST],
    other: Option<u8>,
}

impl CodePointMap {
    /// The most code points that can be told apart from the others.
    pub const MOST: usize = 8;
    /// In place of a code point: there is none.
    pub const NONE: u8 = 0xff;

    /// Each pair's first code point becomes its second, any other becomes `other`, or stays as it arrived. `None` when
    /// the pairs are more than [`CodePointMap::MOST`].
    pub fn new(pairs: impl IntoIterator<Item = (u8, u8)>, other: Option<u8>) -> Option<Self> {
        let mut map = Self { from: [Self::NONE; Self::MOST], to: [0; Self::MOST], other };
        for (place, (from, to)) in pairs.into_iter().enumerate() {
            *map.from.get_mut(place)? = from;
            *map.to.get_mut(place)? = to;
        }
        Some(map)
    }

    /// What the code points that are told apart arrive as; unused places are [`CodePointMap::NONE`].
    pub const fn from(&self) -> [u8; Self::MOST] {
        self.from
    }

    /// What they become, in the same order.
    pub const fn to(&self) -> [u8; Self::MOST] {
        self.to
    }

    /// What any other becomes; `None`: it stays as it arrived.
    pub const fn other(&self) -> Option<u8> {
        self.other
    }

    #[inline]
    fn of(&self, arrived: u8) -> u8 {
        let place = self.from.iter().position(|from| *from == arrived);
        place.map_or(self.other.unwrap_or(arrived), |place| self.to[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_set_kept_or_one_less() {
        for (ttl, arrived, copy, is_sent) in [
            (TimeToLive::Set(16), 1, 16, true),
            (TimeToLive::Set(16), 0, 16, true),
            (TimeToLive::Keep, 7, 7, true),
            (TimeToLive::Keep, 1, 1, true),
            (TimeToLive::Keep, 0, 0, false),
            (TimeToLive::Decrement, 2, 1, true),
            (TimeToLive::Decrement, 1, 0, false),
            (TimeToLive::Decrement, 0, 0, false),
        ] {
            assert_eq!((ttl.of(arrived), arrived >= ttl.least()), (copy, is_sent), "{ttl:?} of {arrived}");
        }
    }

    #[test]
    fn a_map_tells_some_apart_and_treats_the_others_alike() {
        let keeping = CodePoint::Map(CodePointMap::new([(46, 34), (0, 8)], None).unwrap());
        assert_eq!([46, 0, 10].map(|arrived| keeping.of(arrived)), [34, 8, 10]);
        let setting = CodePoint::Map(CodePointMap::new([(46, 46)], Some(0)).unwrap());
        assert_eq!([46, 34, 0].map(|arrived| setting.of(arrived)), [46, 0, 0]);
        assert!(CodePointMap::new((0..8).map(|from| (from, 1)), None).is_some());
        assert!(CodePointMap::new((0..9).map(|from| (from, 1)), None).is_none());
    }
}
