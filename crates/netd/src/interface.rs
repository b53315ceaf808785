//! Names of interfaces.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use crate::channel::check;

/// The name of the interface with this index, `None` when there is none.
pub(crate) fn name(index: u32) -> io::Result<Option<String>> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index.cast_signed();
    // SAFETY: the kernel reads and writes one ifreq, which outlives the call.
    let found = check(unsafe { libc::ioctl(any_socket()?.as_raw_fd(), libc::SIOCGIFNAME as _, &raw mut request) });
    match found {
        // SAFETY: the call succeeded and wrote a text that ends in NUL.
        Ok(()) => Ok(Some(unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) }.to_string_lossy().into_owned())),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The link-layer address of the interface with this name; `None`: it has none of Ethernet's.
pub(crate) fn link_address(name: &str) -> io::Result<Option<[u8; 6]>> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the kernel reads and writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(any_socket()?.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) })?;
    // SAFETY: the call succeeded and wrote a socket address.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let octets = address.sa_data.first_chunk::<6>().map(|octets| octets.map(|octet| octet as u8));
    Ok(octets.filter(|_| address.sa_family == libc::ARPHRD_ETHER))
}

/// What such questions are asked through: a socket of its own for each, as `if_indextoname` opens, is not to be had when all
/// descriptors are used.
fn any_socket() -> io::Result<&'static OwnedFd> {
    static SOCKET: OnceLock<OwnedFd> = OnceLock::new();
    if SOCKET.get().is_none() {
        let _ = SOCKET.set(UnixDatagram::unbound()?.into());
    }
    Ok(SOCKET.get().expect("set just now, by this thread or another"))
}

/// Its name for a sentence, or its number when it has none.
pub(crate) fn label(index: u32) -> String {
    name(index).ok().flatten().unwrap_or_else(|| format!("interface {index}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_interface_is_the_loopback() {
        assert_eq!(super::name(1).unwrap().as_deref(), Some("lo"));
        assert_eq!(super::name(0).unwrap(), None);
        assert_eq!(super::name(u32::MAX).unwrap(), None);
    }
}
