//! Tokens: 256 random bits that stand for a grant until they expire or are revoked.
//!
//! The text is `mcr_ID_SECRET`, both in hexadecimal. The store has the id and the SHA-256 of the secret; the secret
//! itself is told once, to who made it. A hash without salt or stretching is enough: nobody guesses 256 random bits.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use mcr_model::Grant;
use mcr_model::time::Timestamp;
use mcr_model::token::{NewToken, Token};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::{Store, StoreError};

const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 4;

/// The tokens in force, with the store behind them. Whoever looks for one never waits for the disk.
#[derive(Debug)]
pub(super) struct Tokens {
    store: Store,
    by_id: RwLock<BTreeMap<String, Record>>,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    token: Token,
    /// SHA-256 of the secret, in hexadecimal.
    hash: String,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system gives no random bits.
    #[error("the system gives no random bits: {0}; try again")]
    Random(getrandom::Error),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    /// Those of the store; what has expired is removed from it.
    pub(super) fn of(store: Store) -> Result<Self, StoreError> {
        let records: Vec<Record> = store.tokens()?;
        let now = Timestamp::now();
        let (ended, records): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.token.expires <= now);
        for record in ended {
            store.remove_token(&record.token.id)?;
        }
        let by_id = records.into_iter().map(|record| (record.token.id.clone(), record)).collect();
        Ok(Self { store, by_id: RwLock::new(by_id) })
    }

    fn records(&self) -> RwLockReadGuard<'_, BTreeMap<String, Record>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn records_to_change(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Record>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one, which is stored when this returns.
    pub(super) fn create(
        &self,
        note: String,
        grant: &Grant,
        lifetime: Duration,
        created_by: String,
    ) -> Result<NewToken, TokenError> {
        let (id, secret) = (hexadecimal(&random::<ID_BYTES>()?), hexadecimal(&random::<SECRET_BYTES>()?));
        let created = Timestamp::now();
        let expires = Timestamp::from_unix_seconds(created.unix_seconds() + lifetime.as_secs());
        let token = Token { id: id.clone(), note, grant: grant.spec(), created, created_by, expires };
        let record = Record { token: token.clone(), hash: hash(&secret) };
        self.store.put_token(&id, &record)?;
        self.records_to_change().insert(id.clone(), record);
        Ok(NewToken { secret: format!("mcr_{id}_{secret}"), token })
    }

    /// All that have not expired.
    pub(super) fn list(&self) -> Vec<Token> {
        let now = Timestamp::now();
        self.records().values().map(|record| &record.token).filter(|token| token.expires > now).cloned().collect()
    }

    /// Removes one, which is out of the store when this returns; whether there was one.
    pub(super) fn revoke(&self, id: &str) -> Result<bool, TokenError> {
        let was_stored = self.store.remove_token(id)?;
        Ok(self.records_to_change().remove(id).is_some() || was_stored)
    }

    /// The token whose text this is, if it has not expired.
    pub(super) fn find(&self, text: &str) -> Option<Token> {
        let (id, secret) = text.strip_prefix("mcr_")?.split_once('_')?;
        let records = self.records();
        let Record { token, hash: expected } = records.get(id)?;
        let fits = is_same(hash(secret).as_bytes(), expected.as_bytes());
        (fits && token.expires > Timestamp::now()).then(|| token.clone())
    }
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    Ok(bytes)
}

fn hash(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares without telling by its time how much is the same.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use mcr_model::Role;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn create(tokens: &Tokens, lifetime: Duration) -> NewToken {
        let grant = Grant::unlimited(Role::Operator);
        tokens.create("rack".to_owned(), &grant, lifetime, "uid:0".to_owned()).unwrap()
    }

    #[test]
    fn a_token_is_found_by_its_whole_text_until_it_ends() {
        let store = Store::in_memory();
        let tokens = Tokens::of(store.clone()).unwrap();
        let NewToken { secret, token } = create(&tokens, HOUR);
        assert_eq!(secret.len(), "mcr_".len() + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES);
        assert_eq!(tokens.find(&secret), Some(token.clone()));
        let other = create(&tokens, HOUR).secret;
        let swapped = format!("mcr_{}_{}", token.id, other.rsplit_once('_').unwrap().1);
        for wrong in ["", "mcr_", &secret[..secret.len() - 1], &swapped, &format!("{secret}0"), &secret[4..]] {
            assert_eq!(tokens.find(wrong), None, "{wrong}");
        }
        let ended = create(&tokens, Duration::ZERO).secret;
        assert_eq!(tokens.find(&ended), None);
        let again = Tokens::of(store.clone()).unwrap();
        assert_eq!(again.find(&secret), Some(token));
        assert_eq!(again.list().len(), 2);
        assert_eq!(store.tokens::<Record>().unwrap().len(), 2);
    }

    #[test]
    fn a_revoked_token_is_gone_for_good() {
        let store = Store::in_memory();
        let tokens = Tokens::of(store.clone()).unwrap();
        let NewToken { secret, token } = create(&tokens, HOUR);
        assert!(tokens.revoke(&token.id).unwrap() && !tokens.revoke(&token.id).unwrap());
        assert_eq!((tokens.find(&secret), Tokens::of(store).unwrap().find(&secret)), (None, None));
    }

    #[test]
    fn the_store_does_not_know_the_secret() {
        let store = Store::in_memory();
        let secret = create(&Tokens::of(store.clone()).unwrap(), HOUR).secret;
        let stored: Vec<serde_json::Value> = store.tokens().unwrap();
        let secret = secret.rsplit_once('_').unwrap().1;
        assert!(!stored.is_empty() && !serde_json::to_string(&stored).unwrap().contains(secret));
    }
}
