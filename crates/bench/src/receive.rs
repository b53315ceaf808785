//! The cheapest receiver: `bpf/receive.bpf.c` at an interface's driver counts what arrives, and drops it. It tells the latency of stamped
//! packets too.

use aya::Ebpf;
use aya::maps::{Array, PerCpuArray};
use mcr_testbed::Interface;

use crate::kernel;
use crate::path::{GROUP, OUTPUT_PORT};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/receive.bpf.o"));

/// As in the program.
const LATENCIES: u32 = 100_000;
const LATENCY_STEP_US: f64 = 0.1;

/// Counts the load as it arrives at an interface, from the device or from a relay.
pub(crate) struct Receiver {
    ebpf: Ebpf,
}

impl Receiver {
    pub(crate) fn new(interface: &Interface) -> Receiver {
        let (as_sent, as_relayed) = (GROUP.port(), OUTPUT_PORT);
        let mut ebpf = kernel::load(OBJECT, |loader| {
            loader.override_global("port_as_sent", &as_sent, true);
            loader.override_global("port_as_relayed", &as_relayed, true);
        });
        kernel::attach_xdp(&mut ebpf, "receive", interface);
        Receiver { ebpf }
    }

    /// How many came so far.
    pub(crate) fn total(&self) -> u64 {
        let map = self.ebpf.map("received").expect("built with it");
        let received: PerCpuArray<_, u64> = PerCpuArray::try_from(map).expect("a map of each CPU");
        received.get(&0, 0).expect("read the count").iter().sum()
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
        step.map(|(index, _)| (f64::from(*index) + 0.5) * LATENCY_STEP_US)
    }
}

/// Drops all socket buffers as soon as they arrive at an interface: the least that a host does with a frame of an ordinary sender.
pub(crate) struct Shooter {
    _ebpf: Ebpf,
}

impl Shooter {
    pub(crate) fn new(interface: &Interface) -> Shooter {
        let mut ebpf = kernel::load(OBJECT, |_| {});
        kernel::attach_tcx(&mut ebpf, "shoot", interface);
        Shooter { _ebpf: ebpf }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_packets_not_of_steps() {
        let latencies = Latencies { steps: vec![(10, 98), (20, 1), (500, 1)] };
        assert_eq!(latencies.percentile(0.5), Some(1.05));
        assert_eq!(latencies.percentile(0.99), Some(2.05));
        assert_eq!(latencies.percentile(0.999), Some(50.05));
        assert_eq!(Latencies { steps: vec![] }.percentile(0.5), None);
    }
}
