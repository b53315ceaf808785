//! Which daemon is meant: what was typed, then the environment, then a context of the client's file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::{DEFAULT_SOCKET, Daemon};
use crate::failure::Failure;

/// The daemon that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// On this host.
    Socket(PathBuf),
    /// On the network.
    Remote(Remote),
}

/// A daemon on the network, and what it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) cacert: Option<PathBuf>,
    /// A certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// The client's file: daemons by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is meant when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) context: BTreeMap<String, Context>,
}

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) server: String,
    /// The authority of its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cacert: Option<PathBuf>,
    /// A file with a token. The token itself is never in the client's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// A client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl Choice {
    /// What `daemon` and the environment say. What is typed goes before the environment, that before the current
    /// context; a context gives what neither says.
    pub(super) fn of(daemon: Daemon) -> Result<Self, Failure> {
        Self::from(daemon, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(daemon: Daemon, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let Daemon { socket, server, context, token, token_file, cacert, cert, key } = daemon;
        let path = |name| variable(name).map(PathBuf::from);
        if let Some(socket) = socket {
            return Ok(Self::Socket(socket));
        }
        let (named, server) = match (server, context) {
            (Some(server), _) => (None, Some(server)),
            (None, Some(context)) => (Some(context), None),
            (None, None) => (variable("MCR_CONTEXT"), variable("MCR_SERVER")),
        };
        if let (None, None, Some(socket)) = (&named, &server, path("MCR_SOCKET")) {
            return Ok(Self::Socket(socket));
        }
        let context = if server.is_some() { None } else { find_context(named)? };
        let Some(url) = server.or_else(|| context.as_ref().map(|context| context.server.clone())) else {
            return Ok(Self::Socket(DEFAULT_SOCKET.into()));
        };
        let of_context = |field: fn(&Context) -> &Option<PathBuf>| context.as_ref().and_then(|it| field(it).clone());
        let token_file = token_file.or_else(|| path("MCR_TOKEN_FILE")).or_else(|| of_context(|it| &it.token_file));
        let token = match (token.or_else(|| variable("MCR_TOKEN")), token_file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => Some(read_token(&file)?),
            (None, None) => None,
        };
        let cacert = cacert.or_else(|| path("MCR_CACERT")).or_else(|| of_context(|it| &it.cacert));
        let cert = cert.or_else(|| path("MCR_CERT")).or_else(|| of_context(|it| &it.cert));
        let key = key.or_else(|| path("MCR_KEY")).or_else(|| of_context(|it| &it.key));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(Failure::usage("a client certificate takes both --cert and --key")),
        };
        Ok(Self::Remote(Remote { url, token, cacert, identity }))
    }
}

fn find_context(named: Option<String>) -> Result<Option<Context>, Failure> {
    let contexts = Contexts::load()?;
    let Some(name) = named.or(contexts.current) else { return Ok(None) };
    match contexts.context.get(&name) {
        Some(context) => Ok(Some(context.clone())),
        None => Err(no_such_context(&name)),
    }
}

pub(crate) fn no_such_context(name: &str) -> Failure {
    Failure::failed(format!("there is no context {name:?}; `mcr context list` shows those there are"))
}

/// A token is as good as a password: who else could read its file could use it.
fn read_token(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let unreadable = |error: io::Error| Failure::failed(format!("cannot read the token from {shown}: {error}"));
    let mode = fs::metadata(path).map_err(unreadable)?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::failed(format!("others may read the token in {shown}; run `chmod 600 {shown}`")));
    }
    Ok(fs::read_to_string(path).map_err(unreadable)?.trim().to_owned())
}

impl Contexts {
    /// Those of the client's file; none when there is no file.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = folder().map(|folder| folder.join("client.toml")) else { return Ok(Self::default()) };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
            Ok(text) => text,
        };
        toml::from_str(&text)
            .map_err(|error| Failure::failed(format!("{} is wrong; correct it: {error}", path.display())))
    }

    /// Writes the client's file.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(|error| Failure::failed(format!("cannot write contexts: {error}")))?;
        write_private(&writable_folder()?.join("client.toml"), &text)
    }
}

/// Keeps the token of a context in a file of its own; that file.
pub(crate) fn keep_token(context: &str, token: &str) -> Result<PathBuf, Failure> {
    let path = writable_folder()?.join(format!("{context}.token"));
    write_private(&path, &format!("{token}\n"))?;
    Ok(path)
}

/// A file that only its owner reads, replaced as a whole.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(|error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

fn writable_folder() -> Result<PathBuf, Failure> {
    let folder = folder().ok_or_else(|| {
        Failure::failed("there is no place for the client's file; set HOME or XDG_CONFIG_HOME".to_owned())
    })?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| Failure::failed(format!("cannot make {}: {error}", folder.display())))?;
    Ok(folder)
}

/// `~/.config/mcr`, or where the XDG Base Directory Specification says.
fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("mcr"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(typed: Daemon, variables: &[(&str, &str)]) -> Choice {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Choice::from(typed, variable).unwrap()
    }

    fn remote(url: &str, token: Option<&str>) -> Choice {
        Choice::Remote(Remote { url: url.to_owned(), token: token.map(str::to_owned), cacert: None, identity: None })
    }

    #[test]
    fn what_is_typed_goes_before_the_environment() {
        let socket = |path: &str| Choice::Socket(path.into());
        let typed_socket = || Daemon { socket: Some("/a".into()), ..Daemon::default() };
        let typed_server = || Daemon { server: Some("https://a:1".into()), ..Daemon::default() };
        let (in_server, in_socket, in_token) =
            (("MCR_SERVER", "https://b:2"), ("MCR_SOCKET", "/b"), ("MCR_TOKEN", "t"));
        assert_eq!(chosen(typed_socket(), &[in_server, in_socket]), socket("/a"));
        assert_eq!(chosen(typed_server(), &[in_server, in_socket]), remote("https://a:1", None));
        assert_eq!(chosen(Daemon::default(), &[in_server, in_socket, in_token]), remote("https://b:2", Some("t")));
        assert_eq!(chosen(Daemon::default(), &[in_socket]), socket("/b"));
        let own_token = Daemon { token: Some("mine".into()), ..typed_server() };
        assert_eq!(chosen(own_token, &[in_token]), remote("https://a:1", Some("mine")));
    }
}
