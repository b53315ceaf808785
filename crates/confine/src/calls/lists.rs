//! Which calls each program makes, tries, and never makes.

use std::os::raw::c_long;

use super::Program;
use crate::Reach;

/// A call, always or with certain arguments only.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) number: i64,
    /// All of them hold.
    pub(super) conditions: Vec<Condition>,
}

/// What an argument is, of which 32 bits are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) is: Is,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Is {
    Equal(u64),
    Other(u64),
    /// It has all of these bits.
    With(u64),
    /// It has none of them.
    Without(u64),
}

/// The calls of a program.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) made: Vec<Call>,
    pub(super) tried: Vec<Call>,
    pub(super) never: Vec<Call>,
}

/// The commands of bpf(2) on map elements: look up, update, delete, next key, and the batches of them.
const ELEMENTS: [u64; 8] = [1, 2, 3, 4, 21, 24, 25, 26];
/// Asked of a descriptor: what it is of (`BPF_OBJ_GET_INFO_BY_FD`).
const INFO: u64 = 15;
/// The commands that load and make (`BPF_MAP_CREATE`, `BPF_PROG_LOAD`, `BPF_BTF_LOAD`), which `explain` tries.
const LOAD: [u64; 3] = [0, 5, 18];

pub(super) fn of(program: Program) -> Lists {
    match program {
        Program::Daemon(reach) => daemon(reach),
        Program::Keeper => keeper(),
    }
}

fn daemon(reach: Reach) -> Lists {
    let families: &[libc::c_int] = match reach {
        Reach::Host => &[libc::AF_UNIX, libc::AF_NETLINK],
        Reach::Network => &[libc::AF_UNIX, libc::AF_NETLINK, libc::AF_INET, libc::AF_INET6],
    };
    let mut made = always(&[COMMON, THREADS, FILES, SOCKETS, PROCESSES].concat());
    made.extend(families.iter().map(|family| with(libc::SYS_socket, 0, *family as u64)));
    made.extend(ELEMENTS.into_iter().chain([INFO]).map(|command| with(libc::SYS_bpf, 0, command)));
    // A ring that a worker before this one left is made anew; no other option of a packet socket is set here.
    made.push(Call { number: libc::SYS_setsockopt, conditions: vec![differs(1, libc::SOL_PACKET)] });
    let ring = [equals(1, libc::SOL_PACKET), equals(2, libc::PACKET_RX_RING)];
    made.push(Call { number: libc::SYS_setsockopt, conditions: ring.to_vec() });
    made.push(Call { number: libc::SYS_clone, conditions: vec![Condition { argument: 0, is: Is::With(THREAD) }] });

    // `explain` asks sockets of other processes what they have joined, where it may.
    let mut tried = always(&[libc::SYS_execve, libc::SYS_execveat, libc::SYS_bind, libc::SYS_pidfd_getfd]);
    let others = families.iter().map(|family| differs(0, *family));
    tried.push(Call { number: libc::SYS_socket, conditions: others.collect() });
    tried.extend(LOAD.map(|command| with(libc::SYS_bpf, 0, command)));
    tried.push(Call { number: libc::SYS_clone, conditions: vec![Condition { argument: 0, is: Is::Without(THREAD) }] });
    #[cfg(target_arch = "x86_64")]
    tried.extend(always(&[libc::SYS_fork, libc::SYS_vfork]));

    let mut never = always(NEVER);
    let known = ELEMENTS.into_iter().chain([INFO]).chain(LOAD);
    let others = known.map(|command| Condition { argument: 0, is: Is::Other(command) });
    never.push(Call { number: libc::SYS_bpf, conditions: others.collect() });
    let options = [equals(1, libc::SOL_PACKET), differs(2, libc::PACKET_RX_RING)];
    never.push(Call { number: libc::SYS_setsockopt, conditions: options.to_vec() });
    Lists { made, tried, never }
}

fn keeper() -> Lists {
    let own = [libc::SYS_bind, libc::SYS_setsockopt, libc::SYS_bpf, libc::SYS_signalfd4, libc::SYS_flock];
    let mut made = always(&[COMMON, FILES, SOCKETS, &own].concat());
    let families = [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_INET, libc::AF_INET6];
    made.extend(families.map(|family| with(libc::SYS_socket, 0, family as u64)));
    let tried = Vec::new();
    let never = always(&[NEVER, &[libc::SYS_execve, libc::SYS_execveat, libc::SYS_pidfd_getfd]].concat());
    Lists { made, tried, never }
}

/// Every program's: memory, time, waiting, its own signals and its end.
const COMMON: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_futex,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_getcpu,
    libc::SYS_getrlimit,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_capget,
    libc::SYS_prctl,
    // The filters after the first one; more of them only take away more.
    libc::SYS_seccomp,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// Of programs with threads.
const THREADS: &[c_long] = &[
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getparam,
    libc::SYS_sched_setparam,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// Files; which of them is for Landlock and their owners to say.
const FILES: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];

/// Sockets that are there; which may be made is told by their family.
const SOCKETS: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
];

/// What the daemon asks of other processes: whether the keeper is there still.
const PROCESSES: &[c_long] = &[libc::SYS_flock, libc::SYS_pidfd_open, libc::SYS_wait4, libc::SYS_waitid];

/// What nobody of ours ever does: other processes' memory, the kernel itself, namespaces and mounts, other users, and ways
/// around a filter.
const NEVER: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// A thread of this process, not a process of its own.
const THREAD: u64 = libc::CLONE_THREAD as u64;

fn always(numbers: &[c_long]) -> Vec<Call> {
    numbers.iter().map(|number| Call { number: *number, conditions: Vec::new() }).collect()
}

fn with(number: c_long, argument: u8, value: u64) -> Call {
    Call { number, conditions: vec![Condition { argument, is: Is::Equal(value) }] }
}

fn equals(argument: u8, value: libc::c_int) -> Condition {
    Condition { argument, is: Is::Equal(value as u64) }
}

fn differs(argument: u8, value: libc::c_int) -> Condition {
    Condition { argument, is: Is::Other(value as u64) }
}
