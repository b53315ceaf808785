//! The backend as its caller may use it: what handlers have instead of the backend itself.
//!
//! A caller whose access is limited to interfaces or groups sees the relays that are wholly within, and no trace of
//! others. What has no narrower form is for callers without such a limit ([`Scoped::whole`]).
//!
//! Whether a relay that is there is within the limits is decided where it is looked at or changed: the grant goes with
//! the call, so that no other relay can take its name in between.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use mcr_diagnose::Link;
use mcr_engine::{Refusal, Replaced, Step};
use mcr_model::flow::{AnnouncedSession, FlowReport, FlowStatus};
use mcr_model::rejoin::RejoinReport;
use mcr_model::relay::Relay;
use mcr_model::status::{DaemonStatus, InterfaceStatus, RelayHistory, RelayStatus};
use mcr_model::{Grant, Lease, RelayName, WaitFor};

use super::rejection::Rejection;
use super::tag::Expected;
use super::{Backend, Shared};
use crate::access::{Caller, Denied};
use crate::control::{Claim, Waited};
use crate::events::{From, Reader};
use crate::lookout::Chosen;

/// The backend for one caller.
pub(super) struct Scoped<B> {
    backend: B,
    grant: Grant,
}

impl<B: Backend> FromRequestParts<Shared<B>> for Scoped<B> {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, state: &Shared<B>) -> Result<Self, Rejection> {
        let caller = head.extensions.get::<Caller>().ok_or_else(|| Rejection::not_admitted(&Denied::NothingShown))?;
        Ok(Self { backend: state.backend.clone(), grant: caller.grant.clone() })
    }
}

impl<B: Backend> Scoped<B> {
    /// The backend without limits.
    ///
    /// # Errors
    /// When the caller's access is limited.
    pub(super) fn whole(&self) -> Result<&B, Rejection> {
        if self.grant.is_unlimited() { Ok(&self.backend) } else { Err(Rejection::limited()) }
    }

    /// The relays that the caller may see.
    pub(super) async fn relays(&self) -> Vec<RelayStatus> {
        let mut relays = self.backend.relays().await;
        if !self.grant.is_unlimited() {
            relays.retain(|status| self.may_see(status));
        }
        relays.into_iter().map(|status| self.shown(status)).collect()
    }

    pub(super) async fn relay(&self, name: &RelayName) -> Result<RelayStatus, Rejection> {
        let status = self.backend.relay(name).await.filter(|status| self.may_see(status));
        let status = status.ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
        Ok(self.shown(status))
    }

    pub(super) async fn create(&self, relay: Relay, lease: Option<Lease>) -> Result<RelayStatus, Rejection> {
        self.check(&relay)?;
        Ok(self.shown(self.backend.create(relay, lease).await?))
    }

    /// The relay as it was has to be within the limits, too.
    pub(super) async fn replace(
        &self,
        relay: Relay,
        lease: Option<Lease>,
        expected: &Expected,
    ) -> Result<(Replaced, RelayStatus), Rejection> {
        self.check(&relay)?;
        let claim = self.claim(relay.name(), expected).await?;
        let (replaced, status) = self.backend.replace(relay, lease, claim).await?;
        Ok((replaced, self.shown(status)))
    }

    pub(super) async fn renew(&self, name: RelayName, lease: Option<Lease>) -> Result<RelayStatus, Rejection> {
        Ok(self.shown(self.backend.renew(name, lease, self.grant.clone()).await?))
    }

    pub(super) async fn relay_history(
        &self,
        name: RelayName,
        step: Step,
        last: Option<Duration>,
    ) -> Result<RelayHistory, Rejection> {
        let found = self.backend.relay_history(name.clone(), step, last, self.grant.clone()).await;
        Ok(found.ok_or(Refusal::NotFound { name })?)
    }

    pub(super) async fn remove(&self, name: RelayName, expected: &Expected) -> Result<(), Rejection> {
        let claim = self.claim(&name, expected).await?;
        Ok(self.backend.remove(name, claim).await?)
    }

    /// What has to be so of a relay for this caller to change it. It is decided once more when the change is made.
    async fn claim(&self, name: &RelayName, expected: &Expected) -> Result<Claim, Rejection> {
        let premise = match expected {
            Expected::OneOf(_) => expected.premise(name, self.relay(name).await.ok().as_ref())?,
            Expected::Anything | Expected::Present | Expected::Absent => expected.premise(name, None)?,
        };
        Ok(Claim { grant: self.grant.clone(), premise })
    }

    pub(super) async fn wait(&self, name: RelayName, condition: WaitFor, timeout: Duration) -> Waited {
        match self.backend.wait(name, condition, timeout, self.grant.clone()).await {
            Waited::Reached(status) => Waited::Reached(self.shown(status)),
            Waited::TimedOut(status) => Waited::TimedOut(self.shown(status)),
            Waited::NotFound => Waited::NotFound,
        }
    }

    /// What happens, as far as it is any business of the caller.
    pub(super) fn events(&self, from: From<'_>) -> Reader {
        self.backend.events().read(from, self.grant.clone())
    }

    pub(super) async fn interfaces(&self) -> Vec<InterfaceStatus> {
        let mut interfaces = self.backend.interfaces().await;
        interfaces.retain(|interface| self.grant.has_interface(&interface.name));
        interfaces
    }

    /// The flows that the caller may see. Numbers of a whole interface are not told to a limited one, nor are sessions that
    /// were announced for others' groups.
    pub(super) fn flows(&self) -> FlowReport {
        let mut report = self.backend.flows();
        if !self.grant.is_unlimited() {
            report.interfaces.retain(|name| self.grant.has_interface(name));
            let is_seen =
                |flow: &FlowStatus| self.grant.has_interface(&flow.interface) && self.grant.has_address(flow.group);
            report.flows.retain(is_seen);
            let flows = &report.flows;
            let is_of_one = |session: &AnnouncedSession| flows.iter().any(|flow| flow.is_of(session));
            report.sessions.retain(is_of_one);
            report.refused_packets.clear();
            (report.missed_packets, report.unlisted_packets) = (0, 0);
        }
        report
    }

    pub(super) async fn look(&self, links: Vec<Link>, length: Duration, chosen: Chosen) -> Result<(), Rejection> {
        Ok(self.backend.look(links, length, chosen).await?)
    }

    pub(super) async fn rejoin(&self, name: Option<String>) -> Option<RejoinReport> {
        self.backend.rejoin(name, self.grant.clone()).await
    }

    pub(super) fn has_interface(&self, name: &str) -> bool {
        self.grant.has_interface(name)
    }

    /// Refuses names of interfaces that the caller is not limited to.
    pub(super) fn check_interfaces(&self, names: &[String]) -> Result<(), Rejection> {
        let mut fields = names.iter().enumerate().map(|(i, name)| (format!("interfaces[{i}]"), name));
        let checked = fields.try_for_each(|(field, name)| self.grant.check_interface(&field, name));
        checked.map_err(|outside| Rejection::outside(&outside))
    }

    pub(super) async fn status(&self) -> DaemonStatus {
        let mut status = self.backend.status().await;
        if !self.grant.is_unlimited() {
            // They name relays and files.
            status.troubles.clear();
        }
        status
    }

    /// The status of a relay that the caller may see, without the names of others.
    fn shown(&self, mut status: RelayStatus) -> RelayStatus {
        if !self.grant.is_unlimited() {
            status.left_to.clear();
            status.taken_from.clear();
        }
        status
    }

    fn check(&self, relay: &Relay) -> Result<(), Rejection> {
        self.grant.check(relay).map_err(|outside| Rejection::outside(&outside))
    }

    fn may_see(&self, status: &RelayStatus) -> bool {
        self.grant.is_unlimited() || status.relay.check().is_ok_and(|relay| self.grant.check(&relay).is_ok())
    }
}
