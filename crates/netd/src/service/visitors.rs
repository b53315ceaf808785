//! Who connects: one of them is the daemon that is served, the others hear why they are not.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::{Course, Service, WhenReleased};
use crate::channel::{Channel, Patience, Received};
use crate::holdings::Answer;
use crate::log::Severity;
use crate::protocol::{Failure, FailureKind, Numbered, Reply, Request, VERSION};

/// Most connections at once. One is the daemon's; the others are about to be refused.
const MAX_VISITORS: usize = 8;

/// How long a connection that could not be accepted waits, for descriptors to become free.
const DEAF_AFTER_ERROR: Duration = Duration::from_millis(500);

/// A connection. The first in the list that said hello is the daemon's.
pub(super) struct Visitor {
    pub(super) channel: Channel,
    pub(super) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Said nothing yet.
    Stranger,
    /// The daemon that is served.
    Daemon,
    /// To be closed.
    Leaving,
}

impl Service {
    /// Takes in who knocks. Whoever has been silent longest makes room.
    pub(super) fn welcome(&mut self) {
        let Some(listener) = &self.listener else { return };
        let channel = match listener.accept() {
            Ok(Some(channel)) => channel,
            Ok(None) => return,
            Err(error) => {
                self.log.say(Severity::Error, format_args!("can not accept a connection: {error}"));
                self.deaf_until = Some(Instant::now() + DEAF_AFTER_ERROR);
                return;
            }
        };
        if self.visitors.len() >= MAX_VISITORS {
            let silent = self.visitors.iter().position(|visitor| visitor.role == Role::Stranger);
            if let Some(silent) = silent {
                self.visitors.remove(silent);
            }
        }
        self.visitors.push(Visitor::new(channel));
    }

    /// Reads one message of a visitor and answers it.
    pub(super) fn attend(&mut self, index: usize) -> Course {
        let visitor = &self.visitors[index];
        let request = match visitor.channel.receive_bytes(Patience::Now) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Course::Continue,
            Err(_) | Ok(Received::End) => return self.part(index),
            Ok(Received::TooLong) => None,
            Ok(Received::Message(bytes, _)) => Request::decode(&bytes).ok(),
        };
        match (request, visitor.role) {
            (None, _) => {
                self.say(format_args!("a connection sent something that is not a request; it is closed"));
                self.part(index)
            }
            (Some(Numbered { sequence, message: Request::Hello { version } }), Role::Stranger) => {
                self.greet(index, sequence, version)
            }
            (Some(request), Role::Daemon) => self.obey(index, request),
            (Some(_), Role::Stranger | Role::Leaving) => self.part(index),
        }
    }

    /// Makes the visitor the daemon that is served, or says why not.
    fn greet(&mut self, index: usize, sequence: u32, version: u16) -> Course {
        let visitor = &self.visitors[index];
        let peer = visitor.channel.peer();
        let refusal = match &peer {
            _ if version != VERSION => Some(other_version(version)),
            Ok(peer) if !self.may_use(peer.uid) => Some(not_allowed(peer.uid)),
            Err(_) => Some(not_allowed(libc::uid_t::MAX)),
            Ok(_) => self.daemon().map(busy),
        };
        let reply = match &refusal {
            None => Reply::Welcome { version: VERSION, process: std::process::id() },
            Some(failure) => Reply::Failed(failure.clone()),
        };
        let life: Vec<BorrowedFd<'_>> = self.identity.life().into_iter().filter(|_| refusal.is_none()).collect();
        let sent = visitor.channel.send(&reply.encode(sequence), &life, Patience::Now);
        if let Some(failure) = refusal {
            self.say(format_args!("a connection is refused: {}", failure.reason));
            return self.part(index);
        }
        if let Ok(peer) = peer {
            self.say(format_args!("a daemon is connected (process {}, user {})", peer.pid, peer.uid));
        }
        self.visitors[index].role = Role::Daemon;
        self.had_daemon = true;
        if sent.is_err() { self.part(index) } else { Course::Continue }
    }

    fn obey(&mut self, index: usize, request: Numbered<Request>) -> Course {
        let Numbered { sequence, message } = request;
        let is_release = message == Request::Release;
        let Answer { reply, descriptors } = self.holdings.carry_out(message);
        // A daemon that does not take its replies in is stuck; the keeper does not wait for it.
        let sent = self.visitors[index].channel.send(&reply.encode(sequence), &descriptors, Patience::Now);
        self.warn();
        match self.when_released {
            WhenReleased::End if is_release => Course::End,
            _ if sent.is_err() => self.part(index),
            WhenReleased::End | WhenReleased::Stay => Course::Continue,
        }
    }

    /// Marks a connection as over; it is closed when this round is.
    fn part(&mut self, index: usize) -> Course {
        if self.visitors[index].role == Role::Daemon {
            self.holdings.end_gazes();
            self.say(format_args!("the daemon is gone; what it opened and joined is kept for the next"));
        }
        self.visitors[index].role = Role::Leaving;
        Course::Continue
    }

    /// The process that is served.
    fn daemon(&self) -> Option<libc::pid_t> {
        let daemon = self.visitors.iter().find(|visitor| visitor.role == Role::Daemon)?;
        Some(daemon.channel.peer().map_or(0, |peer| peer.pid))
    }

    fn may_use(&self, user: libc::uid_t) -> bool {
        // SAFETY: geteuid takes no arguments and can not fail.
        let own = unsafe { libc::geteuid() };
        user == 0 || user == own || self.user == Some(user)
    }
}

impl Visitor {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, role: Role::Stranger }
    }
}

fn busy(process: libc::pid_t) -> Failure {
    Failure {
        kind: FailureKind::Busy,
        errno: None,
        reason: format!("the keeper serves another daemon (process {process})"),
        remedy: "stop that one first, or start this one with a keeper of its own (--keeper-socket PATH)".to_owned(),
    }
}

fn not_allowed(user: libc::uid_t) -> Failure {
    Failure {
        kind: FailureKind::NotAllowed,
        errno: Some(libc::EPERM),
        reason: format!("the user with id {user} may not use the keeper"),
        remedy: "run the daemon as root, or start mcr-netd with `--user` and the daemon's user".to_owned(),
    }
}

fn other_version(version: u16) -> Failure {
    Failure {
        kind: FailureKind::Version,
        errno: None,
        reason: format!("the daemon speaks version {version} of the keeper's protocol, the keeper version {VERSION}"),
        remedy: "install mcr and mcr-netd of one release, and restart mcr-netd".to_owned(),
    }
}
