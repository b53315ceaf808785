//! The receiving side: an eBPF program counts what arrives at an interface, exactly and at almost no cost.
//!
//! The program filters a packet socket and lets nothing through, so nothing is copied, queued or read. A super-frame
//! (what a veth hands over uncut while its peer segments "in hardware") counts as its number of segments.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mcr_testbed::Interface;

use crate::socket;

const ETH_P_IP: u16 = 0x0800;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const SO_ATTACH_BPF: i32 = 50;
/// Ethernet, IPv4 without options, UDP.
const HEADER_BYTES: i32 = 42;

/// Counts the UDP packets to one port that arrive at an interface.
pub(crate) struct Counter {
    map: OwnedFd,
    _socket: OwnedFd,
}

impl Counter {
    pub(crate) fn new(interface: &Interface, port: u16) -> Counter {
        let map = create_map();
        let program = load(&program(port, &map));
        let socket = interface.namespace().run(|| {
            let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
            socket::set(&socket, libc::SOL_SOCKET, SO_ATTACH_BPF, program.as_raw_fd());
            socket::set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1i32);
            socket::bind_packet(&socket, interface.index(), ETH_P_IP);
            socket
        });
        Counter { map, _socket: socket }
    }

    /// How many came so far.
    pub(crate) fn total(&self) -> u64 {
        let (key, mut value) = (0u32, 0u64);
        let mut attributes =
            MapElement { map: self.map.as_raw_fd() as u32, _gap: 0, key: address(&key), value: 0, flags: 0 };
        attributes.value = (&raw mut value) as u64;
        bpf(BPF_MAP_LOOKUP_ELEM, &attributes);
        value
    }
}

// Commands and types of bpf(2), include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_PROG_LOAD: i32 = 5;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapElement {
    map: u32,
    _gap: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    instruction: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `struct bpf_insn`; `registers` holds the destination in its low half and the source in its high one.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn step(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

/// ```text
/// if protocol == UDP and destination port == port:
///     packets = gso_size == 0 ? 1 : ceil((len - headers) / gso_size)
///     map[0] += packets
/// return 0
/// ```
fn program(port: u16, map: &OwnedFd) -> [Instruction; 24] {
    // Offsets in struct __sk_buff.
    const LEN: i16 = 0;
    const GSO_SIZE: i16 = 176;
    [
        step(0xbf, 6, 1, 0, 0),               // r6 = skb, as the two loads want it
        step(0x30, 0, 0, 0, 23),              // r0 = IP protocol
        step(0x55, 0, 0, 19, 17),             // not UDP: out
        step(0x28, 0, 0, 0, 36),              // r0 = destination port
        step(0x55, 0, 0, 17, port.into()),    // another: out
        step(0xb7, 7, 0, 0, 1),               // r7 = 1
        step(0x61, 1, 6, GSO_SIZE, 0),        // r1 = bytes per segment
        step(0x15, 1, 0, 5, 0),               // none: r7 is right
        step(0x61, 7, 6, LEN, 0),             // r7 = bytes of the frame
        step(0x07, 7, 0, 0, -HEADER_BYTES),   //
        step(0x0f, 7, 1, 0, 0),               //
        step(0x07, 7, 0, 0, -1),              //
        step(0x3f, 7, 1, 0, 0),               // r7 = (payload + segment - 1) / segment
        step(0x62, 10, 0, -4, 0),             // key = 0
        step(0xbf, 2, 10, 0, 0),              // r2 = &key
        step(0x07, 2, 0, 0, -4),              //
        step(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = map, in two instructions
        step(0, 0, 0, 0, 0),                  //
        step(0x85, 0, 0, 0, 1),               // r0 = bpf_map_lookup_elem
        step(0x15, 0, 0, 2, 0),               // there always is one, but the verifier can't know
        step(0xdb, 0, 7, 0, 0),               // lock *r0 += r7
        step(0x05, 0, 0, 0, 0),               //
        step(0xb7, 0, 0, 0, 0),               // out: let nothing through
        step(0x95, 0, 0, 0, 0),
    ]
}

fn create_map() -> OwnedFd {
    let map = MapCreate { kind: BPF_MAP_TYPE_ARRAY, key_bytes: 4, value_bytes: 8, entries: 1, flags: 0 };
    descriptor(bpf(BPF_MAP_CREATE, &map))
}

fn load(program: &[Instruction]) -> OwnedFd {
    let license = c"MIT";
    descriptor(bpf(
        BPF_PROG_LOAD,
        &ProgramLoad {
            kind: BPF_PROG_TYPE_SOCKET_FILTER,
            instructions: program.len() as u32,
            instruction: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
        },
    ))
}

fn bpf<T>(command: i32, attributes: &T) -> i64 {
    // SAFETY: the attributes are those of the command, and every address in them is of memory that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    assert!(result >= 0, "bpf command {command}: {}", io::Error::last_os_error());
    result
}

fn descriptor(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcr_testbed::{Offload, Sender, Switch, Topology, wait_until};

    use super::*;

    #[test]
    fn counts_each_datagram_and_each_segment_to_its_port_alone() {
        let net = Topology::device_relay_lan(0);
        net.device_interface().offload(Offload::SegmentUdp, Switch::On);
        let counter = Counter::new(net.relay_input(), 5001);
        Sender::new(net.device(), "239.1.1.1:5002").send(10);
        Sender::new(net.device(), "239.1.1.1:5001").payload_bytes(64).send(1_000);
        Sender::new(net.device(), "239.1.1.1:5001").payload_bytes(1_250).segmented(16).send(1_607);
        wait_until(Duration::from_secs(5), "all 2,607 are counted", || counter.total() >= 2_607);
        assert_eq!(counter.total(), 2_607);
    }
}
