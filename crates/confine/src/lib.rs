//! What the daemon and the keeper give up once they have started, for good, so that whoever takes one over has little
//! more than its own work to do: files by [`files`] (Landlock), system calls by [`calls`] (seccomp).
//!
//! Capabilities are given up elsewhere (`mcr-netd`, `privileges`), before both.

pub mod calls;
pub mod files;

/// Whether a process gives up what it does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confinement {
    /// It does.
    #[default]
    Full,
    /// It does not, so that it can be looked into.
    Off,
}

/// How far a daemon reaches out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// It answers who comes to it.
    #[default]
    Host,
    /// It makes connections to others, to send them what it measures.
    Network,
}

/// The environment variable by which a process is told to be [`Confinement::Off`]; those that it starts are told as well.
pub const UNCONFINED_VARIABLE: &str = "MCR_UNCONFINED";

impl Confinement {
    /// What a flag of the command line says.
    #[must_use]
    pub fn unless(is_unconfined: bool) -> Self {
        if is_unconfined { Self::Off } else { Self::Full }
    }
}
