//! The programs at the driver: attaching them, proving that they deliver, and the interfaces that they send to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::programs::{RawTracePoint, Xdp as XdpProgram};

use crate::ethtool;
use crate::layout::DeviceSlot;
use crate::load::{LoadError, take};
use crate::maps::NotOurMaps;
use crate::sys;

/// Why an interface can not be served at the driver. Each is a sentence about it, without its name.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// Only one program can be attached at a driver.
    #[error("another XDP program is attached to it; detach that one to have this faster path")]
    Occupied,
    /// XDP would run behind the driver, where it gains nothing and loses frames of segmenting senders.
    #[error("its driver has no native XDP")]
    NoNativeXdp,
    /// The tag is not in the frame any more when the program sees it.
    #[error(
        "it takes VLAN tags out of frames before XDP sees them; switch that off with `ethtool -K INTERFACE {feature} off`"
    )]
    TakesTagsOut {
        /// By which feature, as ethtool calls it.
        feature: &'static str,
    },
    /// A frame does not fit into one buffer.
    #[error("its MTU, or that of its veth peer, is too large for XDP")]
    TooLargeMtu,
    /// A frame that was redirected into it did not arrive.
    #[error(
        "a frame redirected into it was not taken: its driver does not send for XDP, or it is down, or it is a veth whose peer \
         has no NAPI (`ethtool -K PEER gro on` switches it on)"
    )]
    NotDelivered,
    /// The kernel refused, for another reason.
    #[error("{what}: {error}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Ethertype for local experiments (IEEE 802, clause 9.2.4): what nobody listens to.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
/// Where probes go: locally administered, made up.
const NOBODY: [u8; 6] = [0x02, 0x4d, 0x43, 0x52, 0xff, 0xfe];
/// `MARK_PROBE` in `bpf/xdp.h`.
const MARK_PROBE: u8 = 3;

/// The programs at the driver and the tables that only the keeper writes. Whoever has their descriptors can send to any
/// interface.
#[derive(Debug)]
pub struct Xdp([OwnedFd; Xdp::COUNT]);

/// Places in [`Xdp::NAMES`].
#[derive(Debug, Clone, Copy)]
enum Part {
    Program,
    Egress,
    Probe,
    Flushed,
    Exits,
    FanOuts,
    Probes,
}

impl Part {
    fn name(self) -> &'static str {
        Xdp::NAMES[self as usize]
    }
}

impl Xdp {
    /// How many parts there are.
    pub const COUNT: usize = 7;
    /// Names of the parts, in the order of [`Xdp::fds`]: three programs, the link that counts what drivers took, three maps.
    pub const NAMES: [&'static str; Self::COUNT] =
        ["mcr_xdp", "mcr_egress", "mcr_probe", "mcr_flushed", "exits", "fan_outs", "probes"];

    pub(crate) fn load(loaded: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self([
            load_xdp(loaded, Part::Program.name())?,
            load_xdp(loaded, Part::Egress.name())?,
            load_xdp(loaded, Part::Probe.name())?,
            load_flushed(loaded, Part::Flushed.name())?,
            take(loaded, Part::Exits.name())?,
            take(loaded, Part::FanOuts.name())?,
            take(loaded, Part::Probes.name())?,
        ]))
    }

    /// Takes over the parts, from pins for example.
    ///
    /// # Errors
    /// When they are not as many.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Self, NotOurMaps> {
        Ok(Self(fds.try_into().map_err(|fds: Vec<OwnedFd>| NotOurMaps::Count(fds.len()))?))
    }

    /// The descriptors, in the order of [`Xdp::NAMES`], to be pinned.
    pub fn fds(&self) -> [BorrowedFd<'_>; Self::COUNT] {
        std::array::from_fn(|index| self.0[index].as_fd())
    }

    /// The program that is attached to inputs.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.part(Part::Program)
    }

    fn part(&self, part: Part) -> BorrowedFd<'_> {
        self.0[part as usize].as_fd()
    }

    /// Attaches the program at the driver of an input of the caller's network namespace. It runs as long as the link that is
    /// handed back is open or pinned. On a veth it switches off what its peer hands over in super-frames.
    ///
    /// # Errors
    /// Why the input can not be served at the driver.
    pub fn attach(&self, ifindex: u32) -> Result<OwnedFd, Unproven> {
        match ethtool::takes_tags_out(ifindex) {
            Ok(Some(feature)) => return Err(Unproven::TakesTagsOut { feature }),
            Ok(None) => {}
            Err(error) => return Err(Unproven::Refused { what: "its VLAN offload can not be read", error }),
        }
        sys::attach_at_driver(self.program(), ifindex).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => Unproven::Occupied,
            Some(libc::EOPNOTSUPP) => Unproven::NoNativeXdp,
            Some(libc::ERANGE | libc::E2BIG) => Unproven::TooLargeMtu,
            _ => Unproven::Refused { what: "XDP can not be attached", error },
        })
    }

    /// Opens a port to an interface of the caller's network namespace, once a frame that was redirected into it has been taken.
    /// `mac` is the interface's own address.
    ///
    /// # Errors
    /// Why the output can not be served at the driver; the port is closed then.
    pub fn open_port(&self, port: u32, ifindex: u32, mac: [u8; 6]) -> Result<(), Unproven> {
        let slot = self.slot(ifindex);
        sys::update(self.part(Part::Exits), &port, &slot).map_err(refused("the port can not be opened"))?;
        self.prove(port, mac).inspect_err(|_| {
            let _ = self.close_port(port);
        })
    }

    /// Sends a frame that nobody listens to to an open port: is it still taken?
    ///
    /// # Errors
    /// [`Unproven::NotDelivered`], mostly.
    pub fn prove(&self, port: u32, mac: [u8; 6]) -> Result<(), Unproven> {
        let taken =
            || sys::lookup::<u32, u64>(self.part(Part::Probes), &0).map_err(refused("probes can not be counted"));
        let before = taken()?;
        sys::run_live(self.part(Part::Probe), &probe(port, mac)).map_err(refused("no probe can be sent"))?;
        if taken()? == before { Err(Unproven::NotDelivered) } else { Ok(()) }
    }

    /// Closes a port; fan-outs that have it are to be cleared, too.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn close_port(&self, port: u32) -> io::Result<()> {
        sys::delete(self.part(Part::Exits), &port)
    }

    /// Makes fan-out `number` a copy to each of these interfaces, which may be listed several times: those of the ports of a
    /// relay's outputs, in their order. Swapped in at once.
    ///
    /// # Errors
    /// When there is no such number, or an interface is gone.
    pub fn set_fan_out(&self, number: u32, ifindexes: &[u32]) -> io::Result<()> {
        let devices = sys::create_device_map(ifindexes.len() as u32)?;
        for (place, &ifindex) in (0_u32..).zip(ifindexes) {
            sys::update(devices.as_fd(), &place, &self.slot(ifindex))?;
        }
        sys::update(self.part(Part::FanOuts), &number, &number_of(&devices))
    }

    /// Whether there is a fan-out of that number.
    pub fn has_fan_out(&self, number: u32) -> bool {
        sys::lookup::<u32, u32>(self.part(Part::FanOuts), &number).is_ok()
    }

    /// Makes fan-out `number` none: the program at tcx ingress serves relays that name it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear_fan_out(&self, number: u32) -> io::Result<()> {
        sys::delete(self.part(Part::FanOuts), &number)
    }

    fn slot(&self, ifindex: u32) -> DeviceSlot {
        DeviceSlot { ifindex, program: number_of(&self.part(Part::Egress)) }
    }
}

fn number_of(fd: &impl std::os::fd::AsRawFd) -> i32 {
    fd.as_raw_fd()
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> Unproven {
    move |error| Unproven::Refused { what, error }
}

/// A frame that the program for probes sends to a port; `struct crossing`, and the addresses that it leaves with behind.
fn probe(port: u32, mac: [u8; 6]) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..4].copy_from_slice(&port.to_ne_bytes());
    frame[6] = MARK_PROBE;
    frame[12..14].copy_from_slice(&EXPERIMENT);
    frame[14..20].copy_from_slice(&NOBODY);
    frame[20..26].copy_from_slice(&mac);
    frame
}

fn load_xdp(loaded: &mut Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    let program: &mut XdpProgram = loaded.program_mut(name).ok_or(LoadError::Missing(name))?.try_into()?;
    program.load()?;
    program.fd()?.as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)
}

fn load_flushed(loaded: &mut Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    const TRACEPOINT: &str = "xdp_devmap_xmit";
    let program: &mut RawTracePoint = loaded.program_mut(name).ok_or(LoadError::Missing(name))?.try_into()?;
    program.load()?;
    sys::attach_at_tracepoint(program.fd()?.as_fd(), c"xdp_devmap_xmit")
        .map_err(|error| LoadError::Tracepoint { name: TRACEPOINT, error })
}
