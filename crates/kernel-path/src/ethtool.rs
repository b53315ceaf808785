//! What an interface's driver does with frames before XDP sees them; ethtool(8) by its ioctl, `include/uapi/linux/ethtool.h`.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_SS_FEATURES: u32 = 4;

/// The feature that takes out 802.1ad tags (net/ethtool/common.c: `netdev_features_strings`).
const TAKES_SERVICE_TAGS_OUT: &str = "rx-vlan-stag-hw-parse";
/// Most features that there is room for; Linux 6.18 has fewer than 70.
const MOST_FEATURES: usize = 256;

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

/// `struct ethtool_sset_info`, for one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    sets: u64,
    count: u32,
}
const _: () = assert!(offset_of!(SetInfo, count) == 16);

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    command: u32,
    set: u32,
    count: u32,
    names: [[u8; 32]; MOST_FEATURES],
}
const _: () = assert!(offset_of!(Strings, names) == 12);

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    command: u32,
    blocks: u32,
    block: [FeatureBlock; MOST_FEATURES / 32],
}

/// `struct ethtool_get_features_block`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FeatureBlock {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}
const _: () = assert!(offset_of!(Features, block) == 8 && size_of::<FeatureBlock>() == 16);

/// `struct ifreq`, for this request.
#[repr(C)]
struct Request<T> {
    name: [libc::c_char; libc::IFNAMSIZ],
    data: *mut T,
    rest: [u8; 16],
}

/// The feature by which an interface of the caller's network namespace takes VLAN tags out of the frames that it receives, as
/// ethtool(8) calls it. A veth says so and does not.
pub(crate) fn takes_tags_out(ifindex: u32) -> io::Result<Option<&'static str>> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    match ask(ifindex, &mut info) {
        // It has no driver to speak of.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        result => result?,
    }
    if info.driver.starts_with(b"veth\0") {
        return Ok(None);
    }
    let mut flags = Flags { command: ETHTOOL_GFLAGS, flags: 0 };
    ask(ifindex, &mut flags)?;
    if flags.flags & ETH_FLAG_RXVLAN != 0 {
        return Ok(Some("rxvlan"));
    }
    Ok(is_on(ifindex, TAKES_SERVICE_TAGS_OUT)?.then_some(TAKES_SERVICE_TAGS_OUT))
}

/// Whether a feature is on, which one that the kernel does not know is not.
fn is_on(ifindex: u32, feature: &str) -> io::Result<bool> {
    let mut info = SetInfo { command: ETHTOOL_GSSET_INFO, reserved: 0, sets: 1 << ETH_SS_FEATURES, count: 0 };
    ask(ifindex, &mut info)?;
    if info.count as usize > MOST_FEATURES {
        return Err(io::Error::other(format!("{} features are more than are understood", info.count)));
    }
    let names = [[0; 32]; MOST_FEATURES];
    let mut strings = Strings { command: ETHTOOL_GSTRINGS, set: ETH_SS_FEATURES, count: info.count, names };
    ask(ifindex, &mut strings)?;
    let mut name = [0; 32];
    name[..feature.len()].copy_from_slice(feature.as_bytes());
    let Some(place) = strings.names.iter().position(|other| *other == name) else { return Ok(false) };
    let block = [FeatureBlock::default(); MOST_FEATURES / 32];
    let mut features = Features { command: ETHTOOL_GFEATURES, blocks: block.len() as u32, block };
    ask(ifindex, &mut features)?;
    Ok(features.block[place / 32].active & 1 << (place % 32) != 0)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use mcr_testbed::Topology;

    use super::*;

    #[test]
    fn features_are_told_by_their_names() {
        let net = Topology::device_relay_lan(1);
        let (name, index) = (net.relay_input().name(), net.relay_input().index());
        net.relay().run(|| {
            for (word, wanted) in [("off", false), ("on", true)] {
                let done = Command::new("ethtool").args(["-K", &name, TAKES_SERVICE_TAGS_OUT, word]).status();
                assert!(done.is_ok_and(|status| status.success()));
                assert_eq!(is_on(index, TAKES_SERVICE_TAGS_OUT).ok(), Some(wanted));
            }
            assert_eq!(is_on(index, "rx-no-such-feature").ok(), Some(false));
            assert_eq!(takes_tags_out(index).ok(), Some(None), "a veth does not, whatever it says");
        });
    }
}
