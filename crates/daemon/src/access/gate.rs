//! The decision whether a caller is let in, and as whom.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderValue, header};
use mcr_model::token::{NewToken, Token};
use mcr_model::{Grant, Role};
use mcr_netd::peer;
use tokio::sync::watch;

use super::token::{TokenError, Tokens};
use super::{Caller, Certificate, Identity, Peer, Rules};
use crate::store::{Store, StoreError};

/// Decides about callers. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The user and the group that the daemon runs as.
    own: (u32, u32),
    rules: RwLock<Arc<Rules>>,
    tokens: Tokens,
    /// Counts the changes by which somebody may have lost a right.
    changes: watch::Sender<u64>,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A local user whom nobody allowed.
    #[error(
        "the user with id {user} may not use this daemon; run as root, or let an administrator add [[allow]] for this \
         user or a group of theirs to the access file"
    )]
    Local {
        /// The user.
        user: u32,
    },
    /// Nothing was shown.
    #[error(
        "this needs a token or a client certificate; `mcr token create` on the host of the daemon makes one, sent as \
         `Authorization: Bearer TOKEN`"
    )]
    NothingShown,
    /// A token that is none, was revoked, or has expired.
    #[error(
        "the token is not one of this daemon, was revoked, or has expired; have a new one made with `mcr token create`"
    )]
    Token,
    /// A certificate whose names nobody allowed.
    #[error(
        "no name of the client certificate ({names}) is allowed here; let an administrator add [[allow]] with \
         certificate = \"…\" to the access file"
    )]
    Certificate {
        /// Its names.
        names: String,
    },
    /// A certificate that ended while the connection was open.
    #[error("the client certificate has expired; have a new one signed")]
    Expired,
}

impl Denied {
    /// Whether something else to show would help, rather than other rules.
    pub fn is_for_want_of_proof(&self) -> bool {
        match self {
            Self::NothingShown | Self::Token | Self::Expired => true,
            Self::Local { .. } | Self::Certificate { .. } => false,
        }
    }
}

impl Gate {
    /// A gate with these rules and the tokens of `store`, for a daemon that runs as who we are.
    ///
    /// # Errors
    /// When the tokens can't be read.
    pub fn new(rules: Rules, store: Store) -> Result<Self, StoreError> {
        Self::of(peer::own(), rules, store)
    }

    fn of(own: (u32, u32), rules: Rules, store: Store) -> Result<Self, StoreError> {
        let (rules, tokens) = (RwLock::new(Arc::new(rules)), Tokens::of(store)?);
        Ok(Self { shared: Arc::new(Shared { own, rules, tokens, changes: watch::Sender::new(0) }) })
    }

    /// Puts other rules in force; the next request is the first that they decide about.
    pub fn replace_rules(&self, rules: Rules) {
        *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.changed();
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    /// Hears of every change by which somebody may have lost a right.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.shared.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who asks, and what they may do.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Denied> {
        match peer {
            Peer::Local { user, groups } => self.admit_local(*user, groups),
            Peer::Remote { certificate, .. } => match headers.get(header::AUTHORIZATION) {
                Some(shown) => self.admit_token(shown),
                None => self.admit_certificate(certificate.as_deref().ok_or(Denied::NothingShown)?),
            },
        }
    }

    fn admit_token(&self, shown: &HeaderValue) -> Result<Caller, Denied> {
        let text = shown.to_str().map_err(|_| Denied::Token)?;
        let (scheme, text) = text.split_once(' ').ok_or(Denied::Token)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Token);
        }
        let token = self.shared.tokens.find(text.trim()).ok_or(Denied::Token)?;
        let grant = token.grant.check().map_err(|_| Denied::Token)?;
        Ok(Caller { identity: Identity::Token(token.id), grant })
    }

    /// The tokens that have not expired.
    pub fn tokens(&self) -> Vec<Token> {
        self.shared.tokens.list()
    }

    /// Makes a token; waits for the disk.
    ///
    /// # Errors
    /// [`TokenError`]; there is none then.
    pub fn create_token(
        &self,
        note: String,
        grant: &Grant,
        lifetime: Duration,
        created_by: String,
    ) -> Result<NewToken, TokenError> {
        self.shared.tokens.create(note, grant, lifetime, created_by)
    }

    /// Revokes a token; waits for the disk. Whether there was one.
    ///
    /// # Errors
    /// [`TokenError`]; it is still in force then.
    pub fn revoke_token(&self, id: &str) -> Result<bool, TokenError> {
        let revoked = self.shared.tokens.revoke(id)?;
        self.changed();
        Ok(revoked)
    }

    /// Root and the daemon's own user may do everything; a user's own rule goes before those of their groups, of
    /// which the first that the file has counts; the daemon's own group may operate.
    fn admit_local(&self, user: u32, groups: &[u32]) -> Result<Caller, Denied> {
        let (own_user, own_group) = self.shared.own;
        let rules = self.rules();
        let of_user = rules.users.iter().find(|(id, _)| *id == user);
        let of_group = || rules.groups.iter().find(|(id, _)| groups.contains(id));
        let grant = if user == 0 || user == own_user {
            Grant::unlimited(Role::Admin)
        } else if let Some((_, grant)) = of_user.or_else(of_group) {
            grant.clone()
        } else if groups.contains(&own_group) {
            Grant::unlimited(Role::Operator)
        } else {
            return Err(Denied::Local { user });
        };
        Ok(Caller { identity: Identity::User(user), grant })
    }

    fn admit_certificate(&self, certificate: &Certificate) -> Result<Caller, Denied> {
        let Certificate { names, expires } = certificate;
        if *expires <= SystemTime::now() {
            return Err(Denied::Expired);
        }
        let rules = self.rules();
        let allowed = rules.certificates.iter().find(|(name, _)| names.contains(name));
        match allowed {
            Some((name, grant)) => Ok(Caller { identity: Identity::Certificate(name.clone()), grant: grant.clone() }),
            None => Err(Denied::Certificate { names: names.join(", ") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::access::Site;

    use super::*;

    fn gate() -> Gate {
        let grant = |role| Grant::unlimited(role);
        let rules = Rules {
            users: vec![(1000, grant(Role::Viewer))],
            groups: vec![(50, grant(Role::Operator)), (51, grant(Role::Admin))],
            certificates: vec![("noc".to_owned(), grant(Role::Viewer))],
            remote: None,
        };
        Gate::of((900, 901), rules, Store::in_memory()).unwrap()
    }

    fn site() -> Arc<Site> {
        Arc::new(Site { address: ([10, 0, 0, 9], 7443).into(), names: [].into() })
    }

    fn role(gate: &Gate, peer: &Peer) -> Option<Role> {
        gate.admit(peer, &HeaderMap::new()).ok().map(|caller| caller.grant.role())
    }

    #[test]
    fn local_users() {
        for (user, groups, expected) in [
            (0, &[0][..], Some(Role::Admin)),
            (900, &[901], Some(Role::Admin)),
            (1000, &[51], Some(Role::Viewer)),
            (1001, &[7, 50], Some(Role::Operator)),
            (1001, &[51, 50], Some(Role::Operator)),
            (1001, &[51], Some(Role::Admin)),
            (1001, &[901], Some(Role::Operator)),
            (1001, &[7], None),
            (1001, &[], None),
        ] {
            let peer = Peer::Local { user, groups: groups.into() };
            assert_eq!(role(&gate(), &peer), expected, "{peer:?}");
        }
    }

    #[test]
    fn certificates() {
        let hour = Duration::from_secs(3600);
        for (names, expires, expected) in [
            (&["a", "noc"][..], SystemTime::now() + hour, Some(Role::Viewer)),
            (&["noc"], SystemTime::now() - hour, None),
            (&["noc.example.net"], SystemTime::now() + hour, None),
            (&[], SystemTime::now() + hour, None),
        ] {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let certificate = Some(Arc::new(Certificate { names, expires }));
            let peer = Peer::Remote { from: ([10, 0, 0, 1], 1).into(), site: site(), certificate };
            assert_eq!(role(&gate(), &peer), expected, "{peer:?}");
        }
        let nobody = Peer::Remote { from: ([10, 0, 0, 1], 1).into(), site: site(), certificate: None };
        assert_eq!(gate().admit(&nobody, &HeaderMap::new()).unwrap_err(), Denied::NothingShown);
    }

    #[test]
    fn other_rules_count_at_once() {
        let gate = gate();
        let peer = Peer::Local { user: 1000, groups: [].into() };
        assert_eq!(role(&gate, &peer), Some(Role::Viewer));
        gate.replace_rules(Rules::default());
        assert_eq!(role(&gate, &peer), None);
    }
}
