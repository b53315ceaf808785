//! How a verb ends when it does not end well: a text for stderr and an exit code.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a verb could not do what was asked, in words that say what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit 1: understood, but it did not work.
    Failed(String),
    /// Exit 2: what was typed makes no sense.
    Usage(String),
    /// Exit 1 without a word: whoever read our output is gone, or the result was printed already.
    Silent,
}

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// A failure with exit code 2.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Tells stderr and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !matches!(self, Self::Silent) {
            // Nobody is left to tell when stderr is closed too.
            let _ = writeln!(io::stderr(), "mcr: {self}");
        }
        match self {
            Self::Failed(_) | Self::Silent => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) => f.write_str(text.trim_end()),
            Self::Silent => Ok(()),
        }
    }
}
