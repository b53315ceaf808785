//! The limit: `bpf/redirect.bpf.c` hands frames on as they came, to one output or by broadcast to several.

use mcr_testbed::Topology;

use super::Running;
use crate::kernel;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.bpf.o"));

pub(super) fn start(net: &Topology, outputs: usize) -> Running {
    let devices: Vec<u32> = net.lans()[..outputs].iter().map(|lan| lan.relay_side().index()).collect();
    let mut ebpf = net.relay().run(|| {
        let mut ebpf = kernel::load(OBJECT, |loader| {
            loader.override_global("output", &devices[0], true).map_max_entries("outputs", devices.len() as u32);
        });
        let map = ebpf.map_mut("outputs").expect("built with it");
        let mut slots: aya::maps::DevMap<_> = map.try_into().expect("a device map");
        for (slot, device) in (0..).zip(&devices) {
            slots.set(slot, *device, None, 0).expect("an output of this namespace");
        }
        ebpf
    });
    kernel::attach_xdp(&mut ebpf, if outputs == 1 { "to_one" } else { "to_all" }, net.relay_input());
    Running { _program: Some(ebpf), ..Running::default() }
}
