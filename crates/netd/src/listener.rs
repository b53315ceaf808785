//! The socket where daemons find the keeper.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::channel::{Channel, check, open_socket};
use crate::socket_path::SocketPath;

/// Connections that may wait to be accepted.
const BACKLOG: libc::c_int = 16;

/// A listening socket; its file is removed with it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Held as long as this keeper lives. A socket file alone does not tell whether its keeper
    /// does, and looking by connecting would race with another keeper that starts.
    _lock: File,
}

/// Why the keeper can not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another keeper listens there.
    #[error("a keeper listens on {path} already; use it, or stop it (systemctl stop mcr-netd) first", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not ours is in the way.
    #[error("{path} is there and is not a socket; remove it, or name another path with --socket", path = path.display())]
    NotSocket {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("can not listen on {path}: {error}; check the path and who may write there", path = path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Listener {
    /// Listens at `path`, for root and, when given, for the user `owner`. The file of a keeper that
    /// is gone is replaced.
    pub(crate) fn bind(path: &Path, owner: Option<libc::uid_t>) -> Result<Self, ListenError> {
        let failed = |error| ListenError::System { path: path.to_owned(), error };
        let address = SocketPath::new(path).map_err(failed)?;
        make_directory(path).map_err(failed)?;
        let lock = lock(path)?;
        remove_stale(path)?;
        let socket = listen(&address).map_err(failed)?;
        let listener = Self { socket, path: path.to_owned(), _lock: lock };
        if let Some(owner) = owner {
            hand_over(path, owner).map_err(failed)?;
        }
        Ok(listener)
    }

    /// The next connection that waits, if one does.
    pub(crate) fn accept(&self) -> io::Result<Option<Channel>> {
        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: null pointers say that the peer's address is not wanted.
        let fd = unsafe { libc::accept4(self.socket.as_raw_fd(), no_address, no_length, libc::SOCK_CLOEXEC) };
        match check(fd) {
            // SAFETY: `fd` was just opened and nobody else has it.
            Ok(()) => Ok(Some(Channel::new(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The lock is still held, so the file is ours. When it stays, the next keeper replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Lets a user connect. A keeper that may not give files away lets its own group, which is to be the user's then; of whoever
/// connects it is asked who that is in any case.
fn hand_over(path: &Path, owner: libc::uid_t) -> io::Result<()> {
    // SAFETY: getegid takes no arguments and can not fail.
    let group = unsafe { libc::getegid() };
    match std::os::unix::fs::lchown(path, Some(owner), None) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && group != 0 => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        }
        other => other,
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)
        }
        _ => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File, ListenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error| ListenError::System { path: path.to_owned(), error };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |error| ListenError::System { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(file) if file.file_type().is_socket() => fs::remove_file(path).map_err(failed),
        Ok(_) => Err(ListenError::NotSocket { path: path.to_owned() }),
    }
}

fn listen(address: &SocketPath) -> io::Result<OwnedFd> {
    let socket = open_socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, 0)?;
    // The file must not be open to others for a moment, not even before a chmod.
    // SAFETY: umask takes no pointers and can not fail.
    let before = unsafe { libc::umask(0o177) };
    let (pointer, length) = address.as_parts();
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let bound = check(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) });
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    bound?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}
