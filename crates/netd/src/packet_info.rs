//! Messages of raw sockets, with the interface that they come on or leave by (ip(7) `IP_PKTINFO`, ipv6(7) `IPV6_PKTINFO`).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::channel::retry;

/// A protocol family's address and what it says of the interface, both of the kernel's layout.
///
/// # Safety
/// All zeros, and whatever the kernel writes, have to be valid values of both types, and `CONTROL` has to be the level and type
/// of control messages that hold an `Info`.
pub(crate) unsafe trait Family {
    type Address: Copy;
    type Info: Copy;
    const CONTROL: (libc::c_int, libc::c_int);
}

pub(crate) struct V4;
pub(crate) struct V6;

// SAFETY: both types are integers and arrays of them; the control messages of that type hold an in_pktinfo (ip(7)).
unsafe impl Family for V4 {
    type Address = libc::sockaddr_in;
    type Info = libc::in_pktinfo;
    const CONTROL: (libc::c_int, libc::c_int) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
}

// SAFETY: as above, with in6_pktinfo (ipv6(7)).
unsafe impl Family for V6 {
    type Address = libc::sockaddr_in6;
    type Info = libc::in6_pktinfo;
    const CONTROL: (libc::c_int, libc::c_int) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
}

/// Room for one control message of either family: 16 bytes of header and at most 20 of data.
type Control = [u64; 8];
const _: () = assert!(16 + size_of::<libc::in6_pktinfo>() <= size_of::<Control>());

/// Sends a message to that address, by the interface that `info` names.
pub(crate) fn send<F: Family>(socket: BorrowedFd<'_>, bytes: &[u8], to: F::Address, info: F::Info) -> io::Result<()> {
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    let (mut to, mut control): (F::Address, Control) = (to, Control::default());
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    (header.msg_name, header.msg_namelen) = ((&raw mut to).cast(), size_of::<F::Address>() as u32);
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    header.msg_control = control.as_mut_ptr().cast();
    let info_bytes = size_of::<F::Info>() as libc::c_uint;
    // SAFETY: pure arithmetic.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(info_bytes) } as _;
    // SAFETY: `control` is zeroed, aligned, and has room for one header and its data, as is asserted above.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        ((*first).cmsg_level, (*first).cmsg_type) = F::CONTROL;
        (*first).cmsg_len = libc::CMSG_LEN(info_bytes) as _;
        libc::CMSG_DATA(first).cast::<F::Info>().write_unaligned(info);
    }
    // SAFETY: `header` points to memory that outlives the call, with its true lengths; the kernel only reads `bytes`.
    retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) }).map(drop)
}

/// What is known of a message that was taken and thrown away.
pub(crate) struct Taken<F: Family> {
    /// Who sent it.
    pub(crate) from: F::Address,
    /// What is said of the interface that it came on.
    pub(crate) info: Option<F::Info>,
    /// How long it was, at most 64.
    pub(crate) bytes: usize,
}

/// Takes the next message and throws it away.
pub(crate) fn receive<F: Family>(socket: BorrowedFd<'_>) -> io::Result<Taken<F>> {
    // SAFETY: all zeros is valid for both.
    let (mut from, mut header): (F::Address, libc::msghdr) = unsafe { std::mem::zeroed() };
    let (mut bytes, mut control) = ([0_u8; 64], Control::default());
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    (header.msg_name, header.msg_namelen) = ((&raw mut from).cast(), size_of::<F::Address>() as u32);
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    // SAFETY: `header` points to memory that outlives the call, with its true lengths.
    let length = retry(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) })?;
    // SAFETY: the kernel filled in the control data, which CMSG_FIRSTHDR checks for room of a header; nothing but CONTROL was
    // asked for, and its data is an Info.
    let info = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        let is_info = !first.is_null() && ((*first).cmsg_level, (*first).cmsg_type) == F::CONTROL;
        is_info.then(|| libc::CMSG_DATA(first).cast::<F::Info>().read_unaligned())
    };
    Ok(Taken { from, info, bytes: length })
}
