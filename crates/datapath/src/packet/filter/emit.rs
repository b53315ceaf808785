//! From stretches of the address space to instructions.
//!
//! The search is written back to front: what a jump leads to exists before the jump does, so its
//! distance is known, and a verdict that is already close by is used again instead of written
//! again. Conditional jumps reach 255 instructions; farther ones go through an unconditional one.

use std::collections::HashMap;

use super::FilterInstruction;
use super::segments::{PortRanges, Ports, Segments};

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

/// What becomes of a frame whose address falls into a stretch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Verdict {
    Refuse,
    Accept,
    /// Compares the port with the set of this number.
    ComparePort(usize),
}

/// The whole program for these stretches.
pub(super) fn program(segments: &Segments) -> Vec<FilterInstruction> {
    let (leaves, port_sets) = leaves(segments);
    let mut writer = Writer { backwards: Vec::new(), known: HashMap::new(), port_sets };
    writer.search(&leaves);
    let mut program = prologue();
    program.extend(writer.backwards.iter().rev());
    program
}

/// Puts the destination address into A and the destination port into X; refuses what is not
/// UDP/IPv4. Loads past the end of the frame refuse it too.
///
/// The order is that of the verdicts in `mcr_wire::parse`: a header that contradicts itself is one
/// whatever its protocol, and has no port to be found.
fn prologue() -> Vec<FilterInstruction> {
    vec![
        /* 0 */ plain(LOAD_HALF, 12),
        /* 1 */ branch(IF_EQUAL, 0x0800, 6, 0), // IPv4, to 8
        /* 2 */ branch(IF_EQUAL, 0x8100, 1, 0), // IEEE 802.1Q C-tag, to 4
        /* 3 */ branch(IF_EQUAL, 0x88a8, 0, 6), // IEEE 802.1ad S-tag, else to 10
        /* 4 */ plain(LOAD_HALF, 16),
        /* 5 */ branch(IF_EQUAL, 0x0800, 0, 4), // else to 10
        /* 6 */ plain(SET_X, 18),
        /* 7 */ plain(JUMP, 1), // to 9
        /* 8 */ plain(SET_X, 14),
        /* 9 */ plain(JUMP, 1), // to 11
        /* 10 */ REFUSE,
        /* 11 */ plain(STORE_X, IP_AT),
        /* 12 */ plain(LOAD_WORD_X, 16),
        /* 13 */ plain(STORE, ADDRESS),
        /* 14 */ plain(LOAD_BYTE_X, 0),
        /* 15 */ branch(IF_AT_LEAST, 0x50, 25, 0), // a version above 4, to 41
        /* 16 */ branch(IF_AT_LEAST, 0x45, 0, 24), // below, or a header under 20 bytes, to 41
        /* 17 */ plain(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0x0f),
        /* 18 */ plain(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, 2),
        /* 19 */ plain(STORE, HEADER_BYTES),
        /* 20 */ plain(LOAD_HALF_X, 2),
        /* 21 */ plain(RECALL_X, HEADER_BYTES),
        /* 22 */ branch(IF_AT_LEAST_X, 0, 0, 18), // the packet ends in its header, to 41
        /* 23 */ plain(SUBTRACT_X, 0),
        /* 24 */ plain(STORE, PAYLOAD_BYTES),
        /* 25 */ plain(RECALL_X, IP_AT),
        /* 26 */ plain(LOAD_BYTE_X, 9),
        /* 27 */ branch(IF_EQUAL, 17, 1, 0), // UDP, to 29
        /* 28 */ REFUSE,
        /* 29 */ plain(LOAD_HALF_X, 6),
        /* 30 */ branch(IF_BITS, 0x1fff, 10, 0), // later fragment, to 41
        /* 31 */ plain(RECALL, PAYLOAD_BYTES),
        /* 32 */ branch(IF_AT_LEAST, 4, 0, 8), // the packet ends before its ports, to 41
        /* 33 */ plain(RECALL, HEADER_BYTES),
        /* 34 */ plain(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0),
        /* 35 */ plain(A_TO_X, 0),
        /* 36 */ plain(FRAME_BYTES, 0),
        /* 37 */ plain(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K, 4),
        /* 38 */ branch(IF_AT_LEAST_X, 0, 0, 2), // the frame ends before its ports, to 41
        /* 39 */ plain(LOAD_HALF_X, 2),
        /* 40 */ plain(JUMP, 1), // to 42
        /* 41 */ plain(libc::BPF_LD | libc::BPF_IMM, NO_PORT),
        /* 42 */ plain(A_TO_X, 0),
        /* 43 */ plain(RECALL, ADDRESS),
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
