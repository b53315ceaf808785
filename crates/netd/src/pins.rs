//! Pins: how the in-kernel datapath goes on when this process is killed, and how the next one finds it.
//!
//! ```text
//! <bpffs>/mcr/<network namespace>/             locked by the keeper of that namespace
//!                   <layout>/                  of one build of the program, with one set of sizes
//!                      <object>                the program, the tables, the ports
//!                      link_<hook>_<interface> what keeps it attached
//! ```
//!
//! The bpffs is the one at `/sys/fs/bpf`, or where `--bpffs` says that it is mounted.
//!
//! What has another layout can not be gone on with: it is removed. So is what is left of namespaces that are gone.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcr_kernel_path::{Loaded, interface_of, sys};

use crate::channel::check;
use crate::protocol::Hook;

/// Where the kernel's objects get their names, unless the administrator says otherwise.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (`include/uapi/linux/magic.h`).
const BPFFS_MAGIC: u32 = 0xcafe_4a11;
/// Our own directory there.
const OURS: &str = "mcr";

/// Links by the interface and the hook that they are on.
pub(crate) type Links = BTreeMap<(u32, Hook), OwnedFd>;

/// The directory of this network namespace.
#[derive(Debug)]
pub(crate) struct Pins {
    namespace: PathBuf,
    layout: PathBuf,
    /// One keeper at a time goes on with what is there.
    _lock: File,
}

/// Mounts the bpffs at [`BPFFS`] if it is not there and this process may; to be done before privileges are given up.
pub(crate) fn mount_bpffs() -> io::Result<()> {
    if is_bpffs(Path::new(BPFFS)) {
        return Ok(());
    }
    // SAFETY: all texts end in NUL and outlive the call.
    check(unsafe {
        libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), 0, c"mode=0700".as_ptr().cast())
    })
}

/// Whether there is a place where the in-kernel datapath outlives its keeper: a bpffs is mounted there.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: all-zero bytes are a valid statfs.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the text ends in NUL; both outlive the call.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    result == 0 && found.f_type as u32 == BPFFS_MAGIC
}

impl Pins {
    /// The directory for objects of that layout. What has another layout, or belongs to nobody, is removed.
    ///
    /// # Errors
    /// When there is no bpffs, it may not be written, or another keeper of this namespace has the directory.
    pub(crate) fn open(bpffs: &Path, layout: u64) -> io::Result<Self> {
        if !is_bpffs(bpffs) {
            return Err(io::Error::other(format!("no bpffs is mounted at {}", bpffs.display())));
        }
        let ours = bpffs.join(OURS);
        let inode = fs::metadata("/proc/self/ns/net")?.ino();
        let namespace = ours.join(inode.to_string());
        let lock = create_and_lock(&namespace)?;
        let pins = Self { layout: namespace.join(format!("{layout:016x}")), namespace, _lock: lock };
        remove_abandoned(&ours);
        for other in entries(&pins.namespace)?.into_iter().filter(|path| *path != pins.layout) {
            remove(&other)?;
        }
        Ok(pins)
    }

    /// What another process left: the objects, and the links that are still on an interface.
    pub(crate) fn find(&self) -> Option<(Loaded, Links)> {
        let links = links(&self.layout);
        let loaded = Loaded::reopen(|name| sys::open_pinned(&self.layout.join(name)));
        match loaded {
            Ok(loaded) if !links.is_empty() => Some((loaded, links)),
            // Nothing runs by it, or a part is missing: it is made anew.
            Ok(_) | Err(_) => {
                let _ = remove(&self.layout);
                None
            }
        }
    }

    /// Pins what was loaded; all of it or nothing.
    pub(crate) fn keep(&self, loaded: &Loaded) -> io::Result<()> {
        remove(&self.layout)?;
        DirBuilder::new().mode(0o700).create(&self.layout)?;
        let kept = loaded.objects().into_iter().try_for_each(|(name, fd)| sys::pin(fd, &self.layout.join(name)));
        if kept.is_err() {
            let _ = remove(&self.layout);
        }
        kept
    }

    /// Pins a link.
    pub(crate) fn keep_link(&self, interface: u32, hook: Hook, link: BorrowedFd<'_>) -> io::Result<()> {
        let path = self.link(interface, hook);
        // One of an interface that is gone may have the name.
        remove(&path)?;
        sys::pin(link, &path)
    }

    /// Lets go of a link.
    pub(crate) fn drop_link(&self, interface: u32, hook: Hook) {
        let _ = remove(&self.link(interface, hook));
    }

    /// Removes everything of this namespace.
    pub(crate) fn clear(&self) {
        let _ = remove(&self.layout);
    }

    fn link(&self, interface: u32, hook: Hook) -> PathBuf {
        self.layout.join(format!("link_{}_{interface}", hook.name()))
    }
}

impl Drop for Pins {
    /// The directory goes when nothing is in it; while it is locked nobody else has it.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.namespace);
        if let Some(ours) = self.namespace.parent() {
            let _ = fs::remove_dir(ours);
        }
    }
}

/// The directory, locked. Another keeper may be about to remove it, as one that is abandoned.
fn create_and_lock(directory: &Path) -> io::Result<File> {
    let mut tries_left = 20;
    loop {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let locked = created.and_then(|()| lock(directory)).and_then(|lock| {
            let is_same = fs::metadata(directory)?.ino() == lock.metadata()?.ino();
            if is_same { Ok(lock) } else { Err(io::ErrorKind::NotFound.into()) }
        });
        match locked {
            Ok(lock) => return Ok(lock),
            Err(error) if tries_left == 0 => return Err(error),
            Err(_) => tries_left -= 1,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(io::Error::other("another keeper of this network namespace pins there"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the directories of namespaces that are gone: their links are on no interface any more.
fn remove_abandoned(ours: &Path) {
    for namespace in entries(ours).unwrap_or_default() {
        let Ok(_lock) = lock(&namespace) else { continue };
        let layouts = entries(&namespace).unwrap_or_default();
        if layouts.iter().all(|layout| links(layout).is_empty()) {
            let _ = remove(&namespace);
        }
    }
}

/// The links under a directory that are on an interface.
fn links(directory: &Path) -> Links {
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix("link_")?.to_owned();
        let (hook, interface) = name.split_once('_')?;
        let hook = Hook::ALL.into_iter().find(|known| known.name() == hook)?;
        let interface: u32 = interface.parse().ok()?;
        let link = sys::open_pinned(&path).ok()?;
        let is_there = interface_of(&link).is_ok_and(|found| found == Some(interface));
        is_there.then_some(((interface, hook), link))
    };
    entries(directory).unwrap_or_default().into_iter().filter_map(named).collect()
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(found) => found.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes a file, or a directory with all that is in it; none is no error.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
