//! Tokens: what one is and may is the business of who checks them; here are its id and its record.

use redb::{ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError, from_bytes, to_bytes};

/// By id.
const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");

impl Store {
    /// All tokens, by id. One that can't be read is told in the log and left out: it admits nobody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tokens<T: DeserializeOwned>(&self) -> Result<Vec<T>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(TOKENS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut tokens = Vec::new();
            for entry in table.iter()? {
                let (id, bytes) = entry?;
                tokens.extend(from_bytes("token", id.value(), bytes.value()));
            }
            Ok(tokens)
        })
    }

    /// Stores the token of that id; an earlier record of it is replaced.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn put_token<T: Serialize>(&self, id: &str, token: &T) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(TOKENS)?.insert(id, to_bytes(token)?.as_slice())?;
            Ok(())
        })
    }

    /// Removes a token; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is removed then.
    pub fn remove_token(&self, id: &str) -> Result<bool, StoreError> {
        self.write(|transaction| Ok(transaction.open_table(TOKENS)?.remove(id)?.is_some()))
    }
}
