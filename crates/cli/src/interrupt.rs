//! Ctrl-C and SIGTERM, for the verbs that run until somebody ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Whether somebody asked this process to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for the signals from now on. The second one ends the process at once, with the shell's exit code for
    /// Ctrl-C, so that a verb which hangs in its clean-up can still be ended.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let asked = Self(Arc::new(AtomicBool::new(false)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("cannot watch for Ctrl-C: {error}")))?;
        let (mut interrupts, mut terminations) = {
            let _inside = runtime.enter();
            let pair = signal(SignalKind::interrupt()).and_then(|i| Ok((i, signal(SignalKind::terminate())?)));
            pair.map_err(|error| Failure::failed(format!("cannot watch for Ctrl-C: {error}")))?
        };
        let flag = asked.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! { _ = interrupts.recv() => {}, _ = terminations.recv() => {} }
                    if flag.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        });
        Ok(asked)
    }

    /// Sleeps until `next`, or until it was asked.
    pub(crate) fn sleep_until(&self, next: Instant) {
        const GLANCE: Duration = Duration::from_millis(50);
        while !self.is_asked() {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }

    /// Whether it was asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
