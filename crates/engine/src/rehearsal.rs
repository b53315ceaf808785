//! What would become of changes, before any is made: a change is stored only when it is known to fit, and in force
//! only when it is stored.

use std::collections::BTreeMap;

use mcr_model::relay::Relay;
use mcr_model::status::Origin;
use mcr_model::{Grant, RelayName};

use crate::engine::Engine;
use crate::rulebook::Refusal;

/// A change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// As [`Engine::create`].
    Create(Relay),
    /// As [`Engine::replace`].
    Replace(Relay, Premise),
    /// As [`Engine::remove`].
    Remove(RelayName, Premise),
}

/// What a relay has to be for it to be changed: somebody who changes what they looked at does not undo what another
/// changed since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Premise {
    /// Whatever it is, or that there is none.
    #[default]
    Anything,
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// It is exactly this one.
    Is(Box<Relay>),
}

impl Premise {
    fn check(&self, name: &RelayName, present: Option<&Relay>) -> Result<(), Refusal> {
        let holds = match self {
            Self::Anything => true,
            Self::Present => present.is_some(),
            Self::Absent if present.is_some() => return Err(Refusal::Unexpected { name: name.clone() }),
            Self::Absent => true,
            Self::Is(relay) => present == Some(relay),
        };
        if holds { Ok(()) } else { Err(Refusal::Superseded { name: name.clone() }) }
    }
}

/// How a tried change is taken back.
enum Undo {
    Strike(Relay),
    Restore(Relay),
}

/// The relays as they would be: those that the earlier wishes touched; `None`: removed.
type Tried = BTreeMap<RelayName, Option<Relay>>;

impl Engine {
    /// What would become of `wishes`, each of somebody with that grant, one after the other: whose each relay is, or why
    /// not. Nothing is changed.
    ///
    /// Whether a relay is the caller's to change is decided here, of the relay as it is when its turn comes, and not
    /// before: until then it may be another one.
    pub fn rehearse(&mut self, wishes: &[(Wish, Grant)]) -> Vec<Result<Origin, Refusal>> {
        let (mut tried, mut undo) = (Tried::new(), Vec::new());
        let results = wishes.iter().map(|wish| self.rehearse_one(wish, &mut tried, &mut undo)).collect();
        for step in undo.into_iter().rev() {
            match step {
                Undo::Strike(relay) => self.rulebook.strike(&relay),
                Undo::Restore(relay) => self.rulebook.restore(&relay),
            }
        }
        results
    }

    fn rehearse_one(
        &mut self,
        (wish, grant): &(Wish, Grant),
        tried: &mut Tried,
        undo: &mut Vec<Undo>,
    ) -> Result<Origin, Refusal> {
        match wish {
            Wish::Create(relay) => {
                if let Some((_, origin)) = self.present(relay.name(), tried) {
                    self.check_owned(relay.name(), origin)?;
                    return Err(Refusal::Exists { name: relay.name().clone() });
                }
                self.try_relay(relay, grant, tried, undo)
            }
            Wish::Replace(relay, premise) => {
                let Some((old, origin)) = self.present(relay.name(), tried) else {
                    premise.check(relay.name(), None)?;
                    return self.try_relay(relay, grant, tried, undo);
                };
                if !grant.has(&old) {
                    return Err(Refusal::Foreign { name: relay.name().clone() });
                }
                premise.check(relay.name(), Some(&old))?;
                if old == *relay {
                    return Ok(origin);
                }
                self.check_owned(relay.name(), origin)?;
                self.rulebook.strike(&old);
                match self.try_relay(relay, grant, tried, undo) {
                    Ok(origin) => {
                        // Taken back last to first: the new one is struck before the old one is there again.
                        undo.insert(undo.len() - 1, Undo::Restore(old));
                        Ok(origin)
                    }
                    Err(refusal) => {
                        self.rulebook.restore(&old);
                        Err(refusal)
                    }
                }
            }
            Wish::Remove(name, premise) => {
                let present = self.present(name, tried).filter(|(relay, _)| grant.has(relay));
                let (old, origin) = present.ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
                premise.check(name, Some(&old))?;
                self.check_owned(name, origin)?;
                self.rulebook.strike(&old);
                undo.push(Undo::Restore(old));
                tried.insert(name.clone(), None);
                Ok(Origin::Api)
            }
        }
    }

    fn try_relay(
        &mut self,
        relay: &Relay,
        grant: &Grant,
        tried: &mut Tried,
        undo: &mut Vec<Undo>,
    ) -> Result<Origin, Refusal> {
        self.check_taken(relay, grant, tried)?;
        self.rulebook.admit(relay)?;
        undo.push(Undo::Strike(relay.clone()));
        tried.insert(relay.name().clone(), Some(relay.clone()));
        Ok(Origin::Api)
    }

    /// Whether what the relay takes from others, as it names it more exactly, is the caller's to take.
    fn check_taken(&self, relay: &Relay, grant: &Grant, tried: &Tried) -> Result<(), Refusal> {
        if grant.is_unlimited() {
            return Ok(());
        }
        let is_foreign = |name| self.present(name, tried).is_some_and(|(other, _)| !grant.has(&other));
        if self.rulebook.yielding_to(relay.input()).any(is_foreign) {
            return Err(Refusal::TakesForeign { name: relay.name().clone(), input: relay.input().to_string() });
        }
        Ok(())
    }

    fn present(&self, name: &RelayName, tried: &Tried) -> Option<(Relay, Origin)> {
        match tried.get(name) {
            Some(relay) => relay.clone().map(|relay| (relay, Origin::Api)),
            None => self.relays.get(name).map(|entry| (entry.relay.as_ref().clone(), entry.origin)),
        }
    }
}
