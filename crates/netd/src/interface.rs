//! Names of interfaces, and whether an index still means the same one.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use crate::packet_socket;

/// The name of the interface with this index, `None` when there is none.
pub(crate) fn name(index: u32) -> io::Result<Option<String>> {
    let mut name: [libc::c_char; libc::IF_NAMESIZE] = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has the IF_NAMESIZE bytes that the call may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the call succeeded and wrote a text that ends in NUL.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Ok(Some(name.to_string_lossy().into_owned()))
}

/// Tells whether an interface is still the one that had this index.
///
/// An index comes back: with an interface that returns from another namespace, or that is made with a chosen
/// index. A packet socket notices, because the kernel unbinds it for good when the interface leaves
/// (`net/packet/af_packet.c: packet_notifier`). This one stays with the keeper: a daemon can not bind it anew.
#[derive(Debug)]
pub(crate) struct Anchor {
    socket: OwnedFd,
    index: u32,
}

impl Anchor {
    pub(crate) fn cast(index: u32) -> io::Result<Self> {
        Ok(Self { socket: packet_socket::deaf(index)?, index })
    }

    /// Whether the interface has been there ever since.
    pub(crate) fn holds(&self) -> bool {
        matches!(packet_socket::bound_interface(&self.socket), Ok(Some(index)) if index == self.index)
    }
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
