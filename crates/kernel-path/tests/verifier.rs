//! The kernel takes the program, at every size.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// A kernel gives up at a million steps, and others than this one need more: there has to be room, most of all where more is
/// still to come.
#[test]
fn the_verifier_is_done_far_below_its_limit() {
    let loaded = load(&Sizes::default()).unwrap();
    let [driver, egress, probe, flushed, ..] = loaded.xdp().unwrap().fds();
    // Of this one there is the link that it is attached by.
    let flushed = program_of(flushed);
    let programs = [("mcr_tcx", loaded.program()), ("mcr_xdp", driver), ("mcr_egress", egress), ("mcr_probe", probe)];
    for (name, program) in programs.into_iter().chain([("mcr_flushed", flushed.as_fd())]) {
        let steps = told_of(program, "verified_insns:");
        assert!((1..150_000).contains(&steps), "{name}: {steps} steps");
        println!("{name}: {steps} steps");
    }
}

/// A number that the kernel tells of a program or a link.
fn told_of(fd: BorrowedFd<'_>, key: &str) -> u64 {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    let number = info.lines().find_map(|line| line.strip_prefix(key)).expect(key);
    number.trim().parse().unwrap()
}

fn program_of(link: BorrowedFd<'_>) -> OwnedFd {
    let attributes = [told_of(link, "prog_id:") as u32, 0, 0];
    // SAFETY: BPF_PROG_GET_FD_BY_ID (13) with attributes that are whole and outlive the call; the descriptor is new.
    unsafe {
        let program = libc::syscall(libc::SYS_bpf, 13, attributes.as_ptr(), size_of_val(&attributes));
        assert!(program >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(program as i32)
    }
}
