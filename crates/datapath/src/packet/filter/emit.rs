//! From stretches of the address space to instructions.
//!
//! The search is written back to front: what a jump leads to exists before the jump does, so its
//! distance is known, and a verdict that is already close by is used again instead of written
//! again. Conditional jumps reach 255 instructions; farther ones go through an unconditional one.

use std::collections::HashMap;

use super::segments::{PortRanges, Ports, Segments};
use super::{FilterInstruction, Wanted};

/// Takes the whole frame: the verdict is a number of bytes.
pub(super) const ACCEPT: FilterInstruction = plain(libc::BPF_RET | libc::BPF_K, u32::MAX);
/// Takes nothing.
pub(super) const REFUSE: FilterInstruction = plain(libc::BPF_RET | libc::BPF_K, 0);
/// A port that no datagram has: stands in X for a packet whose port can't be read.
const NO_PORT: u32 = 0x1_0000;
/// Farthest target of a conditional jump, in instructions to skip.
const REACH: usize = 255;

const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE_X: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const LOAD_HALF_X: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_WORD_X: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const SET_X: u32 = libc::BPF_LDX | libc::BPF_IMM;
const FRAME_BYTES: u32 = libc::BPF_LD | libc::BPF_LEN;
const STORE: u32 = libc::BPF_ST;
const STORE_X: u32 = libc::BPF_STX;
const RECALL: u32 = libc::BPF_LD | libc::BPF_MEM;
const RECALL_X: u32 = libc::BPF_LDX | libc::BPF_MEM;
const SUBTRACT_X: u32 = libc::BPF_ALU | libc::BPF_SUB | libc::BPF_X;
const A_TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const X_TO_A: u32 = libc::BPF_MISC | libc::BPF_TXA;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_AT_LEAST_X: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_X;
const IF_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

/// Cells of the scratch memory.
const ADDRESS: u32 = 0;
const IP_AT: u32 = 1;
const HEADER_BYTES: u32 = 2;
const PAYLOAD_BYTES: u32 = 3;
const KIND: u32 = 4;

/// Kinds of extension headers (RFC 8200 section 4).
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION_OPTIONS: u32 = 60;

/// What becomes of a frame whose address falls into a stretch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Verdict {
    Refuse,
    Accept,
    /// Compares the port with the set of this number.
    ComparePort(usize),
}

/// The whole program for these stretches.
pub(super) fn program(wanted: &Wanted) -> Vec<FilterInstruction> {
    let ipv4 = family(ipv4_prologue(), &wanted.ipv4);
    let ipv6 = family(ipv6_prologue(), &wanted.ipv6);
    let mut program = link(&ipv4);
    program.extend(ipv4);
    program.extend(ipv6);
    program
}

/// The part for one family.
fn family(prologue: Vec<FilterInstruction>, segments: &Segments) -> Vec<FilterInstruction> {
    if segments.is_empty() {
        return vec![REFUSE];
    }
    let (leaves, port_sets) = leaves(segments);
    let mut writer = Writer { backwards: Vec::new(), known: HashMap::new(), port_sets };
    writer.search(&leaves);
    let mut part = prologue;
    part.extend(writer.backwards.iter().rev());
    part
}

/// Reads the link layer, and puts the place of the IP header into X. The part for IPv4 follows it, and behind that the one
/// for IPv6. Loads past the end of the frame refuse it, here and in all that follows.
fn link(ipv4: &[FilterInstruction]) -> Vec<FilterInstruction> {
    vec![
        /* 0 */ plain(LOAD_HALF, 12),
        /* 1 */ branch(IF_EQUAL, 0x8100, 1, 0), // IEEE 802.1Q C-tag, to 3
        /* 2 */ branch(IF_EQUAL, 0x88a8, 0, 3), // IEEE 802.1ad S-tag, else to 6
        /* 3 */ plain(LOAD_HALF, 16),
        /* 4 */ plain(SET_X, 18),
        /* 5 */ plain(JUMP, 1), // to 7
        /* 6 */ plain(SET_X, 14),
        /* 7 */ plain(STORE_X, IP_AT),
        /* 8 */ branch(IF_EQUAL, 0x86dd, 0, 1), // IPv6, else to 10
        /* 9 */ plain(JUMP, 2 + ipv4.len() as u32), // over IPv4
        /* 10 */ branch(IF_EQUAL, 0x0800, 1, 0), // IPv4, to 12
        /* 11 */ REFUSE,
    ]
}

/// Puts the destination address into A and the destination port into X; refuses what is not UDP.
///
/// The order is that of the verdicts in `mcr_wire::parse`: a header that contradicts itself is one
/// whatever its protocol, and has no port to be found.
fn ipv4_prologue() -> Vec<FilterInstruction> {
    vec![
        /* 0 */ plain(LOAD_WORD_X, 16),
        /* 1 */ plain(STORE, ADDRESS),
        /* 2 */ plain(LOAD_BYTE_X, 0),
        /* 3 */ branch(IF_AT_LEAST, 0x50, 25, 0), // a version above 4, to 29
        /* 4 */ branch(IF_AT_LEAST, 0x45, 0, 24), // below, or a header under 20 bytes, to 29
        /* 5 */ plain(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0x0f),
        /* 6 */ plain(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, 2),
        /* 7 */ plain(STORE, HEADER_BYTES),
        /* 8 */ plain(LOAD_HALF_X, 2),
        /* 9 */ plain(RECALL_X, HEADER_BYTES),
        /* 10 */ branch(IF_AT_LEAST_X, 0, 0, 18), // the packet ends in its header, to 29
        /* 11 */ plain(SUBTRACT_X, 0),
        /* 12 */ plain(STORE, PAYLOAD_BYTES),
        /* 13 */ plain(RECALL_X, IP_AT),
        /* 14 */ plain(LOAD_BYTE_X, 9),
        /* 15 */ branch(IF_EQUAL, 17, 1, 0), // UDP, to 17
        /* 16 */ REFUSE,
        /* 17 */ plain(LOAD_HALF_X, 6),
        /* 18 */ branch(IF_BITS, 0x1fff, 10, 0), // later fragment, to 29
        /* 19 */ plain(RECALL, PAYLOAD_BYTES),
        /* 20 */ branch(IF_AT_LEAST, 4, 0, 8), // the packet ends before its ports, to 29
        /* 21 */ plain(RECALL, HEADER_BYTES),
        /* 22 */ plain(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0),
        /* 23 */ plain(A_TO_X, 0),
        /* 24 */ plain(FRAME_BYTES, 0),
        /* 25 */ plain(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, 4),
        /* 26 */ branch(IF_AT_LEAST_X, 0, 0, 2), // the frame ends before its ports, to 29
        /* 27 */ plain(LOAD_HALF_X, 2),
        /* 28 */ plain(JUMP, 1), // to 30
        /* 29 */ plain(libc::BPF_LD | libc::BPF_IMM, NO_PORT),
        /* 30 */ plain(A_TO_X, 0),
        /* 31 */ plain(RECALL, ADDRESS),
    ]
}

/// As [`ipv4_prologue`], past one extension header.
fn ipv6_prologue() -> Vec<FilterInstruction> {
    vec![
        /* 0 */ plain(LOAD_WORD_X, 36),
        /* 1 */ plain(STORE, ADDRESS),
        /* 2 */ plain(LOAD_BYTE_X, 0),
        /* 3 */ branch(IF_AT_LEAST, 0x70, 48, 0), // a version above 6, to 52
        /* 4 */ branch(IF_AT_LEAST, 0x60, 0, 47), // or below, to 52
        /* 5 */ plain(LOAD_HALF_X, 4),
        /* 6 */ plain(STORE, PAYLOAD_BYTES),
        /* 7 */ plain(LOAD_BYTE_X, 6),
        /* 8 */ branch(IF_EQUAL, 17, 28, 0), // UDP, to 37
        /* 9 */ branch(IF_EQUAL, FRAGMENT, 4, 0), // to 14
        /* 10 */ branch(IF_EQUAL, HOP_BY_HOP, 3, 0), // to 14
        /* 11 */ branch(IF_EQUAL, ROUTING, 2, 0), // to 14
        /* 12 */ branch(IF_EQUAL, DESTINATION_OPTIONS, 1, 0), // to 14
        /* 13 */ REFUSE,
        /* 14 */ plain(STORE, KIND),
        /* 15 */ plain(RECALL, PAYLOAD_BYTES),
        /* 16 */ branch(IF_AT_LEAST, 8, 0, 35), // the packet ends in the extension header, to 52
        /* 17 */ plain(FRAME_BYTES, 0),
        /* 18 */ plain(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, 48),
        /* 19 */ branch(IF_AT_LEAST_X, 0, 0, 32), // or the frame does, to 52
        /* 20 */ plain(LOAD_BYTE_X, 40),
        /* 21 */ branch(IF_EQUAL, 17, 5, 0), // UDP behind it, to 27
        /* 22 */ branch(IF_EQUAL, FRAGMENT, 29, 0), // one more, to 52
        /* 23 */ branch(IF_EQUAL, HOP_BY_HOP, 28, 0), // to 52
        /* 24 */ branch(IF_EQUAL, ROUTING, 27, 0), // to 52
        /* 25 */ branch(IF_EQUAL, DESTINATION_OPTIONS, 26, 0), // to 52
        /* 26 */ REFUSE,
        /* 27 */ plain(RECALL, KIND),
        /* 28 */ branch(IF_EQUAL, FRAGMENT, 0, 4), // else to 33
        /* 29 */ plain(LOAD_HALF_X, 42),
        /* 30 */ branch(IF_BITS, 0xfff8, 21, 0), // later fragment, to 52
        /* 31 */ plain(libc::BPF_LD | libc::BPF_IMM, 0),
        /* 32 */ plain(JUMP, 1), // to 34
        /* 33 */ plain(LOAD_BYTE_X, 41),
        /* 34 */ plain(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 6),
        /* 35 */ plain(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, 3),
        /* 36 */ plain(JUMP, 1), // to 38
        /* 37 */ plain(libc::BPF_LD | libc::BPF_IMM, 40),
        /* 38 */ plain(STORE, HEADER_BYTES),
        /* 39 */ plain(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, 36),
        /* 40 */ plain(A_TO_X, 0),
        /* 41 */ plain(RECALL, PAYLOAD_BYTES),
        /* 42 */ branch(IF_AT_LEAST_X, 0, 0, 9), // the packet ends before its ports, to 52
        /* 43 */ plain(RECALL_X, IP_AT),
        /* 44 */ plain(RECALL, HEADER_BYTES),
        /* 45 */ plain(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0),
        /* 46 */ plain(A_TO_X, 0),
        /* 47 */ plain(FRAME_BYTES, 0),
        /* 48 */ plain(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, 4),
        /* 49 */ branch(IF_AT_LEAST_X, 0, 0, 2), // the frame ends before its ports, to 52
        /* 50 */ plain(LOAD_HALF_X, 2),
        /* 51 */ plain(JUMP, 1), // to 53
        /* 52 */ plain(libc::BPF_LD | libc::BPF_IMM, NO_PORT),
        /* 53 */ plain(A_TO_X, 0),
        /* 54 */ plain(RECALL, ADDRESS),
    ]
}

/// The address space cut into stretches, gaps included: each starts at its address and ends where
/// the next one starts. Equal sets of ports get one number.
fn leaves(segments: &Segments) -> (Vec<(u32, Verdict)>, Vec<PortRanges>) {
    let mut numbers: HashMap<&[(u16, u16)], usize> = HashMap::new();
    let mut port_sets = Vec::new();
    let mut leaves = vec![(0, Verdict::Refuse)];
    for segment in segments.as_slice() {
        let verdict = match &segment.ports {
            Ports::Any => Verdict::Accept,
            Ports::Ranges(ranges) => Verdict::ComparePort(*numbers.entry(ranges).or_insert_with(|| {
                port_sets.push(ranges.clone());
                port_sets.len() - 1
            })),
        };
        // A stretch that follows without a gap takes over the place where the gap would start.
        if leaves.last().is_some_and(|&(start, _)| start == segment.first) {
            leaves.pop();
        }
        leaves.push((segment.first, verdict));
        if let Some(after) = segment.last.checked_add(1) {
            leaves.push((after, Verdict::Refuse));
        }
    }
    (leaves, port_sets)
}

/// A place in the program, counted from its end: stays true while instructions are put in front.
type Place = usize;

struct Writer {
    /// The program, last instruction first.
    backwards: Vec<FilterInstruction>,
    /// Where each verdict was written last.
    known: HashMap<Verdict, Place>,
    port_sets: Vec<PortRanges>,
}

impl Writer {
    /// Writes the binary search over `leaves` and returns where it starts.
    fn search(&mut self, leaves: &[(u32, Verdict)]) -> Place {
        if let &[(_, verdict)] = leaves {
            return self.verdict(verdict);
        }
        let (low, high) = leaves.split_at(leaves.len() / 2);
        let pivot = high[0].0;
        let at_least = self.search(high);
        let below = self.search(low);
        self.branch(IF_AT_LEAST, pivot, at_least, below)
    }

    /// A place that gives this verdict, near enough for the next few jumps if it can be had for
    /// nothing.
    fn verdict(&mut self, verdict: Verdict) -> Place {
        if let Some(&place) = self.known.get(&verdict)
            && self.distance(place) + 8 < REACH
        {
            return place;
        }
        let place = match (verdict, self.known.get(&verdict)) {
            (Verdict::Refuse, _) => self.push(REFUSE),
            (Verdict::Accept, _) => self.push(ACCEPT),
            (Verdict::ComparePort(_), Some(&block)) => {
                let distance = self.distance(block);
                self.push(plain(JUMP, distance as u32))
            }
            (Verdict::ComparePort(set), None) => self.compare_port(set),
        };
        self.known.insert(verdict, place);
        place
    }

    /// Compares X with a set of ports; a packet without a port is accepted.
    fn compare_port(&mut self, set: usize) -> Place {
        let mut edges = vec![(0, Verdict::Refuse)];
        for &(low, high) in &self.port_sets[set] {
            if low == 0 {
                edges.clear();
            }
            edges.push((u32::from(low), Verdict::Accept));
            edges.push((u32::from(high) + 1, Verdict::Refuse));
        }
        if edges.last().is_some_and(|&(start, _)| start == NO_PORT) {
            edges.pop();
        } else {
            edges.push((NO_PORT, Verdict::Accept));
        }
        self.search(&edges);
        self.push(plain(X_TO_A, 0))
    }

    /// Writes a conditional jump, through unconditional ones where a target is out of its reach.
    fn branch(&mut self, code: u32, operand: u32, taken: Place, not_taken: Place) -> Place {
        let not_taken = self.within_reach(not_taken, REACH - 1);
        let taken = self.within_reach(taken, REACH);
        let (jt, jf) = (self.distance(taken), self.distance(not_taken));
        self.push(branch(code, operand, jt as u8, jf as u8))
    }

    fn within_reach(&mut self, place: Place, reach: usize) -> Place {
        match self.distance(place) {
            distance if distance <= reach => place,
            distance => self.push(plain(JUMP, distance as u32)),
        }
    }

    /// Instructions that a jump written next would skip to get to `place`.
    fn distance(&self, place: Place) -> usize {
        self.backwards.len() - 1 - place
    }

    fn push(&mut self, instruction: FilterInstruction) -> Place {
        self.backwards.push(instruction);
        self.backwards.len() - 1
    }
}

const fn plain(code: u32, k: u32) -> FilterInstruction {
    branch(code, k, 0, 0)
}

const fn branch(code: u32, k: u32, jt: u8, jf: u8) -> FilterInstruction {
    FilterInstruction { code: code as u16, jt, jf, k }
}
