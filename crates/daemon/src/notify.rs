//! What the service manager is told (sd_notify(3)); all of it does nothing when there is none.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::api::Backend;

/// The relays of the file are loaded and the API answers.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] says that this is over. systemd wants the time of it
/// (`Type=notify-reload`, systemd.service(5)).
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line about how things are, for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Tells the watchdog of the service manager that the control thread is alive, for as long as it is; returns at once
/// where nobody watches (`WatchdogSec=` is not set).
pub async fn watchdog<B: Backend>(backend: B) {
    let Some(period) = watchdog_period() else { return };
    // Half of what is allowed, as sd_watchdog_enabled(3) recommends.
    let mut tick = tokio::time::interval(period / 2);
    loop {
        tick.tick().await;
        // A control thread that is stuck must not be covered up: no answer, no sign of life.
        backend.status().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn watchdog_period() -> Option<Duration> {
    let mut microseconds = 0;
    let watched = sd_notify::watchdog_enabled(false, &mut microseconds);
    (watched && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

fn tell(state: &[NotifyState<'_>]) {
    // A service manager that can't be told must not stop the relays.
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "can't tell the service manager; check NotifyAccess= of the unit");
    }
}
