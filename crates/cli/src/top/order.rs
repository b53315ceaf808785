//! Which relays are shown, and in which order.

use std::cmp::Ordering;

use mcr_model::status::{OutputStatus, RelayStatus};

/// By what relays are sorted; what wants attention comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The most packets per second.
    Rate,
    /// The most bits per second.
    BitRate,
    /// The worst state.
    State,
    /// The most drops per second, then in all.
    Drops,
    /// By name.
    Name,
}

impl Order {
    /// All of them, as F6 goes through them.
    pub(crate) const ALL: [Self; 5] = [Self::Rate, Self::BitRate, Self::State, Self::Drops, Self::Name];

    /// The one after it.
    pub(crate) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// Where `a` stands beside `b`, whose drops per second are given beside; equals stand by name.
    pub(super) fn compare(self, a: (&RelayStatus, Option<f64>), b: (&RelayStatus, Option<f64>)) -> Ordering {
        let most = |a: Option<f64>, b: Option<f64>| b.unwrap_or(0.0).total_cmp(&a.unwrap_or(0.0));
        let ((a, a_drops), (b, b_drops)) = (a, b);
        let order = match self {
            Self::Rate => most(a.received.packets_per_second, b.received.packets_per_second),
            Self::BitRate => most(a.received.bits_per_second, b.received.bits_per_second),
            Self::State => b.state.cmp(&a.state),
            Self::Drops => most(a_drops, b_drops).then_with(|| dropped(b).cmp(&dropped(a))),
            Self::Name => Ordering::Equal,
        };
        order.then_with(|| a.name.cmp(&b.name))
    }
}

/// Copies that were dropped, on all outputs.
pub(crate) fn dropped(relay: &RelayStatus) -> u64 {
    relay.outputs.iter().map(|output| output.dropped_packets).sum()
}

/// Whether `words`, in lower case, stand in its name, its state or one of its endpoints.
pub(super) fn matches(relay: &RelayStatus, words: &str) -> bool {
    let RelayStatus { name, state, from, outputs, .. } = relay;
    let to = outputs.iter().map(|OutputStatus { to, .. }| to.as_str());
    let texts = [name.as_str(), state.name(), from.as_str()].into_iter().chain(to);
    words.split_whitespace().all(|word| texts.clone().any(|text| text.to_lowercase().contains(word)))
}
