//! Tokens, as those who make and list them see them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::grant::GrantSpec;
use crate::problem::FieldError;
use crate::role::Role;
use crate::time::Timestamp;

/// How long a token lasts when nothing is said.
pub const DEFAULT_LIFETIME: &str = "90d";
/// How long one lasts at most.
const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest note, in characters.
const LONGEST_NOTE: usize = 200;

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "test rack 7", max_length = 200)]
    pub note: String,
    /// The role.
    #[schema(value_type = String, pattern = "^(viewer|operator|admin)$", example = "operator")]
    pub role: Role,
    /// The only interfaces of relays that it is about; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["eth1"]))]
    pub interfaces: Vec<String>,
    /// The only addresses that its relays may take from and send to, as prefixes; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["239.2.0.0/16"]))]
    pub groups: Vec<String>,
    /// How long it lasts, up to ten years: `12h`, `90d`.
    #[serde(default = "default_lifetime")]
    #[schema(example = "90d", pattern = "^[0-9]+[smhd]$")]
    pub expires: String,
}

fn default_lifetime() -> String {
    DEFAULT_LIFETIME.to_owned()
}

/// A token that there is. Its secret is not told again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id, the part of its text that is no secret.
    #[schema(example = "5f0c9a1e")]
    pub id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What it may do.
    #[serde(flatten)]
    pub grant: GrantSpec,
    /// When it was made.
    #[schema(value_type = String, example = "2026-11-27T04:31:01Z")]
    pub created: Timestamp,
    /// Who made it.
    #[schema(example = "uid:0")]
    pub created_by: String,
    /// When it ends.
    #[schema(value_type = String, example = "2027-02-25T04:31:01Z")]
    pub expires: Timestamp,
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Its text, which is told only now: what to send as `Authorization: Bearer …`.
    #[schema(example = "mcr_5f0c9a1e_7d…")]
    pub secret: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
}

/// Every token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// The tokens, by id; those that have expired are left out.
    pub tokens: Vec<Token>,
}

impl TokenSpec {
    /// What it may do, and for how long.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(&self) -> Result<(crate::Grant, Duration), Vec<FieldError>> {
        let Self { note, role, interfaces, groups, expires } = self;
        let mut errors = Vec::new();
        if note.chars().count() > LONGEST_NOTE || note.chars().any(char::is_control) {
            let remedy = "write one line of at most 200 characters";
            errors.push(FieldError::new("note", "the note is too long or has control characters", remedy));
        }
        let grant = GrantSpec { role: *role, interfaces: interfaces.clone(), groups: groups.clone() }.check();
        let lifetime = lifetime(expires).filter(|lifetime| !lifetime.is_zero() && *lifetime <= LONGEST_LIFETIME);
        if lifetime.is_none() {
            let message =
                format!("{:?} is no time that a token can last", expires.chars().take(40).collect::<String>());
            errors.push(FieldError::new("expires", message, "write it as 12h or 90d, at most 3650d"));
        }
        match (grant, lifetime) {
            (Ok(grant), Some(lifetime)) if errors.is_empty() => Ok((grant, lifetime)),
            (grant, _) => {
                errors.extend(grant.err().into_iter().flatten());
                Err(errors)
            }
        }
    }
}

fn lifetime(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at))?);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    // `parse` would take a sign.
    let number: u64 = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        for (text, seconds) in [("90d", Some(7_776_000)), ("12h", Some(43_200)), ("1s", Some(1)), ("0s", Some(0))] {
            assert_eq!(lifetime(text).map(|time| time.as_secs()), seconds, "{text}");
        }
        for wrong in ["", "d", "90", "-1d", "+1d", "1.5h", "1w", "ü", "99999999999999999999d"] {
            assert_eq!(lifetime(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_wrong_field_is_told() {
        let json = r#"{ "role": "anybody", "note": "a\nb", "interfaces": ["e/0"], "expires": "4000d" }"#;
        let spec: TokenSpec = serde_json::from_str(json).unwrap();
        let fields: Vec<_> = spec.check().unwrap_err().into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["note", "expires", "role", "interfaces[0]"]);
    }
}
