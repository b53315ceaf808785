//! The guard of one-way rules: whatever sockets the daemon was given, no frame of theirs leaves on an interface of `from`.
//!
//! A packet socket can send on every interface, not only on its own: its owner may name another with each frame, or bind it
//! anew, without a capability (`net/packet/af_packet.c: packet_snd`, `packet_bind`). So the keeper marks each socket before it
//! is handed over (`SO_MARK`, which only a privileged process changes), and nftables drops marked frames where they would leave.
//! What ordinary sockets of the daemon's user send is dropped there as well, if that is not root.
//!
//! The eBPF datapaths need no guard: they send to the ports that the keeper opened, and to no other.
//!
//! The table stays when the keeper ends, because the daemon may hold its sockets still.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::channel::set_option;
use crate::links::{self, Link};
use crate::nftables;
use crate::policy::Policy;
use crate::protocol::{Failure, FailureKind};

/// Marks frames of sockets that were handed over.
const MARK: u32 = u32::from_be_bytes(*b"MCR\x01");
/// The name of the table, or its beginning.
const TABLE: &str = "mcr_one_way";

/// Keeps the one-way rules of the policy.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The table's name: one for each socket that daemons come in by, so that keepers do not take each other's away.
    table: String,
    /// Whose ordinary sockets it closes the ways to.
    user: Option<libc::uid_t>,
    state: State,
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
    /// For daemons of that user, which come in by the socket at `path`; `None`: for one that started this keeper for itself.
    pub(crate) fn new(path: Option<&Path>, user: Option<libc::uid_t>) -> Self {
        let user = user.filter(|user| *user != 0);
        match path {
            None => Self { table: TABLE.to_owned(), user, state: State::Idle },
            // What a keeper before this one left is not known: it is replaced or taken away.
            Some(path) => Self { table: table_of(path), user, state: State::Closed(Vec::new()) },
        }
    }

    /// Closes what the policy closes, of the interfaces that there are now.
    pub(crate) fn renew(&mut self, policy: &Policy) {
        self.state = match (policy.has_one_way(), &self.state) {
            (false, State::Idle) => State::Idle,
            (false, State::Closed(_) | State::Broken(_)) => {
                // A kernel without such tables has none to take away.
                let _ = nftables::remove(&self.table);
                State::Idle
            }
            (true, _) => match self.close(policy) {
                Ok(closed) => State::Closed(closed),
                Err(error) => State::Broken(failure(&error)),
            },
        };
    }

    fn close(&self, policy: &Policy) -> io::Result<Vec<Link>> {
        let closed: Vec<Link> = links::all()?.into_iter().filter(|link| policy.is_closed_way(&link.name)).collect();
        match &self.state {
            State::Closed(before) if *before == closed && !before.is_empty() => {}
            _ => nftables::close(&self.table, closed.iter().map(|link| link.name.as_str()), MARK, self.user)?,
        }
        Ok(closed)
    }

    /// Sees to it that a socket may be handed over.
    ///
    /// # Errors
    /// When there are rules and they can not be kept: nothing may be handed over then.
    pub(crate) fn admit(&self, sockets: &[OwnedFd]) -> Result<(), Failure> {
        match &self.state {
            State::Idle => Ok(()),
            State::Broken(failure) => Err(failure.clone()),
            State::Closed(_) => sockets.iter().try_for_each(mark).map_err(|error| failure(&error)),
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

fn table_of(path: &Path) -> String {
    let mut hash = DefaultHasher::new();
    path.hash(&mut hash);
    format!("{TABLE}_{:08x}", hash.finish() as u32)
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
