//! Capabilities of this process (capabilities(7)): what the keeper keeps, and how the daemon gives
//! up all.
//!
//! Capabilities belong to threads. Every function here acts on a process of one thread and refuses
//! to act on another: a second thread would keep what this one gives up.

use std::ffi::{CStr, CString};
use std::io;

use crate::channel::check;

/// May configure networks; here: buffers above the limit, neighbour entries
/// (`include/uapi/linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
/// May open packet sockets.
const CAP_NET_RAW: u32 = 13;
/// The nice value of who moves packets.
const PACKETS_FIRST: i32 = -10;
/// May load programs that read kernel memory (`CAP_PERFMON`), as ours does to tell the state of a checksum.
const CAP_PERFMON: u32 = 38;
/// May load eBPF programs and make their tables.
const CAP_BPF: u32 = 39;
/// What the keeper works with.
const KEEPER_CAPABILITIES: u64 = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW;
/// What it keeps besides, where it has it: without, there is no in-kernel datapath.
const PROGRAM_CAPABILITIES: u64 = 1 << CAP_PERFMON | 1 << CAP_BPF;
/// The form of `capset(2)` with 64 capabilities.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// Other threads run, which would keep their capabilities.
    #[error("{threads} threads run already and would keep their privileges; give them up before the first is started")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// No such user.
    #[error("there is no user `{user}`; create it (useradd --system {user}) or name another")]
    UnknownUser {
        /// The name that was asked for.
        user: String,
    },
    /// CAP_NET_RAW or CAP_NET_ADMIN is missing.
    #[error("the keeper has no CAP_NET_RAW and CAP_NET_ADMIN; start it as root or as the service mcr-netd")]
    NotPrivileged,
    /// The kernel refused.
    #[error("{call}: {error}")]
    System {
        /// What was refused.
        call: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Whether this process could open packet sockets and configure networks: what a keeper needs.
#[must_use]
pub fn may_open_packet_sockets() -> bool {
    effective().is_ok_and(|effective| effective & KEEPER_CAPABILITIES == KEEPER_CAPABILITIES)
}

/// Puts this process before ordinary ones on the CPU (nice -10): a burst waits in the ring for whoever relays it, and a
/// full ring loses packets. It lasts when privileges are given up, and threads inherit it.
///
/// # Errors
/// Without CAP_SYS_NICE or a limit that allows it (`RLIMIT_NICE`): nothing is lost then but precedence.
pub fn put_packets_first() -> io::Result<()> {
    // SAFETY: a system call with plain numbers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, PACKETS_FIRST) }).map(drop)
}

/// Gives up every capability, for good: the bounding, ambient, inheritable, permitted and effective
/// sets are empty afterwards, and no program that is started from here gains any
/// (`no_new_privs`). With a user, becomes that user with its groups first.
///
/// A process that never had a capability keeps its bounding set, which only CAP_SETPCAP can empty;
/// `no_new_privs` makes it worthless.
///
/// # Errors
/// See [`PrivilegesError`]. The process may have given up a part by then: end it.
pub fn drop_all_capabilities(user: Option<&str>) -> Result<(), PrivilegesError> {
    check_single_thread()?;
    let user = user.map(User::find).transpose()?;
    bound(0)?;
    if let Some(user) = user {
        user.become_it()?;
    }
    set(0)
}

/// Whether this process could load the in-kernel datapath.
pub(crate) fn may_load_programs() -> bool {
    effective().is_ok_and(|effective| effective & PROGRAM_CAPABILITIES == PROGRAM_CAPABILITIES)
}

/// Keeps CAP_NET_RAW and CAP_NET_ADMIN, and CAP_BPF and CAP_PERFMON where they are there, and gives up every other
/// capability, for good.
pub(crate) fn keep_what_is_needed() -> Result<(), PrivilegesError> {
    check_single_thread()?;
    if !may_open_packet_sockets() {
        return Err(PrivilegesError::NotPrivileged);
    }
    let programs = if may_load_programs() { PROGRAM_CAPABILITIES } else { 0 };
    bound(KEEPER_CAPABILITIES | programs)?;
    set(KEEPER_CAPABILITIES | programs)
}

/// The id of a user by name.
pub(crate) fn user_id(name: &str) -> Result<libc::uid_t, PrivilegesError> {
    User::find(name).map(|user| user.id)
}

fn check_single_thread() -> Result<(), PrivilegesError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(failed("reading /proc/self/task"))?;
    match tasks.count() {
        1 => Ok(()),
        threads => Err(PrivilegesError::Threads { threads }),
    }
}

/// Empties the ambient set, takes all but `kept` out of the bounding set, and forbids every way to
/// gain privileges.
fn bound(kept: u64) -> Result<(), PrivilegesError> {
    // SAFETY: this prctl takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map_err(failed("setting no_new_privs"))?;
    // SAFETY: this prctl takes no pointers.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })
        .map_err(failed("emptying the ambient capabilities"))?;
    for capability in (0..64_u32).filter(|capability| kept & 1 << capability == 0) {
        // SAFETY: this prctl takes no pointers.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) } {
            1 => drop_bound(capability)?,
            0 => {}
            // The kernel does not know this capability, nor any higher one.
            _ => break,
        }
    }
    Ok(())
}

fn drop_bound(capability: u32) -> Result<(), PrivilegesError> {
    // SAFETY: this prctl takes no pointers.
    let dropped = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) });
    match dropped {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && lacks_setpcap() => Ok(()),
        other => other.map_err(failed("dropping a capability of the bounding set")),
    }
}

fn lacks_setpcap() -> bool {
    const CAP_SETPCAP: u32 = 8;
    effective().is_ok_and(|effective| effective & 1 << CAP_SETPCAP == 0)
}

/// `struct __user_cap_header_struct`, host order.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`, host order; the second of two carries the upper 32.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const _: () = assert!(size_of::<CapabilityHeader>() == 8);
const _: () = assert!(size_of::<CapabilityData>() == 12);

fn effective() -> io::Result<u64> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: version 3 reads one header and writes two data structures, which outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    check(result as libc::c_int)?;
    Ok(u64::from(data[0].effective) | u64::from(data[1].effective) << 32)
}

/// Makes `capabilities` the permitted and the effective set, and empties the inheritable set.
fn set(capabilities: u64) -> Result<(), PrivilegesError> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = [capabilities as u32, (capabilities >> 32) as u32].map(|part| CapabilityData {
        effective: part,
        permitted: part,
        inheritable: 0,
    });
    // SAFETY: version 3 reads one header and two data structures, which outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(result as libc::c_int).map_err(failed("setting the capabilities"))
}

/// A user of this system.
struct User {
    name: CString,
    id: libc::uid_t,
    group: libc::gid_t,
}

impl User {
    fn find(name: &str) -> Result<Self, PrivilegesError> {
        let unknown = || PrivilegesError::UnknownUser { user: name.to_owned() };
        let name = CString::new(name).map_err(|_| unknown())?;
        let mut room: Vec<libc::c_char> = vec![0; 16 << 10];
        // SAFETY: all-zero bytes are a valid passwd: null pointers and zeros.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: `name` ends in NUL; the entry, its room and the result outlive the call, and the
        // length is that of the room.
        let error = unsafe {
            libc::getpwnam_r(CStr::as_ptr(&name), &raw mut entry, room.as_mut_ptr(), room.len(), &raw mut found)
        };
        match error {
            _ if !found.is_null() => Ok(Self { name, id: entry.pw_uid, group: entry.pw_gid }),
            0 | libc::ENOENT | libc::ESRCH => Err(unknown()),
            errno => Err(failed("looking the user up")(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Groups first: a process that is this user already may not change them.
    fn become_it(&self) -> Result<(), PrivilegesError> {
        // SAFETY: the name ends in NUL and outlives the call.
        check(unsafe { libc::initgroups(self.name.as_ptr(), self.group) })
            .map_err(failed("taking the groups of the user"))?;
        // SAFETY: no pointers are passed.
        check(unsafe { libc::setresgid(self.group, self.group, self.group) })
            .map_err(failed("taking the group of the user"))?;
        // SAFETY: no pointers are passed.
        check(unsafe { libc::setresuid(self.id, self.id, self.id) }).map_err(failed("becoming the user"))
    }
}

fn failed(call: &'static str) -> impl Fn(io::Error) -> PrivilegesError {
    move |error| PrivilegesError::System { call, error }
}
