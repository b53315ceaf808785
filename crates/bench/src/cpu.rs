//! Where CPU time goes: processes, the kernel's soft interrupt threads, and the calling thread, in nanoseconds.
//!
//! `schedstat` is exact, while `utime + stime` are sampled at the timer's tick. It includes the soft interrupts that run within
//! a task unless the kernel keeps their time apart (`CONFIG_IRQ_TIME_ACCOUNTING`, off in the usual builds for
//! virtual machines).

use std::fs;

use crate::socket;

/// The nice value of everything that is measured and of what measures it: that which MCR gives itself.
pub(crate) const NICE: i32 = -10;

/// CPU time of all threads of a process so far (`/proc/PID/task/*/schedstat`).
pub(crate) fn of_process(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let on_cpu = |text: String| text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok().and_then(on_cpu)).sum()
}

/// CPU time of the calling thread so far.
pub(crate) fn of_this_thread() -> u64 {
    socket::now(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Puts the calling thread on the generator's core, before ordinary programs, as the relays are, but not before these.
pub(crate) fn become_the_generator() {
    run_on(|core| core == GENERATOR);
    // SAFETY: a plain system call; it concerns the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Keeps the calling thread, and what it starts, off the generator's core; where there is but one, it is shared.
pub(crate) fn leave_the_generator_alone() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        run_on(|core| core != GENERATOR);
    }
}

/// The core that sends; what the relay does in soft interrupts of its input runs there too.
const GENERATOR: usize = 0;

fn run_on(is_allowed: impl Fn(usize) -> bool) {
    // SAFETY: all-zero is a valid, empty set; CPU_SET writes within it, as the numbers are below CPU_SETSIZE; the set outlives the call.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        (0..libc::CPU_SETSIZE as usize)
            .filter(|core| is_allowed(*core))
            .for_each(|core| libc::CPU_SET(core, &mut cores));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores);
    }
}

/// The kernel's threads for soft interrupts that found no task to run in.
#[derive(Debug)]
pub(crate) struct SoftInterrupts {
    threads: Vec<u32>,
}

impl SoftInterrupts {
    pub(crate) fn find() -> SoftInterrupts {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse::<u32>().ok());
        let threads = processes.filter_map(|entry| number(entry.file_name())).filter(|process| {
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with("ksoftirqd/"))
        });
        SoftInterrupts { threads: threads.collect() }
    }

    /// CPU time of all of them so far.
    pub(crate) fn nanoseconds(&self) -> u64 {
        self.threads.iter().copied().map(of_process).sum()
    }
}
