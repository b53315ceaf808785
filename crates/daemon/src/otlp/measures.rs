//! The counters and states of `/metrics` as OpenTelemetry instruments, under the same names with dots: a collector that
//! hands them to Prometheus makes the names of `/metrics` of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mcr_model::RelayState;
use mcr_model::status::{DaemonStatus, InterfaceStatus, OutputStatus, RelayStatus};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::runtime::Handle;

use crate::control::Control;

/// All instruments of one export are read within this time: they tell of the same look.
const SAME_LOOK: Duration = Duration::from_millis(500);

/// Makes every instrument. The SDK reads them on a thread of its own, once for each export.
pub(super) fn register(provider: &SdkMeterProvider, control: &Control) {
    let meter = provider.meter(super::NAME);
    let looks = Arc::new(Looks { control: control.clone(), runtime: Handle::current(), last: Mutex::default() });
    let counter = |name, unit, help, tell| counter(&meter, &looks, name, unit, help, tell);
    counter("mcr.relay.received.packets", "{packet}", "UDP datagrams that arrived for the relay", |look, tell| {
        look.relays.iter().for_each(|relay| tell.observe(relay.received.packets, &[of(relay)]));
    });
    counter("mcr.relay.received.bytes", "By", "Bytes of the IP packets that arrived for the relay", |look, tell| {
        look.relays.iter().for_each(|relay| tell.observe(relay.received.bytes, &[of(relay)]));
    });
    counter("mcr.output.sent.packets", "{packet}", "UDP datagrams that left on the output", |look, tell| {
        look.outputs().for_each(|(relay, output)| tell.observe(output.sent.packets, &[of(relay), to(output)]));
    });
    counter("mcr.output.sent.bytes", "By", "Bytes of the IP packets that left on the output", |look, tell| {
        look.outputs().for_each(|(relay, output)| tell.observe(output.sent.bytes, &[of(relay), to(output)]));
    });
    counter(
        "mcr.dropped.packets",
        "{packet}",
        "UDP datagrams that were received and not sent, by reason",
        |look, tell| {
            for (relay, output) in look.outputs() {
                for (reason, packets) in &output.dropped {
                    tell.observe(*packets, &[of(relay), to(output), because(reason)]);
                }
            }
        },
    );
    counter(
        "mcr.input.dropped.packets",
        "{packet}",
        "Frames that belong to no relay, or were lost before",
        |look, tell| {
            for interface in &look.interfaces {
                for (reason, packets) in interface.unattributed.iter().flatten() {
                    tell.observe(*packets, &[KeyValue::new("interface", interface.name.clone()), because(reason)]);
                }
            }
        },
    );
    states(&meter, &looks);
}

/// A counter that is read from a look.
fn counter(
    meter: &Meter,
    looks: &Arc<Looks>,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    tell: fn(&Look, &dyn AsyncInstrument<u64>),
) {
    let looks = Arc::clone(looks);
    let builder = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
    // The SDK goes on to read it as long as the meter lives, whether its handle is kept or not.
    let _ = builder.with_callback(move |observer| tell(&looks.now(), observer)).build();
}

fn states(meter: &Meter, looks: &Arc<Looks>) {
    let of_relays = Arc::clone(looks);
    let help = "1 for the state that the relay is in, 0 for the others";
    let state = meter.i64_observable_gauge("mcr.relay.state").with_description(help);
    let tell = move |observer: &dyn AsyncInstrument<i64>| {
        for relay in &of_relays.now().relays {
            for state in RelayState::ALL {
                let value = i64::from(relay.state == state);
                observer.observe(value, &[of(relay), KeyValue::new("state", state.name())]);
            }
        }
    };
    let _ = state.with_callback(tell).build();
    let looks = Arc::clone(looks);
    let up = meter.f64_observable_gauge("mcr.uptime").with_unit("s").with_description("Time since the daemon started");
    let _ = up.with_callback(move |observer| observer.observe(looks.now().daemon.uptime_seconds, &[])).build();
}

fn of(relay: &RelayStatus) -> KeyValue {
    KeyValue::new("relay", relay.name.clone())
}

fn to(output: &OutputStatus) -> KeyValue {
    KeyValue::new("output", output.to.clone())
}

fn because(reason: &str) -> KeyValue {
    KeyValue::new("reason", reason.to_owned())
}

/// One look at everything.
struct Look {
    relays: Vec<RelayStatus>,
    interfaces: Vec<InterfaceStatus>,
    daemon: DaemonStatus,
}

impl Look {
    fn outputs(&self) -> impl Iterator<Item = (&RelayStatus, &OutputStatus)> {
        self.relays.iter().flat_map(|relay| relay.outputs.iter().map(move |output| (relay, output)))
    }
}

/// Looks, one for all instruments of an export.
struct Looks {
    control: Control,
    runtime: Handle,
    last: Mutex<Option<(Instant, Arc<Look>)>>,
}

impl Looks {
    fn now(&self) -> Arc<Look> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, look)) = &*last
            && when.elapsed() < SAME_LOOK
        {
            return Arc::clone(look);
        }
        let control = &self.control;
        let look = self.runtime.block_on(async {
            let (relays, interfaces) = (control.relays().await, control.interfaces().await);
            Arc::new(Look { relays, interfaces, daemon: control.status().await })
        });
        *last = Some((Instant::now(), Arc::clone(&look)));
        look
    }
}
