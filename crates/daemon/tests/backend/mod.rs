//! A backend without a network: the real engine, so that refusals are the real ones, and nothing that carries out
//! what it decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcr_daemon::api::Backend;
use mcr_daemon::{WaitFor, Waited};
use mcr_engine::{Engine, Refusal, Replaced};
use mcr_model::relay::Relay;
use mcr_model::status::{DaemonStatus, InterfaceStatus, RelayStatus};
use mcr_model::{RelayName, RelayState};

#[derive(Clone)]
pub(crate) struct Bench(Arc<Mutex<Engine>>);

impl Bench {
    /// An engine with the relays of `file`, a configuration.
    pub(crate) fn with_file(file: &str) -> Self {
        let mut engine = Engine::new("/etc/mcr/mcr.toml");
        engine.load_file(mcr_daemon::config::check_text("mcr.toml", file).unwrap()).unwrap();
        Self(Arc::new(Mutex::new(engine)))
    }

    fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.0.lock().unwrap()
    }

    fn status_of(&self, name: &RelayName) -> Option<RelayStatus> {
        self.engine().status(name, Duration::ZERO)
    }
}

impl Backend for Bench {
    async fn relays(&self) -> Vec<RelayStatus> {
        self.engine().statuses(Duration::ZERO)
    }

    async fn relay(&self, name: &RelayName) -> Option<RelayStatus> {
        self.status_of(name)
    }

    async fn create(&self, relay: Relay) -> Result<RelayStatus, Refusal> {
        let name = relay.name().clone();
        self.engine().create(relay)?;
        Ok(self.status_of(&name).unwrap())
    }

    async fn replace(&self, relay: Relay) -> Result<(Replaced, RelayStatus), Refusal> {
        let name = relay.name().clone();
        let replaced = self.engine().replace(relay)?;
        Ok((replaced, self.status_of(&name).unwrap()))
    }

    async fn remove(&self, name: RelayName) -> Result<(), Refusal> {
        self.engine().remove(&name)
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
        }
    }

    /// Nothing ever happens here; a wait is over at once.
    async fn wait(&self, name: RelayName, _: WaitFor, _: Duration) -> Waited {
        self.status_of(&name).map_or(Waited::NotFound, Waited::TimedOut)
    }
}
