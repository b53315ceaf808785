//! The kernel takes the program, at every size.

use std::os::fd::AsRawFd;

use mcr_kernel_path::{Maps, Sizes, TableWriter, load};

#[test]
fn the_largest_configuration_passes_the_verifier() {
    let sizes = Sizes {
        relays: 16_384,
        outputs: 16_384 * 64,
        sources: 65_536,
        inputs: 1024,
        own_macs: 65_536,
        ports: 4096,
        fan_outs: 16_384,
    };
    let loaded = load(&sizes).unwrap();
    loaded.xdp().unwrap();
    let fds = loaded.maps().fds().map(|fd| fd.try_clone_to_owned().unwrap());
    TableWriter::adopt(Maps::from_fds(fds.into()).unwrap()).unwrap();
}

#[test]
fn the_smallest_configuration_passes_the_verifier() {
    load(&Sizes { relays: 1, outputs: 1, sources: 1, inputs: 1, own_macs: 1, ports: 1, fan_outs: 1 }).unwrap();
}

/// A kernel gives up at a million steps, and others than this one need more: there has to be room.
#[test]
fn the_verifier_is_done_before_half_its_limit() {
    let loaded = load(&Sizes::default()).unwrap();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", loaded.program().as_raw_fd())).unwrap();
    let steps = info.lines().find_map(|line| line.strip_prefix("verified_insns:")).expect("steps").trim();
    let steps: u64 = steps.parse().unwrap();
    assert!((1..500_000).contains(&steps), "{steps} steps");
    println!("{steps} steps");
}
