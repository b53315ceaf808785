//! By which name a request of the network calls this daemon, and which web page sent it.
//!
//! A page of a stranger can make a browser inside the network send requests here. With a name of its own that resolves
//! to this host (DNS rebinding) it could read the answers, so a name that is none of ours is refused; and whoever sends
//! an `Origin` is a page, which has to be one that may.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderValue, header};

use super::rejection::Rejection;
use crate::access::{Remote, Site};

/// Refuses names and origins that are not allowed.
pub(super) fn check(request: &Request, site: &Site, remote: Option<&Remote>) -> Result<(), Rejection> {
    let authority = authority(request).unwrap_or_default();
    let host = host_of(&authority);
    if !is_ours(host, site, remote) {
        return Err(Rejection::wrong_host(&authority));
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    match origins.find(|origin| !may_use(origin, &authority, remote)) {
        Some(origin) => Err(Rejection::wrong_origin(&String::from_utf8_lossy(origin.as_bytes()))),
        None => Ok(()),
    }
}

/// What the request says it is for. Of two `Host` headers nobody can say which is meant.
fn authority(request: &Request) -> Option<String> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if hosts.next().is_some() {
        return None;
    }
    request.uri().authority().map(|authority| authority.as_str()).or(host).map(str::to_ascii_lowercase)
}

/// Without the port, and an address of IPv6 without its brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_ours(host: &str, site: &Site, remote: Option<&Remote>) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return site.address.ip().to_canonical() == address || site.names.iter().any(|name| name == host);
    }
    let configured = remote.into_iter().flat_map(|remote| &remote.hosts);
    site.names.iter().chain(configured).any(|name| fits(&name.to_ascii_lowercase(), host))
}

/// `*.example.net` stands for one label more, as in certificates (RFC 6125 section 6.4.3).
fn fits(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => !host.is_empty() && name == host,
    }
}

fn may_use(origin: &HeaderValue, authority: &str, remote: Option<&Remote>) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let mut configured = remote.into_iter().flat_map(|remote| &remote.origins);
    origin.strip_prefix("https://").is_some_and(|from| from.eq_ignore_ascii_case(authority))
        || configured.any(|allowed| allowed == origin)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn remote() -> Remote {
        Remote {
            listen: Vec::new(),
            certificate: "".into(),
            key: "".into(),
            client_ca: None,
            hosts: vec!["Relay-1".to_owned()],
            origins: vec!["https://noc.example.net".to_owned()],
        }
    }

    fn is_allowed(uri: &str, headers: &[(header::HeaderName, &str)]) -> bool {
        let names = ["relay.example.net".to_owned(), "*.media.example.net".to_owned(), "10.0.0.8".to_owned()];
        let site = Site { address: "10.0.0.9:7443".parse().unwrap(), names: names.into() };
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        check(&request.body(Body::empty()).unwrap(), &site, Some(&remote())).is_ok()
    }

    #[test]
    fn hosts() {
        for (host, allowed) in [
            ("10.0.0.9", true),
            ("10.0.0.9:7443", true),
            ("10.0.0.8:7443", true),
            ("relay.example.net", true),
            ("RELAY.example.net:7443", true),
            ("relay-1:7443", true),
            ("a.media.example.net", true),
            ("a.b.media.example.net", false),
            ("media.example.net", false),
            (".media.example.net", false),
            ("evil.example.com", false),
            ("relay.example.net.evil.example.com", false),
            ("10.0.0.10", false),
            ("127.0.0.1", false),
            ("localhost", false),
            ("[::1]:7443", false),
            ("", false),
        ] {
            assert_eq!(is_allowed("/", &[(header::HOST, host)]), allowed, "{host}");
        }
        assert!(!is_allowed("/", &[]));
        assert!(!is_allowed("/", &[(header::HOST, "10.0.0.9"), (header::HOST, "10.0.0.9")]));
        assert!(!is_allowed("https://evil.example.com/", &[(header::HOST, "10.0.0.9")]));
    }

    #[test]
    fn origins() {
        for (origin, allowed) in [
            ("https://10.0.0.9:7443", true),
            ("https://noc.example.net", true),
            ("http://10.0.0.9:7443", false),
            ("https://10.0.0.9", false),
            ("https://noc.example.net.evil.example.com", false),
            ("https://evil.example.com", false),
            ("null", false),
            ("", false),
        ] {
            let headers = [(header::HOST, "10.0.0.9:7443"), (header::ORIGIN, origin)];
            assert_eq!(is_allowed("/", &headers), allowed, "{origin}");
        }
    }
}
