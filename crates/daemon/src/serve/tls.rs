//! TLS: the server's certificate, the clients' authorities, and what a client's certificate says.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::access::{Certificate, Remote};

/// What connections are accepted with, now.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// The names that the server's certificate is for.
    pub(super) names: Arc<[String]>,
    /// Who says whether a client's certificate counts; `None`: none does.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Identity {
    /// Whether a certificate that was shown, with those between it and its authority, would still count.
    pub(super) fn trusts(&self, chain: &[CertificateDer<'static>]) -> bool {
        match (chain, &self.clients) {
            ([], _) => true,
            ([_, ..], None) => false,
            ([shown, between @ ..], Some(clients)) => {
                clients.verify_client_cert(shown, between, UnixTime::now()).is_ok()
            }
        }
    }
}

/// The files, and what was last read from them.
#[derive(Debug)]
pub(super) struct Tls {
    current: RwLock<(Files, Identity)>,
}

/// Which files, and how they looked when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    looks: Vec<Option<(u64, u64, i64, i64)>>,
}

/// Why TLS can't be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error(
        "can not read the {what} {path}: {error}; it has to be a PEM file that the user of the daemon may read",
        path = path.display()
    )]
    Unreadable {
        /// What is in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// A file has nothing in it.
    #[error("the {what} {path} has no certificate in it; it has to be a PEM file", path = path.display())]
    Empty {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Everybody may read the key.
    #[error("the private key {path} may be read by everybody on this host; run `chmod o-rwx {path}`", path = path.display())]
    OpenKey {
        /// The file.
        path: PathBuf,
    },
    /// They do not make a server.
    #[error("the certificate {certificate} and the key {key} can not be used: {reason}; do they belong together?",
        certificate = certificate.display(), key = key.display())]
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What the library says.
        reason: String,
    },
}

impl Tls {
    /// What the files have now.
    pub(super) fn load(remote: &Remote) -> Result<Self, TlsError> {
        let files = Files::of(remote);
        let identity = files.read()?;
        Ok(Self { current: RwLock::new((files, identity)) })
    }

    /// What the next connection is accepted with.
    pub(super) fn identity(&self) -> Identity {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Reads files that have changed; whether there was anything new. Those that can't be used change nothing, and are
    /// not tried again until they change once more.
    pub(super) fn refresh(&self) -> bool {
        let before = self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        let now = before.looked_at_again();
        if now == before {
            return false;
        }
        let read = now.read();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.0 = now;
        match read {
            Ok(identity) => {
                current.1 = identity;
                tracing::info!("the certificates of the network API are read again");
                true
            }
            Err(error) => {
                tracing::error!(%error, "changed certificates are not used; those before stay");
                false
            }
        }
    }
}

impl Files {
    fn of(remote: &Remote) -> Self {
        let Remote { certificate, key, client_ca, listen: _, hosts: _, origins: _ } = remote;
        let looks = Vec::new();
        Self { certificate: certificate.clone(), key: key.clone(), client_ca: client_ca.clone(), looks }
            .looked_at_again()
    }

    fn looked_at_again(&self) -> Self {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let look = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        Self { looks: paths.into_iter().flatten().map(look).collect(), ..self.clone() }
    }

    fn read(&self) -> Result<Identity, TlsError> {
        let Self { certificate, key, client_ca, looks: _ } = self;
        let chain = certificates("certificate", certificate)?;
        let names = chain.first().and_then(|leaf| read_certificate(leaf)).map(|leaf| leaf.names).unwrap_or_default();
        let provider = Arc::new(ring::default_provider());
        let clients = client_ca.as_deref().map(|path| self.verifier(path, Arc::clone(&provider))).transpose()?;
        let config = self.config(provider, chain, private_key(key)?, clients.clone())?;
        Ok(Identity { config: Arc::new(config), names: names.into(), clients })
    }

    fn config(
        &self,
        provider: Arc<CryptoProvider>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| self.unusable(&error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| self.unusable(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A client may come without a certificate: it has a token then. One that comes with a certificate of another
    /// authority, or with one that has expired, is not let in at all.
    fn verifier(&self, path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("client authorities file", path)? {
            roots.add(authority).map_err(|error| self.unusable(&error))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &dyn std::error::Error) -> TlsError {
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        TlsError::Unusable { certificate, key, reason: error.to_string() }
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { what, path: path.to_owned(), error };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    match read.map_err(unreadable)? {
        none if none.is_empty() => Err(TlsError::Empty { what, path: path.to_owned() }),
        certificates => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { what: "private key", path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(|error: io::Error| unreadable(pem::Error::Io(error)))?.mode();
    if mode & 0o007 != 0 {
        return Err(TlsError::OpenKey { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_file(path).map_err(unreadable)
}

/// What a certificate that was verified says. `None`: it is no certificate that we understand.
pub(super) fn read_certificate(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned);
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(alternative_name);
    let mut names: Vec<String> = common.chain(alternative).collect();
    let mut known = std::collections::HashSet::new();
    names.retain(|name| known.insert(name.clone()));
    let expires = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    let expires: SystemTime = UNIX_EPOCH + Duration::from_secs(expires);
    Some(Certificate { names, expires })
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}
