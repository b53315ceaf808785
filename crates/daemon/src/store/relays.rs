//! Relays of the API that outlive the daemon.

use mcr_model::RelayName;
use mcr_model::spec::RelaySpec;
use redb::{ReadableTable, TableDefinition, TableError};

use super::{Store, StoreError, from_bytes, to_bytes};

/// By name, as the API takes them.
const RELAYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("relays");

/// What became of a relay of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "most changes are the large one")]
pub enum RelayChange {
    /// It is this now.
    Put(RelaySpec),
    /// It is gone.
    Remove(RelayName),
}

impl Store {
    /// All relays, by name. One that can't be read is told in the log and left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn relays(&self) -> Result<Vec<RelaySpec>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(RELAYS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut relays = Vec::new();
            for entry in table.iter()? {
                let (name, bytes) = entry?;
                relays.extend(from_bytes::<RelaySpec>("relay", name.value(), bytes.value()));
            }
            Ok(relays)
        })
    }

    /// Stores all of `changes`, in their order, or none.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn change_relays(&self, changes: &[RelayChange]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(RELAYS)?;
            for change in changes {
                match change {
                    RelayChange::Put(relay) => drop(table.insert(relay.name.as_str(), to_bytes(relay)?.as_slice())?),
                    RelayChange::Remove(name) => drop(table.remove(name.as_str())?),
                }
            }
            Ok(())
        })
    }
}
