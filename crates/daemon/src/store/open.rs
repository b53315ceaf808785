//! Opening: a folder of its own, one daemon at a time, and what to do with a file that is damaged.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use mcr_model::time::Timestamp;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, StorageError};

use super::{Shared, Store};

/// The name of the database in the state folder.
const FILE: &str = "store.redb";
/// Only the daemon reads what is in the folder: tokens are.
const FOLDER_MODE: u32 = 0o700;
/// Memory for pages that were read. The store is small and read at the start.
const CACHE_BYTES: usize = 4 << 20;

/// A store that was damaged and lies beside the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("another daemon keeps its state in {folder}; stop it, or give this one its own with --state-dir", folder = folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The system refuses.
    #[error("can not keep state in {folder}: {reason}; {remedy}", folder = folder.display())]
    System {
        /// The folder.
        folder: PathBuf,
        /// What it says.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl Store {
    /// Opens the store in `folder`, which is made when it is missing. A damaged one is set aside and an empty one begun.
    ///
    /// # Errors
    /// [`OpenError`]: another daemon has it, or the system refuses.
    pub fn open(folder: &Path) -> Result<(Self, Option<SetAside>), OpenError> {
        let made = fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
        made.map_err(|error| system(folder, &error))?;
        let path = folder.join(FILE);
        match checked(&path) {
            Ok(database) => Ok((Self::of(path, database), None)),
            Err(error) => {
                let reason = damage(folder, error)?;
                let aside = set_aside(folder, &path, reason)?;
                let database = checked(&path).map_err(|error| refused(folder, error))?;
                Ok((Self::of(path, database), Some(aside)))
            }
        }
    }

    /// A store that ends with this process.
    pub fn in_memory() -> Self {
        let made = Builder::new().create_with_backend(InMemoryBackend::new());
        Self::of(PathBuf::from("(memory)"), made.expect("memory refuses nothing"))
    }

    fn of(path: PathBuf, database: Database) -> Self {
        Self { shared: Arc::new(Shared { path, database: RwLock::new(Some(database)) }) }
    }
}

/// Every page is looked at: a file that something else wrote to is told, where a plain opening would trust it.
fn checked(path: &Path) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path)
}

/// Opens again what this process had open, with no more writing than it takes: the disk may be full.
pub(super) fn reopen(path: &Path) -> Result<Database, redb::Error> {
    Ok(Builder::new().set_cache_size(CACHE_BYTES).open(path)?)
}

/// What is wrong with a file that can be read but makes no sense.
fn damage(folder: &Path, error: DatabaseError) -> Result<String, OpenError> {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(reason)) => Ok(reason),
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Ok(error.to_string())
        }
        DatabaseError::UpgradeRequired(version) => Ok(format!("it has version {version} of the file format")),
        other => Err(refused(folder, other)),
    }
}

fn set_aside(folder: &Path, path: &Path, reason: String) -> Result<SetAside, OpenError> {
    let time = Timestamp::now().to_string().replace(':', "-");
    let aside = folder.join(format!("{FILE}.damaged-{time}"));
    fs::rename(path, &aside).map_err(|error| system(folder, &error))?;
    Ok(SetAside { path: aside, reason })
}

fn refused(folder: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { folder: folder.to_owned() },
        DatabaseError::Storage(StorageError::Io(error)) => system(folder, &error),
        other => OpenError::System {
            folder: folder.to_owned(),
            reason: other.to_string(),
            remedy: "check its disk, or name another folder with --state-dir",
        },
    }
}

fn system(folder: &Path, error: &io::Error) -> OpenError {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "give it to the daemon's user, or name another folder with --state-dir",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that file system",
        io::ErrorKind::ReadOnlyFilesystem => "name a folder that can be written with --state-dir",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "name a folder with --state-dir",
        _ => "name another folder with --state-dir",
    };
    OpenError::System { folder: folder.to_owned(), reason: error.to_string(), remedy }
}
