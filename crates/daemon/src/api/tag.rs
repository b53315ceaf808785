//! The tags of relays: who changes what they looked at does not undo what somebody else changed since (`ETag` and
//! `If-Match`, RFC 9110 sections 8.8.3 and 13.1.1), and who makes one takes no name that another took (`If-None-Match: *`,
//! section 13.1.2).
//!
//! A tag stands for the definition of a relay, not for its state and counters, which are others at each look.

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use mcr_engine::{Premise, Refusal};
use mcr_model::RelayName;
use mcr_model::spec::RelaySpec;
use mcr_model::status::RelayStatus;

use super::rejection::Rejection;
use crate::store;

/// So much of the hash of a definition is its tag.
const TAG_CHARACTERS: usize = 16;

/// A relay as an answer, with its tag.
pub(super) struct Tagged(pub(super) RelayStatus);

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        match tag(&self.0.relay) {
            Ok(tag) => ([(header::ETAG, tag)], Json(self.0)).into_response(),
            Err(error) => Rejection::internal(&error).into_response(),
        }
    }
}

/// What `If-Match` and `If-None-Match` expect a relay to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// There is no such header.
    Anything,
    /// `*` of `If-None-Match`: there is none.
    Absent,
    /// `*`: there is one.
    Present,
    /// Its definition has one of these tags.
    OneOf(Vec<String>),
}

impl Expected {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut tags = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().unwrap_or_default();
            if text.trim() == "*" {
                return Ok(Self::Present);
            }
            for tag in text.split(',').map(str::trim) {
                if !is_tag(tag) {
                    return Err(Rejection::bad_header(
                        "If-Match",
                        tag,
                        "write a tag as in the ETag of the relay, or *",
                    ));
                }
                tags.push(tag.to_owned());
            }
        }
        Ok(if tags.is_empty() { Self::Anything } else { Self::OneOf(tags) })
    }

    /// As [`Self::from_headers`], where there may be no such relay yet.
    pub(super) fn of_new(headers: &HeaderMap) -> Result<Self, Rejection> {
        const NONE_MATCH: &str = "If-None-Match";
        let expected = Self::from_headers(headers)?;
        let Some(value) = headers.get(header::IF_NONE_MATCH) else { return Ok(expected) };
        let text = value.to_str().unwrap_or_default();
        if text.trim() != "*" {
            return Err(Rejection::bad_header(NONE_MATCH, text, "write *: only if there is no such relay"));
        }
        match expected {
            Self::Anything => Ok(Self::Absent),
            Self::Absent | Self::Present | Self::OneOf(_) => {
                Err(Rejection::bad_header(NONE_MATCH, text, "leave out this or If-Match: the two exclude each other"))
            }
        }
    }

    /// What is to be so when the change is made, where `present` is what there is now.
    pub(super) fn premise(&self, name: &RelayName, present: Option<&RelayStatus>) -> Result<Premise, Rejection> {
        let tags = match self {
            Self::Anything => return Ok(Premise::Anything),
            Self::Present => return Ok(Premise::Present),
            Self::Absent => return Ok(Premise::Absent),
            Self::OneOf(tags) => tags,
        };
        let is_named = |status: &&RelayStatus| tag(&status.relay).is_ok_and(|tag| tags.contains(&tag));
        let relay = present.filter(is_named).and_then(|status| status.relay.check().ok());
        let relay = relay.ok_or_else(|| Refusal::Superseded { name: name.clone() })?;
        Ok(Premise::Is(Box::new(relay)))
    }
}

/// A strong tag, or a weak one, which is none of ours and never matches.
fn is_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    opaque.len() > 1 && opaque.starts_with('"') && opaque.ends_with('"')
}

fn tag(relay: &RelaySpec) -> Result<String, serde_json::Error> {
    let hash = store::hash(&serde_json::to_string(relay)?);
    Ok(format!("\"{}\"", &hash[..TAG_CHARACTERS]))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn parse(values: &[&'static str]) -> Option<Expected> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        Expected::from_headers(&headers).ok()
    }

    #[test]
    fn what_is_expected_is_read_as_the_standard_writes_it() {
        let tags = |tags: &[&str]| Some(Expected::OneOf(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(parse(&[]), Some(Expected::Anything));
        assert_eq!(parse(&[" * "]), Some(Expected::Present));
        assert_eq!(parse(&["\"a\""]), tags(&["\"a\""]));
        assert_eq!(parse(&["\"a\", W/\"b\"", "\"c\""]), tags(&["\"a\"", "W/\"b\"", "\"c\""]));
        let mut headers = HeaderMap::new();
        let of_new = |headers: &HeaderMap| Expected::of_new(headers).ok();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert_eq!(of_new(&headers), Some(Expected::Absent));
        headers.insert(header::IF_MATCH, HeaderValue::from_static("*"));
        assert_eq!(of_new(&headers), None);
        headers.remove(header::IF_NONE_MATCH);
        assert_eq!(of_new(&headers), Some(Expected::Present));
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"a\""));
        assert_eq!(of_new(&headers), None);
        for wrong in ["", "a", "\"", "\"a", "W/a", "\"a\",", "*, \"a\""] {
            assert_eq!(parse(&[wrong]), None, "{wrong}");
        }
    }
}
