//! The bench's own eBPF programs: loading and attaching.

use std::os::fd::{AsFd, BorrowedFd};

use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use mcr_testbed::Interface;

/// Loads an object, as `prepare` wants it.
pub(crate) fn load<'a>(object: &[u8], prepare: impl FnOnce(&mut EbpfLoader<'a>)) -> Ebpf {
    let mut loader = EbpfLoader::new();
    prepare(&mut loader);
    loader.load(object).unwrap_or_else(|error| panic!("an eBPF program of the bench can not be loaded: {error}"))
}

/// Loads a program for XDP.
pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program: &mut Xdp = ebpf.program_mut(name).expect("built with it").try_into().expect("an XDP program");
    program.load().unwrap_or_else(|error| panic!("the kernel refuses {name}: {error}"));
    program
}

/// Attaches a program at an interface's driver, for as long as the object lives.
pub(crate) fn attach_xdp(ebpf: &mut Ebpf, name: &str, interface: &Interface) {
    let program = xdp(ebpf, name);
    let attached = interface.namespace().run(|| program.attach_to_if_index(interface.index(), XdpMode::Driver));
    attached.unwrap_or_else(|error| panic!("{name} can not be attached to {}: {error}", interface.name()));
}

/// Attaches a program at an interface's tcx ingress, for as long as the object lives.
pub(crate) fn attach_tcx(ebpf: &mut Ebpf, name: &str, interface: &Interface) {
    let program: &mut SchedClassifier =
        ebpf.program_mut(name).expect("built with it").try_into().expect("a classifier");
    program.load().unwrap_or_else(|error| panic!("the kernel refuses {name}: {error}"));
    let at = interface.name();
    let attached = interface.namespace().run(|| program.attach(&at, TcAttachType::Ingress));
    attached.unwrap_or_else(|error| panic!("{name} can not be attached to {at}: {error}"));
}

/// The descriptor of a loaded XDP program.
pub(crate) fn descriptor(program: &Xdp) -> BorrowedFd<'_> {
    program.fd().expect("it is loaded").as_fd()
}
