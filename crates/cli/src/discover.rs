//! What [`discover`](crate::verbs) saw, shown and made into relays.

pub(crate) mod draft;
pub(crate) mod eyes;
pub(crate) mod scene;
