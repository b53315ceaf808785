//! What moves the packets of a relay, and what its user asked for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What moves packets, from the slowest to the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// AF_PACKET rings, in user space.
    Packet,
    /// An eBPF program at tcx ingress, in the kernel.
    Tcx,
    /// An eBPF program in the driver.
    Xdp,
}

/// What a user wants to move the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DatapathChoice {
    /// The fastest that serves the relay.
    #[default]
    Auto,
    /// This one, or none.
    Only(Datapath),
}

/// A word that is no datapath.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no datapath {given:?}")]
pub struct NoSuchDatapath {
    /// What was typed.
    pub given: String,
}

impl Datapath {
    /// Every datapath, from the slowest to the fastest.
    pub const ALL: [Self; 3] = [Self::Packet, Self::Tcx, Self::Xdp];

    /// The word that is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Tcx => "tcx",
            Self::Xdp => "xdp",
        }
    }
}

impl DatapathChoice {
    /// Every choice, in the order of the help.
    pub const ALL: [Self; 4] =
        [Self::Auto, Self::Only(Datapath::Xdp), Self::Only(Datapath::Tcx), Self::Only(Datapath::Packet)];
    /// The words, for a sentence.
    pub const WANTED: &'static str = "use auto, xdp, tcx or packet";

    /// The word that is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(datapath) => datapath.name(),
        }
    }

    /// Whether this datapath may serve.
    pub fn allows(self, datapath: Datapath) -> bool {
        match self {
            Self::Auto => true,
            Self::Only(only) => only == datapath,
        }
    }
}

impl FromStr for DatapathChoice {
    type Err = NoSuchDatapath;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|choice| choice.name() == given);
        found.ok_or_else(|| NoSuchDatapath { given: given.chars().take(60).collect() })
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for DatapathChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for choice in DatapathChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("XDP".parse::<DatapathChoice>().is_err());
    }
}
