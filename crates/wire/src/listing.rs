//! What a list of sources says of those in it.

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
    /// Whether a source passes a list that is not empty.
    #[inline]
    pub const fn passes(self, is_listed: bool) -> bool {
        match self {
            Self::Accepts => is_listed,
            Self::Refuses => !is_listed,
        }
    }
}
