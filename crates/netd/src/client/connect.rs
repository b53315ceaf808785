//! Finding a keeper that listens.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use super::error::KeeperError;
use crate::channel::{Channel, check, open_socket};
use crate::socket_path::SocketPath;

/// Connects to the socket at `path`; every wait on it is bounded, that for the connection too.
pub(super) fn connect(path: &Path, timeout: Duration) -> Result<Channel, KeeperError> {
    try_connect(path, timeout).map_err(|error| KeeperError::not_connected(path, &error))
}

fn try_connect(path: &Path, timeout: Duration) -> io::Result<Channel> {
    let address = SocketPath::new(path)?;
    let socket = open_socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0)?;
    let raw = socket.as_raw_fd();
    let channel = Channel::new(socket);
    channel.set_timeout(timeout)?;
    let (pointer, length) = address.as_parts();
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::connect(raw, pointer, length) })?;
    Ok(channel)
}
