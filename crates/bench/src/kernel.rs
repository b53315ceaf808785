//! The bench's own eBPF programs: loading, attaching, and the one call that aya has no form for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

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

/// `union bpf_attr` of `BPF_PROG_TEST_RUN`, include/uapi/linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_bytes_in: u32,
    data_bytes_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_bytes_in: u32,
    context_bytes_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    receive_queue: u32,
    egress_ifindex: u32,
}

/// Runs an XDP program on live copies of `frame`, as if they had come in at `interface` (of the calling thread's namespace), `batch` at a
/// time, until a signal ends it.
///
/// # Errors
/// What bpf(2) says, but for the signal.
pub(crate) fn run_on_live_frames(program: BorrowedFd<'_>, interface: u32, frame: &[u8], batch: u32) -> io::Result<()> {
    const BPF_PROG_TEST_RUN: i32 = 10;
    const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;
    let context = XdpContext { data_end: frame.len() as u32, ingress_ifindex: interface, ..XdpContext::default() };
    let attribute = TestRun {
        program: program.as_raw_fd() as u32,
        data_bytes_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: i32::MAX as u32,
        context_bytes_in: size_of::<XdpContext>() as u32,
        context_in: (&raw const context) as u64,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        batch,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads the frame and the context, which have the lengths that are told and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw const attribute, size_of::<TestRun>()) };
    match io::Error::last_os_error() {
        error if result < 0 && error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}

/// The descriptor of a loaded XDP program.
pub(crate) fn descriptor(program: &Xdp) -> BorrowedFd<'_> {
    program.fd().expect("it is loaded").as_fd()
}
