//! Rings and receive offloads of a network card (`SIOCETHTOOL`, `include/uapi/linux/ethtool.h`), read only.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GSET: u32 = 0x1;
const SPEED_UNKNOWN: u32 = u32::MAX;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GFLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO`.
const LARGE_RECEIVE: u32 = 1 << 15;

/// What a card does on receiving.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// Slots of its receive ring, and how many it could have; `None` where it has none.
    pub(super) ring: Option<(u32, u32)>,
    /// Merges packets by itself (LRO), which can not be taken apart again.
    pub(super) merges: bool,
}

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Default)]
struct Rings {
    command: u32,
    receive_most: u32,
    others_most: [u32; 3],
    receive: u32,
    others: [u32; 3],
}

/// `struct ethtool_cmd`; the speed is in two halves.
#[repr(C)]
#[derive(Default)]
struct Settings {
    command: u32,
    modes: [u32; 2],
    speed: u16,
    ports: [u8; 6],
    limits: [u32; 2],
    speed_high: u16,
    crossing: [u8; 2],
    rest: [u32; 3],
}
const _: () = assert!(size_of::<Settings>() == 44);

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq` as this call reads it: the name, and the address of the command.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut libc::c_void,
    // The union of `struct ifreq` is larger than a pointer.
    rest: [u64; 2],
}

/// Asks the driver of an interface; what it does not answer is as if it were not there.
pub(super) fn card(interface: &str) -> Card {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return Card::default() };
    let mut rings = Rings { command: ETHTOOL_GRINGPARAM, ..Rings::default() };
    let ring = ask(&socket, interface, &mut rings).then_some((rings.receive, rings.receive_most));
    let mut flags = Value { command: ETHTOOL_GFLAGS, data: 0 };
    let merges = ask(&socket, interface, &mut flags) && flags.data & LARGE_RECEIVE != 0;
    Card { ring: ring.filter(|(_, most)| *most > 0), merges }
}

/// What the link of an interface carries, in bits per second; `None`: its driver does not say, or it has no link.
pub(crate) fn link_speed(interface: &str) -> Option<u64> {
    let mut settings = Settings { command: ETHTOOL_GSET, ..Settings::default() };
    // A socket of any family will do (`net/socket.c: sock_do_ioctl`).
    let socket = UnixDatagram::unbound().ok()?;
    let [low, high] =
        if ask(&socket, interface, &mut settings) { [settings.speed, settings.speed_high] } else { [0; 2] };
    let megabits = u32::from(high) << 16 | u32::from(low);
    (megabits != 0 && megabits != SPEED_UNKNOWN).then(|| u64::from(megabits) * 1_000_000)
}

/// Carries out a reading command. `T` begins with its number and is what the kernel fills for it.
fn ask<T>(socket: &impl AsRawFd, interface: &str, command: &mut T) -> bool {
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return false;
    }
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let mut request = Request { name, data: std::ptr::from_mut(command).cast(), rest: [0; 2] };
    // SAFETY: the request has the size of a struct ifreq at least, and its pointer is to the structure of that command.
    unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, std::ptr::from_mut(&mut request)) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_has_nothing() {
        assert_eq!(card("no-such-if0"), Card::default());
        assert_eq!(card("a-name-that-is-much-too-long"), Card::default());
        assert_eq!(link_speed("no-such-if0"), None);
        assert_eq!(link_speed("lo"), None);
    }
}
