//! Standard error that nobody has to read: a pipe that is full would hold up whoever writes, and with it what it does for
//! its relays.
//!
//! A message that does not fit now is lost and counted, and the next one that fits says how many were.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a pipe or a socket takes at once when it says that it takes something (`PIPE_BUF`, pipe(7)).
const PIECE_BYTES: usize = 4_096;

/// Messages that were lost, and the loss not told yet.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// Messages that were lost since standard error takes nothing.
#[must_use]
pub fn untold() -> u64 {
    UNTOLD.load(Ordering::Relaxed)
}

/// Writes whole messages to standard error, or loses them: it never waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        // Held all the while, so that no other thread takes the room that was found.
        let mut out = io::stderr().lock();
        let untold = UNTOLD.load(Ordering::Relaxed);
        if untold > 0 && has_room() {
            UNTOLD.fetch_sub(untold, Ordering::Relaxed);
            let _ = writeln!(out, "{untold} messages were lost before this one: nobody read standard error");
        }
        for piece in message.chunks(PIECE_BYTES) {
            if !has_room() {
                UNTOLD.fetch_add(1, Ordering::Relaxed);
                break;
            }
            // One that is closed is nobody's to mend here.
            let _ = out.write_all(piece);
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn has_room() -> bool {
    let mut wanted = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid structure, alive through the call, which does not wait.
    let ready = unsafe { libc::poll(&raw mut wanted, 1, 0) };
    // An interrupted or failed call says nothing: then it is tried.
    ready != 0
}
