//! A look at everything that is sent to groups: frames are handed on as they come, and nothing is concluded.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mcr_datapath::open_gaze;
use mcr_wire::FrameMeta;

use crate::facts::{Blind, Direction, Link};
use crate::observe::eye::{self, Eye, FRAME_BYTES};

/// Packet sockets that see every UDP datagram to a group which comes in. Their interfaces are promiscuous while this lives.
pub struct Gaze {
    eyes: Vec<(u32, Eye)>,
    buffer: Vec<u8>,
}

impl Gaze {
    /// Opens them on interfaces by their indexes.
    ///
    /// # Errors
    /// When a socket can not be opened, with what to do.
    pub fn open(interfaces: &[u32]) -> Result<Self, Blind> {
        let open = |&index: &u32| Ok((index, open_gaze(index)?));
        let sockets: std::io::Result<Vec<_>> = interfaces.iter().map(open).collect();
        let sockets = sockets.map_err(|error| {
            Blind::new(format!("the wire can not be looked at: {error}"), "run as root (CAP_NET_RAW)")
        })?;
        Ok(Self::over(sockets))
    }

    /// Looks through sockets that somebody else has opened with [`open_gaze`], each with the index of its interface.
    pub fn over(sockets: impl IntoIterator<Item = (u32, OwnedFd)>) -> Self {
        let eyes = sockets.into_iter().map(|(index, socket)| (index, Eye::from(socket))).collect();
        Self { eyes, buffer: vec![0; FRAME_BYTES] }
    }

    /// Hands on what comes in until `end`: the index of the interface, the frame, and what the kernel says beside it. Never waits
    /// longer, also when frames come without a pause.
    pub fn watch(&mut self, end: Instant, mut see: impl FnMut(u32, &[u8], &FrameMeta)) {
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| *left > Duration::ZERO) {
            for ready in eye::wait(self.eyes.iter().map(|(_, eye)| eye), left) {
                let (index, eye) = &self.eyes[ready];
                // One batch from each in turn, so that a busy interface does not hide a quiet one.
                for _ in 0..64 {
                    let Some(frame) = eye.receive(&mut self.buffer) else { break };
                    if frame.direction == Direction::In {
                        see(*index, frame.bytes, &frame.beside);
                    }
                }
            }
        }
    }

    /// Frames that found no room since this was asked last: they were not handed on.
    pub fn missed(&self) -> u64 {
        self.eyes.iter().map(|(_, eye)| eye.missed()).sum()
    }
}

/// Lets this thread yield to all that have something better to do: looking must not cost the packets that are relayed.
pub fn give_way() {
    const NICE: libc::c_int = 10;
    // SAFETY: no pointers are passed; 0 is the calling thread. A thread may always make itself nicer.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// The interfaces to look at: those that were named, or all that are up and could carry multicast. Of a bridge or bond its ports
/// are not looked at, nor a VLAN's interface beside the one that it is on: each packet is seen once.
///
/// # Errors
/// When one that was named is not there or down, or there is none.
pub fn lookable(named: &[String]) -> Result<Vec<Link>, Blind> {
    let links =
        links().map_err(|error| Blind::new(format!("the interfaces can not be listed: {error}"), "report this"))?;
    if named.is_empty() {
        let is_looked_at = |link: &&Link| {
            link.up && link.multicast && link.name != "lo" && link.master.is_none() && link.kind != "vlan"
        };
        let found: Vec<Link> = links.iter().filter(is_looked_at).cloned().collect();
        let none = || Blind::new("no interface is up", "`ip link set INTERFACE up` takes one up");
        return if found.is_empty() { Err(none()) } else { Ok(found) };
    }
    let find = |name: &String| match links.iter().find(|link| link.name == *name) {
        Some(link) if link.up => Ok(link.clone()),
        Some(_) => Err(Blind::new(format!("{name} is down"), format!("`ip link set {name} up` takes it up"))),
        None => Err(Blind::new(format!("there is no interface {name}"), "`ip link` lists those that there are")),
    };
    let mut found: Vec<Link> = named.iter().map(find).collect::<Result<_, _>>()?;
    found.sort_by_key(|link| link.index);
    found.dedup_by_key(|link| link.index);
    Ok(found)
}

/// The interfaces of this host.
///
/// # Errors
/// When the kernel does not say.
pub fn links() -> std::io::Result<Vec<Link>> {
    crate::observe::links()
}
