//! The guard of one-way rules: whatever sockets the daemon was given, no frame of theirs leaves on an interface of `from`.
//!
//! A packet socket can send on every interface, not only on its own: its owner may name another with each frame, or bind it
//! anew, without a capability (`net/packet/af_packet.c: packet_snd`, `packet_bind`). So the keeper marks each socket before it
//! is handed over (`SO_MARK`, which only a privileged process changes), and nftables drops marked frames where they would leave.
//! It marks them while there are no rules, too: a daemon may keep a socket until there are some.
//! What ordinary sockets of the daemon's user send is dropped there as well, if that is not root.
//!
//! The eBPF datapaths need no guard: they send to the ports that the keeper opened, and to no other.
//!
//! Whoever flushes the rules of the host takes the table away, too: the kernel tells of it, and the table is made anew at once, ten
//! times a second at most.
//!
//! The table stays when the keeper ends, because the daemon may hold its sockets still. That of a private keeper goes with its
//! daemon.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::channel::set_option;
use crate::identity::{self, Identity};
use crate::links::{self, Link};
use crate::nftables::{Hand, Watch};
use crate::policy::Policy;
use crate::protocol::{Failure, FailureKind};

/// Marks frames of sockets that were handed over.
const MARK: u32 = u32::from_be_bytes(*b"MCR\x01");
/// The beginning of the table's name.
const TABLE: &str = "mcr_one_way";

/// Keeps the one-way rules of the policy.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The table's name: one for each socket that daemons come in by, and for each private keeper, so that keepers do not take
    /// each other's away.
    table: String,
    /// Whose ordinary sockets it closes the ways to.
    user: Option<libc::uid_t>,
    state: State,
    /// Makes the table; `None`: the kernel had none so far.
    hand: Option<Hand>,
    /// Hears who else changes it.
    watch: Option<Watch>,
}

#[derive(Debug)]
enum State {
    /// There are no rules.
    Idle,
    /// Nothing of ours leaves on these.
    Closed(Vec<Link>),
    /// The kernel does not take it.
    Broken(Failure),
}

impl Guard {
    /// For daemons of that user, and for the keeper of that identity. Takes away what keepers left who are gone for good.
    pub(crate) fn new(identity: &Identity, user: Option<libc::uid_t>) -> Self {
        let user = user.filter(|user| *user != 0);
        let hand = Hand::open().ok();
        hand.iter().for_each(remove_abandoned);
        let state = match identity.is_private() {
            true => State::Idle,
            // What a keeper before this one left is not known: it is replaced or taken away.
            false => State::Closed(Vec::new()),
        };
        Self { table: name(identity.number()), user, state, hand, watch: Watch::open().ok() }
    }

    /// Readable when somebody has changed tables of nftables, if that can be heard.
    pub(crate) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether somebody else has changed or removed the table of the rules since this was asked last.
    pub(crate) fn is_touched(&self) -> bool {
        let (Some(watch), Some(hand)) = (&self.watch, &self.hand) else { return false };
        // What was told is taken off the queue also where there are no rules.
        watch.is_touched(&self.table, hand) && !matches!(self.state, State::Idle)
    }

    /// Closes what the policy closes, of the interfaces that there are now, unless these are closed.
    pub(crate) fn follow(&mut self, policy: &Policy, links: &Result<Vec<Link>, Failure>) {
        let closed = links.as_ref().map(|links| closed(policy, links));
        if !matches!((&self.state, closed), (State::Closed(before), Ok(closed)) if *before == closed) {
            self.renew(policy, links);
        }
    }

    /// Opens what was closed: nobody has a socket any more that it was closed to.
    pub(crate) fn end(&mut self) {
        if !matches!(self.state, State::Idle) {
            // A kernel without such tables has none to take away.
            let _ = self.hand().and_then(|(hand, table)| hand.remove(table));
            self.state = State::Idle;
        }
    }

    /// Closes it in any case: somebody may have taken the table away.
    pub(crate) fn renew(&mut self, policy: &Policy, links: &Result<Vec<Link>, Failure>) {
        if !policy.has_one_way() {
            return self.end();
        }
        self.state = match links.as_ref().map_err(Failure::clone).and_then(|links| self.close(policy, links)) {
            Ok(closed) => State::Closed(closed),
            Err(failure) => State::Broken(failure),
        };
    }

    fn close(&mut self, policy: &Policy, links: &[Link]) -> Result<Vec<Link>, Failure> {
        let closed = closed(policy, links);
        let names = closed.iter().map(|link| link.name.as_str());
        let user = self.user;
        let close = self.hand().and_then(|(hand, table)| hand.close(table, names, MARK, user));
        close.map_err(|error| failure(&error))?;
        Ok(closed)
    }

    /// What makes tables, and the name of ours. The kernel may have learnt it by now.
    fn hand(&mut self) -> io::Result<(&Hand, &str)> {
        let hand = match self.hand.take() {
            Some(hand) => hand,
            None => Hand::open()?,
        };
        Ok((self.hand.insert(hand), &self.table))
    }

    /// Sees to it that a socket may be handed over.
    ///
    /// # Errors
    /// When there are rules and they can not be kept: nothing may be handed over then.
    pub(crate) fn admit(&self, sockets: &[OwnedFd]) -> Result<(), Failure> {
        match &self.state {
            State::Broken(failure) => Err(failure.clone()),
            State::Idle | State::Closed(_) => sockets.iter().try_for_each(mark).map_err(|error| failure(&error)),
        }
    }

    /// Why the rules can not be kept, if that is so.
    pub(crate) fn trouble(&self) -> Option<&Failure> {
        match &self.state {
            State::Broken(failure) => Some(failure),
            State::Idle | State::Closed(_) => None,
        }
    }
}

/// The interfaces that the rules name, and what their frames pass further down.
fn closed(policy: &Policy, links: &[Link]) -> Vec<Link> {
    let named = links.iter().filter(|link| policy.is_closed_way(&link.name)).map(|link| link.index);
    let closed: BTreeSet<u32> = named.flat_map(|index| links::wire(links, index)).collect();
    links.iter().filter(|link| closed.contains(&link.index)).cloned().collect()
}

/// The same in every release: the next keeper replaces the table of this one.
fn name(number: u32) -> String {
    format!("{TABLE}_{number:08x}")
}

fn remove_abandoned(hand: &Hand) {
    // A kernel without such tables lists none; one that can not be removed is for the next keeper.
    for table in hand.tables().unwrap_or_default() {
        let number = table.strip_prefix(TABLE).and_then(|rest| u32::from_str_radix(rest.strip_prefix('_')?, 16).ok());
        if number.is_some_and(identity::is_abandoned) {
            let _ = hand.remove(&table);
        }
    }
}

fn mark(socket: &OwnedFd) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, &MARK)
}

fn failure(error: &io::Error) -> Failure {
    Failure {
        kind: FailureKind::System,
        errno: error.raw_os_error(),
        reason: format!(
            "the one-way rules of the keeper's policy can not be kept, so nothing is opened: nftables: {error}"
        ),
        remedy:
            "use a kernel with nftables at egress (Linux 5.16, CONFIG_NETFILTER_EGRESS; modprobe nf_tables), or take \
                 `one_way` out of the policy"
                .to_owned(),
    }
}
