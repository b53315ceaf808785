//! What the daemon gives up once it has started, and what it still needs then.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mcr_confine::{Confinement, Reach, calls, files};
use mcr_model::status::ConfinementStatus;

use crate::access::{Remote, Rules};

/// Where the system keeps what everybody reads: settings, users, time zones, the kernel's own word, devices. NixOS keeps
/// elsewhere what `/etc` leads to.
const SYSTEM: [&str; 6] = ["/etc", "/nix/store", "/proc", "/sys", "/usr/share", "/dev"];

/// Gives up files. To be done while there is one thread.
pub(crate) fn give_up_files(confinement: Confinement, read: Vec<PathBuf>, write: Vec<PathBuf>) -> anyhow::Result<()> {
    if confinement == Confinement::Off {
        return Ok(());
    }
    let read = SYSTEM.map(PathBuf::from).into_iter().chain(read).collect();
    let level = files::give_up(&files::Paths { read, write }, reach())?;
    if level != files::Level::Full {
        tracing::info!(%level, "the kernel has no Landlock, or an older one: files are given up as far as it goes");
    }
    Ok(())
}

/// Gives up system calls, once nothing more is to be opened.
pub(crate) fn give_up_calls(confinement: Confinement) -> anyhow::Result<()> {
    match confinement {
        Confinement::Off => {
            tracing::warn!(
                "this daemon is not confined (--unconfined): it keeps system calls and files that it does not need"
            );
            Ok(())
        }
        Confinement::Full => calls::give_up(calls::Program::Daemon(reach())).context("can not start"),
    }
}

/// A collector of OTLP has to be connected to; nobody else is.
fn reach() -> Reach {
    #[cfg(feature = "otlp")]
    if crate::otlp::is_wanted() {
        return Reach::Network;
    }
    Reach::Host
}

/// Folders of what is read again while the daemon runs: the configuration, who may use the API, certificates.
pub(crate) fn read_again(config: Option<&Path>, access: Option<&Path>, rules: &Rules) -> Vec<PathBuf> {
    let tls = rules.remote.iter().flat_map(|Remote { certificate, key, client_ca, .. }| {
        [certificate, key].into_iter().chain(client_ca).map(PathBuf::as_path)
    });
    config.into_iter().chain(access).chain(tls).flat_map(files::folders_of).collect()
}

/// How far this process has come.
pub(crate) fn status() -> ConfinementStatus {
    ConfinementStatus { seccomp: calls::are_given_up(), landlock: files::level().to_string() }
}
