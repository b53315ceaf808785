//! OTLP, with the feature `otlp`: API requests as traces, and the counters as metrics, for a collector.
//!
//! It is off until an endpoint is named by the variables that every OpenTelemetry SDK knows
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like), which say the rest, too. Two threads of the SDK send; neither a request
//! nor a packet waits for them.

mod collector;
mod measures;
mod trace;

use std::time::Duration;

use anyhow::Context;
use opentelemetry::global;
use opentelemetry_otlp::{
    MetricExporter, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::control::Control;
use collector::Collector;

pub(crate) use trace::traced;

/// How this program is called in what is sent, unless `OTEL_SERVICE_NAME` says otherwise.
const NAME: &str = "mcr";
/// How long the last of it may take when the daemon ends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// What is sent, until it is ended.
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Begins to send what somebody has named an endpoint for.
    ///
    /// # Errors
    /// When a variable makes no sense.
    pub(crate) fn start(control: &Control) -> anyhow::Result<Self> {
        let traces = wants(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT).then(traces).transpose()?;
        let metrics = wants(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT).then(|| metrics(control)).transpose()?;
        if traces.is_some() || metrics.is_some() {
            tracing::info!(traces = traces.is_some(), metrics = metrics.is_some(), "sending OTLP");
        }
        Ok(Self { traces, metrics })
    }

    /// Sends the last of it; waits for the collector, but not long.
    pub(crate) fn end(self) {
        let Self { traces, metrics } = self;
        let ended = [
            traces.map(|traces| traces.shutdown_with_timeout(LAST_PATIENCE)),
            metrics.map(|metrics| metrics.shutdown_with_timeout(LAST_PATIENCE)),
        ];
        for error in ended.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(%error, "the last traces or metrics did not reach the collector");
        }
    }
}

/// Whether anything is to be sent.
pub(crate) fn is_wanted() -> bool {
    [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT].into_iter().any(wants)
}

/// Whether an endpoint is named for this, or for everything.
fn wants(of_one: &str) -> bool {
    let is_off = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !is_off && (is_set(OTEL_EXPORTER_OTLP_ENDPOINT) || is_set(of_one))
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn traces() -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_http().with_http_client(Collector).build();
    let exporter = exporter.context("can not send traces; correct the OTEL_EXPORTER_OTLP variables")?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(provider.clone());
    Ok(provider)
}

fn metrics(control: &Control) -> anyhow::Result<SdkMeterProvider> {
    let exporter = MetricExporter::builder().with_http().with_http_client(Collector).build();
    let exporter = exporter.context("can not send metrics; correct the OTEL_EXPORTER_OTLP variables")?;
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource()).build();
    measures::register(&provider, control);
    Ok(provider)
}

fn resource() -> Resource {
    let builder = Resource::builder();
    let builder = if is_set("OTEL_SERVICE_NAME") { builder } else { builder.with_service_name(NAME) };
    builder.with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}
