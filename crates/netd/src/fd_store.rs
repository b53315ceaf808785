//! The descriptor store of the service manager: what goes on when this process is killed, and how the next one finds it
//! (`FDSTORE=1` of sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=` of systemd.service(5)).
//!
//! ```text
//! name                        descriptor
//! membership-<life>-<number>  a socket that keeps groups joined
//! ring-<interface>-<number>   a ring of an input
//! list-<life>-<0 or 1>        what the others are: a memory file, see below
//!
//! list: sequence u64 | length u32 | FNV-1a of the items u64 | items as the protocol has them
//! ```
//!
//! The kernel does not tell which groups a socket has joined, so the next keeper joins what is listed with sockets of its
//! own before it lets go of those of the one before: the interface stays in each group, and nothing is said on the wire.
//! There are two lists, written in turn: one of them is whole whenever the keeper is killed.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::channel::{Channel, Patience, check};
use crate::protocol::{Item, items_from_bytes, items_to_bytes};

/// Bytes before the items of a list.
const HEAD_BYTES: usize = 8 + 4 + 8;
/// Longest list: every membership that a keeper may hold, with some sources.
const MAX_LIST_BYTES: usize = 16 << 20;
/// How long the service manager may be too busy to take a message.
const PATIENCE: Duration = Duration::from_millis(200);

/// The connection to the service manager, and what it keeps for this process.
#[derive(Debug)]
pub(crate) struct FdStore {
    manager: Channel,
    /// Keepers since the store was empty: their names do not get mixed up.
    life: u32,
    stored: BTreeSet<String>,
    lists: [File; 2],
    sequence: u64,
    /// The items of the last list.
    listed: Vec<u8>,
}

/// What a keeper before this one left in the store.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) items: Vec<Item>,
    pub(crate) rings: Vec<LeftRing>,
    /// What keeps the groups joined until they are joined anew.
    pub(crate) memberships: Vec<OwnedFd>,
}

/// One ring of an input that a keeper before this one had open.
#[derive(Debug)]
pub(crate) struct LeftRing {
    pub(crate) interface: u32,
    /// Tells it from rings that were opened there before or later.
    pub(crate) opening: u32,
    pub(crate) socket: OwnedFd,
}

impl FdStore {
    /// The store, and what is in it; `None` where no service manager has started this process.
    pub(crate) fn open() -> io::Result<Option<(Self, Left)>> {
        let Some(manager) = env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address_of(&manager)?)?;
        let manager = Channel::new(socket.into());
        manager.set_timeout(PATIENCE)?;
        let found: Vec<(i32, String)> = sd_notify::listen_fds_with_names(true)?.collect();
        // SAFETY: the service manager opened these descriptors for this process, and nothing else has taken them.
        let found = found.into_iter().map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect();
        let (left, names) = sort(found);
        let life = names.iter().filter_map(|name| life_of(name)).max().unwrap_or(0).wrapping_add(1);
        let lists = [memory_file()?, memory_file()?];
        let mut store = Self { manager, life, stored: names, lists, sequence: 0, listed: Vec::new() };
        for (number, list) in [0, 1].into_iter().zip(&store.lists) {
            let name = format!("list-{life}-{number}");
            keep(&store.manager, &name, list.as_fd())?;
            store.stored.insert(name);
        }
        Ok(Some((store, left)))
    }

    /// The name of a socket that keeps groups joined.
    pub(crate) fn membership(&self, number: u32) -> String {
        format!("membership-{}-{number}", self.life)
    }

    /// The name of a ring. What is stored under a name stays what it is, so an input that is opened anew has others.
    pub(crate) fn ring(interface: u32, opening: u32, number: usize) -> String {
        format!("ring-{interface}-{opening}-{number}")
    }

    /// Makes the store be exactly these descriptors, with these items listed. What could not be stored is tried again at
    /// the next call.
    pub(crate) fn hold(&mut self, items: &[Item], descriptors: &[(String, BorrowedFd<'_>)]) -> io::Result<()> {
        // New ones first: what they take over from the old is not let go in between.
        for (name, descriptor) in descriptors {
            if !self.stored.contains(name) {
                keep(&self.manager, name, *descriptor)?;
                self.stored.insert(name.clone());
            }
        }
        self.list(items)?;
        let own_list = format!("list-{}-", self.life);
        let wanted: BTreeSet<&str> = descriptors.iter().map(|(name, _)| name.as_str()).collect();
        let gone = self.stored.iter().filter(|name| !wanted.contains(name.as_str()) && !name.starts_with(&own_list));
        for name in gone.cloned().collect::<Vec<_>>() {
            let message = format!("FDSTOREREMOVE=1\nFDNAME={name}\n");
            self.manager.send(message.as_bytes(), &[], Patience::Wait)?;
            self.stored.remove(&name);
        }
        Ok(())
    }

    fn list(&mut self, items: &[Item]) -> io::Result<()> {
        let items = items_to_bytes(items);
        if self.sequence > 0 && items == self.listed {
            return Ok(());
        }
        let sequence = self.sequence + 1;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + items.len());
        bytes.extend(sequence.to_le_bytes());
        bytes.extend((items.len() as u32).to_le_bytes());
        bytes.extend(fnv(&items).to_le_bytes());
        bytes.extend(&items);
        self.lists[(sequence % 2) as usize].write_all_at(&bytes, 0)?;
        (self.sequence, self.listed) = (sequence, items);
        Ok(())
    }
}

/// Where the service manager listens: at a path, or at an abstract name (sd_notify(3)).
fn address_of(manager: &OsStr) -> io::Result<SocketAddr> {
    match manager.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(manager),
    }
}

/// Sorts what was found in the store, and hands back its names.
fn sort(found: Vec<(String, OwnedFd)>) -> (Left, BTreeSet<String>) {
    let names = found.iter().map(|(name, _)| name.clone()).collect();
    let (mut left, mut newest) = (Left::default(), (0, 0));
    for (name, descriptor) in found {
        let mut parts = name.split('-');
        let kind = parts.next();
        let mut number = || parts.next().and_then(|number| number.parse().ok());
        match (kind, number(), number()) {
            (Some("ring"), Some(interface), Some(opening)) => {
                left.rings.push(LeftRing { interface, opening, socket: descriptor });
            }
            (Some("membership"), Some(_), Some(_)) => left.memberships.push(descriptor),
            (Some("list"), Some(life), Some(_)) => {
                // One that was being written, or is of another version, says nothing.
                if let Some((sequence, items)) = read(&File::from(descriptor)).filter(|(n, _)| (life, *n) > newest) {
                    newest = (life, sequence);
                    left.items = items;
                }
            }
            // Nothing of ours: it is removed from the store with the first change.
            _ => {}
        }
    }
    (left, names)
}

fn life_of(name: &str) -> Option<u32> {
    let (kind, rest) = name.split_once('-')?;
    let life = rest.split_once('-')?.0;
    if kind == "ring" { None } else { life.parse().ok() }
}

/// The sequence and the items of a list that is whole.
fn read(list: &File) -> Option<(u64, Vec<Item>)> {
    let mut head = [0; HEAD_BYTES];
    list.read_exact_at(&mut head, 0).ok()?;
    let (sequence, rest) = head.split_first_chunk()?;
    let (length, sum) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_LIST_BYTES {
        return None;
    }
    let mut items = vec![0; length];
    list.read_exact_at(&mut items, HEAD_BYTES as u64).ok()?;
    let is_whole = fnv(&items).to_le_bytes() == sum;
    let items = items_from_bytes(&items).ok().filter(|_| is_whole)?;
    Some((u64::from_le_bytes(*sequence), items))
}

/// Without `FDPOLL=0` it would be thrown away as soon as its interface goes down, which is an error of the socket.
fn keep(manager: &Channel, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
    manager.send(message.as_bytes(), &[descriptor], Patience::Wait)
}

pub(crate) fn memory_file() -> io::Result<File> {
    // SAFETY: the name ends in NUL and outlives the call.
    let fd = unsafe { libc::memfd_create(c"mcr-netd".as_ptr(), libc::MFD_CLOEXEC) };
    check(fd.as_raw_fd())?;
    // SAFETY: `fd` was just opened and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(last: u8) -> Item {
        Item::Membership { interface: 3, group: [239, 1, 1, last].into(), sources: vec![[10, 0, 0, 1].into()] }
    }

    fn list(sequence: u64, items: &[Item]) -> File {
        let items = items_to_bytes(items);
        let file = memory_file().unwrap();
        let head = [&sequence.to_le_bytes()[..], &(items.len() as u32).to_le_bytes(), &fnv(&items).to_le_bytes()];
        file.write_all_at(&[&head.concat()[..], &items].concat(), 0).unwrap();
        file
    }

    #[test]
    fn the_newest_list_that_is_whole_counts() {
        let torn = list(9, &[membership(9)]);
        torn.write_all_at(&[0xff], HEAD_BYTES as u64 + 3).unwrap();
        let found = [
            ("list-2-0", list(8, &[membership(8), membership(7)])),
            ("list-2-1", torn),
            ("list-1-1", list(900, &[membership(1)])),
            ("ring-7-3-0", memory_file().unwrap()),
            ("membership-2-1", memory_file().unwrap()),
            ("what-is-this", memory_file().unwrap()),
        ];
        let (left, names) = sort(found.into_iter().map(|(name, file)| (name.to_owned(), file.into())).collect());
        assert_eq!(left.items, [membership(8), membership(7)]);
        assert_eq!((left.rings.len(), left.memberships.len(), names.len()), (1, 1, 6));
        assert_eq!((left.rings[0].interface, left.rings[0].opening), (7, 3));
        assert_eq!(names.iter().filter_map(|name| life_of(name)).max(), Some(2));
    }

    #[test]
    fn the_service_manager_may_have_an_abstract_name() {
        let abstract_name = address_of(OsStr::new("@org/mcr/notify")).unwrap();
        assert_eq!(abstract_name.as_abstract_name(), Some(b"org/mcr/notify".as_slice()));
        let path = address_of(OsStr::new("/run/systemd/notify")).unwrap();
        assert_eq!(path.as_pathname(), Some("/run/systemd/notify".as_ref()));
    }

    #[test]
    fn a_file_that_is_no_list_says_nothing() {
        assert!(read(&memory_file().unwrap()).is_none());
        let file = memory_file().unwrap();
        file.write_all_at(&[0xff; 64], 0).unwrap();
        assert!(read(&file).is_none());
    }
}
