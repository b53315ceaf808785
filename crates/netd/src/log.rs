//! Where the keeper says what happened.
//!
//! A service writes to its standard error, which the service manager collects. A keeper that a daemon started and
//! that may outlive it does what daemons do (daemon(7), "SysV daemons"): it lets go of the standard error that it
//! was given, so that whoever reads a pipe of the daemon sees the end of it, and writes to the system's log.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::channel::check;
use crate::standard_error::StandardError;

/// Where syslogd and journald listen.
const SYSTEM_LOG_PATH: &str = "/dev/log";
/// System daemons (RFC 3164 section 4.1.1, table 1).
const FACILITY: u8 = 3;

/// Where messages go.
#[derive(Debug)]
pub(crate) enum Log {
    /// A service of its own.
    StandardError,
    /// A process without a terminal or a service manager.
    System(SystemLog),
    /// Who started this keeper hears everything through the connection.
    Nowhere,
}

/// How much a message matters (RFC 3164 section 4.1.1, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
}

/// The socket of the system's log, which need not exist.
#[derive(Debug)]
pub(crate) struct SystemLog {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Log {
    pub(crate) fn say(&self, severity: Severity, what: fmt::Arguments<'_>) {
        match self {
            // The log may be gone while the keeper is still needed.
            Self::StandardError => drop(StandardError.write_all(format!("mcr-netd: {what}\n").as_bytes())),
            Self::System(log) => log.say(severity, what),
            Self::Nowhere => {}
        }
    }
}

impl SystemLog {
    pub(crate) fn open() -> io::Result<Self> {
        Self::at(Path::new(SYSTEM_LOG_PATH))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A log that is stuck loses messages; it does not hold up the keeper.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The socket is looked up each time: the log may start later than the keeper, or anew.
    fn say(&self, severity: Severity, what: fmt::Arguments<'_>) {
        let priority = FACILITY << 3 | severity as u8;
        let line = format!("<{priority}>mcr-netd[{}]: {what}", std::process::id());
        let _ = self.socket.send_to(line.as_bytes(), &self.path);
    }
}

/// Lets go of the standard input, output and error that this process was started with.
pub(crate) fn detach_standard_streams() -> io::Result<()> {
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: no pointers are passed; Rust's handles of the standard streams are these numbers, and stay valid.
        check(unsafe { libc::dup2(nothing.as_raw_fd(), stream) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_log_gets_one_datagram_a_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::System(SystemLog::at(&path).unwrap());
        log.say(Severity::Error, format_args!("nobody listens yet"));
        let system = UnixDatagram::bind(&path).unwrap();
        log.say(Severity::Error, format_args!("the policy is wrong"));
        log.say(Severity::Notice, format_args!("a daemon is connected"));
        let receive = || {
            let mut bytes = [0; 256];
            let length = system.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let process = std::process::id();
        assert_eq!(receive(), format!("<27>mcr-netd[{process}]: the policy is wrong"));
        assert_eq!(receive(), format!("<29>mcr-netd[{process}]: a daemon is connected"));
    }

    #[test]
    fn a_log_that_is_stuck_does_not_hold_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::System(SystemLog::at(&path).unwrap());
        let _never_read = UnixDatagram::bind(&path).unwrap();
        for _ in 0..10_000 {
            log.say(Severity::Notice, format_args!("again"));
        }
    }
}
