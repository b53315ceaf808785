//! Which port the later fragments of a datagram go to: what is remembered of the first ones, which alone say it.

use std::collections::VecDeque;

use mcr_wire::FragmentKey;
use rustc_hash::FxHashMap;

const MOST: usize = FragmentKey::MOST_REMEMBERED;

/// The ports of first fragments that a relay accepted. Takes memory when the first one comes: most inputs never see one.
#[derive(Default)]
pub(super) struct Fragments {
    ports: FxHashMap<FragmentKey, u16>,
    /// From the oldest on.
    order: VecDeque<FragmentKey>,
}

impl Fragments {
    pub(super) fn port(&self, of: &FragmentKey) -> Option<u16> {
        self.ports.get(of).copied()
    }

    /// Remembers a first fragment.
    #[cold]
    pub(super) fn note(&mut self, first: FragmentKey, port: u16) {
        if self.ports.is_empty() {
            self.ports.reserve(MOST);
            self.order.reserve(MOST);
        }
        if self.ports.insert(first, port).is_some() {
            // Identifications come around: it stays where it is in the order.
            return;
        }
        if self.order.len() == MOST {
            self.order.pop_front().map(|oldest| self.ports.remove(&oldest));
        }
        self.order.push_back(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> FragmentKey {
        let source = std::net::Ipv4Addr::from(number).into();
        FragmentKey { vlan: None, source, destination: [239, 1, 1, 1].into(), identification: 7 }
    }

    #[test]
    fn the_oldest_is_forgotten_and_the_last_word_counts() {
        let mut fragments = Fragments::default();
        (0..MOST as u32).for_each(|number| fragments.note(key(number), 1));
        fragments.note(key(0), 2);
        assert_eq!([key(0), key(1)].map(|key| fragments.port(&key)), [Some(2), Some(1)]);
        fragments.note(key(u32::MAX), 3);
        assert_eq!([key(0), key(1), key(u32::MAX)].map(|key| fragments.port(&key)), [None, Some(1), Some(3)]);
        assert_eq!((fragments.ports.len(), fragments.order.len()), (MOST, MOST));
    }
}
