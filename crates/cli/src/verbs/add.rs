//! `mcr add`: a relay from endpoint text.

use mcr_model::querier::QuerierSpec;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::status::RelayStatus;
use mcr_model::watch::ExpectSpec;
use mcr_model::{BreakerSpec, DatapathChoice, RelayState};
use serde::Serialize;

use crate::args::{Add, Caps, Format, Scope, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::verbs::hold;
use crate::view::relay::{shared, trouble};
use crate::view::screen::{Ink, Screen, state_style};

/// Adds the relay and says how it does.
pub(crate) fn add(args: Add) -> Result<(), Failure> {
    let Add { name, from, to, datapath, scope, caps, replace, lease, hold, watch, daemon, output } = args;
    let spec = watched(capped(spec(name.as_str(), &from, &to, datapath, &scope)?, caps), watch);
    let body = Body { relay: &spec, lease: lease.map(|lease| lease.to_string()) };
    let json = serde_json::to_string(&body).map_err(|error| Failure::failed(format!("cannot write it: {error}")))?;
    let client = Client::new(daemon)?;
    // Before there is anything to take back.
    let held =
        lease.filter(|_| hold).map(|lease| Interrupt::watch().map(|interrupt| (lease, interrupt))).transpose()?;
    let answer = if replace { client.put(&format!("relays/{name}"), json)? } else { client.post("relays", json)? };
    let json = answer.json();
    let relay: RelayStatus = answer.read()?;
    let has_failed = relay.state == RelayState::Failed;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&json)?,
        Format::Text if has_failed => {}
        Format::Text => screen.print(&told(&relay, screen.ink()))?,
    }
    let failed = has_failed.then(|| Failure::failed(trouble(&relay)));
    match (held, failed) {
        // It is renewed all the same: what it lacks may come.
        (Some((lease, interrupt)), failed) => {
            if let Some(failure) = failed {
                failure.report();
            }
            hold::hold(&client, &name, lease, &interrupt)
        }
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(()),
    }
}

/// How a relay that was added does.
fn told(relay: &RelayStatus, ink: Ink) -> String {
    let state = ink.paint(state_style(relay.state), relay.state.name());
    let mut text = match trouble(relay) {
        none if none.is_empty() => format!("{} is {state}: {}\n", relay.name, relay.reason),
        trouble => trouble,
    };
    text.extend(shared(relay).map(|shared| format!("  {shared}\n")));
    text
}

/// What is sent: the relay and its lease.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    relay: &'a RelaySpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
}

/// The relay, which is joined then and watched like that.
pub(crate) fn watched(spec: RelaySpec, watch: Watch) -> RelaySpec {
    let Watch { on_demand, join, silent_after, expect_min, expect_max, breaker, recover_after, .. } = watch;
    let expect = ExpectSpec { min_bits_per_second: expect_min, max_bits_per_second: expect_max };
    let expect = Some(expect).filter(|expect| *expect != ExpectSpec::default());
    let breaker = breaker.map(|max_packets_per_second| BreakerSpec { max_packets_per_second, recover_after });
    let querier = QuerierSpec { timeout: watch.querier_timeout, own: watch.own_querier.then_some(true) };
    let querier = Some(querier).filter(|querier| *querier != QuerierSpec::default());
    RelaySpec { on_demand, join, silent_after, expect, breaker, querier, ..spec }
}

/// The relay, which takes no more than that.
pub(crate) fn capped(spec: RelaySpec, caps: Caps) -> RelaySpec {
    let Caps { max_packets_per_second, max_bits_per_second } = caps;
    RelaySpec { max_packets_per_second, max_bits_per_second, ..spec }
}

/// The relay that endpoint texts describe. Values are not checked here: the daemon or [`RelaySpec::check`] does.
pub(crate) fn spec(
    name: &str,
    from: &str,
    to: &[String],
    datapath: Option<DatapathChoice>,
    scope: &Scope,
) -> Result<RelaySpec, Failure> {
    let wrong = |error: mcr_model::endpoint::EndpointError| Failure::usage(error.to_string());
    let outputs: Result<Vec<_>, _> = to.iter().map(|to| OutputSpec::from_endpoint(to).map_err(wrong)).collect();
    Ok(RelaySpec {
        name: name.to_owned(),
        input: InputSpec::from_endpoint(from).map_err(wrong)?,
        output: outputs?,
        datapath: datapath.map(|choice| choice.to_string()),
        link_local: scope.link_local,
        broadcast: scope.broadcast,
        allow_ptp: scope.allow_ptp,
        ..RelaySpec::default()
    })
}
