//! The API on the network: TLS over TCP, only where the access file says so.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mcr_confine::calls;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::talk;
use super::seats::{Occupant, Seat, Seats};
use super::tls::{Tls, TlsError, read_certificate};
use super::{ACCEPT_PAUSE, LAST_PATIENCE};
use crate::access::{Peer, Remote, Site};

/// So many connections there are at once.
const MOST_CONNECTIONS: usize = 256;
/// So many of one address.
const MOST_CONNECTIONS_OF_ONE: usize = 64;
/// How long a client may take to agree on TLS.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the certificates are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why the network is not served.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The files for TLS are no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address can't be listened on.
    #[error("can not listen on {address}: {error}; {remedy}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

/// Addresses that are listened on and not served yet, with the certificates for them.
#[derive(Debug)]
pub struct Opened {
    listeners: Vec<std::net::TcpListener>,
    tls: Tls,
}

/// Listens where `remote` says, and reads its certificates.
///
/// # Errors
/// [`NetworkError`]; nothing is listened on then.
pub fn open(remote: &Remote) -> Result<Opened, NetworkError> {
    open_beside(remote, |_| false)
}

/// Reads the certificates that `remote` names, and listens nowhere.
///
/// # Errors
/// [`NetworkError`].
pub fn check(remote: &Remote) -> Result<(), NetworkError> {
    Ok(Tls::load(remote).map(drop)?)
}

fn open_beside(remote: &Remote, is_there: impl Fn(&SocketAddr) -> bool) -> Result<Opened, NetworkError> {
    let tls = Tls::load(remote)?;
    let new = remote.listen.iter().filter(|address| !is_there(address));
    let listeners = new.map(|address| listen(*address)).collect::<Result<_, _>>()?;
    Ok(Opened { listeners, tls })
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, NetworkError> {
    // The library's own listener sets SO_REUSEADDR, so that a restart finds its address free.
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "another program has it; stop that, or name another port in the access file",
            io::ErrorKind::AddrNotAvailable => "it is no address of this host; correct `listen` in the access file",
            io::ErrorKind::PermissionDenied if calls::are_given_up() => {
                "a daemon that runs has given that up: restart it (systemctl restart mcr)"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 take a privilege; name a higher one, as 7443",
            _ => "correct `listen` in the access file",
        };
        NetworkError::Listen { address, error, remedy }
    })
}

/// The network while it is served.
#[derive(Debug)]
pub struct Network {
    router: Router,
    seats: Seats,
    /// By address; dropping an entry ends its listener, and not the connections that it has accepted.
    listeners: HashMap<SocketAddr, oneshot::Sender<()>>,
    tls: watch::Sender<Option<Arc<Tls>>>,
    ended: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Network {
    /// Serves `router` on what was opened; `None`: on nothing yet.
    pub fn serve(router: Router, opened: Option<Opened>) -> Self {
        let mut network = Self {
            router,
            seats: Seats::new(MOST_CONNECTIONS, MOST_CONNECTIONS_OF_ONE),
            listeners: HashMap::new(),
            tls: watch::Sender::new(None),
            ended: watch::Sender::new(()),
            tasks: JoinSet::new(),
        };
        network.tasks.spawn(keep_fresh(network.tls.clone(), network.ended.subscribe()));
        if let Some(opened) = opened {
            network.add(opened);
        }
        network
    }

    /// Serves what `remote` says from now on: new addresses are added, others end, and the certificates are those of
    /// its files. Connections whose client certificate counts no more end.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing is changed then.
    pub fn change(&mut self, remote: Option<&Remote>) -> Result<(), NetworkError> {
        let Some(remote) = remote else {
            self.listeners.clear();
            self.tls.send_replace(None);
            return Ok(());
        };
        let opened = open_beside(remote, |address| self.listeners.contains_key(address))?;
        self.listeners.retain(|address, _| remote.listen.contains(address));
        self.add(opened);
        Ok(())
    }

    fn add(&mut self, opened: Opened) {
        let Opened { listeners, tls } = opened;
        self.tls.send_replace(Some(Arc::new(tls)));
        for listener in listeners {
            let Ok(address) = listener.local_addr() else { continue };
            let (stop, stopped) = oneshot::channel();
            let door = Door {
                router: self.router.clone(),
                seats: self.seats.clone(),
                tls: self.tls.subscribe(),
                ended: self.ended.subscribe(),
            };
            match TcpListener::from_std(listener) {
                Ok(listener) => drop(self.tasks.spawn(door.serve(listener, stopped))),
                Err(error) => tracing::error!(%error, %address, "can't serve the network"),
            }
            self.listeners.insert(address, stop);
            tracing::info!(%address, "serving the network");
        }
    }

    /// Accepts no more, and gives requests that are under way a moment to finish.
    pub async fn end(self) {
        let Self { listeners, ended, mut tasks, .. } = self;
        drop((listeners, ended));
        let _ = tokio::time::timeout(LAST_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

/// Reads certificates that have changed, and says so to those who have an eye on them.
async fn keep_fresh(tls: watch::Sender<Option<Arc<Tls>>>, mut ended: watch::Receiver<()>) {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    loop {
        tokio::select! {
            _ = ended.changed() => return,
            _ = ticks.tick() => {}
        }
        let current = tls.borrow().clone();
        if current.is_some_and(|current| current.refresh()) {
            tls.send_modify(|_| {});
        }
    }
}

/// One listener.
struct Door {
    router: Router,
    seats: Seats,
    tls: watch::Receiver<Option<Arc<Tls>>>,
    ended: watch::Receiver<()>,
}

impl Door {
    async fn serve(mut self, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = &mut stopped => break,
                _ = self.ended.changed() => break,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, from)) => {
                    if let Some(seat) = self.seats.take(Occupant::at(from.ip())) {
                        connections.spawn(self.connection(stream, from, seat));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection of the network; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn connection(&self, stream: TcpStream, from: SocketAddr, seat: Seat) -> impl Future<Output = ()> + use<> {
        let (router, ended, tls) = (self.router.clone(), self.ended.clone(), self.tls.clone());
        async move {
            let Some(identity) = tls.borrow().as_ref().map(|tls| tls.identity()) else { return };
            let (Ok(address), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { return };
            let handshake = TlsAcceptor::from(identity.config).accept(stream);
            let agreed = tokio::select! {
                agreed = tokio::time::timeout(HANDSHAKE_PATIENCE, handshake) => agreed,
                () = seat.taken_away() => return,
            };
            let stream = match agreed {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(target: "audit", %from, %error, "no TLS");
                    return;
                }
                Err(_) => {
                    tracing::debug!(target: "audit", %from, "no TLS in time");
                    return;
                }
            };
            let shown = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
            let certificate = shown.first().and_then(read_certificate).map(Arc::new);
            let site = Arc::new(Site { address, names: identity.names });
            let peer = Peer::Remote { from, site, certificate };
            tokio::select! {
                () = talk(stream, router, peer, seat, ended) => {}
                () = distrusted(tls, shown) => {
                    tracing::info!(target: "audit", %from, "a connection is ended: its certificate does not count any more");
                }
            }
        }
    }
}

/// Returns when the certificate that a connection began with counts no more, or the network is not served any more.
async fn distrusted(mut tls: watch::Receiver<Option<Arc<Tls>>>, shown: Vec<CertificateDer<'static>>) {
    while tls.changed().await.is_ok() {
        if !tls.borrow_and_update().as_ref().is_some_and(|tls| tls.identity().trusts(&shown)) {
            return;
        }
    }
    // The daemon ends, and gives what is under way a moment.
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// An empty router behind TLS, on an address of this host; its certificate is for `relay`.
    fn serve_nothing() -> (Network, SocketAddr, CertificateDer<'static>) {
        let folder = tempfile::tempdir().unwrap();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["relay".to_owned()]).unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(path("key.pem"), signing_key.serialize_pem()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path("key.pem"), private).unwrap();
        let remote = Remote {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            certificate: path("cert.pem"),
            key: path("key.pem"),
            client_ca: None,
            hosts: Vec::new(),
            origins: Vec::new(),
        };
        let opened = open(&remote).unwrap();
        let address = opened.listeners[0].local_addr().unwrap();
        (Network::serve(Router::new(), Some(opened)), address, cert.into())
    }

    /// The clock of the test jumps to the next timer when nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_go_on_ends_the_connection() {
        let (network, address, _) = serve_nothing();
        for beginning in [&b""[..], b"\x16\x03\x01"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(beginning).await.unwrap();
            let start = Instant::now();
            assert_eq!(client.read(&mut [0; 16]).await.unwrap_or_default(), 0);
            assert!(start.elapsed() >= HANDSHAKE_PATIENCE && start.elapsed() < 2 * HANDSHAKE_PATIENCE, "{beginning:?}");
        }
        network.end().await;
    }

    /// A client that writes all of a body before it reads, slowly enough that the refusal is there first.
    #[tokio::test]
    async fn who_is_refused_early_can_write_on_and_reads_why() {
        const BODY: usize = 1 << 20;
        let (network, address, certificate) = serve_nothing();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let relay = ServerName::try_from("relay").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(relay, stream).await.unwrap();
        let head = format!("PUT /nothing HTTP/1.1\r\nHost: relay\r\nContent-Length: {BODY}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in vec![b'x'; BODY].chunks(BODY / 8) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(piece).await.unwrap();
        }
        stream.flush().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close"), "{answer}");
        network.end().await;
    }
}
