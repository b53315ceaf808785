//! An authority that signs certificates for the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// How long a certificate lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Longer than the test.
    Long,
    /// It is over.
    AlreadyOver,
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a server or a client: that name, and 127.0.0.1.
    pub(crate) fn sign(&self, name: &str, lasts: Lasts) -> Signed {
        let mut params = named(name);
        params.subject_alt_names =
            vec![SanType::DnsName(name.try_into().unwrap()), SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if lasts == Lasts::AlreadyOver {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = params.not_before + Duration::from_secs(3600);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &*self.0).unwrap();
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn write_to(&self, path: &Path) {
        fs::write(path, self.0.pem()).unwrap();
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Signed {
    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write_to(&self, folder: &Path, name: &str) {
        let key = folder.join(format!("{name}.key"));
        fs::write(&key, &self.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.join(format!("{name}.pem")), &self.certificate).unwrap();
    }
}
