//! The clock that the time of the last packet is told by.

/// Nanoseconds of `CLOCK_MONOTONIC`, to the kernel's tick (some milliseconds): it is read for every round of a worker,
/// without a system call.
#[must_use]
pub fn monotonic_nanoseconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call. The clock exists since 2.6.32;
    // it is read without a system call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
