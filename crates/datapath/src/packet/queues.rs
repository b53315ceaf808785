//! How many queues an interface receives by: more rings than that would not be filled side by side.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `SIOCETHTOOL` (`include/uapi/linux/sockios.h`).
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// `ETHTOOL_GCHANNELS` (`include/uapi/linux/ethtool.h`).
const GET_CHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`; all fields in host order.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receiving: u32,
    sending: u32,
    other: u32,
    combined: u32,
}

const _: () = assert!(size_of::<Channels>() == 36);

/// Receive queues in use at the interface of this name, in the network namespace of the calling thread. Needs no
/// privilege.
///
/// # Errors
///
/// `EOPNOTSUPP` when the driver does not say, `ENODEV` when there is no such interface.
pub fn receive_queues(interface: &str) -> io::Result<usize> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // Requests about interfaces are answered on a socket of any kind.
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the request and the channels that it points to outlive the call; the kernel writes no more than the latter.
    let answered = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if answered < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((channels.receiving + channels.combined) as usize)
}
