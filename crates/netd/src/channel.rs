//! One end of a connection between the daemon and the keeper: whole messages, and descriptors with
//! them (unix(7), `SCM_RIGHTS`).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::protocol::MAX_MESSAGE_BYTES;

/// Most descriptors of one message.
pub(crate) const MOST_DESCRIPTORS: usize = 16;
/// Control data with room for them, aligned as `cmsghdr` wants it.
const CONTROL_WORDS: usize = 2 + MOST_DESCRIPTORS / 2;

/// A connected `SOCK_SEQPACKET` Unix socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What a receive brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// One message, and the descriptors that came with it.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// The other side is gone.
    End,
    /// A message longer than any of the protocol; its rest is lost.
    TooLong,
}

/// Whether a call waits for the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as the timeout of the socket says.
    Wait,
    /// `EAGAIN` instead.
    Now,
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Both ends of a connection; both are closed on exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let mut ends: [RawFd; 2] = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: `ends` has room for the two descriptors.
        check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
        // SAFETY: both descriptors were just opened and nobody else has them.
        let [a, b] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok((Self(a), Self(b)))
    }

    /// Bounds every wait of [`Patience::Wait`], in both directions.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let time = libc::timeval {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
        };
        set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time)?;
        set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, &time)
    }

    /// Who connected: process and user, as of then (`SO_PEERCRED`).
    pub(crate) fn peer(&self) -> io::Result<libc::ucred> {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the pointers describe `peer` and `length`, which outlive the call.
        check(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut length,
            )
        })?;
        Ok(peer)
    }

    /// Sends one message, and at most [`MOST_DESCRIPTORS`] descriptors with it.
    pub(crate) fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>], patience: Patience) -> io::Result<()> {
        let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut control = [0_u64; CONTROL_WORDS];
        let mut header = header(&mut part);
        if !descriptors.is_empty() {
            attach(&mut header, &mut control, descriptors);
        }
        let flags = libc::MSG_NOSIGNAL | patience.flag();
        // SAFETY: `header` points to `part`, `message` and `control`, which outlive the call; the
        // kernel only reads them.
        let sent = retry(|| unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const header, flags) })?;
        debug_assert_eq!(sent, message.len(), "a message is sent whole or not at all");
        Ok(())
    }

    /// Receives a message, and the descriptors that came with it.
    pub(crate) fn receive(&self, patience: Patience) -> io::Result<Received> {
        let mut control = [0_u64; CONTROL_WORDS];
        self.receive_into(Some(&mut control), patience)
    }

    /// Receives a message; the kernel closes descriptors that come with it.
    pub(crate) fn receive_bytes(&self, patience: Patience) -> io::Result<Received> {
        self.receive_into(None, patience)
    }

    fn receive_into(&self, control: Option<&mut [u64; CONTROL_WORDS]>, patience: Patience) -> io::Result<Received> {
        let mut message = vec![0; MAX_MESSAGE_BYTES];
        let mut part = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
        let mut header = header(&mut part);
        if let Some(control) = control {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        let flags = libc::MSG_CMSG_CLOEXEC | patience.flag();
        // SAFETY: `header` points to `part`, `message` and `control`, which outlive the call and
        // are as long as it says.
        let length = retry(|| unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags) })?;
        let descriptors = detach(&header);
        if length == 0 {
            return Ok(Received::End);
        }
        if header.msg_flags & libc::MSG_TRUNC != 0 {
            return Ok(Received::TooLong);
        }
        message.truncate(length);
        Ok(Received::Message(message, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Patience {
    fn flag(self) -> libc::c_int {
        match self {
            Self::Wait => 0,
            Self::Now => libc::MSG_DONTWAIT,
        }
    }
}

/// Sets a socket option from a value of the kernel's own layout.
pub(crate) fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel
    // only reads it.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), size_of::<T>() as libc::socklen_t)
    })
}

/// Opens a socket that programs which are started do not get.
pub(crate) fn open_socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: `fd` was just opened and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The error of a system call that answers with -1.
pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a call again that a signal interrupted.
pub(crate) fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

fn attach(header: &mut libc::msghdr, control: &mut [u64; CONTROL_WORDS], descriptors: &[BorrowedFd<'_>]) {
    assert!(descriptors.len() <= MOST_DESCRIPTORS, "{} descriptors in one message", descriptors.len());
    let payload = size_of_val(descriptors) as libc::c_uint;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: pure arithmetic.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
    // SAFETY: `control` is zeroed, aligned, and has room for one header and as many descriptors as were counted (16 bytes
    // and 4 for each), so that the first header is there and its data is writable.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(payload) as _;
        let data = libc::CMSG_DATA(first).cast::<RawFd>();
        for (index, descriptor) in descriptors.iter().enumerate() {
            data.add(index).write_unaligned(descriptor.as_raw_fd());
        }
    }
}

/// Takes the descriptors out of a received header.
fn detach(header: &libc::msghdr) -> Vec<OwnedFd> {
    // SAFETY: the kernel filled in `msg_control` and `msg_controllen`, which CMSG_FIRSTHDR checks
    // for room of a header.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    if first.is_null() {
        return Vec::new();
    }
    // SAFETY: the kernel wrote a whole header there.
    let libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. } = unsafe { first.read() };
    if (cmsg_level, cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return Vec::new();
    }
    // SAFETY: pure arithmetic.
    let bytes = cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
    let descriptors = (0..bytes / size_of::<RawFd>()).map(|index| {
        // SAFETY: the kernel wrote this many descriptors behind the header and installed each in
        // this process; nobody else has them.
        unsafe {
            let data = libc::CMSG_DATA(first).cast::<RawFd>().add(index);
            OwnedFd::from_raw_fd(data.read_unaligned())
        }
    });
    descriptors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_brings_its_descriptors() {
        let (ours, theirs) = Channel::pair().unwrap();
        let passed = std::fs::File::open("/proc/self/status").unwrap();
        ours.send(b"hello", &[passed.as_fd(); MOST_DESCRIPTORS], Patience::Now).unwrap();
        ours.send(b"again", &[], Patience::Now).unwrap();
        let Received::Message(bytes, mut descriptors) = theirs.receive(Patience::Now).unwrap() else {
            panic!("no message came");
        };
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"hello".as_slice(), MOST_DESCRIPTORS));
        let mut text = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(descriptors.swap_remove(0)), &mut text).unwrap();
        assert!(text.starts_with("Name:"));
        let Received::Message(bytes, descriptors) = theirs.receive(Patience::Now).unwrap() else {
            panic!("no message came");
        };
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"again".as_slice(), 0));
    }

    #[test]
    fn the_end_and_too_long_messages_are_told_apart() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&[7; MAX_MESSAGE_BYTES + 1], &[], Patience::Now).unwrap();
        assert!(matches!(theirs.receive(Patience::Now).unwrap(), Received::TooLong));
        drop(ours);
        assert!(matches!(theirs.receive(Patience::Now).unwrap(), Received::End));
    }

    #[test]
    fn waiting_ends_with_the_timeout() {
        let (ours, _theirs) = Channel::pair().unwrap();
        ours.set_timeout(Duration::from_millis(20)).unwrap();
        let error = ours.receive(Patience::Wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
