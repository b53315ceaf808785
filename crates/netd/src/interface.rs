//! Names of interfaces.

use std::ffi::CStr;
use std::io;

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
