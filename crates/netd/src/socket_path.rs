//! Paths of Unix sockets in the kernel's form (unix(7)).

use std::io;
use std::mem::{offset_of, size_of};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as `sockaddr_un`.
pub(crate) struct SocketPath {
    address: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl SocketPath {
    /// # Errors
    /// `ENAMETOOLONG` past the 107 bytes that fit, `EINVAL` for an empty path or one with a NUL.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid sockaddr_un.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // One byte stays for the NUL.
        if bytes.len() >= address.sun_path.len() {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        let length = offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
        debug_assert!(length <= size_of::<libc::sockaddr_un>());
        Ok(Self { address, length: length as libc::socklen_t })
    }

    /// What `bind(2)` and `connect(2)` take; valid while `self` is.
    pub(crate) fn as_parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.address).cast(), self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_fits() {
        assert!(SocketPath::new(Path::new(&"a".repeat(107))).is_ok());
        for bad in ["a".repeat(108), String::new(), "a\0b".to_owned()] {
            assert!(SocketPath::new(Path::new(&bad)).is_err());
        }
    }
}
