//! What a person sees: quantities, tables, colours, and the texts about relays that several verbs share.

pub(crate) mod event;
pub(crate) mod json;
pub(crate) mod plan;
pub(crate) mod quantity;
pub(crate) mod relay;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod wrap;
