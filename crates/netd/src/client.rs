//! The daemon's side: one call per request, each answered or given up within five seconds.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use mcr_datapath::{FilterInstruction, RingGeometry};

use self::spawn::Spawned;
use crate::board::Board;
use crate::channel::{Channel, Patience, Received};
use crate::membership::Family;
use crate::protocol::{Hook, Item, MAX_REPORTED, Numbered, Reply, Request, VERSION};

pub use self::error::{KeeperError, KeeperErrorKind};
pub use self::memberships::MembershipChange;
pub use self::spawn::SpawnMode;
pub use self::watch::KeeperWatch;

mod connect;
mod error;
mod memberships;
mod spawn;
mod watch;

/// How long a request may take: far more than any does, short enough that a stuck keeper is
/// reported instead of hanging the daemon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long loading the programs may take: the kernel's verifier needs a tenth of a second of a good processor, and much longer of a slow
/// one that is busy with other work. The keeper does nothing else meanwhile, so that little is won by giving up earlier.
const LOADING_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to the keeper.
pub struct Keeper {
    channel: Channel,
    sequence: u32,
    process: Option<u32>,
    /// By which others know that what a private keeper made is still needed.
    _life: Vec<OwnedFd>,
    /// The keeper that this process started for itself; dropped after the channel, whose end tells it to go.
    _own: Option<Spawned>,
}

/// What the keeper holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The groups that are joined.
    pub memberships: Vec<HeldMembership>,
    /// The rings that are open.
    pub inputs: Vec<HeldInput>,
    /// The interfaces that are open for sending, by index.
    pub outputs: Vec<u32>,
    /// The neighbours that are kept resolved: interface and address.
    pub neighbours: Vec<(u32, IpAddr)>,
    /// Where programs of the in-kernel datapath are attached.
    pub attached: Vec<(u32, Hook)>,
    /// The addresses that interfaces have for the sake of relays.
    pub addresses: Vec<(u32, IpAddr)>,
}

/// What became of an address that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The interface has it.
    InPlace,
    /// It is being checked whether another host has it: to be asked for again.
    Checking,
}

/// A group that is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMembership {
    /// The index of the interface.
    pub interface: u32,
    /// The group.
    pub group: IpAddr,
    /// The sources that are asked for, in order; empty: any.
    pub sources: Vec<IpAddr>,
}

/// A ring that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldInput {
    /// The index of the interface.
    pub interface: u32,
    /// How the ring is divided.
    pub geometry: RingGeometry,
}

impl Keeper {
    /// Connects to the keeper that listens at `path`.
    ///
    /// # Errors
    /// [`KeeperError::is_nobody_there`] when none does; when it serves another daemon, or not us.
    pub fn connect(path: &Path) -> Result<Self, KeeperError> {
        let channel = connect::connect(path, REQUEST_TIMEOUT)?;
        Self::greet(channel, None)
    }

    /// Starts a keeper and connects to it. It does not get the signals of this terminal.
    ///
    /// `program` names it; without, the environment variable `MCR_NETD` does; without that, it is
    /// the `mcr-netd` beside this program, or the one in `PATH`.
    ///
    /// # Errors
    /// When there is no such program, or it could not start; nothing is left behind then.
    pub fn spawn(mode: &SpawnMode, program: Option<&Path>) -> Result<Self, KeeperError> {
        let (channel, own) = spawn::spawn(mode, program)?;
        channel
            .set_timeout(REQUEST_TIMEOUT)
            .map_err(|error| KeeperError::lost("preparing the connection to the keeper", &error))?;
        Self::greet(channel, Some(own))
    }

    fn greet(channel: Channel, own: Option<Spawned>) -> Result<Self, KeeperError> {
        let mut keeper = Self { channel, sequence: 0, process: None, _life: Vec::new(), _own: own };
        match keeper.ask("greeting the keeper", &Request::Hello { version: VERSION })? {
            (Reply::Welcome { version: VERSION, process }, life) => {
                keeper.process = Some(process);
                keeper._life = life;
                Ok(keeper)
            }
            (Reply::Welcome { version, .. }, _) => Err(KeeperError::other_version(version)),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// The keeper's process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process
    }

    /// Something to wait with for the keeper's end.
    ///
    /// # Errors
    /// When its process can not be watched: it has ended already, or lives in another pid namespace.
    pub fn watch(&self) -> io::Result<KeeperWatch> {
        KeeperWatch::of(self.process.ok_or(io::ErrorKind::NotFound)?)
    }

    /// Everything that the keeper holds. What belonged to interfaces that are gone is released.
    ///
    /// # Errors
    /// When the keeper is gone or does not answer.
    pub fn inventory(&mut self) -> Result<Held, KeeperError> {
        let mut held = Held::default();
        let mut start = 0;
        loop {
            match self.ask("asking what the keeper holds", &Request::Inventory { start })? {
                (Reply::Held { next, items }, _) => {
                    items.into_iter().for_each(|item| held.add(item));
                    match next {
                        0 => return Ok(held),
                        // A keeper that does not advance would be asked forever.
                        next if next <= start => return Err(KeeperError::malformed("the inventory repeats")),
                        next => start = next,
                    }
                }
                (reply, _) => return Err(KeeperError::unexpected(&reply)),
            }
        }
    }

    /// Opens the receiving side of an interface with this many rings, or hands over those that are open already, of which
    /// number and geometry may be others than those asked for.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn open_input(
        &mut self,
        interface: u32,
        geometry: &RingGeometry,
        rings: u8,
    ) -> Result<(Vec<OwnedFd>, RingGeometry), KeeperError> {
        let request = Request::OpenInput { interface, geometry: *geometry, rings };
        match self.ask("opening an input", &request)? {
            (Reply::Opened { .. }, rings) if rings.is_empty() => Err(KeeperError::no_descriptor()),
            (Reply::Opened { geometry }, rings) => Ok((rings, geometry)),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Replaces the filter of an open input.
    ///
    /// # Errors
    /// When the input is not open, the kernel refuses the filter, or the keeper is gone.
    pub fn set_filter(&mut self, interface: u32, instructions: &[FilterInstruction]) -> Result<(), KeeperError> {
        if instructions.len() > crate::protocol::MAX_FILTER_INSTRUCTIONS {
            return Err(KeeperError::filter_too_long(instructions.len()));
        }
        self.order("setting a filter", &Request::SetFilter { interface, instructions: instructions.to_vec() })
    }

    /// Closes an input; no error when it is not open. The ring lives on while this process has it.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn close_input(&mut self, interface: u32) -> Result<(), KeeperError> {
        self.order("closing an input", &Request::CloseInput { interface })
    }

    /// Opens the sending side of an interface, or hands over the socket that is open already; with it the number that the
    /// kernel's tables have for the interface.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn open_output(&mut self, interface: u32) -> Result<(OwnedFd, u32), KeeperError> {
        match self.ask("opening an output", &Request::OpenOutput { interface })? {
            (Reply::Sending { port }, descriptors) => Ok((only(descriptors)?, port)),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Closes an output; no error when it is not open.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn close_output(&mut self, interface: u32) -> Result<(), KeeperError> {
        self.order("closing an output", &Request::CloseOutput { interface })
    }

    /// Joins a group on an interface for these sources, or for any when there are none. What is
    /// joined already stays so without a gap; sources not named any more are left afterwards.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone. Then everything is as it was.
    pub fn join(&mut self, interface: u32, group: IpAddr, sources: &[IpAddr]) -> Result<(), KeeperError> {
        let change = MembershipChange::Join { interface, group, sources };
        self.order(change.name(), &change.request()?)
    }

    /// Leaves a group; no error when it is not joined.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn leave(&mut self, interface: u32, group: IpAddr) -> Result<(), KeeperError> {
        let change = MembershipChange::Leave { interface, group };
        self.order(change.name(), &change.request()?)
    }

    /// Lets the kernel find the link address of a neighbour and keep it fresh.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn resolve(&mut self, interface: u32, address: IpAddr) -> Result<(), KeeperError> {
        self.order("resolving a neighbour", &Request::Resolve { interface, address })
    }

    /// Ends what [`Keeper::resolve`] began; no error when it did not.
    ///
    /// # Errors
    /// When the keeper is gone or the kernel refuses.
    pub fn forget(&mut self, interface: u32, address: IpAddr) -> Result<(), KeeperError> {
        self.order("giving up a neighbour", &Request::Forget { interface, address })
    }

    /// Has an output interface get an address, so that this host answers for it. One that it has already is left as it is.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, another host has the address, or the keeper is gone.
    pub fn add_address(&mut self, interface: u32, address: IpAddr) -> Result<Added, KeeperError> {
        match self.ask("adding an address", &Request::AddAddress { interface, address })? {
            (Reply::Done, _) => Ok(Added::InPlace),
            (Reply::Checking, _) => Ok(Added::Checking),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Ends what [`Keeper::add_address`] began; an address that others gave the interface stays.
    ///
    /// # Errors
    /// When the keeper is gone or the kernel refuses.
    pub fn remove_address(&mut self, interface: u32, address: IpAddr) -> Result<(), KeeperError> {
        self.order("removing an address", &Request::RemoveAddress { interface, address })
    }

    /// The tables of the in-kernel datapath, which are made when they are asked for first; what
    /// [`mcr_kernel_path::Maps::from_fds`] takes.
    ///
    /// # Errors
    /// When the keeper may not or can not load the program, or is gone.
    pub fn tables(&mut self) -> Result<Vec<OwnedFd>, KeeperError> {
        self.wait_at_most(LOADING_TIMEOUT)?;
        let answer = self.ask("asking for the kernel's tables", &Request::Tables);
        self.wait_at_most(REQUEST_TIMEOUT)?;
        match answer? {
            (Reply::Done, descriptors) if descriptors.is_empty() => Err(KeeperError::no_descriptor()),
            (Reply::Done, descriptors) => Ok(descriptors),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Attaches the program of the in-kernel datapath to an input interface; no error when it is attached.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn attach(&mut self, interface: u32, hook: Hook) -> Result<(), KeeperError> {
        self.order("attaching the in-kernel datapath", &Request::Attach { interface, hook })
    }

    /// Detaches it; no error when it is not attached.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn detach(&mut self, interface: u32, hook: Hook) -> Result<(), KeeperError> {
        self.order("detaching the in-kernel datapath", &Request::Detach { interface, hook })
    }

    /// Has it proven that frames which are redirected to an open output at the driver leave there; `own_address` is the
    /// interface's.
    ///
    /// # Errors
    /// When they do not, or the keeper is gone.
    pub fn prove(&mut self, interface: u32, own_address: [u8; 6]) -> Result<(), KeeperError> {
        self.order("trying an output at the driver", &Request::Prove { interface, own_address })
    }

    /// The number of the fan-out to these interfaces, each of them proven, for the kernel's tables.
    ///
    /// # Errors
    /// When one of them is not proven, there are too many fan-outs, or the keeper is gone.
    pub fn fan_out(&mut self, interfaces: &[u32]) -> Result<u32, KeeperError> {
        match self.ask("making a fan-out", &Request::FanOut { interfaces: interfaces.to_vec() })? {
            (Reply::Fanned { number }, _) => Ok(number),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Gives up every fan-out but these, which are all that the tables name; also those that were made for a daemon or by a
    /// keeper before.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn keep_fan_outs(&mut self, numbers: &[u32]) -> Result<(), KeeperError> {
        self.order("giving up fan-outs", &Request::KeepFanOuts { numbers: numbers.to_vec() })
    }

    /// Opens a socket that sees every UDP datagram to a group on an interface and takes none away
    /// ([`mcr_datapath::open_gaze`]), or hands over the one that is open already. It ends with the connection.
    ///
    /// # Errors
    /// When the policy does not allow the interface as an input, the kernel refuses, or the keeper is gone.
    pub fn open_gaze(&mut self, interface: u32) -> Result<OwnedFd, KeeperError> {
        match self.ask("opening a look", &Request::OpenGaze { interface })? {
            (Reply::Done, descriptors) => only(descriptors),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Closes it; no error when it is not open. It lives on while this process has it.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn close_gaze(&mut self, interface: u32) -> Result<(), KeeperError> {
        self.order("closing a look", &Request::CloseGaze { interface })
    }

    /// Where the keeper writes down who asks for memberships, as far as this host hears them, and what others do to its one-way
    /// rules.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn board(&mut self) -> Result<Board, KeeperError> {
        match self.ask("asking for the board", &Request::Queriers)? {
            (Reply::Done, descriptors) => Ok(Board::of(only(descriptors)?)),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Asks everybody behind an input interface for their memberships, in the place of a router.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn ask_for_memberships(&mut self, interface: u32, family: Family) -> Result<(), KeeperError> {
        self.order("asking for memberships", &Request::Ask { interface, family })
    }

    /// Asks who behind an output interface wants that group, in the place of a router.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn ask_for_members(&mut self, interface: u32, group: IpAddr) -> Result<(), KeeperError> {
        self.order("asking for members of a group", &Request::AskFor { interface, group })
    }

    /// Opens a socket that hears which groups the hosts behind an interface want ([`mcr_datapath::open_ear`]), or hands
    /// over the one that is open already.
    ///
    /// # Errors
    /// When the policy does not allow the interface as an output, the kernel refuses, or the keeper is gone.
    pub fn open_ear(&mut self, interface: u32) -> Result<OwnedFd, KeeperError> {
        match self.ask("listening for reports", &Request::OpenEar { interface })? {
            (Reply::Done, descriptors) => only(descriptors),
            (reply, _) => Err(KeeperError::unexpected(&reply)),
        }
    }

    /// Closes it; no error when it is not open. It lives on while this process has it.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn close_ear(&mut self, interface: u32) -> Result<(), KeeperError> {
        self.order("ending to listen for reports", &Request::CloseEar { interface })
    }

    /// Reports these groups on an interface once more, as far as they are joined there.
    ///
    /// # Errors
    /// When the policy or the kernel refuses, or the keeper is gone.
    pub fn report(&mut self, interface: u32, groups: &[IpAddr]) -> Result<(), KeeperError> {
        let mut parts = groups.chunks(MAX_REPORTED);
        parts.try_for_each(|groups| {
            self.order("reporting memberships", &Request::Report { interface, groups: groups.to_vec() })
        })
    }

    /// Gives everything back. A keeper that was started by [`Keeper::spawn`] to listen ends then.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn release(&mut self) -> Result<(), KeeperError> {
        self.order("releasing everything", &Request::Release)
    }

    /// A request whose answer says nothing more than that it is done.
    fn order(&mut self, what: &'static str, request: &Request) -> Result<(), KeeperError> {
        self.ask(what, request).and_then(done)
    }

    /// Sends a request and waits for its answer.
    fn ask(&mut self, what: &'static str, request: &Request) -> Result<(Reply, Vec<OwnedFd>), KeeperError> {
        let sequence = self.send(what, request)?;
        self.answer(what, sequence)
    }

    /// Sends a request; its number.
    fn send(&mut self, what: &'static str, request: &Request) -> Result<u32, KeeperError> {
        // 0 is not the number of any request.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        match self.channel.send(&request.encode(self.sequence), &[], Patience::Wait) {
            Ok(()) => Ok(self.sequence),
            // The keeper may have said why before it went.
            Err(error) if is_gone(&error) => Ok(self.sequence),
            Err(error) => Err(KeeperError::lost(what, &error)),
        }
    }

    /// Waits for the answer to the request of that number.
    fn answer(&self, what: &'static str, number: u32) -> Result<(Reply, Vec<OwnedFd>), KeeperError> {
        loop {
            let (Numbered { sequence, message }, descriptors) = self.receive(what)?;
            match message {
                Reply::Failed(failure) if sequence == 0 || sequence == number => {
                    return Err(KeeperError::from(failure));
                }
                reply if sequence == number => return Ok((reply, descriptors)),
                // The late answer to a request that was given up.
                _ => {}
            }
        }
    }

    fn wait_at_most(&self, timeout: Duration) -> Result<(), KeeperError> {
        self.channel.set_timeout(timeout).map_err(|error| KeeperError::lost("bounding the wait for the keeper", &error))
    }

    fn receive(&self, what: &'static str) -> Result<(Numbered<Reply>, Vec<OwnedFd>), KeeperError> {
        let received = match self.channel.receive(Patience::Wait) {
            // Said once, before what the keeper sent last, when it went without reading all of ours.
            Err(error) if is_gone(&error) => self.channel.receive(Patience::Wait),
            other => other,
        };
        match received.map_err(|error| KeeperError::lost(what, &error))? {
            Received::Message(bytes, descriptors) => {
                let reply = Reply::decode(&bytes).map_err(|error| KeeperError::malformed(error.0))?;
                Ok((reply, descriptors))
            }
            Received::End => Err(KeeperError::ended(what)),
            Received::TooLong => Err(KeeperError::malformed("too long")),
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Held {
    fn add(&mut self, item: Item) {
        match item {
            Item::Input { interface, geometry } => self.inputs.push(HeldInput { interface, geometry }),
            Item::Output { interface } => self.outputs.push(interface),
            Item::Membership { interface, group, sources } => {
                self.memberships.push(HeldMembership { interface, group, sources });
            }
            Item::Neighbour { interface, address } => self.neighbours.push((interface, address)),
            Item::Attached { interface, hook } => self.attached.push((interface, hook)),
            Item::Address { interface, address } => self.addresses.push((interface, address)),
        }
    }
}

fn done((reply, _): (Reply, Vec<OwnedFd>)) -> Result<(), KeeperError> {
    match reply {
        Reply::Done => Ok(()),
        reply => Err(KeeperError::unexpected(&reply)),
    }
}

fn only(descriptors: Vec<OwnedFd>) -> Result<OwnedFd, KeeperError> {
    descriptors.into_iter().next().ok_or_else(KeeperError::no_descriptor)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Keeper>();
};

#[cfg(test)]
mod tests;
