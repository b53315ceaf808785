//! What the keeper tells of itself: somebody has disturbed its one-way rules, or it hears no membership queries.

use std::time::Duration;

use mcr_datapath::clock;
use mcr_model::trouble::{Trouble, TroubleKind};
use mcr_model::{EventKind, RelayName};
use mcr_netd::{Disturbance, DisturbanceOutcome};

/// A disturbance that was mended is told for so long.
const TOLD_FOR: Duration = Duration::from_secs(3600);

/// How it stands with the one-way rules of the keeper's policy.
#[derive(Debug)]
pub(super) struct Rules {
    /// What was read last.
    known: Disturbance,
    /// When that keeper came to be listened to, by `CLOCK_MONOTONIC`: what was before is no news.
    since: Duration,
}

impl Rules {
    /// Nothing is known yet of a keeper that is listened to from now on.
    pub(super) fn of_keeper() -> Self {
        Self { known: Disturbance::default(), since: Duration::from_nanos(clock::monotonic_nanoseconds()) }
    }

    /// What the keeper has written down; the event of it, if it is news.
    pub(super) fn learn(&mut self, disturbance: Disturbance) -> Option<EventKind> {
        let before = std::mem::replace(&mut self.known, disturbance);
        // The keeper writes down whole milliseconds.
        let is_recent = disturbance.last.as_millis() >= self.since.as_millis();
        (disturbance.times != before.times && disturbance.times > 0 && is_recent)
            .then_some(EventKind::OneWayDisturbed { times: disturbance.times.into(), mended: is_mended(&disturbance) })
    }

    /// What an administrator has to do about it, if it is not long over.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let Disturbance { times, last, .. } = self.known;
        let ago = Duration::from_nanos(clock::monotonic_nanoseconds()).saturating_sub(last);
        let times = match times {
            0 => return None,
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        let (message, remedy) = if is_mended(&self.known) {
            (
                format!(
                    "somebody has changed or removed the one-way rules of the keeper's policy {times}, last {} s ago; they were \
                     made anew at once",
                    ago.as_secs()
                ),
                "keep `nft flush ruleset` from them: have the firewall replace its own tables only",
            )
        } else {
            (
                "somebody has removed the one-way rules of the keeper's policy, and they can not be made anew: nothing is opened"
                    .to_owned(),
                "see the log of mcr-netd, and restart it when nftables works",
            )
        };
        let is_told = !is_mended(&self.known) || ago < TOLD_FOR;
        is_told.then(|| Trouble { kind: TroubleKind::OneWayDisturbed, relay: None, message, remedy: remedy.to_owned() })
    }
}

fn is_mended(disturbance: &Disturbance) -> bool {
    disturbance.outcome == DisturbanceOutcome::Mended
}

/// This relay needs to hear who asks for memberships or wants them, and the keeper can not.
pub(super) fn unheard(relay: &RelayName) -> Trouble {
    Trouble {
        kind: TroubleKind::MembershipsUnheard,
        relay: None,
        message: format!(
            "the keeper hears and sends no IGMP and MLD, which {relay} was configured for (querier, on_demand): they are filtered, or \
             the kernel has none"
        ),
        remedy: "where systemd starts it, let them through by contrib/systemd/queriers.conf and restart mcr-netd; else use a \
                 kernel with CONFIG_IP_MULTICAST"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disturbance_is_told_once_and_stands_for_an_hour() {
        let told = |times, last| Disturbance { times, last, outcome: DisturbanceOutcome::Mended };
        let mut rules = Rules::of_keeper();
        let now = rules.since;
        assert_eq!(rules.learn(told(0, Duration::ZERO)), None);
        assert_eq!(rules.trouble(), None);
        assert_eq!(rules.learn(told(2, now)), Some(EventKind::OneWayDisturbed { times: 2, mended: true }));
        assert_eq!(rules.learn(told(2, now)), None);
        let trouble = rules.trouble().expect("it is told");
        assert!(trouble.message.contains("2 times, last 0 s ago"), "{}", trouble.message);
        let broken = Disturbance { outcome: DisturbanceOutcome::Broken, ..told(3, now) };
        assert_eq!(rules.learn(broken), Some(EventKind::OneWayDisturbed { times: 3, mended: false }));
        assert!(rules.trouble().expect("it stands").message.contains("can not be made anew"));
    }
    #[test]
    fn what_was_before_is_no_event_and_stands_all_the_same() {
        let mut rules = Rules::of_keeper();
        let last = rules.since - Duration::from_millis(2);
        let before = Disturbance { times: 2, last, outcome: DisturbanceOutcome::Mended };
        assert_eq!(rules.learn(before), None);
        assert!(rules.trouble().is_some());
        let since = Disturbance { times: 3, last: rules.since, ..before };
        assert_eq!(rules.learn(since), Some(EventKind::OneWayDisturbed { times: 3, mended: true }));
    }
}
