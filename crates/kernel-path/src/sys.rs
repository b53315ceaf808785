//! The bpf(2) calls that aya has no form for: links by interface index, and maps by descriptor alone, without any privilege.
//!
//! Layouts are those of `union bpf_attr` in `include/uapi/linux/bpf.h`; all fields in host order.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::layout::{DeviceSlot, Plain};

const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_MAP_DELETE_ELEM: i32 = 3;
const BPF_MAP_GET_NEXT_KEY: i32 = 4;
const BPF_OBJ_PIN: i32 = 6;
const BPF_OBJ_GET: i32 = 7;
const BPF_PROG_TEST_RUN: i32 = 10;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
const BPF_MAP_LOOKUP_BATCH: i32 = 24;
const BPF_LINK_CREATE: i32 = 28;
const BPF_MAP_TYPE_DEVMAP: u32 = 14;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// An attribute of [`call`].
///
/// # Safety
/// `#[repr(C)]`, laid out as the command's part of `union bpf_attr`.
unsafe trait Attribute {}

/// Of the commands on map elements.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}
// SAFETY: the anonymous struct of BPF_MAP_*_ELEM.
unsafe impl Attribute for Element {}

/// Of the commands on many map elements. The kernel writes `count`, how many it has got to.
#[repr(C)]
struct Batch {
    after: u64,
    last: u64,
    keys: u64,
    values: u64,
    count: Cell<u32>,
    map: u32,
    element_flags: u64,
    flags: u64,
}
// SAFETY: `batch`.
unsafe impl Attribute for Batch {}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    pad: u32,
    expected_revision: u64,
}
// SAFETY: `link_create` with its `tcx` part.
unsafe impl Attribute for LinkCreate {}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    max_entries: u32,
    flags: u32,
}
// SAFETY: the beginning of the anonymous struct of BPF_MAP_CREATE.
unsafe impl Attribute for MapCreate {}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    program: u32,
    pad: u32,
}
// SAFETY: the beginning of `raw_tracepoint`.
unsafe impl Attribute for RawTracepoint {}

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
// SAFETY: `test`.
unsafe impl Attribute for TestRun {}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}
// SAFETY: the anonymous struct of BPF_OBJ_*.
unsafe impl Attribute for Object {}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}
// SAFETY: `info`.
unsafe impl Attribute for InfoByFd {}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_bytes: u32,
    pub(crate) value_bytes: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// # Safety
/// Every address in `attribute` is of memory that the command may read or write, as long as it says.
unsafe fn call<A: Attribute>(command: i32, attribute: &A) -> io::Result<i32> {
    // SAFETY: the attribute is read whole; what it points to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // Descriptors are never negative.
    fd.as_raw_fd() as u32
}

fn element<K, V>(map: BorrowedFd<'_>, key: *const K, value: *const V) -> Element {
    Element { map: number(map), pad: 0, key: key as u64, value_or_next_key: value as u64, flags: 0 }
}

/// Inserts or replaces an element.
pub(crate) fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    // SAFETY: `Maps` checks that the map's keys and values have the sizes of these types.
    unsafe { call(BPF_MAP_UPDATE_ELEM, &element(map, key, value)) }.map(drop)
}

/// Removes an element; one that is not there is no error.
pub(crate) fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    // SAFETY: as in `update`.
    match unsafe { call(BPF_MAP_DELETE_ELEM, &element(map, key, std::ptr::null::<u8>())) } {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Reads an element.
pub(crate) fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = MaybeUninit::<V>::uninit();
    // SAFETY: as in `update`; the kernel writes one value.
    unsafe { call(BPF_MAP_LOOKUP_ELEM, &element(map, key, value.as_mut_ptr())) }?;
    // SAFETY: written by the kernel, and valid with any bytes.
    Ok(unsafe { value.assume_init() })
}

/// Reads so many elements of an array, from that place on, with one call.
pub(crate) fn lookup_run<V: Plain>(map: BorrowedFd<'_>, first: u32, count: usize) -> io::Result<Vec<V>> {
    let before = first.checked_sub(1);
    let (mut last, mut keys, mut values) = (0_u32, vec![0_u32; count], Vec::<V>::with_capacity(count));
    let attribute = Batch {
        after: before.as_ref().map_or(0, |before| std::ptr::from_ref(before) as u64),
        last: (&raw mut last) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: Cell::new(count as u32),
        map: number(map),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: `Maps` checks that the map's keys and values have the sizes of these types; the kernel writes at most `count` of
    // either, the last key, and `count`, which is in a cell.
    unsafe { call(BPF_MAP_LOOKUP_BATCH, &attribute) }?;
    if attribute.count.get() as usize != count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: so many were written by the kernel, and are valid with any bytes.
    unsafe { values.set_len(count) };
    Ok(values)
}

/// All keys. For maps that nobody else writes to.
pub(crate) fn keys<K: Plain>(map: BorrowedFd<'_>) -> io::Result<Vec<K>> {
    let mut keys: Vec<K> = Vec::new();
    loop {
        let last = keys.last().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut next = MaybeUninit::<K>::uninit();
        // SAFETY: as in `update`; the kernel writes one key.
        match unsafe { call(BPF_MAP_GET_NEXT_KEY, &element(map, last, next.as_mut_ptr())) } {
            // SAFETY: written by the kernel, and valid with any bytes.
            Ok(_) => keys.push(unsafe { next.assume_init() }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
            Err(error) => return Err(error),
        }
    }
}

/// What kind of map a descriptor is of.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let length = size_of::<MapInfo>() as u32;
    let attribute = InfoByFd { fd: number(map), length, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: the kernel writes at most `length` bytes of integers.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &attribute) }?;
    Ok(info)
}

/// Attaches a program at the tcx ingress of an interface, behind those that are there. It stays as long as the link does.
pub(crate) fn attach_at_ingress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    attach(program, ifindex, BPF_TCX_INGRESS, 0)
}

/// Attaches a program at the driver of an interface, which has to have a place for it. It stays as long as the link does.
pub(crate) fn attach_at_driver(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    attach(program, ifindex, BPF_XDP, XDP_FLAGS_DRV_MODE)
}

fn attach(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let attribute = LinkCreate {
        program: number(program),
        target_ifindex: ifindex,
        attach_type,
        flags,
        relative_fd: 0,
        pad: 0,
        expected_revision: 0,
    };
    // SAFETY: no addresses in it.
    let link = unsafe { call(BPF_LINK_CREATE, &attribute) }?;
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(link as RawFd) })
}

/// Attaches a program at a raw tracepoint; it stays as long as the link does.
pub(crate) fn attach_at_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let attribute = RawTracepoint { name: name.as_ptr() as u64, program: number(program), pad: 0 };
    // SAFETY: the name is terminated, and lives until the call is over.
    let link = unsafe { call(BPF_RAW_TRACEPOINT_OPEN, &attribute) }?;
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(link as RawFd) })
}

/// Makes a list of devices to redirect to.
pub(crate) fn create_device_map(slots: u32) -> io::Result<OwnedFd> {
    let value_bytes = size_of::<DeviceSlot>() as u32;
    let attribute = MapCreate { kind: BPF_MAP_TYPE_DEVMAP, key_bytes: 4, value_bytes, max_entries: slots, flags: 0 };
    // SAFETY: no addresses in it.
    let map = unsafe { call(BPF_MAP_CREATE, &attribute) }?;
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(map as RawFd) })
}

/// Runs an XDP program once on a frame, and lets the frame go where the program says.
pub(crate) fn run_live(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<()> {
    run(program, frame, &TestRun { repeat: 1, ..TestRun::default() })
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

/// As a generator for tests and benchmarks: runs an XDP program on live copies of a frame, as if they had come in at an
/// interface of the calling thread's namespace, `batch` at a time, until a signal ends it. Needs `CAP_NET_ADMIN` and
/// `CAP_BPF`.
///
/// # Errors
/// What bpf(2) says of `BPF_PROG_TEST_RUN`, but for the signal.
pub fn run_on_live_frames(program: BorrowedFd<'_>, ifindex: u32, frame: &[u8], batch: u32) -> io::Result<()> {
    let context = XdpContext { data_end: frame.len() as u32, ingress_ifindex: ifindex, ..XdpContext::default() };
    let attribute = TestRun {
        repeat: i32::MAX as u32,
        context_bytes_in: size_of::<XdpContext>() as u32,
        context_in: (&raw const context) as u64,
        batch,
        ..TestRun::default()
    };
    match run(program, frame, &attribute) {
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}

fn run(program: BorrowedFd<'_>, frame: &[u8], how: &TestRun) -> io::Result<()> {
    let attribute = TestRun {
        program: number(program),
        data_bytes_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        ..*how
    };
    // SAFETY: the frame and the context, if there is one, live until the call is over; nothing is written.
    unsafe { call(BPF_PROG_TEST_RUN, &attribute) }.map(drop)
}

/// The beginning of `struct bpf_link_info` with its `tcx` part.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}
const _: () = assert!(std::mem::offset_of!(LinkInfo, ifindex) == 16);

/// The interface that a link is on; 0 when that is gone.
pub(crate) fn link_interface(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    let length = size_of::<LinkInfo>() as u32;
    let attribute = InfoByFd { fd: number(link), length, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: the kernel writes at most `length` bytes of integers.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &attribute) }?;
    Ok(info.ifindex)
}

fn object(path: &Path, fd: u32) -> io::Result<(CString, Object)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attribute = Object { path: path.as_ptr() as u64, fd, flags: 0 };
    Ok((path, attribute))
}

/// Pins a map, program or link at a path under a bpffs: it outlives its descriptors.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_PIN`.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let (_path, attribute) = object(path, number(fd))?;
    // SAFETY: the path is terminated, and lives until the call is over.
    unsafe { call(BPF_OBJ_PIN, &attribute) }.map(drop)
}

/// Opens what is pinned at a path.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET`.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let (_path, attribute) = object(path, 0)?;
    // SAFETY: as in `pin`.
    let fd = unsafe { call(BPF_OBJ_GET, &attribute) }?;
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Waits until every program run that is under way is over: `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu()`, for everybody
/// (kernel/sched/membarrier.c), and tcx programs run under `rcu_read_lock`.
pub(crate) fn wait_for_grace_period() {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    // SAFETY: no addresses among the arguments.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Hosts with nohz_full CPUs refuse it. A run takes microseconds, so this is long past the end of any.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
