//! Who may use a daemon, and which one is meant.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{Daemon, Output};

/// `mcr token`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token; it is printed once and kept nowhere
    Create(TokenCreate),
    /// List the tokens that have not expired or been revoked
    List(TokenList),
    /// Revoke tokens, at once
    Revoke(TokenRevoke),
}

/// `mcr token create`
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenCreate {
    /// What it allows
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// The only interfaces that its relays may be on, for example eth1,eth2 [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) interfaces: Vec<String>,
    /// The only addresses that its relays may take from and send to, for example 239.2.0.0/16 [default: all]
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    pub(crate) groups: Vec<String>,
    /// How long it lasts
    #[arg(long, value_name = "TIME", default_value = mcr_model::token::DEFAULT_LIFETIME)]
    pub(crate) expires: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `mcr token list`
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenList {
    /// How the result is written.
    #[command(flatten)]
    pub(crate) output: Output,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `mcr token revoke`
#[derive(Debug, ClapArgs)]
pub(crate) struct TokenRevoke {
    /// The tokens to revoke
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look at relays, interfaces and metrics
    Viewer,
    /// Make, change and remove relays, too
    Operator,
    /// Everything: configurations and tokens, too
    Admin,
}

impl From<Role> for mcr_model::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

/// `mcr context`
#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    /// List the contexts; * marks the one in use
    List,
    /// Make a context, or make it anew
    Set(ContextSet),
    /// Talk to this one unless something else is said
    Use {
        /// The context
        name: String,
    },
    /// Talk to the daemon of this host again unless something else is said
    None,
    /// Remove a context
    Rm {
        /// The context
        name: String,
    },
}

/// `mcr context set`
#[derive(Debug, ClapArgs)]
pub(crate) struct ContextSet {
    /// Its name
    pub(crate) name: String,
    /// The daemon
    #[arg(long, value_name = "URL", help = "The daemon, as https://relay.example.net:7443")]
    pub(crate) server: String,
    /// The authorities that its certificate may be signed by [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// A token for it, which is kept in a file of its own
    #[arg(long, value_name = "TOKEN", env = "MCR_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// A client certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}
