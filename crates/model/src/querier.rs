//! What a relay expects of the querier on its input's network: who asks for memberships, so that switches go on forwarding
//! its group (RFC 3376 section 4.1, RFC 4541).

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration;
use crate::problem::FieldError;

/// What is expected of a querier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuerierWatch {
    timeout: Duration,
    own: Asking,
}

/// Who asks when nobody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Others only.
    Others,
    /// This host, while no other with a lower address does (RFC 3376 section 6.6.2).
    Own,
}

/// By which protocol hosts are asked for their memberships, and report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueryProtocol {
    /// For groups of IPv4 (RFC 3376).
    Igmp,
    /// For groups of IPv6 (RFC 3810).
    Mld,
}

/// What is expected of a querier, as a user writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuerierSpec {
    /// After so long without a query there is none, 1s to 24h; none: 260s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "260s")]
    pub timeout: Option<String>,
    /// Whether this host asks where no other with a lower address does; none: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<bool>,
}

impl QueryProtocol {
    /// That of a querier's or a group's address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Igmp,
            IpAddr::V6(_) => Self::Mld,
        }
    }
}

impl fmt::Display for QueryProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igmp => "IGMP",
            Self::Mld => "MLD",
        })
    }
}

impl QuerierWatch {
    /// As long as hosts and switches remember a membership (RFC 3376 section 8.4).
    pub const TIMEOUT: Duration = Duration::from_secs(260);
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(24 * 3600);

    /// This host asks, while no other with a lower address does.
    pub fn own_queries() -> Self {
        Self { own: Asking::Own, ..Self::default() }
    }

    /// After so long without a query there is no querier.
    pub fn timeout(self) -> Duration {
        self.timeout
    }

    /// Who asks when nobody does.
    pub fn own(self) -> Asking {
        self.own
    }

    /// What fits both: the sooner of the timeouts, and asking when one wants it.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let own = if self.own == Asking::Own { Asking::Own } else { other.own };
        Self { timeout: self.timeout.min(other.timeout), own }
    }

    /// How a user writes it; none: nothing is said.
    pub fn spec(self) -> Option<QuerierSpec> {
        let timeout = (self.timeout != Self::TIMEOUT).then(|| duration::text(self.timeout));
        let own = (self.own == Asking::Own).then_some(true);
        (self != Self::default()).then_some(QuerierSpec { timeout, own })
    }
}

impl Default for QuerierWatch {
    fn default() -> Self {
        Self { timeout: Self::TIMEOUT, own: Asking::Others }
    }
}

impl QuerierSpec {
    /// The checked form.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn check(&self) -> Result<QuerierWatch, Vec<FieldError>> {
        const FIELD: &str = "querier.timeout";
        const RANGE: &str = "use 1s to 24h, as timeout = \"260s\"";
        let Self { timeout, own } = self;
        let own = if *own == Some(true) { Asking::Own } else { Asking::Others };
        let Some(timeout) = timeout else { return Ok(QuerierWatch { own, ..QuerierWatch::default() }) };
        let wrong = |message| vec![FieldError::new(FIELD, message, RANGE)];
        let timeout = duration::parse(timeout).map_err(|error| wrong(error.to_string()))?;
        if !(QuerierWatch::SHORTEST..=QuerierWatch::LONGEST).contains(&timeout) {
            return Err(wrong(format!("a timeout of {} is out of range", duration::text(timeout))));
        }
        Ok(QuerierWatch { timeout, own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_is_written_as_it_was() {
        let spec = |timeout: Option<&str>, own| QuerierSpec { timeout: timeout.map(str::to_owned), own };
        for written in [spec(Some("2s"), Some(true)), spec(Some("90s"), None), spec(None, Some(true))] {
            assert_eq!(written.check().unwrap().spec(), Some(written));
        }
        assert_eq!(spec(Some("260s"), Some(false)).check().unwrap().spec(), None, "what goes without saying");
        for wrong in ["0s", "25h", "soon"] {
            assert_eq!(spec(Some(wrong), None).check().unwrap_err()[0].field, "querier.timeout");
        }
    }
}
