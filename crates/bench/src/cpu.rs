//! Where CPU time goes: processes, the kernel's soft interrupt threads, and the calling thread, in nanoseconds.
//!
//! `schedstat` is exact, while `utime + stime` are sampled at the timer's tick. It includes the soft interrupts that run within
//! a task unless the kernel keeps their time apart (`CONFIG_IRQ_TIME_ACCOUNTING`, off in the usual builds for
//! virtual machines).

use std::fs;

use crate::socket;

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
