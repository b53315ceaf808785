//! `access.toml`: who may use the API, and where it listens besides its Unix socket.
//!
//! It is a file of its own, so that whoever may replace the configuration of the relays can't give away the daemon
//! with it.

use std::fs;
use std::io;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mcr_model::grant::GrantSpec;
use mcr_model::{Grant, Role};
use mcr_netd::peer;
use serde::Deserialize;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    pub(super) users: Vec<(u32, Grant)>,
    pub(super) groups: Vec<(u32, Grant)>,
    pub(super) certificates: Vec<(String, Grant)>,
    /// Where the network is served; `None`: not at all.
    pub remote: Option<Remote>,
}

/// How the network is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// The addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The server's certificate and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted, in PEM; none: clients need a token.
    pub client_ca: Option<PathBuf>,
    /// Names that clients may call this daemon by, besides those of its certificate and its addresses.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Origins of web pages that may use the API, besides the daemon's own.
    #[serde(default)]
    pub origins: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessFile {
    remote: Option<Remote>,
    #[serde(default)]
    allow: Vec<Allow>,
}

/// One `[[allow]]`: exactly one of the first three, and what it may do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allow {
    unix_user: Option<String>,
    unix_group: Option<String>,
    certificate: Option<String>,
    role: Role,
    #[serde(default)]
    interfaces: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
}

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It can't be read.
    #[error("can not read the access file {path}: {error}; check the path and its permissions", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Somebody else than root and the daemon's user may write it, and so give the daemon away.
    #[error(
        "the access file {path} can be written by others than root and the daemon's user; \
         `chown root {path}` and `chmod go-w {path}`",
        path = path.display()
    )]
    Untrusted {
        /// The file.
        path: PathBuf,
    },
    /// It is not of the form.
    #[error("the access file {path} is wrong; correct it: {error}", path = path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        error: Box<toml::de::Error>,
    },
    /// It says what makes no sense.
    #[error("the access file {path} is wrong: {mistakes}", path = path.display(), mistakes = mistakes.join("\n  "))]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What is wrong, each with what to do.
        mistakes: Vec<String>,
    },
}

/// Whether only root and our own user may write a file.
fn is_trusted(file: &fs::Metadata) -> io::Result<bool> {
    let own = fs::metadata("/proc/self")?.uid();
    Ok((file.uid() == 0 || file.uid() == own) && file.mode() & 0o022 == 0)
}

impl Rules {
    /// What the file at `path` says.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        let unreadable = |error| AccessError::Unreadable { path: path.to_owned(), error };
        let mut file = fs::File::open(path).map_err(unreadable)?;
        // Of the file that is open, so that no other can take its place in between.
        if !is_trusted(&file.metadata().map_err(unreadable)?).map_err(unreadable)? {
            return Err(AccessError::Untrusted { path: path.to_owned() });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        let file: AccessFile = toml::from_str(&text)
            .map_err(|error| AccessError::Shape { path: path.to_owned(), error: Box::new(error) })?;
        Self::check(file).map_err(|mistakes| AccessError::Meaning { path: path.to_owned(), mistakes })
    }

    fn check(file: AccessFile) -> Result<Self, Vec<String>> {
        let AccessFile { remote, allow } = file;
        let mut mistakes = Vec::new();
        let mut rules = Self::default();
        for (i, allow) in allow.into_iter().enumerate() {
            if let Err(wrong) = rules.add(allow) {
                mistakes.extend(wrong.into_iter().map(|mistake| format!("allow[{i}]: {mistake}")));
            }
        }
        if remote.as_ref().is_some_and(|remote| remote.listen.is_empty()) {
            mistakes.push("remote.listen is empty; name addresses, as [\"10.0.0.5:7443\"], or remove [remote]".into());
        }
        if !rules.certificates.is_empty() && remote.as_ref().is_none_or(|remote| remote.client_ca.is_none()) {
            let mistake =
                "certificates are allowed, but no authority is named that signs them; add client_ca to [remote]";
            mistakes.push(mistake.into());
        }
        rules.remote = remote;
        if mistakes.is_empty() { Ok(rules) } else { Err(mistakes) }
    }

    fn add(&mut self, allow: Allow) -> Result<(), Vec<String>> {
        let Allow { unix_user, unix_group, certificate, role, interfaces, groups } = allow;
        let spec = GrantSpec { role, interfaces, groups };
        let grant = spec.check().map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        match (unix_user, unix_group, certificate) {
            (Some(user), None, None) => {
                let id = peer::user_id(&user).ok_or_else(|| unknown("user", &user))?;
                self.users.push((id, grant));
            }
            (None, Some(group), None) => {
                let id = peer::group_id(&group).ok_or_else(|| unknown("group", &group))?;
                self.groups.push((id, grant));
            }
            (None, None, Some(name)) => self.certificates.push((name, grant)),
            _ => return Err(vec!["name one of unix_user, unix_group and certificate, and only one".to_owned()]),
        }
        Ok(())
    }

    /// Whether others than the daemon's own user and group may talk to the Unix socket.
    pub fn has_local_guests(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }
}

fn unknown(what: &str, name: &str) -> Vec<String> {
    vec![format!("there is no {what} {name:?} on this host; create it, or correct the name")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_may_write_gives_nothing_away() {
        use std::os::unix::fs::PermissionsExt;

        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, is_taken) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let loaded = Rules::load(file.path());
            assert_eq!(loaded.is_ok(), is_taken, "{mode:o}: {loaded:?}");
            assert!(is_taken || matches!(loaded, Err(AccessError::Untrusted { .. })), "{mode:o}");
        }
    }

    fn check(text: &str) -> Result<Rules, Vec<String>> {
        Rules::check(toml::from_str(text).unwrap())
    }

    #[test]
    fn who_is_allowed() {
        let rules = check(
            r#"
            [remote]
            listen = ["127.0.0.1:7443"]
            certificate = "a"
            key = "b"
            client_ca = "c"
            [[allow]]
            unix_user = "root"
            role = "viewer"
            [[allow]]
            certificate = "noc"
            role = "operator"
            groups = ["239.2.0.0/16"]
            "#,
        )
        .unwrap();
        assert_eq!(rules.users, [(0, Grant::unlimited(Role::Viewer))]);
        assert_eq!(rules.certificates[0].0, "noc");
        assert!(rules.has_local_guests() && !rules.certificates[0].1.is_unlimited());
    }

    #[test]
    fn every_mistake_is_told() {
        let mistakes = check(
            r#"
            [remote]
            listen = []
            certificate = "a"
            key = "b"
            [[allow]]
            unix_user = "nobody-of-that-name"
            role = "viewer"
            [[allow]]
            role = "viewer"
            [[allow]]
            certificate = "noc"
            role = "anybody"
            groups = ["239.2.1.0/16"]
            [[allow]]
            certificate = "noc"
            role = "admin"
            "#,
        )
        .unwrap_err();
        assert_eq!(
            mistakes,
            [
                "allow[0]: there is no user \"nobody-of-that-name\" on this host; create it, or correct the name",
                "allow[1]: name one of unix_user, unix_group and certificate, and only one",
                "allow[2]: role: anybody is what everybody may do, and no role to give; use viewer, operator or admin",
                "allow[2]: groups[0]: \"239.2.1.0/16\" has bits after its length; the range that it is in begins at \
                 239.2.0.0; write prefixes, as [\"239.2.0.0/16\"]",
                "remote.listen is empty; name addresses, as [\"10.0.0.5:7443\"], or remove [remote]",
                "certificates are allowed, but no authority is named that signs them; add client_ca to [remote]",
            ]
        );
    }
}
