//! What outlives the process that loaded it, under a bpffs, and how another process goes on with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::load::{LoadError, Loaded, OBJECT, Sizes};
use crate::maps::{Maps, NotOurMaps};
use crate::ports::Ports;
use crate::sys;
use crate::xdp::Xdp;

/// The name of the program at tcx ingress.
const PROGRAM: &str = "program";

/// Why what is pinned can not be used; it is of no use then and may be removed.
#[derive(Debug, thiserror::Error)]
pub enum NotReopened {
    /// An object is not there or can not be opened.
    #[error("`{name}` can not be opened: {error}")]
    Missing {
        /// Which.
        name: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The tables are of another version.
    #[error(transparent)]
    Maps(#[from] NotOurMaps),
}

/// Tells builds apart whose objects can not take each other's place: the programs, or the sizes of the tables, differ.
#[must_use]
pub fn layout(sizes: &Sizes) -> u64 {
    let settings = format!("{sizes:?}");
    // FNV-1a
    OBJECT
        .iter()
        .chain(settings.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl Loaded {
    /// Everything that has to be pinned, by name, so that [`Loaded::reopen`] can go on with it. The links of
    /// [`Loaded::attach`] are not among it.
    pub fn objects(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let maps = Maps::NAMES.into_iter().zip(self.maps().fds());
        let xdp = self.xdp().ok().into_iter().flat_map(|xdp| Xdp::NAMES.into_iter().zip(xdp.fds()));
        maps.chain([(PROGRAM, self.program()), (Ports::NAME, self.ports().fd())]).chain(xdp).collect()
    }

    /// The program and its tables as another process left them; `open` finds the objects of [`Loaded::objects`].
    ///
    /// # Errors
    /// [`NotReopened`]
    pub fn reopen(mut open: impl FnMut(&'static str) -> io::Result<OwnedFd>) -> Result<Self, NotReopened> {
        let mut object = |name| open(name).map_err(|error| NotReopened::Missing { name, error });
        let program = object(PROGRAM)?;
        let ports = Ports::from_fd(object(Ports::NAME)?)?;
        let maps = Maps::NAMES.into_iter().map(&mut object).collect::<Result<Vec<_>, _>>()?;
        // The kernel may have refused the programs at the driver.
        let xdp = match Xdp::NAMES.into_iter().map(&mut object).collect::<Result<Vec<_>, _>>() {
            Ok(parts) => Ok(Xdp::from_fds(parts)?),
            Err(NotReopened::Missing { name, .. }) => Err(LoadError::Missing(name)),
            Err(error) => return Err(error),
        };
        Ok(Self::from_parts(program, Maps::from_fds(maps)?, ports, xdp))
    }
}

/// The interface that a link of [`Loaded::attach`] or [`Xdp::attach`] is on; `None` when that is gone.
///
/// # Errors
/// When the descriptor is of no link.
pub fn interface_of(link: &OwnedFd) -> io::Result<Option<u32>> {
    sys::link_interface(link.as_fd()).map(|ifindex| Some(ifindex).filter(|ifindex| *ifindex != 0))
}
