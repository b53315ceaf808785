//! Waiting for an empty ring to fill.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::input;
use super::ring::Ring;

/// Waits that may end without a frame before the worker doubts its place in the ring. A few are
/// ordinary: another CPU is still copying the frame that comes first.
const PATIENCE: u32 = 256;
/// How long a wait is when the kernel reports what cannot be cleared, in milliseconds.
const TROUBLED_MILLISECONDS: libc::c_int = 20;

/// Waits without spinning, whatever happens to the interface.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    /// Waits in a row that ended because of the ring, but without a frame in it.
    in_vain: u32,
}

impl Waiter {
    /// There was a frame.
    #[inline]
    pub(super) fn progressed(&mut self) {
        self.in_vain = 0;
    }

    /// Sleeps until the ring has a frame or the worker is called.
    pub(super) fn wait(&mut self, ring: &mut Ring, wake_up: BorrowedFd<'_>) {
        let mut watched = [watch(ring.socket().as_raw_fd()), watch(wake_up.as_raw_fd())];
        poll(&mut watched, -1);
        let [socket, called] = watched.map(|watched| watched.revents);
        if called != 0 {
            clear_event(wake_up);
        }
        if socket & libc::POLLERR != 0 && !clear_error(ring.socket()) {
            // Not an error of the socket, so nothing that would go away by looking at it.
            sleep_until_called(wake_up);
        }
        if socket & libc::POLLIN != 0 {
            self.in_vain += 1;
        }
        if self.in_vain > PATIENCE {
            self.in_vain = 0;
            find_place(ring, wake_up);
        }
    }
}

/// Sleeps until the worker is called, whatever happens in the ring.
pub(super) fn until_called(wake_up: BorrowedFd<'_>) {
    poll(&mut [watch(wake_up.as_raw_fd())], -1);
    clear_event(wake_up);
}

/// The kernel says that there is something to read, and the next slot is empty: either the queue
/// of oversize frames has some that belong to no slot, or the worker looks at the wrong slot.
fn find_place(ring: &mut Ring, wake_up: BorrowedFd<'_>) {
    sleep_until_called(wake_up);
    if ring.frame(0).is_some() {
        return;
    }
    if !ring.seek_filled() {
        while input::discard_copy(ring.socket()) {}
    }
}

/// Rests, but hears when it is called: the event stays, and ends the next wait as well.
fn sleep_until_called(wake_up: BorrowedFd<'_>) {
    poll(&mut [watch(wake_up.as_raw_fd())], TROUBLED_MILLISECONDS);
}

/// Reads and so resets the socket's error: ENETDOWN when the interface went down. Whether there
/// was one. Frames come again by themselves when it is up.
fn clear_error(socket: BorrowedFd<'_>) -> bool {
    let mut error: libc::c_int = 0;
    let read = get_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, &mut error);
    read.is_ok() && error != 0
}

fn clear_event(wake_up: BorrowedFd<'_>) {
    let mut count = [0_u8; 8];
    // SAFETY: the pointer and the length describe `count`, which outlives the call.
    unsafe { libc::read(wake_up.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

fn watch(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// An interrupted wait is one that ended early.
fn poll(watched: &mut [libc::pollfd], milliseconds: libc::c_int) {
    // SAFETY: the pointer and the length describe `watched`, which outlives the call.
    unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, milliseconds) };
}

/// Reads a socket option of exactly this size.
pub(super) fn get_option<T: Copy>(
    socket: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`; the kernel writes at most that much, and
    // every option read here is made of integers.
    let result = unsafe { libc::getsockopt(socket, level, name, (&raw mut *value).cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
