//! Who is let in and where, as the access file says, from the start through each reload.

use std::path::{Path, PathBuf};

use axum::Router;

use crate::access::{AccessError, Gate, Rules};
use crate::serve::network::{self, Network, NetworkError, Opened};
use crate::serve::{self, Guests, ListenError};

/// What has to be done while there are privileges: the network is listened on (ports below 1024 take one), the private
/// key is read, and the Unix socket is opened to whom the file allows.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: Option<PathBuf>,
    socket: PathBuf,
    rules: Rules,
    opened: Option<Opened>,
}

/// The doors while they are open.
#[derive(Debug)]
pub(crate) struct Doors {
    file: Option<PathBuf>,
    socket: PathBuf,
    gate: Gate,
    network: Network,
}

/// Why the access file is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorsError {
    /// The file is wrong.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The network can't be served.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The Unix socket can't be opened to others.
    #[error(transparent)]
    Socket(#[from] ListenError),
}

/// Reads the access file and listens where it says; without one only the Unix socket is served.
pub(crate) fn prepare(file: Option<&Path>, socket: &Path) -> Result<Prepared, DoorsError> {
    let rules = file.map(Rules::load).transpose()?.unwrap_or_default();
    let opened = rules.remote.as_ref().map(network::open).transpose()?;
    serve::admit(socket, guests(&rules))?;
    Ok(Prepared { file: file.map(Path::to_owned), socket: socket.to_owned(), rules, opened })
}

/// What is wrong with the access file at `path`, or with the files that it names; nothing is listened on.
///
/// # Errors
/// A sentence that says what to do.
pub fn check_access(path: &Path) -> Result<(), String> {
    let rules = Rules::load(path).map_err(|error| error.to_string())?;
    rules.remote.as_ref().map_or(Ok(()), network::check).map_err(|error| error.to_string())
}

impl Prepared {
    pub(crate) fn rules(&self) -> Rules {
        self.rules.clone()
    }

    pub(crate) fn open(self, gate: Gate, router: Router) -> Doors {
        let Self { file, socket, rules: _, opened } = self;
        Doors { file, socket, gate, network: Network::serve(router, opened) }
    }
}

impl Doors {
    /// Reads the access file again; one that is wrong changes nothing.
    pub(crate) fn reload(&mut self) {
        match self.try_reload() {
            Ok(()) => tracing::info!("the access file is read again"),
            Err(error) => tracing::error!(%error, "the access file is not used; the one in force stays"),
        }
    }

    fn try_reload(&mut self) -> Result<(), DoorsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let rules = Rules::load(file)?;
        let before = self.gate.rules();
        if guests(&rules) != guests(&before) {
            serve::admit(&self.socket, guests(&rules))?;
        }
        self.network.change(rules.remote.as_ref())?;
        self.gate.replace_rules(rules);
        Ok(())
    }

    pub(crate) async fn end(self) {
        self.network.end().await;
    }
}

fn guests(rules: &Rules) -> Guests {
    if rules.has_local_guests() { Guests::Expected } else { Guests::None }
}
