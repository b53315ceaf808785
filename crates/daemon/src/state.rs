//! Where a daemon keeps what outlives it.

use std::path::{Path, PathBuf};

use mcr_model::trouble::{Trouble, TroubleKind};

use crate::store::{OpenError, SetAside, Store};
use crate::troubles::Troubles;

/// The state of the daemon that everybody means.
const FOLDER: &str = "/var/lib/mcr";
/// The socket of that daemon.
const SOCKET: &str = "/run/mcr/mcr.sock";

/// The store in `wanted`. When nothing is wanted: in the folder that a service manager names (`$STATE_DIRECTORY`), in
/// `/var/lib/mcr` for the daemon at its usual socket, and beside the socket for one that has a socket of its own.
///
/// A folder that was not asked for and can't be used is no reason not to relay: the daemon says so and goes on without.
///
/// # Errors
/// [`OpenError`]: the folder that was asked for can't be used, or another daemon uses it.
pub(crate) fn open(wanted: Option<&Path>, socket: &Path, troubles: &Troubles) -> Result<Store, OpenError> {
    let folder = folder(wanted, socket);
    match Store::open(&folder) {
        Ok((store, aside)) => {
            aside.iter().for_each(|aside| tell(aside, troubles));
            Ok(store)
        }
        Err(error @ OpenError::System { .. }) if wanted.is_none() => {
            tracing::warn!(%error, "relays of the API and revisions end with this daemon");
            troubles.begin(Trouble {
                kind: TroubleKind::StoreInMemory,
                relay: None,
                message: format!("relays of the API, tokens and revisions end with this daemon: {error}"),
                remedy: "do that, and start the daemon again".to_owned(),
            });
            Ok(Store::in_memory())
        }
        Err(error) => Err(error),
    }
}

/// The folder that [`open`] uses.
pub(crate) fn folder(wanted: Option<&Path>, socket: &Path) -> PathBuf {
    wanted.map_or_else(|| usual(socket), Path::to_owned)
}

fn tell(aside: &SetAside, troubles: &Troubles) {
    let SetAside { path, reason } = aside;
    let message = format!(
        "the store was damaged and is set aside as {}; relays of the API, tokens and revisions are lost, the relays of \
         the file start",
        path.display()
    );
    tracing::error!(reason, "{message}");
    troubles.begin(Trouble {
        kind: TroubleKind::StoreDamaged,
        relay: None,
        message: format!("{message} ({reason})"),
        remedy: "make anew what is missing; this is not told any more after the next start".to_owned(),
    });
}

fn usual(socket: &Path) -> PathBuf {
    // Several folders are separated by colons (systemd.exec(5)); ours is the first.
    let given = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    match given.split(':').next().filter(|first| !first.is_empty()) {
        Some(first) => first.into(),
        None if socket == Path::new(SOCKET) => FOLDER.into(),
        None => socket.with_extension("state"),
    }
}
