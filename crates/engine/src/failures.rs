//! What failed, and when it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mcr_model::RelayName;

use crate::effect::{EffectError, Failure, Subject, Until};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// How soon is asked again for what only takes its time.
const MOMENT: Duration = Duration::from_millis(150);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The failures that stand.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    standing: BTreeMap<Subject, Failure>,
    /// What is tried again just now, as it failed the last time.
    on_trial: BTreeMap<Subject, Failure>,
}

impl Failures {
    pub(crate) fn get(&self, subject: &Subject) -> Option<&Failure> {
        self.standing.get(subject)
    }

    pub(crate) fn stands(&self, subject: &Subject) -> bool {
        self.standing.contains_key(subject)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Whether `subject` failed in just this way the last time, too.
    pub(crate) fn is_known(&self, subject: &Subject, error: &EffectError) -> bool {
        let before = self.standing.get(subject).or_else(|| self.on_trial.get(subject));
        before.is_some_and(|before| before.error == *error)
    }

    /// Another failure of `subject`: the pause before it is tried again doubles, up to a bound.
    pub(crate) fn add(&mut self, now: Duration, subject: Subject, error: EffectError, until: Until) {
        let before = self.standing.remove(&subject).or_else(|| self.on_trial.remove(&subject));
        let before = before.map(|failure| failure.pause);
        let pause = match until {
            Until::Moment => before.unwrap_or(FIRST_PAUSE / 2),
            Until::Pause | Until::RelaysChange => before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)),
        };
        let retry_at = match until {
            Until::Moment => now + MOMENT,
            Until::Pause => now + pause,
            Until::RelaysChange => Duration::MAX,
        };
        self.standing.insert(subject, Failure { error, retry_at, pause });
    }

    /// It worked. Whether it had failed before.
    pub(crate) fn over(&mut self, subject: &Subject) -> bool {
        self.standing.remove(subject).is_some()
    }

    /// Whether it is too soon to try it again.
    pub(crate) fn holds_up(&self, subject: &Subject, now: Duration) -> bool {
        self.standing.get(subject).is_some_and(|failure| failure.retry_at > now)
    }

    pub(crate) fn is_any_due(&self, now: Duration) -> bool {
        self.standing.values().any(|failure| failure.retry_at <= now)
    }

    /// When the next of them is due.
    pub(crate) fn next_retry(&self) -> Option<Duration> {
        self.standing.values().map(|failure| failure.retry_at).min()
    }

    /// What is due and had made relays go elsewhere stands no longer, so that they are tried there again. Whether there
    /// was any.
    pub(crate) fn put_on_trial(&mut self, now: Duration) -> bool {
        let is_due = |subject: &Subject, failure: &Failure| subject.sends_elsewhere() && failure.retry_at <= now;
        let due = self.standing.iter().filter(|(subject, failure)| is_due(subject, failure));
        let due: Vec<Subject> = due.map(|(subject, _)| subject.clone()).collect();
        for subject in &due {
            self.on_trial.extend(self.standing.remove_entry(subject));
        }
        !due.is_empty()
    }

    /// Everything was tried that could be: what nobody wants to be done any more has not failed. Kept, it would be held
    /// against whoever comes next.
    pub(crate) fn settle(&mut self, waiting: &BTreeSet<Subject>, is_wanted: impl Fn(&RelayName) -> bool) {
        self.on_trial.clear();
        self.standing.retain(|subject, _| match subject {
            Subject::Relay(name, _) => is_wanted(name),
            other => other.sends_elsewhere() || waiting.contains(other),
        });
    }

    /// What had no room in a table may have some now, and relay `name` may fit where it did not.
    pub(crate) fn relay_changed(&mut self, name: Option<&RelayName>) {
        let is_it = |subject: &Subject| matches!(subject, Subject::Relay(of, _) if Some(of) == name);
        self.standing.retain(|subject, failure| failure.retry_at != Duration::MAX && !is_it(subject));
    }

    /// Routes changed. Whether any had been missing.
    pub(crate) fn routes_changed(&mut self) -> bool {
        let before = self.standing.len();
        self.standing.retain(|subject, _| !matches!(subject, Subject::NextHop(..)));
        self.standing.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.standing.clear();
        self.on_trial.clear();
    }
}

#[cfg(test)]
mod tests {
    use mcr_model::Datapath;

    use super::*;
    use crate::effect::InputKey;
    use crate::fact::Ifindex;

    /// Nobody asks for it while it stands, so it is put on trial first.
    #[test]
    fn a_table_that_fails_again_is_no_news() {
        let subject = Subject::Table(InputKey { interface: Ifindex(2), datapath: Datapath::Tcx });
        let error = |reason: &str| EffectError { reason: reason.to_owned(), remedy: "none".to_owned() };
        let mut failures = Failures::default();
        assert!(!failures.is_known(&subject, &error("one")));
        failures.add(Duration::ZERO, subject.clone(), error("one"), Until::Pause);
        assert!(failures.put_on_trial(FIRST_PAUSE) && !failures.stands(&subject));
        assert!(failures.is_known(&subject, &error("one")) && !failures.is_known(&subject, &error("another")));
        failures.add(FIRST_PAUSE, subject.clone(), error("one"), Until::Pause);
        assert_eq!(failures.next_retry(), Some(3 * FIRST_PAUSE), "the pause has doubled");
    }
}
