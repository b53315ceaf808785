//! The kernel filter of an input: a classic BPF program that lets through the UDP datagrams
//! of the configured destinations and nothing else, so that foreign traffic costs no wake-up and
//! no ring slot.
//!
//! The program never refuses a frame that a relay wants. It may let more through (see
//! [`compile`]); the look-up in user space decides. It reads one in-frame VLAN tag; the outermost
//! tag is out of the frame by the time a packet socket's filter runs
//! (`net/core/dev.c: __netif_receive_skb_core`). It ignores the VLAN, the header
//! checksum and the source: those are verdicts with a name, given in user space.
//!
//! Shape of the program: for each IP family that there is, a prologue puts the destination address
//! into A and the destination port into X, then a binary search over the address space follows.
//! Each stretch of addresses ends in a verdict: refuse, accept, or a block that compares the port.
//! What carries no port is accepted by address alone: a later fragment to follow its first, and a
//! header that contradicts itself or a frame that ends early to be counted on the input by its
//! name, whosever it is.
//!
//! Of an IPv6 address only the last 32 bits are compared: they are what tells groups apart for the
//! link layer too (RFC 2464 section 7), and A holds no more.
//!
//! Reference: `Documentation/networking/filter.rst`; checks in `net/core/filter.c:
//! bpf_check_classic`.

use std::net::IpAddr;

mod emit;
mod segments;

use segments::Segments;

/// Longest program that [`compile`] makes, in instructions.
///
/// The kernel takes up to 4,096 (`BPF_MAXINSNS`), but charges the translated program to
/// `net.core.optmem_max`, the old one and the new one together while they are swapped.
///
/// With Linux 6.18 and its default of 131,072 bytes, two programs of 2,661 instructions fit and two of 3,063 do not.
pub const MAX_INSTRUCTIONS: usize = 2_560;

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`
/// (`include/uapi/linux/filter.h`); all fields in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterInstruction {
    /// Operation, a sum of the `BPF_*` class, size, mode and source bits.
    pub code: u16,
    /// Instructions to skip when a conditional jump is taken.
    pub jt: u8,
    /// Instructions to skip when it is not.
    pub jf: u8,
    /// Operand: a constant, an offset or a jump distance.
    pub k: u32,
}

const _: () = assert!(size_of::<FilterInstruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<FilterInstruction>() == align_of::<libc::sock_filter>());

/// The filter that refuses every frame.
#[must_use]
pub fn drop_all() -> [FilterInstruction; 1] {
    [emit::REFUSE]
}

/// The filter that accepts every frame.
pub(super) fn accept_all() -> [FilterInstruction; 1] {
    [emit::ACCEPT]
}

/// Compiles the filter for these destinations (address, port), at most [`MAX_INSTRUCTIONS`] long.
///
/// Exact while it fits. Past that it lets more through, the least harmful way first: the ports of
/// an address become one range, then any port, then addresses that lie close
/// together become one range.
#[must_use]
pub fn compile(destinations: &[(IpAddr, u16)]) -> Vec<FilterInstruction> {
    compile_within(destinations, MAX_INSTRUCTIONS)
}

/// As [`compile`], for a limit of the caller's, for a kernel that answers `ENOMEM` to the full
/// length. A limit below 128 is taken as 128.
#[must_use]
pub fn compile_within(destinations: &[(IpAddr, u16)], max_instructions: usize) -> Vec<FilterInstruction> {
    if destinations.is_empty() {
        return drop_all().to_vec();
    }
    let limit = max_instructions.max(128);
    let mut wanted = Wanted::exact(destinations);
    let coarser: [fn(&mut Segments); 2] = [Segments::hull_ports, Segments::any_port];
    for coarsen in coarser {
        let program = emit::program(&wanted);
        if program.len() <= limit {
            return program;
        }
        wanted.each(coarsen);
    }
    loop {
        let program = emit::program(&wanted);
        if program.len() <= limit {
            return program;
        }
        // Proportional, and a little more, so that two or three rounds are enough.
        wanted.each(|segments| {
            let wanted = segments.len() * limit / program.len();
            segments.merge_nearest(wanted.saturating_sub(4).max(1));
        });
    }
}

/// The destinations of each family.
struct Wanted {
    ipv4: Segments,
    ipv6: Segments,
}

impl Wanted {
    fn exact(destinations: &[(IpAddr, u16)]) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for &(address, port) in destinations {
            match address {
                IpAddr::V4(address) => ipv4.push((u32::from(address), port)),
                IpAddr::V6(address) => ipv6.push((u128::from(address) as u32, port)),
            }
        }
        Self { ipv4: Segments::exact(&ipv4), ipv6: Segments::exact(&ipv6) }
    }

    fn each(&mut self, change: impl Fn(&mut Segments)) {
        change(&mut self.ipv4);
        change(&mut self.ipv6);
    }
}

#[cfg(test)]
mod tests;
