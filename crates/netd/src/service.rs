//! The program: one thread that waits for requests and carries them out, one at a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mcr_confine::{Confinement, Reach, calls, files};
use sd_notify::NotifyState;

use crate::channel::{Channel, Patience, Received, check};
use crate::fd_store::{FdStore, Left};
use crate::guard::Guard;
use crate::holdings::{Answer, Holdings};
use crate::kernel_path::{KernelPath, Pinning};
use crate::listener::{ListenError, Listener};
use crate::log::{self, Log, Severity, SystemLog};
use crate::pins;
use crate::policy::{DEFAULT_POLICY_PATH, PolicyChoice, PolicyError};
use crate::privileges::{self, PrivilegesError};
use crate::protocol::{Failure, FailureKind, Numbered, Reply, Request, VERSION};
use crate::signals::{Signals, Told};

/// Most connections at once. One is the daemon's; the others are about to be refused.
const MAX_VISITORS: usize = 8;
/// Descriptors that the keeper wants to be able to have: one per 20 groups, two per interface.
const WANTED_FILES: libc::rlim_t = 65_536;

/// How long a connection that could not be accepted waits, for descriptors to become free.
const DEAF_AFTER_ERROR: Duration = Duration::from_millis(500);

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

/// A connection. The first in the list that said hello is the daemon's.
struct Visitor {
    channel: Channel,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Said nothing yet.
    Stranger,
    /// The daemon that is served.
    Daemon,
    /// To be closed.
    Leaving,
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
    /// What needs more than the two capabilities comes first: the socket's file and its owner.
    fn start(options: ServeOptions) -> Result<Self, ServeError> {
        let ServeOptions { door, policy, user, when_released, confinement } = options;
        // Asked first, so that this is what a user without privileges hears, not what fails for want of them.
        if !privileges::may_open_packet_sockets() {
            return Err(PrivilegesError::NotPrivileged.into());
        }
        let in_force = policy.load()?;
        let user = user.as_deref().map(privileges::user_id).transpose()?;
        let signals = Signals::take().map_err(failed("waiting for signals"))?;
        let (path, log) = match door {
            Door::Inherited(_) => (None, Log::Nowhere),
            Door::Listening(path) => (Some(path), Log::StandardError),
            Door::ListeningWithFirst(path, _) => {
                (Some(path), Log::System(SystemLog::open().map_err(failed("opening the system's log"))?))
            }
        };
        let guard = Guard::new(path.as_deref(), user);
        let paths = still_needed(&policy, path.as_deref());
        let listener = path.map(|path| Listener::bind(&path, user)).transpose()?;
        raise_file_limit();
        // A keeper that nobody can find again leaves nothing behind.
        let pinning = if listener.is_some() { Pinning::On } else { Pinning::Off };
        if pinning == Pinning::On {
            // Whether it is there is asked when it is needed.
            let _ = pins::mount_bpffs();
        }
        privileges::keep_what_is_needed()?;
        let (kernel_path, pinned) = KernelPath::new(in_force.table_sizes(), pinning);
        if let Err(error) = pinned {
            log.say(Severity::Warning, format_args!("the in-kernel datapath will end with this keeper: {error}"));
        }
        let holdings = Holdings::new(in_force, kernel_path, guard).map_err(failed("opening rtnetlink"))?;
        if let Some(Failure { reason, remedy, .. }) = holdings.trouble() {
            log.say(Severity::Error, format_args!("{reason}; {remedy}"));
        }
        if matches!(log, Log::System(_)) {
            log::detach_standard_streams().map_err(failed("letting go of the standard streams"))?;
        }
        let store = FdStore::open();
        if confinement == Confinement::Full {
            files::give_up(&paths, Reach::Host)?;
            calls::give_up(calls::Program::Keeper)?;
        }
        let visitors = Vec::new();
        let mut service = Self {
            signals,
            listener,
            visitors,
            had_daemon: false,
            policy,
            holdings,
            user,
            when_released,
            log,
            deaf_until: None,
            mend_at: None,
            store: None,
            store_at: None,
            store_fails: false,
        };
        service.go_on_with(store);
        Ok(service)
    }

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
                if let Some(Failure { reason, remedy, .. }) = self.holdings.trouble() {
                    self.log.say(Severity::Error, format_args!("{reason}; {remedy}"));
                }
            }
        }
        let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let left = |until: Option<Instant>| {
            until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
        };
        let (deaf, mend) = (left(self.deaf_until), left(self.mend_at));
        let store = self.store_at.map(|at| at.saturating_duration_since(Instant::now()));
        // One more, so that the time is over when poll is.
        let timeout =
            deaf.into_iter().chain(mend).chain(store).min().map_or(-1, |left| left.as_millis() as libc::c_int + 1);
        let listener = self.listener.as_ref().filter(|_| deaf.is_none());
        let hears = listener.is_some();
        let listener = listener.map(|listener| readable(listener.as_fd()));
        let visitors = self.visitors.iter().map(|visitor| readable(visitor.channel.as_fd()));
        let [igmp, mld] = self.holdings.queries().map(|socket| socket.map_or(UNUSED, readable));
        let rules = self.holdings.rule_changes().filter(|_| mend.is_none()).map_or(UNUSED, readable);
        let own = [readable(self.signals.as_fd()), readable(self.holdings.departures()), rules, igmp, mld];
        let mut polled: Vec<libc::pollfd> = own.into_iter().chain(visitors).chain(listener).collect();
        loop {
            // SAFETY: the pointer and the length describe `polled`, which outlives the call.
            let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
            match check(result) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_ready = |index: usize| polled[index].revents != 0;
        let mut visitors: Vec<usize> = (0..self.visitors.len()).filter(|index| is_ready(own.len() + index)).collect();
        visitors.sort_by_key(|index| self.visitors[*index].role != Role::Daemon);
        let listener = hears && is_ready(own.len() + self.visitors.len());
        Ok(Ready {
            signal: is_ready(0),
            departure: is_ready(1),
            rules: is_ready(2),
            query: is_ready(3) || is_ready(4),
            visitors,
            listener,
        })
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

    /// Takes in who knocks. Whoever has been silent longest makes room.
    fn welcome(&mut self) {
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
    fn attend(&mut self, index: usize) -> Course {
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
        let sent = visitor.channel.send(&reply.encode(sequence), &[], Patience::Now);
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

    fn warn(&mut self) {
        for warning in self.holdings.take_warnings() {
            self.log.say(Severity::Warning, format_args!("{warning}"));
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.log.say(Severity::Notice, what);
    }
}

/// What a wait brought.
struct Ready {
    signal: bool,
    departure: bool,
    /// Somebody has changed rules of nftables.
    rules: bool,
    query: bool,
    visitors: Vec<usize>,
    listener: bool,
}

impl Ready {
    /// Whether what is held may have changed.
    fn is_news(&self) -> bool {
        self.signal || self.departure || !self.visitors.is_empty()
    }
}

impl Visitor {
    fn new(channel: Channel) -> Self {
        Self { channel, role: Role::Stranger }
    }
}

/// What poll passes over.
const UNUSED: libc::pollfd = libc::pollfd { fd: -1, events: 0, revents: 0 };

fn readable(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// What is read and written once the keeper has started: the policy, again; pins; the kernel's own word; its socket, which it
/// removes at the end.
fn still_needed(policy: &PolicyChoice, socket: Option<&Path>) -> files::Paths {
    let policy = policy.file.as_deref().unwrap_or(Path::new(DEFAULT_POLICY_PATH));
    let system = ["/etc", "/nix/store", "/proc", "/sys"].map(PathBuf::from);
    files::Paths {
        read: system.into_iter().chain(files::folders_of(policy)).collect(),
        write: std::iter::once(PathBuf::from(pins::BPFFS))
            .chain(socket.into_iter().flat_map(files::folders_of))
            .collect(),
    }
}

/// Takes over an inherited descriptor, if it is a connection of the right kind.
fn adopt(fd: RawFd) -> Result<Channel, ServeError> {
    let refused = |error| ServeError::Descriptor { fd, error };
    if fd <= libc::STDERR_FILENO {
        return Err(refused(io::Error::from_raw_os_error(libc::EBADF)));
    }
    let mut kind: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers describe `kind` and `length`, which outlive the call; a descriptor that is
    // not open or not a socket is an error of the call.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut length) })
        .map_err(refused)?;
    if kind != libc::SOCK_SEQPACKET {
        return Err(refused(io::Error::from_raw_os_error(libc::EPROTOTYPE)));
    }
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map_err(refused)?;
    // SAFETY: the descriptor is open, and the caller started this program to hand it over.
    Ok(Channel::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The soft limit on open files is 1,024 by tradition, for select(2), which is not used here. A
/// limit that can not be raised shows when it is reached.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_cur.max(limit.rlim_max.min(WANTED_FILES));
        // SAFETY: `limit` outlives the call.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Tells the daemon on an inherited connection why there is no keeper.
fn tell(first: &Channel, error: &ServeError) {
    let text = error.to_string();
    let (reason, remedy) = text.split_once("; ").unwrap_or((&text, "see the log of mcr-netd"));
    let failure =
        Failure { kind: FailureKind::Startup, errno: None, reason: reason.to_owned(), remedy: remedy.to_owned() };
    let _ = first.send(&Reply::Failed(failure).encode(0), &[], Patience::Now);
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

fn failed(call: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |error| ServeError::System { call, error }
}
