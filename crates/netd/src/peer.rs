//! Who is at the other end of a Unix socket, and the ids behind the names of users and groups.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::channel::check;

/// The supplementary groups of the process that connected, as the kernel noted them then (`SO_PEERGROUPS`,
/// `net/core/sock.c`); `/proc` would tell those of whoever has its process id by now.
///
/// # Errors
/// When the socket is no connected Unix socket.
pub fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which are those of the vector, and the length itself.
        let asked = check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        });
        let count = length as usize / size_of::<u32>();
        match asked {
            // The kernel says how long the list is.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => groups.resize(count, 0),
            Err(error) => return Err(error),
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
        }
    }
}

/// The id of a user; `None`: there is no such user.
pub fn user_id(name: &str) -> Option<u32> {
    crate::privileges::user_id(name).ok()
}

/// The id of a group; `None`: there is no such group.
pub fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut room: Vec<libc::c_char> = vec![0; 64 << 10];
    // SAFETY: all-zero bytes are a valid group: null pointers and a zero.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: `name` ends in NUL; the entry, its room and the result outlive the call, and the length is that of the
    // room.
    unsafe { libc::getgrnam_r(CStr::as_ptr(&name), &raw mut entry, room.as_mut_ptr(), room.len(), &raw mut found) };
    (!found.is_null()).then_some(entry.gr_gid)
}

/// The user and the group that this process acts as.
pub fn own() -> (u32, u32) {
    // SAFETY: these calls take nothing and always succeed.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn our_own_groups_are_those_of_a_pair_that_we_made() {
        let (one, _other) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let mut found = groups(one.as_fd()).unwrap();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn names_that_every_system_has() {
        assert_eq!((user_id("root"), group_id("root")), (Some(0), Some(0)));
        assert_eq!((user_id("no such"), group_id("no such"), group_id("a\0b")), (None, None, None));
    }
}
