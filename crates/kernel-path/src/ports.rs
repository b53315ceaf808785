//! The interfaces that the program may send to.
//!
//! Outputs name a port, not an interface, and only who has this descriptor can say which interface that is. So whoever writes
//! the other tables sends to the interfaces that were opened for him, and to no other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::maps::NotOurMaps;
use crate::sys;

/// The port numbers and their interfaces.
#[derive(Debug)]
pub struct Ports {
    fd: OwnedFd,
    limit: u32,
}

impl Ports {
    /// The map's name in the program.
    pub const NAME: &'static str = "ports";

    /// Takes over the map, from a pin for example.
    ///
    /// # Errors
    /// When the descriptor is of something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NotOurMaps> {
        let info = sys::map_info(fd.as_fd()).map_err(|error| NotOurMaps::Unusable { name: Self::NAME, error })?;
        if (info.key_bytes, info.value_bytes) != (4, 4) {
            return Err(NotOurMaps::Layout { name: Self::NAME, found: format!("{info:?}") });
        }
        Ok(Self { fd, limit: info.max_entries })
    }

    /// How many there can be: port numbers are less than this.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Makes `port` that of an interface of the network namespace of the inputs.
    ///
    /// # Errors
    /// When there is no such port (`E2BIG`).
    pub fn set(&self, port: u32, ifindex: u32) -> io::Result<()> {
        sys::update(self.fd.as_fd(), &port, &ifindex)
    }

    /// Makes `port` that of no interface: outputs that name it drop as `output_missing`.
    ///
    /// # Errors
    /// When there is no such port (`E2BIG`).
    pub fn clear(&self, port: u32) -> io::Result<()> {
        self.set(port, 0)
    }

    /// The interface of a port, if it has one.
    ///
    /// # Errors
    /// When there is no such port (`ENOENT`).
    pub fn get(&self, port: u32) -> io::Result<Option<u32>> {
        sys::lookup::<u32, u32>(self.fd.as_fd(), &port).map(|ifindex| Some(ifindex).filter(|&ifindex| ifindex != 0))
    }

    /// The descriptor, to be pinned; whoever has it can send to any interface.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
