//! What the daemon gives up once it has started, and what it still needs then.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mcr_confine::{Confinement, Reach, calls, files};
use mcr_model::status::ConfinementStatus;

use crate::access::{Remote, Rules};

/// Where the system keeps what everybody reads: settings, users, time zones, the kernel's own word, devices. NixOS keeps
/// elsewhere what `/etc` leads to.
const SYSTEM: [&str; 6] = ["/etc", "/nix/store", "/proc", "/sys", "/usr/share", "/dev"];

/// The libraries that look up names as `/etc/nsswitch.conf` says; they are opened when the first name is looked up.
const NAME_LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
/// Whom to ask for names: often a link to what is made anew under `/run`.
const RESOLVER: &str = "/etc/resolv.conf";

/// Gives up files. To be done while there is one thread.
pub(crate) fn give_up_files(confinement: Confinement, read: Vec<PathBuf>, write: Vec<PathBuf>) -> anyhow::Result<()> {
    if confinement == Confinement::Off {
        return Ok(());
    }
    let reach = reach();
    let names = match reach {
        Reach::Host => Vec::new(),
        Reach::Network => to_look_up_names(Path::new(RESOLVER)),
    };
    let read = SYSTEM.map(PathBuf::from).into_iter().chain(names).chain(read).collect();
    let level = files::give_up(&files::Paths { read, write }, reach)?;
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

fn to_look_up_names(resolver: &Path) -> Vec<PathBuf> {
    NAME_LIBRARIES.map(PathBuf::from).into_iter().chain(files::folders_of(resolver)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_where_the_settings_really_are() {
        let folder = tempfile::tempdir().unwrap();
        let (etc, run) = (folder.path().join("etc"), folder.path().join("run"));
        [&etc, &run].iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        std::fs::write(run.join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        std::os::unix::fs::symlink("../run/resolv.conf", etc.join("resolv.conf")).unwrap();
        let read = to_look_up_names(&etc.join("resolv.conf"));
        assert!(read.contains(&etc) && read.contains(&run.canonicalize().unwrap()), "{read:?}");
    }
}
