//! The cheapest receivers: `bpf/receive.bpf.c` counts what arrives, exactly, and drops it. At the driver it tells the latency of stamped
//! packets too; on a packet socket it sees super-frames.

use std::os::fd::OwnedFd;

use aya::Ebpf;
use aya::maps::{Array, PerCpuArray};
use aya::programs::SocketFilter;
use mcr_testbed::Interface;

use crate::path::{GROUP, OUTPUT_PORT};
use crate::{kernel, socket};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/receive.bpf.o"));

/// As in the program.
const LATENCIES: u32 = 100_000;
const LATENCY_STEPS_PER_US: f64 = 10.0;
/// `include/uapi/linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Counts the load as it arrives at an interface, from the device or from a relay.
pub(crate) struct Receiver {
    ebpf: Ebpf,
}

impl Receiver {
    pub(crate) fn new(interface: &Interface) -> Receiver {
        let mut ebpf = load();
        kernel::attach_xdp(&mut ebpf, "receive", interface);
        Receiver { ebpf }
    }

    /// How many came so far.
    pub(crate) fn total(&self) -> u64 {
        total(&self.ebpf)
    }

    /// The latencies of stamped packets since the last call.
    pub(crate) fn take_latencies(&mut self) -> Latencies {
        let map = self.ebpf.map_mut("latencies").expect("built with it");
        let mut array: Array<_, u64> = Array::try_from(map).expect("an array");
        let mut steps = Vec::new();
        for index in 0..LATENCIES {
            let packets = array.get(&index, 0).expect("read a latency");
            if packets > 0 {
                steps.push((index, packets));
                array.set(index, 0, 0).expect("reset a latency");
            }
        }
        Latencies { steps }
    }
}

fn load() -> Ebpf {
    let (as_sent, as_relayed) = (GROUP.port(), OUTPUT_PORT);
    kernel::load(OBJECT, |loader| {
        loader.override_global("port_as_sent", &as_sent, true);
        loader.override_global("port_as_relayed", &as_relayed, true);
    })
}

fn total(ebpf: &Ebpf) -> u64 {
    let received: PerCpuArray<_, u64> =
        PerCpuArray::try_from(ebpf.map("received").expect("built with it")).expect("a map of each CPU");
    received.get(&0, 0).expect("read the count").iter().sum()
}

/// Counts the load where super-frames are seen: each of their segments.
pub(crate) struct Counter {
    ebpf: Ebpf,
    _socket: OwnedFd,
}

impl Counter {
    pub(crate) fn new(interface: &Interface) -> Counter {
        let mut ebpf = load();
        let program = ebpf.program_mut("count_segments").expect("built with it");
        let program: &mut SocketFilter = program.try_into().expect("a socket filter");
        program.load().unwrap_or_else(|error| panic!("the kernel refuses the counter: {error}"));
        let socket = interface.namespace().run(|| {
            let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0);
            program.attach(&socket).unwrap_or_else(|error| panic!("the counter can not be attached: {error}"));
            socket::set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1i32);
            socket::bind_packet(&socket, interface.index(), libc::ETH_P_IP as u16);
            socket
        });
        Counter { ebpf, _socket: socket }
    }

    /// How many came so far.
    pub(crate) fn total(&self) -> u64 {
        total(&self.ebpf)
    }
}

/// How many packets took how long.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    /// Number of the step, and packets; ascending.
    steps: Vec<(u32, u64)>,
}

impl Latencies {
    /// The time in microseconds that this share of the packets did not exceed; nothing when none came.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.steps.iter().map(|(_, packets)| packets).sum();
        let mut left = (all as f64 * share).ceil() as u64;
        let step = self.steps.iter().find(|(_, packets)| {
            left = left.saturating_sub(*packets);
            left == 0
        });
        step.map(|(index, _)| (f64::from(*index) + 0.5) / LATENCY_STEPS_PER_US)
    }
}

/// Drops all socket buffers as soon as they arrive at an interface: the least that a host does with a frame of an ordinary sender.
pub(crate) struct Shooter {
    _ebpf: Ebpf,
}

impl Shooter {
    pub(crate) fn new(interface: &Interface) -> Shooter {
        let mut ebpf = load();
        kernel::attach_tcx(&mut ebpf, "shoot", interface);
        Shooter { _ebpf: ebpf }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcr_testbed::{Offload, Sender, Switch, Topology, wait_until};

    use super::*;

    #[test]
    fn counts_each_datagram_and_each_segment_to_its_ports_alone() {
        let net = Topology::device_relay_lan(0);
        net.device_interface().offload(Offload::SegmentUdp, Switch::On);
        let counter = Counter::new(net.relay_input());
        Sender::new(net.device(), "239.1.1.1:5002").send(10);
        Sender::new(net.device(), "239.1.1.1:5001").payload_bytes(64).send(1_000);
        Sender::new(net.device(), "239.1.1.1:5001").payload_bytes(1_250).segmented(16).send(1_607);
        wait_until(Duration::from_secs(5), "all 2,607 are counted", || counter.total() >= 2_607);
        assert_eq!(counter.total(), 2_607);
    }

    #[test]
    fn percentiles_are_of_packets_not_of_steps() {
        let latencies = Latencies { steps: vec![(10, 98), (20, 1), (500, 1)] };
        assert_eq!(latencies.percentile(0.5), Some(1.05));
        assert_eq!(latencies.percentile(0.99), Some(2.05));
        assert_eq!(latencies.percentile(0.999), Some(50.05));
        assert_eq!(Latencies { steps: vec![] }.percentile(0.5), None);
    }
}
