//! A terminal without a person: a program runs on it, a test types and reads what stands on the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::{wait_for_state, wait_until};
use crate::process::Signal;

/// A program on a terminal of its own. Dropping it kills it, and while a test fails prints the screen.
pub struct Pty {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Pty {
    /// Starts `command` on a terminal of so many columns and rows.
    ///
    /// # Panics
    /// When there is no terminal to have, or the program cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command, columns: u16, rows: u16) -> Pty {
        let (ours, theirs) = open(columns, rows);
        let end = || Stdio::from(theirs.try_clone().expect("another descriptor"));
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
        // SAFETY: between fork and exec the closure makes two system calls; it takes no lock and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        // The command holds the other end; the terminal would not end with the program.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (mut output, kept) = (ours.try_clone().expect("another descriptor"), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end: nobody has the other side open.
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..length]);
            }
        });
        Pty { child, keyboard: ours, screen }
    }

    /// Types this.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// What stands on the screen, line by line.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until `text` stands on the screen; the screen.
    ///
    /// # Panics
    /// After `limit`, with the screen.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) -> String {
        wait_for_state(limit, &format!("{text:?} on the screen"), || self.screen(), |screen| screen.contains(text))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // SAFETY: kill takes two integers; the process is our own child, still there as a zombie at least.
        unsafe { libc::kill(self.child.id().cast_signed(), signal.number()) };
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut ended = None;
        wait_until(limit, "the end of the program", || {
            ended = self.child.try_wait().expect("a child");
            ended.is_some()
        });
        ended.expect("it was waited for")
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Nothing to be done about a failure: it has ended by itself then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the screen:\n{}\n---", self.screen());
        }
    }
}

fn open(columns: u16, rows: u16) -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers to two descriptors and the size outlive the call; the name and the settings are not asked for.
    let opened = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    assert_eq!(opened, 0, "cannot open a terminal: {}", std::io::Error::last_os_error());
    for fd in [ours, theirs] {
        // SAFETY: no pointers are passed.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: both descriptors were just opened and belong to nobody else.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}
