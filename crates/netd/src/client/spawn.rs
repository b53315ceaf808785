//! Starting a keeper.

use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::error::KeeperError;
use crate::channel::{Channel, check};

/// The program of the keeper.
const PROGRAM: &str = "mcr-netd";
/// Names the program instead.
const PROGRAM_VARIABLE: &str = "MCR_NETD";
/// What a service manager told this process and means for nobody else.
const NOT_INHERITED: [&str; 5] = ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_PID", "WATCHDOG_USEC"];
/// How long the end of a private keeper is waited for; it has only to close what it holds.
const END_TIMEOUT_MILLISECONDS: libc::c_int = 2_000;

/// How long a keeper that is started lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpawnMode {
    /// As long as the connection: it releases everything when this process ends, however that comes.
    Private,
    /// Until it is told to release everything: it listens at `path` for the next daemon, should this
    /// one crash.
    Listening {
        /// The socket.
        path: PathBuf,
    },
}

/// A keeper that is a child of this process.
#[derive(Debug)]
pub(super) struct Spawned {
    child: Child,
    mode: SpawnMode,
}

/// Starts the program with one end of a connection.
pub(super) fn spawn(mode: &SpawnMode, program: Option<&Path>) -> Result<(Channel, Spawned), KeeperError> {
    let program = find(program);
    let (ours, theirs) = Channel::pair().map_err(|error| KeeperError::not_started(&program, &error))?;
    let child = command(&program, mode, theirs.as_fd().as_raw_fd())
        .spawn()
        .map_err(|error| KeeperError::not_started(&program, &error))?;
    Ok((ours, Spawned { child, mode: mode.clone() }))
}

fn command(program: &Path, mode: &SpawnMode, connection: RawFd) -> Command {
    let mut command = Command::new(program);
    command.arg("--fd").arg(connection.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    if let SpawnMode::Listening { path } = mode {
        command.arg("--socket").arg(path).arg("--end-on-release");
    }
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let prepare = move || {
        // A session of its own: Ctrl-C at the terminal is for the daemon, which then says what to do.
        // SAFETY: no pointers are passed.
        check(unsafe { libc::setsid() })?;
        // The keeper may outlive this process: whatever else this one inherited, a pipe say, is not for it. Kernels
        // before 5.11 do not know the call; descriptors that this process opened are closed on exec there too.
        // SAFETY: no pointers are passed.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        // SAFETY: no pointers are passed.
        check(unsafe { libc::fcntl(connection, libc::F_SETFD, 0) })
    };
    // SAFETY: `prepare` makes three system calls and allocates nothing, which is allowed between fork
    // and exec.
    unsafe { command.pre_exec(prepare) };
    command
}

/// The program: as named, as the environment names it, beside this one, or by the path.
fn find(named: Option<&Path>) -> PathBuf {
    let from_environment = || env::var_os(PROGRAM_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    let beside = || {
        let program = env::current_exe().ok()?.parent()?.join(PROGRAM);
        program.is_file().then_some(program)
    };
    named.map(Path::to_owned).or_else(from_environment).or_else(beside).unwrap_or_else(|| PathBuf::from(PROGRAM))
}

impl Drop for Spawned {
    /// Waits for a private keeper to end, so that what it held is gone when this returns; and in any
    /// case leaves no zombie of one that has ended.
    fn drop(&mut self) {
        if self.mode == SpawnMode::Private {
            let _ = wait_for_end(self.child.id());
        }
        let _ = self.child.try_wait();
    }
}

fn wait_for_end(process: u32) -> io::Result<()> {
    // SAFETY: no pointers are passed. The process is our child and not yet waited for, so that the
    // number is still its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    check(fd)?;
    // SAFETY: `fd` was just opened and nobody else has it.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut polled = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer describes one structure, which outlives the call.
    check(unsafe { libc::poll(&raw mut polled, 1, END_TIMEOUT_MILLISECONDS) })
}
