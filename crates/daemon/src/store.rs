//! What outlives the daemon: relays of the API, tokens, and the revisions of the configuration.
//!
//! One redb database, `store.redb` in the state folder. A write is one transaction that is on the disk when the call
//! returns: whatever kills the daemon, the store holds all of it or nothing. What the disk refuses changes nothing,
//! and the next write tries anew. Every call may wait for the disk: none belongs on the control thread.

mod open;
mod relays;
mod revisions;
mod tokens;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use open::{OpenError, SetAside};
pub use relays::RelayChange;
pub use revisions::{NewRevision, Pending, Standing, hash};

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// `None` after the disk refused something: redb does not go on then, and is opened again at the next call.
    database: RwLock<Option<Database>>,
}

/// Why something is not stored, or can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room.
    #[error("there is no room for {path}; free some on its file system (`df {path}`) and try again", path = path.display())]
    Full {
        /// The store.
        path: PathBuf,
    },
    /// Anything else.
    #[error("the store {path} can not be used: {reason}; check its disk and its permissions", path = path.display())]
    Failed {
        /// The store.
        path: PathBuf,
        /// What redb or the system says.
        reason: String,
    },
}

impl Store {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Carries out `change` in one transaction, which is on the disk when this returns.
    fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin_write()?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Looks at one consistent state.
    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with_database(|database| look(&database.begin_read()?))
    }

    fn with_database<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.ensure_open()?;
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_ref() else {
            return Err(self.failed("another call has just found that the disk refuses it"));
        };
        let result = act(open);
        drop(database);
        result.map_err(|error| {
            *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.explain(&error)
        })
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        if self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(open::reopen(&self.shared.path).map_err(|error| self.explain(&error))?);
        }
        Ok(())
    }

    fn explain(&self, error: &redb::Error) -> StoreError {
        let path = self.shared.path.clone();
        if is_full(error) {
            return StoreError::Full { path };
        }
        self.failed(error.to_string())
    }

    fn failed(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Failed { path: self.shared.path.clone(), reason: reason.into() }
    }
}

fn is_full(error: &redb::Error) -> bool {
    let redb::Error::Io(error) = error else { return false };
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// A record as its bytes. What is stored is made of texts, numbers and lists: JSON has all of it.
fn to_bytes<T: Serialize>(record: &T) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(record).map_err(|error| redb::Error::Corrupted(format!("a record can not be written: {error}")))
}

/// A record from its bytes. One that another version wrote, or nobody, is told and left where it is.
fn from_bytes<T: DeserializeOwned>(what: &str, key: &str, bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(%error, key, "a stored {what} can not be read and is left out; was it stored by a newer version?");
            None
        }
    }
}
