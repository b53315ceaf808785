//! The sockets and programs by which packets come and go.

use std::collections::btree_map::Entry;
use std::os::fd::AsFd;

use mcr_datapath::{FilterInstruction, RingGeometry, open_ear, open_gaze, open_inputs, open_output, set_filter};

use super::refusal::{full, invalid, open_remedy, system};
use super::{Done, Handed, Holdings, Input, MAX_RINGS};
use crate::channel::MOST_DESCRIPTORS;
use crate::interface::label;
use crate::links;
use crate::policy::Use;
use crate::protocol::{Failure, Hook, Reply};

/// Most memory of one ring, in bytes: it is locked into memory and charged to nobody.
const MAX_RING_BYTES: usize = 256 << 20;
/// Smallest and largest slot of a ring, in bytes.
const SLOT_BYTES: std::ops::RangeInclusive<u32> = 128..=128 << 10;
/// Slots have to be aligned so (`TPACKET_ALIGNMENT`).
const SLOT_ALIGNMENT: u32 = 16;

impl Holdings {
    pub(super) fn open_input(&mut self, interface: u32, geometry: RingGeometry, rings: u8) -> Result<Done, Failure> {
        let name = self.permit(Use::Input, interface)?;
        let open: usize = self.inputs.values().map(|input| input.rings.len()).sum();
        let rings = usize::from(rings).min(MOST_DESCRIPTORS).min(MAX_RINGS.saturating_sub(open)).max(1);
        let input = match self.inputs.entry(interface) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => {
                check_geometry(&geometry)?;
                let rings = open_inputs(interface, &geometry, rings).map_err(|error| {
                    system(format!("can not open {name} for receiving"), &error, open_remedy(&error))
                })?;
                self.guard.admit(&rings)?;
                self.last_opening += 1;
                place.insert(Input { opening: self.last_opening, rings, geometry })
            }
        };
        let reply = Reply::Opened { geometry: input.geometry };
        Ok(Done { reply, handed: Handed::Sockets(Use::Input, interface) })
    }

    pub(super) fn open_output(&mut self, interface: u32) -> Result<Done, Failure> {
        let name = self.permit(Use::Output, interface)?;
        let port = match self.outputs.entry(interface) {
            Entry::Occupied(_) => self.kernel_path.open_port(interface)?,
            Entry::Vacant(place) => {
                let socket = open_output(interface)
                    .map_err(|error| system(format!("can not open {name} for sending"), &error, open_remedy(&error)))?;
                self.guard.admit(std::slice::from_ref(&socket))?;
                let port = self.kernel_path.open_port(interface)?;
                place.insert(socket);
                port
            }
        };
        Ok(Done { reply: Reply::Sending { port }, handed: Handed::Sockets(Use::Output, interface) })
    }

    /// Promiscuous, but deaf to all but UDP to groups; the policy says of which interfaces packets may be taken.
    pub(super) fn open_gaze(&mut self, interface: u32) -> Result<Done, Failure> {
        let name = self.permit(Use::Input, interface)?;
        if let Entry::Vacant(place) = self.gazes.entry(interface) {
            let socket = open_gaze(interface)
                .map_err(|error| system(format!("can not look at {name}"), &error, open_remedy(&error)))?;
            self.guard.admit(std::slice::from_ref(&socket))?;
            place.insert(socket);
        }
        Ok(Done { reply: Reply::Done, handed: Handed::Gaze(interface) })
    }

    /// Of an output, where who is behind it decides what is sent there; or of an input, where it decides what comes.
    pub(super) fn open_ear(&mut self, interface: u32) -> Result<Done, Failure> {
        let name = match self.permit(Use::Output, interface) {
            Ok(name) => name,
            Err(refused) => self.permit(Use::Input, interface).map_err(|_| refused)?,
        };
        if let Entry::Vacant(place) = self.ears.entry(interface) {
            let socket = open_ear(interface)
                .map_err(|error| system(format!("can not hear reports on {name}"), &error, open_remedy(&error)))?;
            self.guard.admit(std::slice::from_ref(&socket))?;
            place.insert(socket);
        }
        Ok(Done { reply: Reply::Done, handed: Handed::Ear(interface) })
    }

    pub(super) fn close_output(&mut self, interface: u32) {
        self.kernel_path.close_port(interface);
        self.outputs.remove(&interface);
    }

    pub(super) fn detach_all(&mut self, interface: u32) -> bool {
        let detached = Hook::ALL.into_iter().filter(|hook| self.kernel_path.detach(interface, *hook));
        detached.count() > 0
    }

    pub(super) fn tables(&mut self) -> Result<Done, Failure> {
        self.kernel_path.load()?;
        Ok(Done { reply: Reply::Done, handed: Handed::Tables })
    }

    pub(super) fn prove(&mut self, interface: u32, own_address: [u8; 6]) -> Result<(), Failure> {
        self.allowed(Use::Output, interface)?;
        self.kernel_path.prove(interface, own_address)
    }

    pub(super) fn attach(&mut self, interface: u32, hook: Hook) -> Result<(), Failure> {
        let name = self.permit(Use::Input, interface)?;
        // A tap runs some frames behind the driver (`drivers/net/tun.c: tun_can_build_skb`), where nobody tells what became
        // of the copies.
        if hook == Hook::Xdp && matches!(links::kind(interface), Ok(Some(kind)) if kind == "tun") {
            let what = format!("{name} is a tap, whose driver does not take all frames");
            return Err(full(what, "use datapath = \"tcx\" for relays that listen there"));
        }
        self.kernel_path.attach(interface, hook)
    }

    pub(super) fn set_filter(&self, interface: u32, instructions: &[FilterInstruction]) -> Result<(), Failure> {
        self.allowed(Use::Input, interface)?;
        let Some(input) = self.inputs.get(&interface) else {
            return Err(invalid(&format!("a filter for interface {interface}, which is not an open input")));
        };
        let mut rings = input.rings.iter();
        rings.try_for_each(|ring| set_filter(ring.as_fd(), instructions)).map_err(|error| {
            let count = instructions.len();
            let what = format!("can not filter {} by {count} instructions", label(interface));
            let remedy = match error.raw_os_error() {
                Some(libc::ENOMEM) => "raise net.core.optmem_max (sysctl), or relay fewer groups of this interface",
                _ => "report this with the log of the daemon",
            };
            system(what, &error, remedy)
        })
    }
}

fn check_geometry(geometry: &RingGeometry) -> Result<(), Failure> {
    let RingGeometry { slot_bytes, slots } = *geometry;
    let is_sound = SLOT_BYTES.contains(&slot_bytes)
        && slot_bytes % SLOT_ALIGNMENT == 0
        && slots > 0
        && slots as usize <= MAX_RING_BYTES / slot_bytes as usize
        && (1..=MAX_RING_BYTES).contains(&geometry.bytes());
    if is_sound {
        return Ok(());
    }
    Err(invalid(&format!("a ring of {slots} slots of {slot_bytes} bytes")))
}
