//! `/metrics`: every name, unit and help text, written from one look at the relays.
//!
//! The counters live in the datapath and reach this page through the same [`RelayStatus`] that the API answers with,
//! so a dashboard and `mcr show` can't disagree. Nothing is registered between two scrapes: a relay that is gone is
//! gone from the page, and 10,000 relays cost no second copy of their counters.

mod plain;
mod process;

use std::fmt::{self, Write};

use mcr_model::RelayState;
use mcr_model::status::{DaemonStatus, InterfaceStatus, OutputStatus, RelayStatus};
use mcr_model::trouble::TroubleKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, MetricEncoder,
    NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

pub use process::Process;

/// One look at everything.
#[derive(Debug)]
pub struct Snapshot {
    /// The relays.
    pub relays: Vec<RelayStatus>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// The daemon.
    pub daemon: DaemonStatus,
    /// Its process.
    pub process: Process,
}

/// The form of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0 text.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which every tool reads.
    PlainText,
}

impl Exposition {
    /// The form for a client that sends this `Accept` header: OpenMetrics for who names it, as Prometheus does.
    pub fn from_accept(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::PlainText }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PlainText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The page.
pub fn render(snapshot: Snapshot, exposition: Exposition) -> String {
    let mut page = String::with_capacity(4096 + 1024 * snapshot.relays.len());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    // Writing to a String does not fail.
    let _ = text::encode(&mut page, &registry);
    match exposition {
        Exposition::OpenMetrics => page,
        Exposition::PlainText => plain::from_open_metrics(&page),
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.relay_counters(encoder)?;
        self.output_counters(encoder)?;
        self.drops(encoder)?;
        self.states(encoder)?;
        self.daemon(encoder)?;
        self.process.encode(encoder)
    }
}

impl Snapshot {
    fn relay_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "UDP datagrams that arrived for the relay; a segmented super-frame counts as its segments.";
        counters(encoder, "mcr_relay_received", help, &packets(), |family| {
            self.relays.iter().try_for_each(|r| family.count(&[label("relay", &r.name)], r.received.packets))
        })?;
        let help = "Bytes of the IP packets that arrived for the relay, headers included.";
        counters(encoder, "mcr_relay_received", help, &Unit::Bytes, |family| {
            self.relays.iter().try_for_each(|r| family.count(&[label("relay", &r.name)], r.received.bytes))
        })
    }

    fn output_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "UDP datagrams that left on the output.";
        counters(encoder, "mcr_output_sent", help, &packets(), |family| {
            self.outputs().try_for_each(|(r, o)| family.count(&output_labels(r, o), o.sent.packets))
        })?;
        let help = "Bytes of the IP packets that left on the output, headers included.";
        counters(encoder, "mcr_output_sent", help, &Unit::Bytes, |family| {
            self.outputs().try_for_each(|(r, o)| family.count(&output_labels(r, o), o.sent.bytes))
        })
    }

    fn drops(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "UDP datagrams that were received and not sent on the output, by reason; received = sent + dropped.";
        counters(encoder, "mcr_dropped", help, &packets(), |family| {
            self.outputs().try_for_each(|(r, o)| {
                let [relay, output] = output_labels(r, o);
                let mut dropped = o.dropped.iter();
                dropped.try_for_each(|(why, n)| family.count(&[relay, output, label("reason", why)], *n))
            })
        })?;
        let help = "Frames that were read from the interface and belong to no relay, or were lost before one was known, by reason.";
        counters(encoder, "mcr_input_dropped", help, &packets(), |family| {
            self.interfaces.iter().try_for_each(|i| {
                let mut dropped = i.unattributed.iter().flatten();
                dropped.try_for_each(|(why, n)| family.count(&[label("interface", &i.name), label("reason", why)], *n))
            })
        })
    }

    fn states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for the state that the relay is in, 0 for the others.";
        gauges(encoder, "mcr_relay_state", help, None, |family| {
            self.relays.iter().try_for_each(|r| {
                RelayState::ALL.iter().try_for_each(|state| {
                    let labels = [label("relay", &r.name), label("state", state.name())];
                    family.show(&labels, i64::from(r.state == *state))
                })
            })
        })?;
        self.breakers(encoder)?;
        gauge(encoder, "mcr_relays", "Relays that are defined.", None, self.relays.len() as i64)
    }

    fn breakers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let with_breaker = || self.relays.iter().filter_map(|relay| Some((relay, relay.breaker?)));
        if with_breaker().next().is_none() {
            return Ok(());
        }
        let help = "Times that the breaker took the relay out of force.";
        let trips = Unit::Other("trips".to_owned());
        counters(encoder, "mcr_relay_breaker", help, &trips, |family| {
            with_breaker().try_for_each(|(relay, breaker)| family.count(&[label("relay", &relay.name)], breaker.trips))
        })?;
        let help = "1 while the breaker keeps the relay out of force, else 0.";
        gauges(encoder, "mcr_relay_breaker_open", help, None, |family| {
            with_breaker()
                .try_for_each(|(relay, breaker)| family.show(&[label("relay", &relay.name)], i64::from(breaker.open)))
        })
    }

    fn daemon(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let DaemonStatus { version, uptime_seconds, troubles, .. } = &self.daemon;
        let help = "The version of the daemon.";
        let mut info = encoder.encode_descriptor("mcr_build", help, None, MetricType::Info)?;
        info.encode_info(&[label("version", version)])?;
        let help = "What is wrong with the daemon as a whole, as `mcr status` tells it, by kind.";
        gauges(encoder, "mcr_troubles", help, None, |family| {
            TroubleKind::ALL.iter().try_for_each(|kind| {
                let count = troubles.iter().filter(|trouble| trouble.kind == *kind).count();
                family.show(&[label("kind", kind.name())], count as i64)
            })
        })?;
        gauge(encoder, "mcr_uptime", "Time since the daemon started.", Some(&Unit::Seconds), *uptime_seconds)
    }

    fn outputs(&self) -> impl Iterator<Item = (&RelayStatus, &OutputStatus)> {
        self.relays.iter().flat_map(|relay| relay.outputs.iter().map(move |output| (relay, output)))
    }
}

fn packets() -> Unit {
    Unit::Other("packets".to_owned())
}

/// The metrics of one name.
struct Family<'e>(MetricEncoder<'e>);

impl Family<'_> {
    fn count(&mut self, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn show(&mut self, labels: &impl EncodeLabelSet, value: i64) -> fmt::Result {
        self.0.encode_family(labels)?.encode_gauge(&value)
    }
}

/// Counters of one name; `_total` and the unit are added to it.
fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: &Unit,
    each: impl FnOnce(&mut Family<'_>) -> fmt::Result,
) -> fmt::Result {
    each(&mut Family(encoder.encode_descriptor(name, help, Some(unit), MetricType::Counter)?))
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    each: impl FnOnce(&mut Family<'_>) -> fmt::Result,
) -> fmt::Result {
    each(&mut Family(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?))
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

type Label<'a> = (&'static str, LabelText<'a>);

fn label<'a>(name: &'static str, value: &'a str) -> Label<'a> {
    (name, LabelText(value))
}

fn output_labels<'a>(relay: &'a RelayStatus, output: &'a OutputStatus) -> [Label<'a>; 2] {
    [label("relay", &relay.name), label("output", &output.to)]
}

/// The value of a label. `prometheus-client` writes values as they are; Linux allows `"` and `\` in the name of an
/// interface, and either would break the page.
#[derive(Debug, Clone, Copy)]
struct LabelText<'a>(&'a str);

impl EncodeLabelValue for LabelText<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['"', '\\', '\n']) {
            encoder.write_str(&rest[..at])?;
            encoder.write_str(match rest.as_bytes()[at] {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                _ => "\\n",
            })?;
            rest = &rest[at + 1..];
        }
        encoder.write_str(rest)
    }
}
