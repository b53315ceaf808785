//! Memberships that are reported once more, for switches and routers that have forgotten them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejoinReport {
    /// By interface; none where no group is joined.
    pub interfaces: Vec<ReportedInterface>,
}

/// What was reported on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportedInterface {
    /// Its name.
    #[schema(example = "eth0")]
    pub interface: String,
    /// The groups, in order.
    #[schema(value_type = Vec<String>, example = json!(["239.1.1.1"]))]
    pub groups: Vec<IpAddr>,
    /// Why they could not be reported, and what to do; none: they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
