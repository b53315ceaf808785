//! Names: of relays (chosen by the user, ids in the API) and of network interfaces (chosen by the kernel).

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Why a name was refused. The text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z0-9][a-z0-9._-]{0,62}`.
    #[error(
        "{given:?} is not a relay name: use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
    )]
    Relay {
        /// What was typed.
        given: String,
    },
    /// Not a name that Linux gives to an interface.
    #[error(
        "{given:?} is not an interface name: Linux uses 1 to 15 characters without '/', ':' or blanks (see `ip link`)"
    )]
    Interface {
        /// What was typed.
        given: String,
    },
}

/// The id of a relay: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RelayName(String);

impl RelayName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelayName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        let starts_well = given.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        if starts_well && given.len() <= Self::MAX_BYTES && given.bytes().all(allowed) {
            Ok(Self(given.to_owned()))
        } else {
            Err(NameError::Relay { given: shortened(given) })
        }
    }
}

/// The name of a network interface, as `dev_valid_name` in `net/core/dev.c` allows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The longest name, in bytes: `IFNAMSIZ` less its terminating zero.
    pub const MAX_BYTES: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;

    fn from_str(given: &str) -> Result<Self, NameError> {
        let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let reserved = given.is_empty() || given == "." || given == "..";
        if reserved || given.len() > Self::MAX_BYTES || given.contains(refused) {
            Err(NameError::Interface { given: shortened(given) })
        } else {
            Ok(Self(given.to_owned()))
        }
    }
}

/// Enough of a refused text to recognise it; a ten-megabyte name must not become a ten-megabyte error.
fn shortened(given: &str) -> String {
    const SHOWN: usize = 80;
    match given.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &given[..end]),
        None => given.to_owned(),
    }
}

impl fmt::Display for RelayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_names() {
        for good in ["a", "camera-3", "0.x_y", &"a".repeat(63)] {
            assert_eq!(good.parse::<RelayName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "ä", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<RelayName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "eth0.100", "enp3s0f1np1", "veth@x"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a:b", "sixteen-letters-", "e\0"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_huge_name_makes_a_short_error() {
        let error = "X".repeat(10_000_000).parse::<RelayName>().unwrap_err();
        assert!(error.to_string().len() < 400);
    }
}
