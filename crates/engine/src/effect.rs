//! What the engine asks to be done, and what came of it.

use std::net::IpAddr;
use std::time::Duration;

use mcr_model::{Datapath, InterfaceName, RelayName};

use crate::fact::Ifindex;
use crate::plan::InputPlan;

/// A group joined on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Membership {
    /// Where.
    pub interface: Ifindex,
    /// The group.
    pub group: IpAddr,
    /// The only sources wanted (INCLUDE, RFC 3376); empty: any source.
    pub sources: Vec<IpAddr>,
}

/// The receiving side of a datapath on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputKey {
    /// Where.
    pub interface: Ifindex,
    /// What takes the frames there.
    pub datapath: Datapath,
}

/// One thing to do outside of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open the receiving side of a datapath on an interface.
    OpenInput {
        /// Which.
        input: InputKey,
        /// Its name, for people.
        name: InterfaceName,
        /// Its MTU, in bytes: what a slot of a ring should hold.
        mtu: u32,
    },
    /// Close it.
    CloseInput {
        /// Which.
        input: InputKey,
    },
    /// Open the sending side on an interface.
    OpenOutput {
        /// Where.
        interface: Ifindex,
        /// Its name, for people.
        name: InterfaceName,
    },
    /// Close it.
    CloseOutput {
        /// Where.
        interface: Ifindex,
    },
    /// See whether the driver of an open output takes frames that are redirected to it.
    Prove {
        /// Where.
        interface: Ifindex,
        /// Its link-layer address.
        mac: [u8; 6],
    },
    /// Ask the routing table which neighbour carries packets from this interface to that host.
    FindNextHop {
        /// The interface.
        interface: Ifindex,
        /// The host.
        destination: IpAddr,
    },
    /// Have the kernel resolve a neighbour and keep it fresh.
    Resolve {
        /// The interface.
        interface: Ifindex,
        /// The neighbour.
        next_hop: IpAddr,
    },
    /// No longer keep it.
    Forget {
        /// The interface.
        interface: Ifindex,
        /// The neighbour.
        next_hop: IpAddr,
    },
    /// Have an interface get an address that packets leave with, so that this host answers for it.
    AddAddress {
        /// The interface.
        interface: Ifindex,
        /// The address.
        address: IpAddr,
    },
    /// Take it away again.
    RemoveAddress {
        /// The interface.
        interface: Ifindex,
        /// The address.
        address: IpAddr,
    },
    /// Put a table in force on an input.
    Install {
        /// Where.
        input: InputKey,
        /// All relays that this datapath serves on that interface.
        plan: InputPlan,
    },
    /// Join a group, or change the sources of a joined one.
    Join(Membership),
    /// Leave a group.
    Leave(Membership),
}

/// What an effect brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The answer to [`Effect::FindNextHop`]: the neighbour that packets go to.
    NextHop(IpAddr),
    /// It goes on: an [`Effect::AddAddress`] that waits for another host to say that it has the address.
    Checking,
    /// The table of an [`Effect::Install`] is in force but for these relays, which this datapath can not take.
    Refused(Vec<Refused>),
}

/// A relay that a table did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub relay: RelayName,
    /// Why.
    pub error: EffectError,
    /// When it is worth trying again.
    pub until: Until,
}

/// What a failure is over with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A moment: it only takes its time.
    Moment,
    /// Some time: what stood in the way may have passed.
    Pause,
    /// A change of relays: there was no room.
    RelaysChange,
}

/// Why an effect failed, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectError {
    /// What went wrong, in a sentence without a final stop.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// A failed effect, kept until it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub error: EffectError,
    /// When it is tried again, on the caller's monotonic clock.
    pub retry_at: Duration,
    /// The pause before the retry after the next one doubles up to a bound.
    pub pause: Duration,
}

/// What a failure belongs to: an effect without the details that change from try to try.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Input(InputKey),
    Output(Ifindex),
    NextHop(Ifindex, IpAddr),
    Neighbour(Ifindex, IpAddr),
    /// An address of this host.
    Address(Ifindex, IpAddr),
    Table(InputKey),
    Group(Ifindex, IpAddr),
    /// An output at the driver.
    Proof(Ifindex),
    /// A relay that the table of a datapath did not take.
    Relay(RelayName, Datapath),
}

impl Subject {
    /// Whether its failure has relays served by another datapath, so that nobody asks for it any more.
    pub(crate) fn sends_elsewhere(&self) -> bool {
        match self {
            Self::Table(_) | Self::Relay(..) => true,
            Self::Input(_)
            | Self::Output(_)
            | Self::NextHop(..)
            | Self::Neighbour(..)
            | Self::Address(..)
            | Self::Group(..)
            | Self::Proof(_) => false,
        }
    }
}

impl Effect {
    /// Whether it changes what is joined, and nothing else.
    pub fn is_membership(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Leave(_))
    }

    pub(crate) fn subject(&self) -> Subject {
        match *self {
            Self::OpenInput { input, .. } | Self::CloseInput { input } => Subject::Input(input),
            Self::OpenOutput { interface, .. } | Self::CloseOutput { interface } => Subject::Output(interface),
            Self::Prove { interface, .. } => Subject::Proof(interface),
            Self::FindNextHop { interface, destination } => Subject::NextHop(interface, destination),
            Self::Resolve { interface, next_hop } | Self::Forget { interface, next_hop } => {
                Subject::Neighbour(interface, next_hop)
            }
            Self::AddAddress { interface, address } | Self::RemoveAddress { interface, address } => {
                Subject::Address(interface, address)
            }
            Self::Install { input, .. } => Subject::Table(input),
            Self::Join(ref m) | Self::Leave(ref m) => Subject::Group(m.interface, m.group),
        }
    }
}
