//! Which configuration is in force, and how another one comes in force.
//!
//! The file is a configuration that somebody wrote to a disk, an applied one somebody sent; whoever spoke last is
//! right. So a restart keeps what was applied, unless the file was edited since; a reload reads the file in any case.
//! The daemon never writes the file.

use std::time::{Duration, Instant};

use mcr_engine::{Difference, Refusal, RefusalKind};
use mcr_model::EventKind;
use mcr_model::plan::Plan;
use mcr_model::relay::Relay;
use mcr_model::revision::{Applied, Cause, Revision};
use mcr_model::spec::RelaySpec;
use mcr_model::time::Timestamp;
use mcr_model::trouble::{Trouble, TroubleKind};

use super::Journal;
use crate::config::{self, Configuration};
use crate::control::{Application, ApplyError, Command, Terms};
use crate::store::{self, NewRevision, Pending, Standing, StoreError};

/// How often it is tried to go back when that does not work.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Who acts when nobody asked.
const DAEMON: &str = "the daemon";

impl Journal {
    /// The relays of the start: those of the configuration in force, and those of the API that are stored.
    pub(super) fn begin(&mut self, file: Option<Configuration>) -> Result<(), Vec<Refusal>> {
        let file_hash = file.as_ref().map(|file| store::hash(&file.text));
        let file = file.unwrap_or_default();
        let api = self.stored_relays();
        self.standing = self.store.standing().unwrap_or_else(|error| {
            tracing::error!(%error, "which revision was in force is not known; the file is");
            None
        });
        let mut left_out = None;
        let applied = self.instead_of_the_file(file_hash.as_deref()).unwrap_or_else(|failed| {
            left_out = Some(failed);
            None
        });
        if let Some((configuration, number)) = applied {
            match self.load_all(&configuration, &api) {
                Ok(()) => {
                    self.resume(&configuration, number);
                    return Ok(());
                }
                Err(refusals) => left_out = Some((number, ApplyError::Unfit(refusals).to_string())),
            }
        }
        self.load_all(&file, &api)?;
        self.note_file(&file, file_hash, Cause::Start, DAEMON);
        left_out.iter().for_each(|(number, reason)| self.tell_of_revision(*number, reason));
        Ok(())
    }

    fn load_all(&self, configuration: &Configuration, api: &[Relay]) -> Result<(), Vec<Refusal>> {
        let (relays, api) = (configuration.relays.clone(), api.to_vec());
        let left_out = self.ask(|reply| Command::Begin(relays, api, reply)).unwrap_or_else(|| Ok(Vec::new()))?;
        for refusal in left_out {
            tracing::error!(%refusal, "a relay of the API does not fit beside the file any more and is left out");
            let name = refusal.name().as_str();
            let remedy = if refusal.kind() == RefusalKind::Owned { rename_in_file(name) } else { put_anew(name) };
            self.tell_of_relay(name, &refusal.to_string(), remedy);
        }
        Ok(())
    }

    fn tell_of_relay(&self, name: &str, reason: &str, remedy: String) {
        self.troubles.begin(Trouble {
            kind: TroubleKind::RelayLeftOut,
            relay: Some(name.to_owned()),
            message: format!("relay {name} of the API was left out at the start: {reason}"),
            remedy,
        });
    }

    fn tell_of_revision(&self, number: u64, reason: &str) {
        tracing::error!(reason, "revision {number} can not be in force again; the file is instead");
        self.troubles.begin(Trouble {
            kind: TroubleKind::RevisionLeftOut,
            relay: None,
            message: format!(
                "revision {number} was in force and is not since the start, the file is instead: {reason}"
            ),
            remedy: format!(
                "look at it (`mcr history show {number}`), correct it and apply it again (`mcr apply FILE`), or apply \
                 the file to keep that"
            ),
        });
    }

    fn stored_relays(&mut self) -> Vec<Relay> {
        let specs = self.store.relays().unwrap_or_else(|error| {
            tracing::error!(%error, "the relays of the API can not be read; only those of the file start");
            Vec::new()
        });
        let mut relays = Vec::with_capacity(specs.len());
        for spec in specs {
            match spec.check() {
                Ok(relay) => {
                    self.stored.insert(relay.name().clone(), RelaySpec::from(&relay));
                    relays.push(relay);
                }
                Err(errors) => {
                    let error = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    tracing::error!(relay = spec.name, error, "a stored relay is not valid any more and is left out");
                    self.tell_of_relay(&spec.name, &error, put_anew(&spec.name));
                }
            }
        }
        relays
    }

    /// The revision that a start goes on with although there is a file: one that was applied and not overtaken by an
    /// edit of the file, or the one before it when it was on trial.
    ///
    /// # Errors
    /// The number of one that can't be read any more, and why.
    fn instead_of_the_file(&self, file_hash: Option<&str>) -> Result<Option<(Configuration, u64)>, (u64, String)> {
        let Some(standing) = self.standing.as_ref() else { return Ok(None) };
        let overtaken = standing.file_hash.as_deref() != file_hash;
        let is_file = standing.pending.is_none() && Some(standing.hash.as_str()) == file_hash;
        if overtaken || is_file {
            return Ok(None);
        }
        let number = standing.pending.as_ref().map_or(standing.revision, |pending| pending.previous);
        let found = self.revision(number).map_err(|error| (number, error.to_string()))?;
        Ok(Some((found, number)))
    }

    /// After a start with revision `number`: the same as before, or back to it because nobody confirmed the next one.
    fn resume(&mut self, configuration: &Configuration, number: u64) {
        let Some(Standing { revision, file_hash, pending, .. }) = self.standing.clone() else { return };
        if pending.is_none() {
            tracing::info!("revision {number} is in force as before: it was applied after the file was written");
            return;
        }
        tracing::warn!("revision {revision} was not confirmed before the daemon ended; {number} is in force again");
        let terms = Terms { by: DAEMON.to_owned(), note: Some(back_to(number)), ..Terms::default() };
        if let Err(error) = self.revise(configuration, Cause::Unconfirmed, terms, file_hash) {
            tracing::error!(%error, "the revision is not recorded");
        }
    }

    /// The file, read again.
    pub(super) fn reload(&mut self, file: &Configuration) -> Result<Difference, ApplyError> {
        let difference = self.load(file)?;
        self.note_file(file, Some(store::hash(&file.text)), Cause::Reload, "SIGHUP");
        Ok(difference)
    }

    /// Records that the file is in force. It outlives the daemon without the store, so a store that refuses is told
    /// and no more.
    fn note_file(&mut self, file: &Configuration, file_hash: Option<String>, cause: Cause, by: &str) {
        let noted = match self.standing.clone().filter(|standing| standing.hash == store::hash(&file.text)) {
            Some(same) => self.stand(Standing { file_hash, pending: None, ..same }),
            None => {
                let terms = Terms { by: by.to_owned(), ..Terms::default() };
                self.revise(file, cause, terms, file_hash).map(drop)
            }
        };
        if let Err(error) = noted {
            tracing::error!(%error, "the configuration is in force, but is not recorded as a revision");
        }
    }

    pub(super) fn apply(&mut self, application: Application) -> Result<Applied, ApplyError> {
        let Application { configuration, terms } = application;
        if let Some(Standing { revision, pending: Some(Pending { until, .. }), .. }) = self.standing {
            return Err(ApplyError::OnTrial { revision, until });
        }
        self.put_in_force(&configuration, Cause::Apply, terms)
    }

    /// Back to revision `to`, or to what was in force before the present one.
    pub(super) fn roll_back(&mut self, to: Option<u64>, terms: Terms) -> Result<Applied, ApplyError> {
        let to = match to {
            Some(to) => to,
            None => self.revision_before()?,
        };
        let configuration = self.revision(to)?;
        let note = terms.note.or_else(|| Some(back_to(to)));
        self.put_in_force(&configuration, Cause::Rollback, Terms { note, ..terms })
    }

    fn put_in_force(&mut self, wanted: &Configuration, cause: Cause, terms: Terms) -> Result<Applied, ApplyError> {
        self.check_expected(&terms)?;
        let plan = self.plan(wanted)?;
        let confirm = terms.confirm;
        let (revision, pending) = match self.same_as_in_force(wanted)? {
            Some(revision) => (revision, None),
            None => self.revise(wanted, cause, terms, self.hash_of_file())?,
        };
        self.load(wanted)?;
        if pending.is_some() {
            self.begin_trial(confirm);
        }
        let confirm_until = pending.map(|pending| pending.until);
        tracing::info!(
            revision = revision.number,
            by = revision.by,
            cause = cause.name(),
            "a configuration is applied"
        );
        Ok(Applied { plan, revision, confirm_until })
    }

    fn check_expected(&self, terms: &Terms) -> Result<(), ApplyError> {
        match (terms.expected, self.standing.as_ref()) {
            (Some(expected), Some(standing)) if standing.revision != expected => {
                Err(ApplyError::Superseded { expected, in_force: standing.revision })
            }
            _ => Ok(()),
        }
    }

    /// The revision in force when it has exactly this text. It stays, and a trial of it ends: somebody wants it.
    fn same_as_in_force(&mut self, wanted: &Configuration) -> Result<Option<Revision>, ApplyError> {
        let Some(same) = self.standing.clone().filter(|standing| standing.hash == store::hash(&wanted.text)) else {
            return Ok(None);
        };
        let revision = self.store.revision(same.revision)?;
        if revision.is_some() {
            self.stand(Standing { file_hash: self.hash_of_file(), pending: None, ..same })?;
        }
        Ok(revision.map(|(revision, _)| revision))
    }

    pub(super) fn confirm(&mut self, by: &str) -> Result<Revision, ApplyError> {
        let standing = self.standing.clone().filter(|standing| standing.pending.is_some());
        let standing = standing.ok_or(ApplyError::NothingToConfirm)?;
        let number = standing.revision;
        let (revision, _) = self.store.revision(number)?.ok_or(ApplyError::NoRevision { number })?;
        self.stand(Standing { pending: None, ..standing })?;
        tracing::info!(revision = number, by, "the configuration is confirmed");
        Ok(revision)
    }

    /// Nobody confirmed: what was before is in force again. Where it can't be, because it does not fit beside what the API
    /// made meanwhile or because the disk refuses, it is tried again until it can, or until somebody confirms or goes
    /// elsewhere.
    pub(super) fn end_trial(&mut self) {
        self.trial_ends = None;
        let Some(Standing { revision, file_hash, pending: Some(Pending { previous, .. }), .. }) = self.standing.clone()
        else {
            return;
        };
        let back = self.revision(previous).and_then(|configuration| {
            // What the disk refuses may not be in force either: it would not be what is told.
            self.plan(&configuration)?;
            let terms = Terms { by: DAEMON.to_owned(), note: Some(back_to(previous)), ..Terms::default() };
            self.revise(&configuration, Cause::Unconfirmed, terms, file_hash)?;
            self.load(&configuration)?;
            Ok(())
        });
        match back {
            Ok(()) => tracing::warn!("revision {revision} was not confirmed in time; {previous} is in force again"),
            Err(error) => {
                self.trial_ends = Some(Instant::now() + TRY_AGAIN);
                self.tell_of_rollback(revision, previous, error.to_string());
            }
        }
    }

    fn tell_of_rollback(&self, revision: u64, previous: u64, reason: String) {
        let news = self.troubles.begin(Trouble {
            kind: TroubleKind::RollbackOverdue,
            relay: None,
            message: format!(
                "revision {revision} was not confirmed in time and is still in force: going back to {previous} does not \
                 work: {reason}"
            ),
            remedy: format!(
                "clear what is in its way (it is tried again every {} s), or keep revision {revision} (`mcr confirm`)",
                TRY_AGAIN.as_secs()
            ),
        });
        if news {
            tracing::error!(
                reason,
                "revision {revision} was not confirmed in time, and {previous} can not come back yet"
            );
            self.events.publish([EventKind::RollbackFailed { revision, previous, reason }]);
        }
    }

    /// Another configuration is in force, or it is known that this one stays.
    fn trial_is_over(&mut self) {
        self.trial_ends = None;
        self.troubles.end(TroubleKind::RollbackOverdue, None);
    }

    fn revision_before(&self) -> Result<u64, ApplyError> {
        let standing = self.standing.as_ref().ok_or(ApplyError::NothingEarlier)?;
        if let Some(pending) = &standing.pending {
            return Ok(pending.previous);
        }
        let revisions = self.store.revisions()?;
        let mut earlier = revisions.iter().rev().filter(|revision| revision.number < standing.revision);
        let other = earlier.find(|revision| revision.hash != standing.hash);
        other.map(|revision| revision.number).ok_or(ApplyError::NothingEarlier)
    }

    fn revision(&self, number: u64) -> Result<Configuration, ApplyError> {
        let (_, text) = self.store.revision(number)?.ok_or(ApplyError::NoRevision { number })?;
        config::parse(&format!("revision {number}"), text).map_err(ApplyError::Unusable)
    }

    fn plan(&self, wanted: &Configuration) -> Result<Plan, ApplyError> {
        let relays = wanted.relays.clone();
        self.ask(|reply| Command::Plan(relays, reply)).unwrap_or_else(|| Ok(Plan::default())).map_err(ApplyError::Unfit)
    }

    fn load(&self, wanted: &Configuration) -> Result<Difference, ApplyError> {
        let relays = wanted.relays.clone();
        let loaded = self.ask(|reply| Command::LoadFile(relays, reply));
        loaded.unwrap_or_else(|| Ok(Difference::default())).map_err(ApplyError::Unfit)
    }

    fn revise(
        &mut self,
        wanted: &Configuration,
        cause: Cause,
        terms: Terms,
        file_hash: Option<String>,
    ) -> Result<(Revision, Option<Pending>), StoreError> {
        let Terms { by, note, confirm, expected: _ } = terms;
        let (revision, standing) = self.store.revise(NewRevision {
            by,
            cause,
            note,
            text: wanted.text.clone(),
            relays: wanted.relays.len(),
            file_hash,
            confirm_until: confirm.map(|confirm| Timestamp::now().after(confirm)),
        })?;
        let pending = standing.pending.clone();
        self.standing = Some(standing);
        self.trial_is_over();
        self.troubles.end(TroubleKind::RevisionLeftOut, None);
        Ok((revision, pending))
    }

    fn stand(&mut self, standing: Standing) -> Result<(), StoreError> {
        if self.standing.as_ref() != Some(&standing) {
            self.store.set_standing(&standing)?;
        }
        if standing.pending.is_none() {
            self.trial_is_over();
        }
        self.standing = Some(standing);
        Ok(())
    }

    /// The hash of the file as it is now: what tells after a restart whether it was edited since.
    fn hash_of_file(&self) -> Option<String> {
        let path = self.file.as_deref()?;
        config::read_text(path).map(|text| store::hash(&text)).ok()
    }
}

/// What to do about a relay of the API whose name the file has taken.
fn rename_in_file(name: &str) -> String {
    format!(
        "give the one in the file another name and start the daemon again; or remove the one of the API for good \
         (`mcr rm {name}`; that of the file stays)"
    )
}

/// What to do about a relay that was left out for what it is.
fn put_anew(name: &str) -> String {
    format!(
        "put it anew (`mcr add {name} --replace …`) or remove it (`mcr rm {name}`); or clear what is in its way and start \
         the daemon again"
    )
}

fn back_to(number: u64) -> String {
    format!("back to revision {number}")
}
