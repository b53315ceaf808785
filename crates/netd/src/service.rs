//! The program: one thread that waits for requests and carries them out, one at a time.

mod start;
mod visitors;
mod waiting;

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mcr_confine::{Confinement, calls, files};
use sd_notify::NotifyState;

use self::start::{adopt, tell};
use self::visitors::{Role, Visitor};
use crate::fd_store::{FdStore, Left};
use crate::holdings::Holdings;
use crate::identity::Identity;
use crate::listener::{ListenError, Listener};
use crate::log::{Log, Severity};
use crate::policy::{PolicyChoice, PolicyError};
use crate::privileges::PrivilegesError;
use crate::protocol::Failure;
use crate::signals::{Signals, Told};

/// Least time from one look at the host's rules of nftables to the next.
const MEND_PAUSE: Duration = Duration::from_millis(100);

/// What changed is stored so much later, together with what else changes until then.
const STORE_PAUSE: Duration = Duration::from_millis(20);

/// How the keeper is started.
#[derive(Debug)]
pub struct ServeOptions {
    /// How daemons come in.
    pub door: Door,
    /// What the keeper may do.
    pub policy: PolicyChoice,
    /// The user that may use the keeper besides root.
    pub user: Option<String>,
    /// What to do when the daemon has given everything back.
    pub when_released: WhenReleased,
    /// Where the bpffs is mounted in which the in-kernel datapath outlives this keeper; [`crate::BPFFS`] on most hosts.
    pub bpffs: PathBuf,
    /// Whether the keeper gives up system calls and files that it does not need.
    pub confinement: Confinement,
}

/// How daemons come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// One connection, inherited as this descriptor; the keeper ends with it.
    Inherited(RawFd),
    /// A socket at this path; the keeper outlives its daemons.
    Listening(PathBuf),
    /// Both: the inherited connection is the first daemon's.
    ListeningWithFirst(PathBuf, RawFd),
}

/// What to do when the daemon has given everything back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenReleased {
    /// Wait for the next daemon.
    Stay,
    /// End: the daemon that started this keeper has stopped in order.
    End,
}

/// Why the keeper could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The inherited descriptor is not a connection of ours.
    #[error("descriptor {fd} is not a connected SOCK_SEQPACKET socket: {error}; leave --fd to `mcr`")]
    Descriptor {
        /// The descriptor.
        fd: RawFd,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The policy can not be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The socket can not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Privileges are missing or can not be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegesError),
    /// System calls can not be given up.
    #[error(transparent)]
    Calls(#[from] calls::CallsError),
    /// Files can not be given up.
    #[error(transparent)]
    Files(#[from] files::FilesError),
    /// The kernel refused.
    #[error("{call}: {error}; check the limits and the kernel's log")]
    System {
        /// What was refused.
        call: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Runs the keeper until it is told to end: by SIGTERM or SIGINT, by the end of an inherited
/// connection, or as [`WhenReleased`] says. Everything it holds is released then. SIGUSR1 ends it too, but leaves
/// everything that can outlive it to the next keeper. SIGHUP makes a keeper that listens read its policy again; it ends
/// one that does not.
///
/// With [`Door::ListeningWithFirst`] the standard streams lead nowhere once the keeper has started, and
/// messages go to the system's log.
///
/// # Errors
/// See [`ServeError`]. A daemon on an inherited connection is told as well.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let first = match options.door {
        Door::Inherited(fd) | Door::ListeningWithFirst(_, fd) => Some(adopt(fd)?),
        Door::Listening(_) => None,
    };
    match Service::start(options) {
        Ok(mut service) => {
            service.had_daemon = first.is_some();
            service.visitors.extend(first.map(Visitor::new));
            let _ = sd_notify::notify(false, &[NotifyState::Ready]);
            let result = service.run();
            service.part_with(result.as_ref().copied().unwrap_or(Parting::Release));
            result.map(drop).map_err(failed("waiting for requests"))
        }
        Err(error) => {
            if let Some(first) = first {
                tell(&first, &error);
            }
            Err(error)
        }
    }
}

/// Everything that the loop looks at.
struct Service {
    signals: Signals,
    identity: Identity,
    listener: Option<Listener>,
    visitors: Vec<Visitor>,
    /// Whether a daemon has been here, or is on its way: before that, nobody has released anything.
    had_daemon: bool,
    policy: PolicyChoice,
    holdings: Holdings,
    user: Option<libc::uid_t>,
    when_released: WhenReleased,
    log: Log,
    /// No connection is accepted before then.
    deaf_until: Option<Instant>,
    /// Changes of the host's rules are not looked at before: two who each undo what the other does keep no processor busy.
    mend_at: Option<Instant>,
    /// Where descriptors outlive this process, if somewhere.
    store: Option<FdStore>,
    /// When what changed is to be stored.
    store_at: Option<Instant>,
    /// Whether the last attempt failed, which was told.
    store_fails: bool,
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Continue,
    End,
    /// It ends for another keeper to go on.
    HandOver,
}

/// What becomes of what is held when the keeper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    Release,
    /// What is pinned and stored is left to the next keeper.
    HandOver,
}

impl Service {
    /// Goes on with what the service manager kept of a keeper before this one.
    fn go_on_with(&mut self, store: io::Result<Option<(FdStore, Left)>>) {
        match store {
            Ok(None) => {}
            Ok(Some((store, left))) => {
                let (memberships, rings) = self.holdings.restore(left);
                if memberships + rings > 0 {
                    self.say(format_args!("goes on with {memberships} groups and {rings} rings of the keeper before"));
                }
                self.store = Some(store);
                self.store_now();
            }
            Err(error) => {
                self.log.say(Severity::Warning, format_args!("groups are left when this keeper is killed: {error}"));
            }
        }
    }

    /// Has the service manager keep what outlives this process, as it is now.
    fn store_now(&mut self) {
        self.store_at = None;
        let Some(store) = &mut self.store else { return };
        let stored = self.holdings.store_in(store);
        if let (Err(error), false) = (&stored, self.store_fails) {
            self.log.say(Severity::Warning, format_args!("the service manager does not keep descriptors: {error}"));
        }
        self.store_fails = stored.is_err();
    }

    fn store_soon(&mut self) {
        if self.store.is_some() {
            self.store_at.get_or_insert_with(|| Instant::now() + STORE_PAUSE);
        }
    }

    fn part_with(&mut self, parting: Parting) {
        if parting == Parting::Release {
            self.holdings.release();
            // A private keeper is found by no other daemon, and by no other keeper.
            if self.listener.is_none() && self.visitors.is_empty() {
                self.holdings.end_one_way();
            }
        }
        self.store_now();
    }

    fn run(&mut self) -> io::Result<Parting> {
        loop {
            let ready = self.wait()?;
            if self.store_at.is_some_and(|at| at <= Instant::now()) {
                self.store_now();
            }
            match if ready.signal { self.listen_to_signals()? } else { Course::Continue } {
                Course::End => {
                    self.say(format_args!("told to end; everything is released"));
                    return Ok(Parting::Release);
                }
                Course::HandOver => {
                    self.say(format_args!("told to end; what can go on is left to the next keeper"));
                    return Ok(Parting::HandOver);
                }
                Course::Continue => {}
            }
            if ready.is_news() {
                self.store_soon();
            }
            // At once, before another interface may have its index: the kernel would take us out of the groups of that
            // one, and with us another program (`net/ipv4/igmp.c: ip_mc_leave_group`).
            if ready.departure {
                self.holdings.give_up_departed();
                self.warn();
            }
            if ready.rules {
                self.holdings.mend_one_way();
                self.mend_at = Some(Instant::now() + MEND_PAUSE);
                self.warn();
            }
            if ready.query {
                self.holdings.take_queries();
            }
            // The daemon before the others: when it is gone, the next may have its place at once.
            for index in ready.visitors {
                if self.attend(index) == Course::End {
                    return Ok(Parting::Release);
                }
            }
            self.visitors.retain(|visitor| visitor.role != Role::Leaving);
            if ready.listener {
                self.welcome();
            }
            if self.is_pointless() {
                return Ok(Parting::Release);
            }
        }
    }

    fn listen_to_signals(&mut self) -> io::Result<Course> {
        while let Some(told) = self.signals.next()? {
            match told {
                Told::Reload if self.listener.is_some() => self.reload(),
                Told::HandOver => return Ok(Course::HandOver),
                Told::Reload | Told::End => return Ok(Course::End),
            }
        }
        Ok(Course::Continue)
    }

    /// Reads the policy again and takes away what it forbids now; a wrong one changes nothing.
    fn reload(&mut self) {
        let time = NotifyState::monotonic_usec_now();
        let _ = time.and_then(|time| sd_notify::notify(false, &[NotifyState::Reloading, time]));
        match self.policy.load() {
            Err(error) => self.log.say(Severity::Error, format_args!("the policy that was read before stays: {error}")),
            Ok(policy) => {
                self.say(format_args!("the policy is read again: {policy}"));
                for (taken, interface) in self.holdings.submit_to(policy) {
                    self.say(format_args!("{interface} is taken away as {}: the policy forbids it", taken.noun()));
                }
                self.warn();
                if let Some(Failure { reason, remedy, .. }) = self.holdings.trouble() {
                    self.log.say(Severity::Error, format_args!("{reason}; {remedy}"));
                }
            }
        }
        let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    }

    /// A keeper that nobody can reach, or that was started by a daemon which is gone and left
    /// nothing behind.
    fn is_pointless(&self) -> bool {
        self.visitors.is_empty()
            && match self.when_released {
                _ if self.listener.is_none() => true,
                WhenReleased::End => self.had_daemon && self.holdings.is_empty(),
                WhenReleased::Stay => false,
            }
    }

    fn warn(&mut self) {
        for warning in self.holdings.take_warnings() {
            self.log.say(Severity::Warning, format_args!("{warning}"));
        }
        for notice in self.holdings.take_notices() {
            self.say(format_args!("{notice}"));
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.log.say(Severity::Notice, what);
    }
}

fn failed(call: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |error| ServeError::System { call, error }
}
