//! What a request means: pure functions from its parts to the call it asks for, or to the reason why not.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use mcr_engine::Step;
use mcr_model::endpoint::closest;
use mcr_model::querier::QuerierSpec;
use mcr_model::relay::Relay;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::watch::ExpectSpec;
use mcr_model::{BreakerSpec, FieldError, Lease, RelayName, WaitFor, duration};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

use super::rejection::Rejection;
use super::shape;

/// The longest wait that one request may ask for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const LONGEST_HISTORY: Duration = Duration::from_secs(24 * 3600);

/// Where the name of a relay stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named<'a> {
    /// In the body only (POST).
    InBody,
    /// In the path; the body may repeat it (PUT).
    InPath(&'a RelayName),
}

/// A relay as a request writes it: as in a file, but the name may be left to the path.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RelayBody)]
pub(super) struct Body {
    name: Option<String>,
    input: InputSpec,
    output: Vec<OutputSpec>,
    datapath: Option<String>,
    #[serde(default)]
    link_local: bool,
    #[serde(default)]
    broadcast: bool,
    #[serde(default)]
    on_demand: bool,
    join: Option<String>,
    #[serde(default)]
    allow_ptp: bool,
    silent_after: Option<String>,
    expect: Option<ExpectSpec>,
    breaker: Option<BreakerSpec>,
    querier: Option<QuerierSpec>,
    /// More packets than so many a second are dropped as `rate_limited`; none: no cap.
    #[schema(minimum = 1, maximum = 1_000_000_000i64)]
    max_packets_per_second: Option<i64>,
    /// The same for the bits of their IP packets.
    #[schema(minimum = 1000, maximum = 1_000_000_000_000i64)]
    max_bits_per_second: Option<i64>,
    /// The relay goes when nobody renews it in this time, 1s to 24h.
    #[schema(example = "30s")]
    lease: Option<String>,
}

/// A relay that a request wants, and how long it is to live unless it is renewed.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) relay: Relay,
    pub(super) lease: Option<Lease>,
}

/// What a request to renew a lease may say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    /// How long it is from now on; as long as before unless given.
    #[schema(example = "30s")]
    lease: Option<String>,
}

/// The name of a relay that a request wants to exist.
pub(super) fn wanted(name: &str) -> Result<RelayName, Rejection> {
    name.parse().map_err(|error: mcr_model::name::NameError| {
        Rejection::wrong_relay(vec![FieldError::new("name", error.to_string(), "")])
    })
}

/// The name of a relay that should exist. What is no name can't be that of a relay.
pub(super) fn existing(name: &str) -> Result<RelayName, Rejection> {
    name.parse().map_err(|error: mcr_model::name::NameError| Rejection::no_such_name(&error))
}

/// Refuses a body that is not declared to be JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), Rejection> {
    let essence = media_type(headers);
    if is_json(&essence) { Ok(()) } else { Err(Rejection::not_json(&essence)) }
}

/// The declared type of a body without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// The relay that a body describes.
pub(super) fn relay(body: &[u8], named: Named<'_>) -> Result<Wanted, Rejection> {
    check_json(body)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed: Body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let all = shape::mistakes(body, named);
        // What is said of one alone names its line.
        Rejection::wrong_relay(if all.len() > 1 { all } else { vec![unreadable(error)] })
    })?;
    let Body {
        name,
        input,
        output,
        datapath,
        link_local,
        allow_ptp,
        silent_after,
        expect,
        breaker,
        querier,
        lease,
        ..
    } = parsed;
    let Body { broadcast, on_demand, join, max_packets_per_second, max_bits_per_second, .. } = parsed;
    let name = match (named, name) {
        (Named::InBody, Some(name)) => name,
        (Named::InBody, None) => {
            return Err(wrong_field("name", "the relay has no name", "add one, as \"name\": \"camera-3\""));
        }
        (Named::InPath(path), Some(name)) if name != path.as_str() => {
            let message = format!("the path names relay {path}, the body another");
            return Err(wrong_field("name", message, "leave the name out of the body, or make both the same"));
        }
        (Named::InPath(path), _) => path.to_string(),
    };
    let relay = RelaySpec {
        name,
        input,
        output,
        datapath,
        link_local,
        broadcast,
        on_demand,
        join,
        allow_ptp,
        silent_after,
        expect,
        breaker,
        querier,
        max_packets_per_second,
        max_bits_per_second,
    };
    let relay = relay.check();
    match (relay, checked_lease(lease.as_deref())) {
        (Ok(relay), Ok(lease)) => Ok(Wanted { relay, lease }),
        (relay, lease) => Err(Rejection::wrong_relay(relay.err().into_iter().flatten().chain(lease.err()).collect())),
    }
}

/// The lease that a request to renew one asks for; an empty body asks for as long a one as it had.
pub(super) fn renewal(headers: &HeaderMap, body: &[u8]) -> Result<Option<Lease>, Rejection> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    expect_json(headers)?;
    let Renewal { lease } = read(body, "a renewal")?;
    checked_lease(lease.as_deref()).map_err(|error| Rejection::wrong_relay(vec![error]))
}

fn checked_lease(given: Option<&str>) -> Result<Option<Lease>, FieldError> {
    let wrong = |error: mcr_model::lease::LeaseError| FieldError::new("lease", error.to_string(), Lease::RANGE);
    given.map(str::parse).transpose().map_err(wrong)
}

/// Refuses what is no JSON at all, and lists where an object must stand: `serde` would read `["eth0", …]` as an input
/// with its fields in order, which nobody has promised.
fn check_json(body: &[u8]) -> Result<(), Rejection> {
    if body.trim_ascii().is_empty() {
        return Err(Rejection::no_body());
    }
    let whole: Value = serde_json::from_slice(body).map_err(|error| Rejection::bad_json(&error))?;
    let outputs = whole.get("output").and_then(Value::as_array).into_iter().flatten().enumerate();
    let outputs = outputs.map(|(i, output)| (format!("output[{i}]"), Some(output)));
    // Each of these may be missing or `null`; what else is none is refused for its type.
    let sections = ["expect", "breaker", "querier"];
    let sections = sections.map(|key| (key.to_owned(), whole.get(key).filter(|part| part.is_array())));
    let always = [(String::new(), Some(&whole)), ("input".to_owned(), whole.get("input"))];
    let mut objects = always.into_iter().chain(outputs).chain(sections);
    match objects.find(|(_, part)| part.is_some_and(|part| !part.is_object())) {
        None => Ok(()),
        Some((field, _)) => {
            let what = if field.is_empty() { "a relay" } else { &field };
            let remedy = match field.as_str() {
                "" => RELAY_SHAPE,
                "expect" => "{\"min_bits_per_second\": 5000000}",
                "breaker" => "{\"max_packets_per_second\": 50000}",
                "querier" => "{\"own\": true}",
                _ => ENDPOINT_SHAPE,
            };
            Err(wrong_field(&field, format!("{what} must be an object"), &format!("write {remedy}")))
        }
    }
}

const RELAY_SHAPE: &str = "{\"name\": …, \"input\": {…}, \"output\": [{…}]}";
const ENDPOINT_SHAPE: &str = "{\"interface\": \"eth0\", \"group\": \"239.1.1.1\", \"port\": 5001}";

fn wrong_field(field: &str, message: impl Into<String>, remedy: &str) -> Rejection {
    Rejection::wrong_relay(vec![FieldError::new(field, message, remedy)])
}

/// The body as what it should be, which `what` names.
pub(super) fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Rejection> {
    if body.trim_ascii().is_empty() {
        return Err(Rejection::no_body());
    }
    let whole: Value = serde_json::from_slice(body).map_err(|error| Rejection::bad_json(&error))?;
    if !whole.is_object() {
        let error = FieldError::new("", format!("{what} must be an object"), "write {…}");
        return Err(Rejection::wrong_fields(what, vec![error]));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| Rejection::wrong_fields(what, vec![unreadable(error)]))
}

/// JSON that does not have the shape, and at which field.
fn unreadable(error: serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let text = error.into_inner().to_string();
    let (message, place) = text.rsplit_once(" at line ").unwrap_or((&text, "unknown"));
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let error = FieldError::new(key, format!("{key:?} is missing"), format!("add \"{key}\": …"));
        return error.within(&path);
    }
    let said = format!("{} (line {place})", shortened(&in_our_words(message)));
    FieldError::new(path, said, hint(message))
}

/// What `serde` expected, as JSON calls it.
fn in_our_words(message: &str) -> String {
    let words = [
        ("expected i64", "expected a whole number"),
        ("expected a sequence", "expected a list"),
        ("expected a boolean", "expected true or false"),
        ("expected a string", "expected text in quotes"),
    ];
    let known = words.iter().find(|(theirs, _)| message.ends_with(theirs));
    known.map_or(message.to_owned(), |(theirs, ours)| message.replace(theirs, ours))
}

/// A wrong value may be as long as the body: enough of the message to see it, and its end, which says what was
/// expected.
fn shortened(message: &str) -> String {
    const KEPT: usize = 150;
    let characters = message.chars().count();
    if characters <= 2 * KEPT {
        return message.to_owned();
    }
    let start: String = message.chars().take(KEPT).collect();
    let end: String = message.chars().skip(characters - KEPT).collect();
    format!("{start} … {end}")
}

/// "unknown field `grup`, expected one of `interface`, `group`, …" to the word that was meant.
fn hint(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return String::new() };
    let mut quoted = rest.split('`').step_by(2);
    let given = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.filter(|word| !word.is_empty()).collect();
    closest(given, &known).map(|meant| format!("did you mean {meant:?}?")).unwrap_or_default()
}

/// What a query like `for=first-packet&timeout=5s` waits for, and how long.
pub(super) fn wait(query: &str) -> Result<(WaitFor, Duration), Rejection> {
    let (mut condition, mut timeout) = (WaitFor::Ready, DEFAULT_WAIT);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("for", text) => {
                condition = text.parse().map_err(|_| Rejection::bad_query("for", text, WaitFor::WORDS))?;
            }
            ("timeout", text) => timeout = length("timeout", text)?,
            (other, _) => return Err(Rejection::bad_query(other, "", "the parameters are for and timeout")),
        }
    }
    Ok((condition, timeout))
}

/// A length of time in a query.
pub(super) fn length(parameter: &str, text: &str) -> Result<Duration, Rejection> {
    time(parameter, text, LONGEST_WAIT, "write it as 500ms, 5s or 2m; the longest is 1h")
}

/// The step and the span of a query like `step=1s&last=10m`.
pub(super) fn history(query: &str) -> Result<(Step, Option<Duration>), Rejection> {
    let (mut step, mut last) = (Step::Second, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("step", "1s") => step = Step::Second,
            ("step", "1m") => step = Step::Minute,
            ("step", other) => {
                return Err(Rejection::bad_query(
                    "step",
                    other,
                    "use step=1s for the last hour or step=1m for the last day",
                ));
            }
            ("last", text) => {
                last = Some(time("last", text, LONGEST_HISTORY, "write it as 90s, 10m or 2h; the longest is 24h")?)
            }
            (other, _) => return Err(Rejection::bad_query(other, "", "the parameters are step and last")),
        }
    }
    Ok((step, last))
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Page {
    /// Only what comes after that name.
    pub(super) after: Option<RelayName>,
    pub(super) limit: Option<usize>,
}

/// What a query like `limit=100&after=camera-3` wants of a list.
pub(super) fn page(query: &str) -> Result<Page, Rejection> {
    let mut page = Page::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("after", text) => {
                let wrong = |_| Rejection::bad_query("after", text, "write the name of a relay, as after=camera-3");
                page.after = Some(text.parse().map_err(wrong)?);
            }
            ("limit", text) => {
                let limit = text.parse().ok().filter(|limit| *limit > 0);
                let wrong = || Rejection::bad_query("limit", text, "write a number from 1, as limit=100");
                page.limit = Some(limit.ok_or_else(wrong)?);
            }
            (other, _) => return Err(Rejection::bad_query(other, "", "the parameters are limit and after")),
        }
    }
    Ok(page)
}

/// What a query like `follow=false` wants of events.
pub(super) fn events(query: &str) -> Result<Follow, Rejection> {
    let mut follow = Follow::Stream;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("follow", "true") => follow = Follow::Stream,
            ("follow", "false") => follow = Follow::Kept,
            ("follow", other) => return Err(Rejection::bad_query("follow", other, "use follow=true or follow=false")),
            (other, _) => return Err(Rejection::bad_query(other, "", "the parameter is follow")),
        }
    }
    Ok(follow)
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Those that happen, one after the other, without end.
    Stream,
    /// Those that are kept.
    Kept,
}

/// Where a reader of events goes on; `None`: it says nothing.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

fn time(parameter: &str, text: &str, longest: Duration, remedy: &str) -> Result<Duration, Rejection> {
    let length = duration::parse(text).ok().filter(|length| *length <= longest);
    length.ok_or_else(|| Rejection::bad_query(parameter, text, remedy))
}

/// What the client accepts, in lower case.
pub(super) fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",").to_ascii_lowercase()
}
