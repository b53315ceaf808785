//! The kernel takes the program, at every size.

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
