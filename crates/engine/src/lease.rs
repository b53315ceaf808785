//! Leases: relays that go by themselves unless somebody renews them in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mcr_model::status::LeaseStatus;
use mcr_model::{EventKind, Grant, Lease, RelayName};

use crate::engine::Engine;
use crate::rulebook::Refusal;

/// The leases that run, by relay and by their end.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    running: BTreeMap<RelayName, Running>,
    by_end: BTreeSet<(Duration, RelayName)>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    lease: Lease,
    end: Duration,
}

impl Leases {
    fn start(&mut self, now: Duration, name: &RelayName, lease: Lease) {
        self.stop(name);
        let end = now + lease.length();
        self.running.insert(name.clone(), Running { lease, end });
        self.by_end.insert((end, name.clone()));
    }

    /// The relay lives on, or is gone.
    pub(crate) fn stop(&mut self, name: &RelayName) {
        if let Some(Running { end, .. }) = self.running.remove(name) {
            self.by_end.remove(&(end, name.clone()));
        }
    }

    pub(crate) fn status(&self, name: &RelayName, now: Duration) -> Option<LeaseStatus> {
        let Running { lease, end } = self.running.get(name)?;
        let left = end.saturating_sub(now);
        Some(LeaseStatus { seconds: lease.length().as_secs_f64(), seconds_left: left.as_secs_f64() })
    }

    fn ended(&self, now: Duration) -> Vec<(RelayName, Lease)> {
        let ended = self.by_end.iter().take_while(|(end, _)| *end <= now);
        ended.map(|(_, name)| (name.clone(), self.running[name].lease)).collect()
    }
}

impl Engine {
    /// Sets the lease of a relay that the API just made or put: it begins now. Without one the relay lives for good.
    pub fn lend(&mut self, now: Duration, name: &RelayName, lease: Option<Lease>) {
        match lease {
            Some(lease) => self.leases.start(now, name, lease),
            None => self.leases.stop(name),
        }
    }

    /// Begins the lease of a relay anew, with another length if one is given, for somebody with that grant.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing is changed then.
    pub fn renew(
        &mut self,
        now: Duration,
        name: &RelayName,
        lease: Option<Lease>,
        grant: &Grant,
    ) -> Result<(), Refusal> {
        if !self.is_within(name, grant) {
            return Err(Refusal::NotFound { name: name.clone() });
        }
        self.check_api_owns(name)?;
        let running = self.leases.running.get(name).ok_or_else(|| Refusal::NoLease { name: name.clone() })?;
        let lease = lease.unwrap_or(running.lease);
        self.leases.start(now, name, lease);
        Ok(())
    }

    /// Begins a lease anew when its client hears of the relay, however long that took.
    pub fn begin_lease(&mut self, now: Duration, name: &RelayName, lease: Lease) {
        // It may have been removed, or made to stay, meanwhile.
        if self.leases.running.contains_key(name) {
            self.leases.start(now, name, lease);
        }
    }

    /// Removes the relays whose lease is over.
    pub fn end_leases(&mut self, now: Duration) {
        for (name, lease) in self.leases.ended(now) {
            let lease_seconds = lease.length().as_secs_f64();
            self.happened(EventKind::LeaseExpired { relay: name.to_string(), lease_seconds });
            // The file can't have taken it over: relays of the API stay what they are.
            let _ = self.remove(&name);
            self.leases.stop(&name);
        }
    }

    /// When [`Engine::end_leases`] has something to do.
    pub fn next_lease_end(&self) -> Option<Duration> {
        self.leases.by_end.first().map(|(end, _)| *end)
    }
}
