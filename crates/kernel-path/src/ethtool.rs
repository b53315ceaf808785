//! What an interface's driver does with frames before XDP sees them; ethtool(8) by its ioctl, `include/uapi/linux/ethtool.h`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// The beginning of `struct ethtool_drvinfo`, with room for all of it.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}
const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `struct ethtool_value`.
#[repr(C)]
struct Flags {
    command: u32,
    flags: u32,
}

/// `struct ifreq`, for this request.
#[repr(C)]
struct Request<T> {
    name: [libc::c_char; libc::IFNAMSIZ],
    data: *mut T,
    rest: [u8; 16],
}

/// Whether an interface of the caller's network namespace takes VLAN tags out of the frames that it receives. A veth says so
/// and does not.
pub(crate) fn takes_tags_out(ifindex: u32) -> io::Result<bool> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    match ask(ifindex, &mut info) {
        // It has no driver to speak of.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        result => result?,
    }
    if info.driver.starts_with(b"veth\0") {
        return Ok(false);
    }
    let mut flags = Flags { command: ETHTOOL_GFLAGS, flags: 0 };
    ask(ifindex, &mut flags)?;
    Ok(flags.flags & ETH_FLAG_RXVLAN != 0)
}

fn ask<T>(ifindex: u32, data: &mut T) -> io::Result<()> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], data, rest: [0; 16] };
    // SAFETY: room for a name of IFNAMSIZ bytes.
    if unsafe { libc::if_indextoname(ifindex, request.name.as_mut_ptr()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no addresses among the arguments.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: the request and its data are whole structures of this command and outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
