//! Where the daemon is, and how it is reached: its Unix socket, or TLS over the network.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use hyper::header::HeaderValue;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::choice::{Choice, Remote};
use crate::failure::Failure;

/// The authorities that the host trusts, where Debian and its kin keep them.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where the daemon is reached.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// On this host.
    Socket(PathBuf),
    /// On the network.
    Network(Arc<Network>),
}

/// A daemon on the network.
#[derive(Debug)]
pub(crate) struct Network {
    url: String,
    /// As the `Host` header has it.
    authority: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
}

impl Server {
    /// The server that was chosen. Nothing is sent yet.
    pub(super) fn of(choice: Choice) -> Result<Self, Failure> {
        match choice {
            Choice::Socket(path) => Ok(Self::Socket(path)),
            Choice::Remote(remote) => Ok(Self::Network(Arc::new(Network::of(remote)?))),
        }
    }

    pub(super) async fn connect(&self) -> Result<Pin<Box<dyn Stream>>, Failure> {
        match self {
            Self::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::pin(stream)),
                Err(error) => Err(no_socket(path, &error)),
            },
            Self::Network(network) => network.connect().await,
        }
    }

    pub(super) fn is_served(&self) -> bool {
        let Self::Socket(path) = self else { return true };
        let refused = std::os::unix::net::UnixStream::connect(path).err().map(|error| error.kind());
        !matches!(refused, Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }

    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// The `Host` of a request.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Socket(_) => "localhost",
            Self::Network(network) => &network.authority,
        }
    }

    /// What a request shows.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        match self {
            Self::Socket(_) => None,
            Self::Network(network) => network.authorization.clone(),
        }
    }

    /// How to name the right one, for a sentence.
    pub(super) fn how_to_name(&self) -> &'static str {
        match self {
            Self::Socket(_) => "name the right socket with --socket or MCR_SOCKET",
            Self::Network(_) => "name the right address with --server or MCR_SERVER",
        }
    }

    /// A connection that ended before its answer.
    pub(super) fn broken(&self, error: &hyper::Error) -> Failure {
        let here = self.to_string();
        if error.is_parse() {
            let remedy = self.how_to_name();
            return Failure::failed(format!(
                "what answers at {here} does not speak HTTP, so it is no MCR daemon; {remedy}"
            ));
        }
        match alert(error) {
            Some(alert) => Failure::failed(format!(
                "the daemon at {here} refuses the client certificate ({alert}); show one that it accepts and that has \
                 not expired, with --cert and --key, or a token"
            )),
            None => Failure::failed(format!(
                "the daemon at {here} ended the connection before its answer ({error}); see its log"
            )),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Network(network) => f.write_str(&network.url),
        }
    }
}

impl Network {
    fn of(remote: Remote) -> Result<Self, Failure> {
        let Remote { url, token, cacert, identity } = remote;
        let (authority, host, port) = address(&url)?;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| Failure::usage(format!("{host:?} is neither a host name nor an address; correct --server")))?;
        let authorization = token.map(|token| bearer(&token)).transpose()?;
        let tls = Arc::new(config(cacert.as_deref(), identity.as_ref())?);
        Ok(Self { url, authority, host, port, name, tls, authorization })
    }

    async fn connect(&self) -> Result<Pin<Box<dyn Stream>>, Failure> {
        let Self { url, host, port, .. } = self;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| {
            Failure::failed(format!(
                "cannot reach the daemon at {url}: {error}; is its access file served there, and the way open?"
            ))
        })?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        match connector.connect(self.name.clone(), stream).await {
            Ok(stream) => Ok(Box::pin(stream)),
            Err(error) => Err(self.no_tls(&error)),
        }
    }

    fn no_tls(&self, error: &io::Error) -> Failure {
        let url = &self.url;
        match cause::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(reason)) => Failure::failed(format!(
                "the certificate of {url} is not accepted: {reason}; name the authority that signed it with --cacert, \
                 and the daemon as its certificate does"
            )),
            Some(rustls::Error::AlertReceived(alert)) => Failure::failed(format!(
                "the daemon at {url} refuses the client certificate ({alert:?}); show one that it accepts, with --cert \
                 and --key, or a token"
            )),
            _ => {
                Failure::failed(format!("cannot agree on TLS with {url}: {error}; is it the address of an MCR daemon?"))
            }
        }
    }
}

/// The authority, host and port of `https://HOST:PORT`.
fn address(url: &str) -> Result<(String, String, u16), Failure> {
    let wrong = || Failure::usage(format!("{url:?} is no server; write it as https://relay.example.net:7443"));
    let uri: hyper::Uri = url.parse().map_err(|_| wrong())?;
    let (Some("https"), Some(authority), "/" | "") = (uri.scheme_str(), uri.authority(), uri.path()) else {
        return Err(wrong());
    };
    let port = authority.port_u16().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err(wrong());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok((authority.to_string(), host.to_owned(), port))
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Failure::usage("the token has characters that no token has; copy it again"))?;
    // It is not shown by `Debug`.
    value.set_sensitive(true);
    Ok(value)
}

fn config(cacert: Option<&Path>, identity: Option<&(PathBuf, PathBuf)>) -> Result<ClientConfig, Failure> {
    let path = cacert.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path, "authorities", "--cacert")?);
    if roots.is_empty() {
        let path = path.display();
        return Err(Failure::failed(format!("{path} has no certificate of an authority; name another with --cacert")));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::failed(format!("cannot prepare TLS: {error}")))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate, "the certificate", "--cert")?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "the key", "--key", &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        let certificate = certificate.display();
        Failure::failed(format!("cannot use {certificate} with its key: {error}; do --cert and --key belong together?"))
    })
}

fn certificates(path: &Path, what: &str, option: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| unreadable(path, what, option, &error))
}

fn unreadable(path: &Path, what: &str, option: &str, error: &rustls_pki_types::pem::Error) -> Failure {
    let path = path.display();
    Failure::failed(format!("cannot read {what} from {path}: {error}; name a PEM file with {option}"))
}

fn no_socket(path: &Path, error: &io::Error) -> Failure {
    let socket = path.display();
    Failure::failed(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "no daemon is running: there is no socket {socket}; start one with `mcr run`, or name another socket with \
             --socket or MCR_SOCKET"
        ),
        io::ErrorKind::ConnectionRefused => format!(
            "no daemon is running: nobody listens on {socket}, which an earlier one left behind; start one with `mcr \
             run`"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no permission to use {socket}; run mcr as root or as a user that `ls -l {socket}` shows to have write \
             access"
        ),
        _ => format!("cannot reach the daemon at {socket}: {error}; is it the socket of `mcr run`?"),
    })
}

/// The alert by which the other side ended TLS; with TLS 1.3 that comes after the handshake.
fn alert(error: &hyper::Error) -> Option<String> {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let mut of_tls = causes.filter_map(|error| cause::<rustls::Error>(error.downcast_ref::<io::Error>()?));
    match of_tls.next()? {
        rustls::Error::AlertReceived(alert) => Some(format!("{alert:?}")),
        _ => None,
    }
}

fn cause<T: Error + 'static>(error: &io::Error) -> Option<&T> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("https://relay.example.net:7443", Some(("relay.example.net:7443", "relay.example.net", 7443))),
            ("https://10.0.0.5:7443/", Some(("10.0.0.5:7443", "10.0.0.5", 7443))),
            ("https://[2001:db8::1]:7443", Some(("[2001:db8::1]:7443", "2001:db8::1", 7443))),
            ("http://10.0.0.5:7443", None),
            ("https://10.0.0.5", None),
            ("https://a:b@10.0.0.5:7443", None),
            ("https://10.0.0.5:7443/api", None),
            ("10.0.0.5:7443", None),
            ("", None),
        ] {
            let found = address(url).ok();
            let expected = expected.map(|(authority, host, port)| (authority.to_owned(), host.to_owned(), port));
            assert_eq!(found, expected, "{url}");
        }
    }
}
