//! Who may use the API: who is at the other end, what the administrator lets them do, and which tokens there are.
//!
//! A connection knows its [`Peer`]; a request of it may add a token. [`Gate::admit`] makes a [`Caller`] of both, anew
//! for each request, so that a changed file or a revoked token counts from the next request on, also on connections
//! that are open. What endpoints need which role is theirs to say (`api::guard`).

mod file;
mod gate;
mod token;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mcr_model::Grant;

pub use file::{AccessError, Remote, Rules};
pub use gate::{Denied, Gate};
pub use token::TokenError;

/// Who is at the other end of a connection, as far as the connection knows.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A process of this host, on the Unix socket.
    Local {
        /// Its user.
        user: u32,
        /// Its groups, the supplementary ones included.
        groups: Arc<[u32]>,
    },
    /// A client on the network, over TLS.
    Remote {
        /// Where it is.
        from: SocketAddr,
        /// What it has reached.
        site: Arc<Site>,
        /// The certificate that it proved to have.
        certificate: Option<Arc<Certificate>>,
    },
}

/// A place of the network where the daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The address that the client connected to.
    pub address: SocketAddr,
    /// The names of the certificate that it was shown.
    pub names: Arc<[String]>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject's common name and its alternative names.
    pub names: Vec<String>,
    /// When it ends.
    pub expires: SystemTime,
}

/// Who asks, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// What they may do.
    pub grant: Grant,
}

/// By what somebody was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The user of a local process.
    User(u32),
    /// A name of a client certificate.
    Certificate(String),
    /// The id of a token.
    Token(String),
    /// Not at all.
    Unknown,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "uid:{id}"),
            Self::Certificate(name) => write!(f, "certificate:{name}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { .. } => f.write_str("local"),
            Self::Remote { from, .. } => from.fmt(f),
        }
    }
}
