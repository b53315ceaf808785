//! What a client waits for: `ready`, `first-packet`, `silent` or `packets:N`.

use std::fmt;
use std::str::FromStr;

/// A condition of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Joined and installed, with an output that can send: a packet that is sent from now on is relayed.
    Ready,
    /// The first packet arrived.
    FirstPacket,
    /// Packets came, and stopped.
    Silent,
    /// So many packets arrived.
    Packets(u64),
}

/// A text that is no [`WaitFor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} can not be waited for; {}", WaitFor::WORDS)]
pub struct WaitForError {
    /// What was typed.
    pub given: String,
}

impl WaitFor {
    /// What can be written, as an error's remedy.
    pub const WORDS: &str = "use ready, first-packet, silent or packets:N";
}

impl FromStr for WaitFor {
    type Err = WaitForError;

    fn from_str(given: &str) -> Result<Self, WaitForError> {
        let wrong = || WaitForError { given: given.chars().take(60).collect() };
        match given {
            "ready" => Ok(Self::Ready),
            "first-packet" => Ok(Self::FirstPacket),
            "silent" => Ok(Self::Silent),
            other => {
                let count = other.strip_prefix("packets:").ok_or_else(wrong)?;
                let count = Some(count).filter(|count| count.bytes().all(|byte| byte.is_ascii_digit()));
                count
                    .and_then(|count| count.parse().ok())
                    .filter(|count| *count > 0)
                    .map(Self::Packets)
                    .ok_or_else(wrong)
            }
        }
    }
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::FirstPacket => f.write_str("first-packet"),
            Self::Silent => f.write_str("silent"),
            Self::Packets(count) => write!(f, "packets:{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_as_they_are_written() {
        for word in ["ready", "first-packet", "silent", "packets:1", "packets:18446744073709551615"] {
            assert_eq!(word.parse::<WaitFor>().unwrap().to_string(), word);
        }
        for bad in ["", "Ready", "packets", "packets:", "packets:0", "packets:-1", "packets:+1", "packets:1e3", "ever"]
        {
            assert!(bad.parse::<WaitFor>().is_err(), "{bad}");
        }
    }
}
