//! Where the API is served: the Unix socket here, the network in [`network`].

mod connection;
mod farewell;
pub mod network;
mod seats;
mod tls;

use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mcr_netd::peer;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::connection::talk;
use self::seats::{Occupant, Seats};
use crate::access::Peer;
use crate::api;

pub use self::tls::TlsError;

/// So many connections of the Unix socket there are at once.
const MOST_CONNECTIONS: usize = 256;
/// So many of one user.
const MOST_CONNECTIONS_OF_ONE: usize = 192;
/// How long requests that are under way may take when the daemon ends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// A rest after accepting failed for want of descriptors or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Owner and group may talk to the daemon, nobody else.
const SOCKET_MODE: u32 = 0o660;
/// Everybody may connect; who is let in is asked of each.
const GUESTS_SOCKET_MODE: u32 = 0o666;

/// A socket that this daemon, and no other, listens on.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
}

/// Why the socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("another daemon answers on {path}; stop it, or give this one its own with --socket")]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error("{path} is not a socket; move it away, or name another path with --socket")]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("can not {action} {path}: {error}; {remedy}")]
    System {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// Listens on `path`, for owner and group only. The directory is made when it is missing, a socket that a daemon
/// left behind is replaced.
///
/// # Errors
/// [`ListenError`], when another daemon answers there or the system refuses.
pub fn listen(path: &Path) -> Result<Listener, ListenError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(system("create the directory", directory))?;
    // Two daemons that start together must not both take the same stale socket for theirs to replace.
    let lock = fs::File::open(directory).map_err(system("open the directory", directory))?;
    lock.lock().map_err(system("lock the directory", directory))?;
    make_way(path)?;
    let socket = UnixListener::bind(path).map_err(system("listen on", path))?;
    admit(path, Guests::None)?;
    socket.set_nonblocking(true).map_err(system("listen on", path))?;
    Ok(Listener { socket })
}

/// Whether others than owner and group of the Unix socket have something to do with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guests {
    /// They may connect, to be asked who they are.
    Expected,
    /// The system keeps them out.
    None,
}

/// Sets who may connect to the socket at `path`.
///
/// # Errors
/// When it belongs to somebody else.
pub fn admit(path: &Path, guests: Guests) -> Result<(), ListenError> {
    let mode = match guests {
        Guests::Expected => GUESTS_SOCKET_MODE,
        Guests::None => SOCKET_MODE,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(system("set the mode of", path))
}

/// Removes the socket of a daemon that ends. A daemon that may not is no worse than one that was killed: the next
/// one replaces the socket.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "the socket stays behind");
    }
}

/// Serves `router` until `stop`; then no new connection is accepted, and requests that are under way have a moment
/// to finish.
pub async fn serve_until(listener: Listener, router: Router, stop: impl Future<Output = ()>) {
    let listener = match tokio::net::UnixListener::from_std(listener.socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "can't serve the API");
            return;
        }
    };
    let (ending, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    let seats = Seats::new(MOST_CONNECTIONS, MOST_CONNECTIONS_OF_ONE);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some((user, groups)) = who_is(&stream) else { continue };
                match seats.take(Occupant::User(user)) {
                    Some(seat) => {
                        let peer = Peer::Local { user, groups };
                        connections.spawn(talk(stream, router.clone(), peer, seat, ended.clone()));
                    }
                    None => turn_away(&stream),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, ending));
    let _ = tokio::time::timeout(LAST_PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
}

/// The user who connected, and their groups. `None`: the system does not say, so nobody is let in.
fn who_is(stream: &UnixStream) -> Option<(u32, Arc<[u32]>)> {
    let credentials = stream.peer_cred().and_then(|user| Ok((user, peer::groups(stream.as_fd())?)));
    match credentials {
        Ok((user, mut groups)) => {
            groups.push(user.gid());
            Some((user.uid(), groups.into()))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection is refused: the system does not say whose it is");
            None
        }
    }
}

/// Says that there is no room; a client that does not read it sees its connection end.
fn turn_away(stream: &UnixStream) {
    let problem = api::busy();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\n\r\n{problem}",
        problem.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

/// Removes a socket that nobody answers on.
fn make_way(path: &Path) -> Result<(), ListenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("look at", path)(error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match knock(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system("replace the old socket", path))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(system("talk to", path)(error)),
        // Whatever else is wrong, somebody has it: WouldBlock, for one, is a full backlog.
        Ok(()) | Err(_) => Err(ListenError::Live { path: path.to_owned() }),
    }
}

/// Connects without waiting: a daemon that hangs with a full backlog must not hang this one as well.
fn knock(path: &Path) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(UnixStream::connect(path)).map(drop)
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ListenError {
    let path = path.to_owned();
    move |error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run as root, or name a path that this user may write with --socket",
            io::ErrorKind::InvalidInput => {
                "the path of a socket has at most 107 bytes; name a shorter one with --socket"
            }
            io::ErrorKind::StorageFull => "make room on that file system",
            io::ErrorKind::ReadOnlyFilesystem => {
                "name a path that can be written with --socket, below /run for example"
            }
            _ => "name another path with --socket",
        };
        ListenError::System { action, path, error, remedy }
    }
}
