//! A tap device: a network interface whose other end is this process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::frame::{Frame, Seen};
use crate::interface::Interface;
use crate::namespace::Namespace;

/// `TUNSETIFF`, `IFF_TAP` and `IFF_NO_PI` of linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TAP: libc::c_short = 2;
const IFF_NO_PI: libc::c_short = 0x1000;
/// More than a frame of any MTU that a test sets.
const LARGEST_FRAME: usize = 16 << 10;

/// A tap device that is up. `Drop` deletes it.
#[derive(Debug)]
pub struct Tap {
    file: File,
    interface: Interface,
}

impl Tap {
    /// Makes one.
    ///
    /// # Panics
    /// Without root or `/dev/net/tun`.
    #[track_caller]
    pub fn new(namespace: &Namespace, name: &str) -> Tap {
        let file = namespace.run(|| open(name));
        namespace.ip(&format!("link set {name} up"));
        Tap { file, interface: Interface::of(namespace, name) }
    }

    /// The interface.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Has a frame arrive at the interface.
    #[track_caller]
    pub fn send(&self, frame: &Frame) {
        (&self.file).write_all(&frame.bytes()).expect("write to the tap");
    }

    /// The next whole UDP datagram that leaves on the interface, others passed over; `None` after `limit`.
    #[track_caller]
    pub fn next_udp(&self, limit: Duration) -> Option<Seen> {
        let begun = Instant::now();
        let mut bytes = vec![0; LARGEST_FRAME];
        loop {
            if !self.is_readable(limit.saturating_sub(begun.elapsed())) {
                return None;
            }
            let length = (&self.file).read(&mut bytes).expect("read from the tap");
            if let Some(seen) = Seen::read(&bytes[..length]) {
                return Some(seen);
            }
        }
    }

    fn is_readable(&self, limit: Duration) -> bool {
        let mut polled = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer describes one pollfd, which outlives the call.
        unsafe { libc::poll(&raw mut polled, 1, limit.as_millis() as libc::c_int) > 0 }
    }
}

#[track_caller]
fn open(name: &str) -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").expect("open /dev/net/tun");
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "{name} is too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI;
    // SAFETY: the descriptor is open, and `request` outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "make {name}: {}", std::io::Error::last_os_error());
    file
}
