//! The network of a bench: a generator at the device, a receiver at each LAN, and the relay's host between them.

use std::time::{Duration, Instant};

use mcr_testbed::{Offload, Switch, Topology};

use crate::generate::{Generator, Ingress, Load, Offered};
use crate::path::ROUTABLE;
use crate::receive::{Counter, Latencies, Receiver, Shooter};

/// Who cuts the super-frames that a relay may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Egress {
    /// The kernel, before the interface: as for a NIC without UDP segmentation.
    Software,
    /// The interface: as for a NIC with `tx-udp-segmentation`. A veth does not cut at all, it hands over the whole.
    Offload,
}

impl Egress {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Offload => "offload",
        }
    }
}

/// What arrives at the LANs.
enum Receivers {
    /// In XDP; its presence keeps the relay's side from handing over super-frames.
    Drivers(Vec<Receiver>),
    /// Where super-frames are seen.
    Sockets(Vec<Counter>),
}

/// The network with all that stands in it but the relay.
pub(crate) struct Wire {
    net: Topology,
    generator: Generator,
    receivers: Receivers,
    coalesce: Switch,
}

impl Wire {
    pub(crate) fn new(outputs: usize) -> Wire {
        let net = Topology::device_relay_lan(outputs).with_ipv6();
        net.device().ip(&format!("address add {ROUTABLE}/24 dev eth0"));
        let generator = Generator::new(net.device_interface());
        let receivers = Receivers::Drivers(drivers(&net));
        let wire = Wire { net, generator, receivers, coalesce: Switch::Off };
        wire.segment(Switch::Off);
        wire
    }

    pub(crate) fn net(&self) -> &Topology {
        &self.net
    }

    /// Gathers what comes in for the relay into super-frames, or does not (`rx-udp-gro-forwarding`).
    pub(crate) fn set_coalesce(&mut self, switch: Switch) {
        if self.coalesce != switch {
            self.net.relay_input().offload(Offload::GatherForwardedUdp, switch);
            self.coalesce = switch;
        }
    }

    pub(crate) fn set_egress(&mut self, egress: Egress) {
        match (egress, &self.receivers) {
            (Egress::Software, Receivers::Drivers(_)) | (Egress::Offload, Receivers::Sockets(_)) => {}
            (Egress::Software, Receivers::Sockets(_)) => {
                self.segment(Switch::Off);
                self.receivers = Receivers::Drivers(drivers(&self.net));
            }
            (Egress::Offload, Receivers::Drivers(_)) => {
                // The programs have to go before the interfaces may hand over super-frames.
                self.receivers = Receivers::Sockets(Vec::new());
                self.segment(Switch::On);
                let counters = self.net.lans().iter().map(|lan| Counter::new(lan.host_side()));
                self.receivers = Receivers::Sockets(counters.collect());
            }
        }
    }

    fn segment(&self, switch: Switch) {
        for lan in self.net.lans() {
            lan.relay_side().offload(Offload::SegmentUdp, switch);
        }
    }

    pub(crate) fn generate(&mut self, load: Load) -> Offered {
        self.generator.send(load)
    }

    /// What the first `outputs` LANs got so far.
    pub(crate) fn totals(&self, outputs: usize) -> Vec<u64> {
        match &self.receivers {
            Receivers::Drivers(receivers) => receivers.iter().take(outputs).map(Receiver::total).collect(),
            Receivers::Sockets(counters) => counters.iter().take(outputs).map(Counter::total).collect(),
        }
    }

    /// Waits until each of the LANs got `packets` more than `before`, or nothing comes any more; the totals.
    pub(crate) fn wait_for(&self, before: &[u64], packets: u64) -> Vec<u64> {
        let mut totals = self.totals(before.len());
        let mut last_change = Instant::now();
        let is_complete = |totals: &[u64]| totals.iter().zip(before).all(|(total, before)| total - before >= packets);
        while !is_complete(&totals) && last_change.elapsed() < Duration::from_millis(60) {
            std::thread::sleep(Duration::from_millis(2));
            let now = self.totals(before.len());
            if now != totals {
                (totals, last_change) = (now, Instant::now());
            }
        }
        totals
    }

    /// The latencies of the stamped packets that the first LAN got since the last call.
    pub(crate) fn take_latencies(&mut self) -> Latencies {
        match &mut self.receivers {
            Receivers::Drivers(receivers) => receivers[0].take_latencies(),
            Receivers::Sockets(_) => unreachable!("latency is measured with software segmentation"),
        }
    }

    /// CPU time for each packet of the load when there is no relay and the cheapest receiver is right at the wire.
    pub(crate) fn bare_cost(&mut self, load: Load) -> f64 {
        let input = self.net.relay_input().clone();
        match load.ingress {
            Ingress::Raw => {
                let _receiver = Receiver::new(&input);
                self.generate(load).nanoseconds_each
            }
            Ingress::Socket => {
                let _shooter = Shooter::new(&input);
                self.generate(load).nanoseconds_each
            }
        }
    }

    /// The latencies of stamped packets when there is no relay.
    pub(crate) fn bare_latencies(&mut self, load: Load) -> Latencies {
        let mut receiver = Receiver::new(&self.net.relay_input().clone());
        self.generate(load);
        receiver.take_latencies()
    }
}

fn drivers(net: &Topology) -> Vec<Receiver> {
    net.lans().iter().map(|lan| Receiver::new(lan.host_side())).collect()
}
