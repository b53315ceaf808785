//! A backend without a network: the real engine, so that refusals are the real ones, and nothing that carries out
//! what it decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcr_daemon::Waited;
use mcr_daemon::api::Backend;
use mcr_daemon::config::Configuration;
use mcr_daemon::control::{Application, ApplyError, ChangeError, Claim, Terms};
use mcr_daemon::events::EventLog;
use mcr_daemon::lookout::Chosen;
use mcr_daemon::store::{NewRevision, Store, StoreError};
use mcr_diagnose::Link;
use mcr_engine::{Engine, Refusal, Replaced, Step, Wish};
use mcr_model::flow::{FlowReport, FlowStatus};
use mcr_model::plan::Plan;
use mcr_model::rejoin::RejoinReport;
use mcr_model::relay::Relay;
use mcr_model::revision::{Applied, Cause, History, Revision, RevisionText};
use mcr_model::status::{DaemonStatus, InterfaceStatus, RelayHistory, RelayStatus};
use mcr_model::time::Timestamp;
use mcr_model::trouble::{Trouble, TroubleKind};
use mcr_model::{Grant, Lease, RelayName, RelayState, WaitFor};
use mcr_netd::KeeperError;

#[derive(Clone)]
pub(crate) struct Bench(Arc<Mutex<Engine>>, Store, EventLog);

impl Bench {
    /// An engine with the relays of `file`, a configuration.
    pub(crate) fn with_file(file: &str) -> Self {
        let mut engine = Engine::new("/etc/mcr/mcr.toml");
        engine.load_file(mcr_daemon::config::check_text("mcr.toml", file).unwrap()).unwrap();
        let bench = Self(Arc::new(Mutex::new(engine)), Store::in_memory(), EventLog::new());
        let terms = Terms { by: "the daemon".to_owned(), ..Terms::default() };
        bench.revise(file.to_owned(), terms).unwrap();
        bench
    }

    fn revise(&self, text: String, terms: Terms) -> Result<Revision, StoreError> {
        let Terms { by, note, confirm: _, expected: _ } = terms;
        let relays = text.matches("[[relay]]").count();
        let new = NewRevision { by, cause: Cause::Apply, note, text, relays, file_hash: None, confirm_until: None };
        Ok(timeless(self.1.revise(new)?.0))
    }

    fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.0.lock().unwrap()
    }

    fn rehearse(&self, wish: Wish, grant: Grant) -> Result<(), Refusal> {
        self.engine().rehearse(&[(wish, grant)]).remove(0).map(drop)
    }

    fn status_of(&self, name: &RelayName) -> Option<RelayStatus> {
        self.engine().status(name, Duration::ZERO)
    }
}

/// The same at any time, for snapshots.
fn timeless(revision: Revision) -> Revision {
    Revision { time: Timestamp::from_unix_seconds(0), ..revision }
}

impl Backend for Bench {
    /// No group is ever joined here.
    async fn rejoin(&self, name: Option<String>, grant: Grant) -> Option<RejoinReport> {
        self.engine().joined_for(name.as_deref(), &grant)?;
        Some(RejoinReport::default())
    }

    async fn relays(&self) -> Vec<RelayStatus> {
        self.engine().statuses(Duration::ZERO)
    }

    async fn relay(&self, name: &RelayName) -> Option<RelayStatus> {
        self.status_of(name)
    }

    async fn create(&self, relay: Relay, lease: Option<Lease>) -> Result<RelayStatus, ChangeError> {
        let name = relay.name().clone();
        self.engine().create(relay)?;
        self.engine().lend(Duration::ZERO, &name, lease);
        self.2.publish(self.engine().take_events());
        Ok(self.status_of(&name).unwrap())
    }

    async fn replace(
        &self,
        relay: Relay,
        lease: Option<Lease>,
        Claim { grant, premise }: Claim,
    ) -> Result<(Replaced, RelayStatus), ChangeError> {
        let name = relay.name().clone();
        self.rehearse(Wish::Replace(relay.clone(), premise), grant)?;
        let replaced = self.engine().replace(relay)?;
        self.engine().lend(Duration::ZERO, &name, lease);
        Ok((replaced, self.status_of(&name).unwrap()))
    }

    async fn renew(&self, name: RelayName, lease: Option<Lease>, grant: Grant) -> Result<RelayStatus, Refusal> {
        self.engine().renew(Duration::ZERO, &name, lease, &grant)?;
        Ok(self.status_of(&name).unwrap())
    }

    /// Nothing has been carried yet.
    async fn relay_history(
        &self,
        name: RelayName,
        step: Step,
        _: Option<Duration>,
        grant: Grant,
    ) -> Option<RelayHistory> {
        if !self.engine().is_within(&name, &grant) {
            return None;
        }
        let track = self.engine().history(&name, step)?;
        assert!(track.samples.is_empty());
        Some(RelayHistory {
            relay: name.to_string(),
            step_seconds: step.length().as_secs(),
            start: "1970-01-01T00:00:00.000Z".to_owned(),
            received_packets: Vec::new(),
            received_bytes: Vec::new(),
            dropped_packets: Vec::new(),
        })
    }

    fn events(&self) -> &EventLog {
        &self.2
    }

    async fn remove(&self, name: RelayName, Claim { grant, premise }: Claim) -> Result<(), ChangeError> {
        self.rehearse(Wish::Remove(name.clone(), premise), grant)?;
        self.engine().remove(&name)?;
        self.2.publish(self.engine().take_events());
        Ok(())
    }

    async fn plan(&self, relays: Vec<Relay>) -> Result<Plan, Vec<Refusal>> {
        self.engine().preview(&relays, &BTreeMap::new())
    }

    /// Nothing here is ever on trial.
    async fn apply(&self, application: Application) -> Result<Applied, ApplyError> {
        let Application { configuration: Configuration { text, relays }, terms } = application;
        let plan = self.engine().preview(&relays, &BTreeMap::new()).map_err(ApplyError::Unfit)?;
        self.engine().load_file(relays).map_err(ApplyError::Unfit)?;
        let revision = self.revise(text, terms)?;
        Ok(Applied { plan, revision, confirm_until: None })
    }

    async fn roll_back(&self, to: Option<u64>, terms: Terms) -> Result<Applied, ApplyError> {
        let number = to.ok_or(ApplyError::NothingEarlier)?;
        let (_, text) = self.1.revision(number)?.ok_or(ApplyError::NoRevision { number })?;
        let configuration = mcr_daemon::config::parse("revision", text).map_err(ApplyError::Unusable)?;
        self.apply(Application { configuration, terms }).await
    }

    async fn confirm(&self, _: String) -> Result<Revision, ApplyError> {
        Err(ApplyError::NothingToConfirm)
    }

    async fn history(&self) -> Result<History, StoreError> {
        let in_force = self.1.standing()?.map(|standing| standing.revision);
        Ok(History {
            in_force,
            confirm_until: None,
            revisions: self.1.revisions()?.into_iter().map(timeless).collect(),
        })
    }

    async fn revision(&self, number: u64) -> Result<Option<RevisionText>, StoreError> {
        let found = self.1.revision(number)?;
        Ok(found.map(|(revision, text)| RevisionText { revision: timeless(revision), text }))
    }

    async fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.engine().interfaces()
    }

    async fn status(&self) -> DaemonStatus {
        let relays = RelayState::ALL.iter().map(|state| (state.name().to_owned(), 0)).collect();
        DaemonStatus {
            version: "1.2.3".to_owned(),
            pid: 42,
            uptime_seconds: 7.5,
            config: Some("/etc/mcr/mcr.toml".to_owned()),
            relays,
            keeper_pid: Some(41),
            troubles: vec![Trouble {
                kind: TroubleKind::RelayLeftOut,
                relay: Some("theirs".to_owned()),
                message: "relay theirs of the API was left out at the start".to_owned(),
                remedy: "put it anew".to_owned(),
            }],
            confinement: None,
        }
    }

    /// Two flows: one of what a limited caller has to do with, and one of something else.
    fn flows(&self) -> FlowReport {
        let flow = |interface: &str, group: &str| FlowStatus {
            interface: interface.to_owned(),
            vlan: None,
            outer_vlan: None,
            source: [192, 168, 168, 55].into(),
            source_port: 5000,
            group: group.parse().unwrap(),
            port: 5001,
            source_mac: "02:00:00:00:00:01".to_owned(),
            maker: None,
            ttl: 1,
            dscp: 0,
            packets: 7,
            bytes: 700,
            largest_packet_bytes: 100,
            packets_per_second: None,
            bits_per_second: None,
            first_seen: Timestamp::from_unix_seconds(0),
            last_seen: Timestamp::from_unix_seconds(0),
            last_packet_seconds: 0.0,
            session: None,
            name: "plain".to_owned(),
            detail: String::new(),
            what: serde_json::json!({"kind": "plain"}),
        };
        let flows = vec![flow("eth0", "239.1.1.1"), flow("eth0", "239.9.9.9"), flow("eth2", "239.1.1.1")];
        let interfaces = vec!["eth0".to_owned(), "eth2".to_owned()];
        FlowReport { interfaces, flows, missed_packets: 3, ..FlowReport::default() }
    }

    async fn look(&self, _: Vec<Link>, _: Duration, _: Chosen) -> Result<(), KeeperError> {
        Err(KeeperError::local("looking", &std::io::ErrorKind::Unsupported.into()))
    }

    /// Nothing ever happens here; a wait is over at once.
    async fn wait(&self, name: RelayName, _: WaitFor, _: Duration, grant: Grant) -> Waited {
        let is_within = self.engine().is_within(&name, &grant);
        self.status_of(&name).filter(|_| is_within).map_or(Waited::NotFound, Waited::TimedOut)
    }
}
