//! The address space as a sorted list of stretches, each with the ports that are wanted there.

use std::collections::BTreeMap;

/// Inclusive ranges of ports, sorted; they neither overlap nor touch.
pub(super) type PortRanges = Vec<(u16, u16)>;

/// Ports that are wanted at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ports {
    /// Every port.
    Any,
    /// These.
    Ranges(PortRanges),
}

/// An inclusive stretch of addresses (host order; of IPv6 the last word) and its ports.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) ports: Ports,
}

/// Sorted stretches that do not overlap. What lies between them is not wanted.
#[derive(Clone, Debug)]
pub(super) struct Segments(Vec<Segment>);

impl Segments {
    /// One stretch per run of adjacent addresses with equal ports.
    pub(super) fn exact(destinations: &[(u32, u16)]) -> Self {
        let mut by_address: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for &(address, port) in destinations {
            by_address.entry(address).or_default().push(port);
        }
        let mut segments = Self(
            by_address
                .into_iter()
                .map(|(address, ports)| Segment { first: address, last: address, ports: Ports::Ranges(ranges(ports)) })
                .collect(),
        );
        segments.join_adjacent();
        segments
    }

    /// The stretches in ascending order.
    pub(super) fn as_slice(&self) -> &[Segment] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Widens the ports of each stretch to one range.
    pub(super) fn hull_ports(&mut self) {
        for segment in &mut self.0 {
            if let Ports::Ranges(ranges) = &mut segment.ports
                && let (Some(&(low, _)), Some(&(_, high))) = (ranges.first(), ranges.last())
            {
                *ranges = vec![(low, high)];
            }
        }
        self.join_adjacent();
    }

    /// Widens the ports of each stretch to all of them.
    pub(super) fn any_port(&mut self) {
        for segment in &mut self.0 {
            segment.ports = Ports::Any;
        }
        self.join_adjacent();
    }

    /// Closes the smallest gaps until at most `wanted` stretches are left. Only for stretches that
    /// take any port.
    pub(super) fn merge_nearest(&mut self, wanted: usize) {
        let surplus = self.0.len().saturating_sub(wanted);
        let mut gaps: Vec<(u32, usize)> =
            self.0.windows(2).enumerate().map(|(index, pair)| (pair[1].first - pair[0].last, index + 1)).collect();
        gaps.sort_unstable();
        let mut closes_gap = vec![false; self.0.len()];
        for &(_, index) in gaps.iter().take(surplus) {
            closes_gap[index] = true;
        }
        self.join(|index, _, _| closes_gap[index]);
    }

    fn join_adjacent(&mut self) {
        self.join(|_, before, after| before.last.checked_add(1) == Some(after.first) && before.ports == after.ports);
    }

    /// Joins each stretch to the one before it where `joins(index, before, stretch)` says so.
    fn join(&mut self, joins: impl Fn(usize, &Segment, &Segment) -> bool) {
        let mut joined: Vec<Segment> = Vec::with_capacity(self.0.len());
        for (index, segment) in self.0.drain(..).enumerate() {
            match joined.last_mut() {
                Some(before) if joins(index, before, &segment) => before.last = segment.last,
                _ => joined.push(segment),
            }
        }
        self.0 = joined;
    }
}

/// Sorted ranges of these ports.
fn ranges(mut ports: Vec<u16>) -> PortRanges {
    ports.sort_unstable();
    ports.dedup();
    let mut ranges: PortRanges = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(port) => *high = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges
}
