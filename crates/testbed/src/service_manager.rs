//! A stub of the service manager: it is told things by its services (sd_notify(3)), keeps the descriptors that they
//! give it, and hands these to the next one that it starts, as systemd does with `FileDescriptorStoreMax=`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::namespace::Namespace;
use crate::socket::{RECEIVE_TIMEOUT, for_each_control};

/// Descriptors are handed over from here on, so that they are in nobody's way in the child.
const FIRST_COPY: libc::c_int = 600;
/// `SD_LISTEN_FDS_START`.
const FIRST_HANDED: RawFd = 3;

/// Listens for as long as it lives; its socket file goes with it.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    store: Arc<Mutex<Store>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Store {
    kept: Vec<(String, OwnedFd)>,
    said: Vec<String>,
}

impl ServiceManager {
    /// Starts to listen.
    #[track_caller]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mcr-notify-{}-{number}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap_or_else(|error| panic!("cannot bind {path:?}: {error}"));
        socket.set_read_timeout(Some(RECEIVE_TIMEOUT)).expect("a timeout can be set");
        let (store, stop) = (Arc::<Mutex<Store>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((message, descriptors)) = receive(&socket) {
                        lock(&store).take(&message, descriptors);
                    }
                }
            }
        });
        Self { path, store, stop, thread: Some(thread) }
    }

    /// The names of what is kept.
    pub fn kept(&self) -> Vec<String> {
        lock(&self.store).kept.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Everything that services said, message by message.
    pub fn said(&self) -> Vec<String> {
        lock(&self.store).said.clone()
    }

    /// A command in a namespace that is started as this manager's service, with what is kept.
    pub fn command(&self, namespace: &Namespace, program: impl AsRef<OsStr>) -> Command {
        let store = lock(&self.store);
        let names: Vec<&str> = store.kept.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = namespace.command("sh");
        // Only the process itself knows its number.
        command.args(["-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" \"$@\""]).arg(program);
        command.env("NOTIFY_SOCKET", &self.path);
        if !names.is_empty() {
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        let copies: Vec<OwnedFd> = store.kept.iter().map(|(_, descriptor)| copy(descriptor)).collect();
        let hand_over = move || {
            for (target, descriptor) in (FIRST_HANDED..).zip(&copies) {
                // SAFETY: dup2 takes two numbers.
                if unsafe { libc::dup2(descriptor.as_raw_fd(), target) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls that take no pointers, and allocates nothing.
        unsafe { command.pre_exec(hand_over) };
        command
    }
}

impl Default for ServiceManager {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Store {
    fn take(&mut self, message: &str, descriptors: Vec<OwnedFd>) {
        let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        let has = |word: &str| message.lines().any(|line| line == word);
        if has("FDSTORE=1") {
            self.kept.extend(descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)));
        } else if has("FDSTOREREMOVE=1") {
            self.kept.retain(|(kept, _)| *kept != name);
        }
        self.said.push(message.to_owned());
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy(descriptor: &OwnedFd) -> OwnedFd {
    // SAFETY: fcntl takes numbers here.
    let fd = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_COPY) };
    assert!(fd >= 0, "cannot copy a descriptor: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// One message and the descriptors that came with it.
fn receive(socket: &UnixDatagram) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut bytes, mut control) = ([0_u8; 4096], [0_u64; 32]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
    // SAFETY: every pointer in `header` is to memory that lives through the call, with its true length.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut descriptors = Vec::new();
    for_each_control(&header, |level, kind, data| {
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let numbers = data.as_chunks().0.iter().map(|bytes| RawFd::from_ne_bytes(*bytes));
            // SAFETY: the kernel has just installed each of them for this process.
            descriptors.extend(numbers.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    });
    Ok((String::from_utf8_lossy(&bytes[..length]).into_owned(), descriptors))
}
