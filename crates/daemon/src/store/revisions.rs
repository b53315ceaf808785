//! The revisions of the configuration, and which one is in force.

use mcr_model::revision::{Cause, Revision};
use mcr_model::time::Timestamp;
use redb::{ReadableTable, Table, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Store, StoreError, from_bytes, to_bytes};

/// By number.
const REVISIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("revisions");
/// Texts by their hash: going back and forth between two configurations stores two texts.
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");
/// One record: [`Standing`].
const STANDING: TableDefinition<'_, (), &[u8]> = TableDefinition::new("standing");

/// So many revisions are kept.
const MOST_REVISIONS: usize = 200;
/// Their texts take at most so much, in bytes, unless the one in force and the one before take more.
const MOST_TEXT_BYTES: usize = 32 << 20;

/// A configuration that is to become a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevision {
    /// Who puts it in force.
    pub by: String,
    /// By what.
    pub cause: Cause,
    /// What that one says about it.
    pub note: Option<String>,
    /// The configuration, as TOML.
    pub text: String,
    /// How many relays it has.
    pub relays: usize,
    /// The hash of the configuration file's text at this moment; `None`: there is no file.
    pub file_hash: Option<String>,
    /// When it has to be confirmed, if it has to be.
    pub confirm_until: Option<Timestamp>,
}

/// Which revision is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its number.
    pub revision: u64,
    /// The hash of its text.
    pub hash: String,
    /// The hash of the configuration file's text when it came in force; a file that is another by now was edited since.
    pub file_hash: Option<String>,
    /// What it waits for.
    pub pending: Option<Pending>,
}

/// The revision in force is on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The revision that comes back when nobody confirms.
    pub previous: u64,
    /// By when.
    pub until: Timestamp,
}

/// The hash that a revision of `text` has.
pub fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// Which revision is in force; `None`: there was none yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn standing(&self) -> Result<Option<Standing>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(STANDING) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(())?.and_then(|bytes| from_bytes("record", "standing", bytes.value())))
        })
    }

    /// Stores a revision as the one in force, and forgets the oldest ones beyond what is kept.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn revise(&self, new: NewRevision) -> Result<(Revision, Standing), StoreError> {
        let NewRevision { by, cause, note, text, relays, file_hash, confirm_until } = new;
        let hash = hash(&text);
        self.write(|transaction| {
            let before = standing(&transaction.open_table(STANDING)?)?;
            let number = last_number(&transaction.open_table(REVISIONS)?)? + 1;
            let pending = confirm_until
                .map(|until| Pending { previous: before.as_ref().map_or(number, |before| before.revision), until });
            let standing = Standing { revision: number, hash: hash.clone(), file_hash, pending };
            let revision = Revision { number, time: Timestamp::now(), by, cause, hash, relays, note };
            transaction.open_table(TEXTS)?.insert(revision.hash.as_str(), text.as_str())?;
            transaction.open_table(REVISIONS)?.insert(number, to_bytes(&revision)?.as_slice())?;
            transaction.open_table(STANDING)?.insert((), to_bytes(&standing)?.as_slice())?;
            prune(transaction, before.map_or(number, |before| before.revision))?;
            Ok((revision, standing))
        })
    }

    /// Stores what is known of the revision in force, without making another.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn set_standing(&self, standing: &Standing) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(STANDING)?.insert((), to_bytes(standing)?.as_slice())?;
            Ok(())
        })
    }

    /// All revisions that are kept, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn revisions(&self) -> Result<Vec<Revision>, StoreError> {
        self.read(|transaction| match transaction.open_table(REVISIONS) {
            Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            table => all(&table?),
        })
    }

    /// One revision and its text; `None`: there is none of that number, or not any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn revision(&self, number: u64) -> Result<Option<(Revision, String)>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(REVISIONS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let Some(bytes) = table.get(number)? else { return Ok(None) };
            let Some(revision) = record(number, bytes.value()) else { return Ok(None) };
            let text = transaction.open_table(TEXTS)?.get(revision.hash.as_str())?;
            Ok(text.map(|text| (revision, text.value().to_owned())))
        })
    }
}

fn record(number: u64, bytes: &[u8]) -> Option<Revision> {
    from_bytes("revision", &number.to_string(), bytes)
}

fn all(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<Revision>, redb::Error> {
    let mut revisions = Vec::new();
    for entry in table.iter()? {
        let (number, bytes) = entry?;
        revisions.extend(record(number.value(), bytes.value()));
    }
    Ok(revisions)
}

fn standing(table: &Table<'_, (), &[u8]>) -> Result<Option<Standing>, redb::Error> {
    Ok(table.get(())?.and_then(|bytes| from_bytes("record", "standing", bytes.value())))
}

fn last_number(table: &Table<'_, u64, &[u8]>) -> Result<u64, redb::Error> {
    Ok(table.last()?.map_or(0, |(number, _)| number.value()))
}

/// Forgets the oldest revisions beyond the limits, but never the one in force nor the one before it.
fn prune(transaction: &WriteTransaction, keep_from: u64) -> Result<(), redb::Error> {
    let mut revisions = transaction.open_table(REVISIONS)?;
    let mut texts = transaction.open_table(TEXTS)?;
    let (mut kept, mut kept_bytes) = (std::collections::BTreeSet::new(), 0);
    let mut forgotten = Vec::new();
    for (count, revision) in all(&revisions)?.into_iter().rev().enumerate() {
        let bytes = match texts.get(revision.hash.as_str())? {
            Some(text) if !kept.contains(&revision.hash) => text.value().len(),
            _ => 0,
        };
        let fits = count < MOST_REVISIONS && kept_bytes + bytes <= MOST_TEXT_BYTES;
        if revision.number >= keep_from || (forgotten.is_empty() && fits) {
            kept_bytes += bytes;
            kept.insert(revision.hash);
        } else {
            forgotten.push(revision);
        }
    }
    for revision in forgotten {
        revisions.remove(revision.number)?;
        if !kept.contains(&revision.hash) {
            texts.remove(revision.hash.as_str())?;
        }
    }
    Ok(())
}
