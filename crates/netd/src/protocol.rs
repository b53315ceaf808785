//! What the daemon and the keeper say to each other: one request, one reply, each one message of a
//! `SOCK_SEQPACKET` Unix socket. All numbers are little-endian; nothing is aligned or padded.
//!
//! ```text
//! every message   sequence u32 | kind u8 | body       at most 65,536 bytes
//! address         family u8 (4 or 6) | 4 or 16 bytes
//! text            length u16 | UTF-8
//! list            count u16 | elements
//! geometry        slot_bytes u32 | slots u32
//! instruction     code u16 | jt u8 | jf u8 | k u32
//!
//! request                kind  body                                   answered by
//! hello                    1   version u16                            welcome + descriptor of a private keeper's life
//! inventory                2   start u32 (0, then `next`)             held
//! open input               3   interface u32, geometry, rings u8      opened + descriptors of the rings
//! set filter               4   interface u32, list of instructions    done
//! close input              5   interface u32                          done
//! open output              6   interface u32                          sending + descriptor
//! close output             7   interface u32                          done
//! join                     8   interface u32, group, list of sources  done
//! leave                    9   interface u32, group                   done
//! resolve                 10   interface u32, address                 done
//! forget                  11   interface u32, address                 done
//! release                 12                                          done
//! tables                  13                                          done + descriptors of the kernel's tables
//! attach                  14   interface u32, hook u8                  done
//! detach                  15   interface u32, hook u8                  done
//! prove                   16   interface u32, its own address          done
//! fan out                 17   list of interface u32                   fanned
//! keep fan outs           18   list of number u32: all in use          done
//! open gaze               19   interface u32                          done + descriptor of a socket that only looks
//! close gaze              20   interface u32                          done
//! queriers                21                                          done + descriptor of the board
//! ask                     22   interface u32, family u8 (4 or 6)       done
//! report                  23   interface u32, list of groups           done
//! ask for                 24   interface u32, group                    done
//! open ear                25   interface u32                          done + descriptor of a socket that hears reports
//! close ear               26   interface u32                          done
//! add address             27   interface u32, address                 done, or checking: to be asked for again
//! remove address          28   interface u32, address                 done
//!
//! reply                  kind  body
//! done                   128
//! welcome                129   version u16, process u32
//! opened                 130   geometry
//! held                   131   next u32 (0: this was all), list of items
//! sending                133   port u32: what the kernel's tables call this output
//! fanned                 134   number u32: what the kernel's tables call this fan-out
//! checking               135
//! failed                 132   failure u8, errno i32 (0: none), reason text, remedy text
//!
//! item: input 1 | interface u32, geometry        output 2 | interface u32
//!       membership 3 | interface u32, group, list of sources
//!       neighbour 4 | interface u32, address     attached 5 | interface u32, hook u8
//!       address 6 | interface u32, address
//!
//! hook: tcx 1, xdp 2                             own address: 6 bytes
//! ```
//!
//! A reply carries the sequence number of its request, so that the answer to a request that was
//! given up is not taken for the answer to the next. Sequence 0 is a reply to no request: the
//! keeper could not start. A message that is not exactly of its form ends the connection.

use std::net::IpAddr;

use mcr_datapath::{FilterInstruction, RingGeometry};

use self::bytes::{Reader, Writer};
use crate::membership::Family;

mod bytes;

/// The version of this protocol; both sides must speak the same one.
pub(crate) const VERSION: u16 = 8;
/// Longest message in bytes: the longest filter that the kernel takes, twice.
pub(crate) const MAX_MESSAGE_BYTES: usize = 65_536;
/// Most sources of one join; an item of the inventory with that many fits a message.
pub(crate) const MAX_SOURCES: usize = 1_024;
/// Longest filter in instructions (`BPF_MAXINSNS`, `include/uapi/linux/bpf_common.h`).
pub(crate) const MAX_FILTER_INSTRUCTIONS: usize = 4_096;
/// Where a message of the inventory is closed, so that one more item always fits.
const INVENTORY_FILL_BYTES: usize = MAX_MESSAGE_BYTES - 24 * 1_024;
/// Most interfaces of one fan-out: the outputs of a relay.
pub(crate) const MAX_FAN_OUT: usize = 64;
/// Most fan-outs.
pub(crate) const MAX_FAN_OUTS: usize = 4_096;
/// Most groups that one request reports.
pub(crate) const MAX_REPORTED: usize = 1_024;
/// Longest text in bytes; longer ones are cut.
const MAX_TEXT_BYTES: usize = 1_024;

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Hello { version: u16 },
    Inventory { start: u32 },
    OpenInput { interface: u32, geometry: RingGeometry, rings: u8 },
    SetFilter { interface: u32, instructions: Vec<FilterInstruction> },
    CloseInput { interface: u32 },
    OpenOutput { interface: u32 },
    CloseOutput { interface: u32 },
    Join { interface: u32, group: IpAddr, sources: Vec<IpAddr> },
    Leave { interface: u32, group: IpAddr },
    Resolve { interface: u32, address: IpAddr },
    Forget { interface: u32, address: IpAddr },
    Release,
    Tables,
    Attach { interface: u32, hook: Hook },
    Detach { interface: u32, hook: Hook },
    Prove { interface: u32, own_address: [u8; 6] },
    FanOut { interfaces: Vec<u32> },
    KeepFanOuts { numbers: Vec<u32> },
    OpenGaze { interface: u32 },
    CloseGaze { interface: u32 },
    Queriers,
    Ask { interface: u32, family: Family },
    Report { interface: u32, groups: Vec<IpAddr> },
    AskFor { interface: u32, group: IpAddr },
    OpenEar { interface: u32 },
    CloseEar { interface: u32 },
    AddAddress { interface: u32, address: IpAddr },
    RemoveAddress { interface: u32, address: IpAddr },
}

/// Where a program of the in-kernel datapath sits on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// At tcx ingress.
    Tcx,
    /// At the driver.
    Xdp,
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Welcome { version: u16, process: u32 },
    Opened { geometry: RingGeometry },
    Held { next: u32, items: Vec<Item> },
    Sending { port: u32 },
    Fanned { number: u32 },
    Checking,
    Failed(Failure),
}

/// One thing that the keeper holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Input { interface: u32, geometry: RingGeometry },
    Output { interface: u32 },
    Membership { interface: u32, group: IpAddr, sources: Vec<IpAddr> },
    Neighbour { interface: u32, address: IpAddr },
    Attached { interface: u32, hook: Hook },
    Address { interface: u32, address: IpAddr },
}

/// Why the keeper did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What the kernel said, if it was asked.
    pub(crate) errno: Option<i32>,
    /// What went wrong and where, without a final stop.
    pub(crate) reason: String,
    /// What to do about it, without a final stop.
    pub(crate) remedy: String,
}

/// The classes of failure that a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The administrator's policy does not allow it.
    Policy,
    /// No interface has this index.
    NoInterface,
    /// The kernel refused.
    System,
    /// Another daemon uses this keeper.
    Busy,
    /// This user may not use this keeper.
    NotAllowed,
    /// The two programs do not speak the same version.
    Version,
    /// The request makes no sense: a fault of the program that sent it.
    Invalid,
    /// The keeper could not start.
    Startup,
}

/// A message that is not of the form above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of the keeper's protocol is malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A message with its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered<M> {
    pub(crate) sequence: u32,
    pub(crate) message: M,
}

impl Request {
    pub(crate) fn encode(&self, sequence: u32) -> Vec<u8> {
        let (mut out, kind) = (Writer::default(), self.kind());
        out.u32(sequence);
        out.u8(kind);
        match self {
            Self::Hello { version } => out.u16(*version),
            Self::Inventory { start } => out.u32(*start),
            Self::OpenInput { interface, geometry, rings } => {
                out.u32(*interface);
                put_geometry(&mut out, geometry);
                out.u8(*rings);
            }
            Self::SetFilter { interface, instructions } => {
                out.u32(*interface);
                out.list(instructions, put_instruction);
            }
            Self::CloseInput { interface }
            | Self::OpenOutput { interface }
            | Self::CloseOutput { interface }
            | Self::OpenGaze { interface }
            | Self::CloseGaze { interface }
            | Self::OpenEar { interface }
            | Self::CloseEar { interface } => out.u32(*interface),
            Self::Join { interface, group, sources } => {
                out.u32(*interface);
                out.address(*group);
                out.list(sources, |out, source| out.address(*source));
            }
            Self::Leave { interface, group: address }
            | Self::AskFor { interface, group: address }
            | Self::Resolve { interface, address }
            | Self::Forget { interface, address }
            | Self::AddAddress { interface, address }
            | Self::RemoveAddress { interface, address } => {
                out.u32(*interface);
                out.address(*address);
            }
            Self::Attach { interface, hook } | Self::Detach { interface, hook } => {
                out.u32(*interface);
                out.u8(hook.code());
            }
            Self::Prove { interface, own_address } => {
                out.u32(*interface);
                own_address.iter().for_each(|byte| out.u8(*byte));
            }
            Self::FanOut { interfaces } => out.list(interfaces, |out, interface| out.u32(*interface)),
            Self::KeepFanOuts { numbers } => out.list(numbers, |out, number| out.u32(*number)),
            Self::Ask { interface, family } => {
                out.u32(*interface);
                out.u8(family.code());
            }
            Self::Report { interface, groups } => {
                out.u32(*interface);
                out.list(groups, |out, group| out.address(*group));
            }
            Self::Release | Self::Tables | Self::Queriers => {}
        }
        out.finish()
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Inventory { .. } => 2,
            Self::OpenInput { .. } => 3,
            Self::SetFilter { .. } => 4,
            Self::CloseInput { .. } => 5,
            Self::OpenOutput { .. } => 6,
            Self::CloseOutput { .. } => 7,
            Self::Join { .. } => 8,
            Self::Leave { .. } => 9,
            Self::Resolve { .. } => 10,
            Self::Forget { .. } => 11,
            Self::Release => 12,
            Self::Tables => 13,
            Self::Attach { .. } => 14,
            Self::Detach { .. } => 15,
            Self::Prove { .. } => 16,
            Self::FanOut { .. } => 17,
            Self::KeepFanOuts { .. } => 18,
            Self::OpenGaze { .. } => 19,
            Self::CloseGaze { .. } => 20,
            Self::Queriers => 21,
            Self::Ask { .. } => 22,
            Self::Report { .. } => 23,
            Self::AskFor { .. } => 24,
            Self::OpenEar { .. } => 25,
            Self::CloseEar { .. } => 26,
            Self::AddAddress { .. } => 27,
            Self::RemoveAddress { .. } => 28,
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Numbered<Self>, Malformed> {
        let mut input = Reader::new(bytes);
        let sequence = input.u32()?;
        let message = match input.u8()? {
            1 => Self::Hello { version: input.u16()? },
            2 => Self::Inventory { start: input.u32()? },
            3 => Self::OpenInput { interface: input.u32()?, geometry: geometry(&mut input)?, rings: input.u8()? },
            4 => Self::SetFilter {
                interface: input.u32()?,
                instructions: input.list(MAX_FILTER_INSTRUCTIONS, instruction)?,
            },
            5 => Self::CloseInput { interface: input.u32()? },
            6 => Self::OpenOutput { interface: input.u32()? },
            7 => Self::CloseOutput { interface: input.u32()? },
            8 => Self::Join {
                interface: input.u32()?,
                group: input.address()?,
                sources: input.list(MAX_SOURCES, Reader::address)?,
            },
            9 => Self::Leave { interface: input.u32()?, group: input.address()? },
            10 => Self::Resolve { interface: input.u32()?, address: input.address()? },
            11 => Self::Forget { interface: input.u32()?, address: input.address()? },
            12 => Self::Release,
            13 => Self::Tables,
            14 => Self::Attach { interface: input.u32()?, hook: Hook::from_code(input.u8()?)? },
            15 => Self::Detach { interface: input.u32()?, hook: Hook::from_code(input.u8()?)? },
            16 => Self::Prove { interface: input.u32()?, own_address: own_address(&mut input)? },
            17 => Self::FanOut { interfaces: input.list(MAX_FAN_OUT, Reader::u32)? },
            18 => Self::KeepFanOuts { numbers: input.list(MAX_FAN_OUTS, Reader::u32)? },
            19 => Self::OpenGaze { interface: input.u32()? },
            20 => Self::CloseGaze { interface: input.u32()? },
            21 => Self::Queriers,
            22 => Self::Ask { interface: input.u32()?, family: Family::from_code(input.u8()?)? },
            23 => Self::Report { interface: input.u32()?, groups: input.list(MAX_REPORTED, Reader::address)? },
            24 => Self::AskFor { interface: input.u32()?, group: input.address()? },
            25 => Self::OpenEar { interface: input.u32()? },
            26 => Self::CloseEar { interface: input.u32()? },
            27 => Self::AddAddress { interface: input.u32()?, address: input.address()? },
            28 => Self::RemoveAddress { interface: input.u32()?, address: input.address()? },
            _ => return Err(Malformed("unknown request")),
        };
        input.finish()?;
        Ok(Numbered { sequence, message })
    }
}

impl Reply {
    pub(crate) fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(sequence);
        match self {
            Self::Done => out.u8(128),
            Self::Checking => out.u8(135),
            Self::Welcome { version, process } => {
                out.u8(129);
                out.u16(*version);
                out.u32(*process);
            }
            Self::Opened { geometry } => {
                out.u8(130);
                put_geometry(&mut out, geometry);
            }
            Self::Held { next, items } => {
                out.u8(131);
                out.u32(*next);
                out.list(items, put_item);
            }
            Self::Fanned { number } => {
                out.u8(134);
                out.u32(*number);
            }
            Self::Sending { port } => {
                out.u8(133);
                out.u32(*port);
            }
            Self::Failed(Failure { kind, errno, reason, remedy }) => {
                out.u8(132);
                out.u8(kind.code());
                out.u32(errno.unwrap_or(0).cast_unsigned());
                out.text(reason);
                out.text(remedy);
            }
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Numbered<Self>, Malformed> {
        let mut input = Reader::new(bytes);
        let sequence = input.u32()?;
        let message = match input.u8()? {
            128 => Self::Done,
            129 => Self::Welcome { version: input.u16()?, process: input.u32()? },
            130 => Self::Opened { geometry: geometry(&mut input)? },
            131 => Self::Held { next: input.u32()?, items: input.list(usize::from(u16::MAX), item)? },
            132 => Self::Failed(Failure {
                kind: FailureKind::from_code(input.u8()?)?,
                errno: Some(input.u32()?.cast_signed()).filter(|errno| *errno != 0),
                reason: input.text()?,
                remedy: input.text()?,
            }),
            135 => Self::Checking,
            134 => Self::Fanned { number: input.u32()? },
            133 => Self::Sending { port: input.u32()? },
            _ => return Err(Malformed("unknown reply")),
        };
        input.finish()?;
        Ok(Numbered { sequence, message })
    }

    /// The part of the inventory from item `start` on that fits one message.
    pub(crate) fn held_from(items: &[Item], start: u32) -> Self {
        let first = (start as usize).min(items.len());
        let mut bytes = 0;
        let fitting = items[first..].iter().take_while(|item| {
            let fits = bytes <= INVENTORY_FILL_BYTES;
            bytes += item.largest_bytes();
            fits
        });
        let items_now: Vec<Item> = fitting.cloned().collect();
        let end = first + items_now.len();
        let next = if end < items.len() { end as u32 } else { 0 };
        Self::Held { next, items: items_now }
    }
}

impl Item {
    /// An upper bound of the bytes that this takes in a message.
    fn largest_bytes(&self) -> usize {
        match self {
            Self::Input { .. }
            | Self::Output { .. }
            | Self::Neighbour { .. }
            | Self::Attached { .. }
            | Self::Address { .. } => 24,
            Self::Membership { sources, .. } => 24 + 17 * sources.len(),
        }
    }
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 2] = [Self::Tcx, Self::Xdp];

    /// The word for a sentence and for the name of a pin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Xdp => "xdp",
        }
    }

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|hook| hook.code() == code).ok_or(Malformed("unknown hook"))
    }
}

impl Family {
    fn code(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err(Malformed("unknown address family")),
        }
    }
}

impl FailureKind {
    const ALL: [Self; 8] = [
        Self::Policy,
        Self::NoInterface,
        Self::System,
        Self::Busy,
        Self::NotAllowed,
        Self::Version,
        Self::Invalid,
        Self::Startup,
    ];

    fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL.get(usize::from(code)).copied().ok_or(Malformed("unknown failure"))
    }
}

fn put_geometry(out: &mut Writer, geometry: &RingGeometry) {
    let RingGeometry { slot_bytes, slots } = geometry;
    out.u32(*slot_bytes);
    out.u32(*slots);
}

fn geometry(input: &mut Reader<'_>) -> Result<RingGeometry, Malformed> {
    Ok(RingGeometry { slot_bytes: input.u32()?, slots: input.u32()? })
}

fn own_address(input: &mut Reader<'_>) -> Result<[u8; 6], Malformed> {
    let mut address = [0; 6];
    for byte in &mut address {
        *byte = input.u8()?;
    }
    Ok(address)
}

fn put_instruction(out: &mut Writer, instruction: &FilterInstruction) {
    let FilterInstruction { code, jt, jf, k } = instruction;
    out.u16(*code);
    out.u8(*jt);
    out.u8(*jf);
    out.u32(*k);
}

fn instruction(input: &mut Reader<'_>) -> Result<FilterInstruction, Malformed> {
    Ok(FilterInstruction { code: input.u16()?, jt: input.u8()?, jf: input.u8()?, k: input.u32()? })
}

fn put_item(out: &mut Writer, item: &Item) {
    match item {
        Item::Input { interface, geometry } => {
            out.u8(1);
            out.u32(*interface);
            put_geometry(out, geometry);
        }
        Item::Output { interface } => {
            out.u8(2);
            out.u32(*interface);
        }
        Item::Membership { interface, group, sources } => {
            out.u8(3);
            out.u32(*interface);
            out.address(*group);
            out.list(sources, |out, source| out.address(*source));
        }
        Item::Neighbour { interface, address } => {
            out.u8(4);
            out.u32(*interface);
            out.address(*address);
        }
        Item::Attached { interface, hook } => {
            out.u8(5);
            out.u32(*interface);
            out.u8(hook.code());
        }
        Item::Address { interface, address } => {
            out.u8(6);
            out.u32(*interface);
            out.address(*address);
        }
    }
}

/// Items as messages have them, one behind the other.
pub(crate) fn items_to_bytes(items: &[Item]) -> Vec<u8> {
    let mut out = Writer::default();
    out.u32(items.len() as u32);
    items.iter().for_each(|item| put_item(&mut out, item));
    out.finish()
}

/// What [`items_to_bytes`] made.
pub(crate) fn items_from_bytes(bytes: &[u8]) -> Result<Vec<Item>, Malformed> {
    let mut input = Reader::new(bytes);
    let count = input.u32()?;
    let items = (0..count).map(|_| item(&mut input)).collect::<Result<_, _>>()?;
    input.finish()?;
    Ok(items)
}

fn item(input: &mut Reader<'_>) -> Result<Item, Malformed> {
    Ok(match input.u8()? {
        1 => Item::Input { interface: input.u32()?, geometry: geometry(input)? },
        2 => Item::Output { interface: input.u32()? },
        3 => Item::Membership {
            interface: input.u32()?,
            group: input.address()?,
            sources: input.list(MAX_SOURCES, Reader::address)?,
        },
        4 => Item::Neighbour { interface: input.u32()?, address: input.address()? },
        5 => Item::Attached { interface: input.u32()?, hook: Hook::from_code(input.u8()?)? },
        6 => Item::Address { interface: input.u32()?, address: input.address()? },
        _ => return Err(Malformed("unknown item")),
    })
}

#[cfg(test)]
mod tests;
