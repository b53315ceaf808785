//! The metrics page: what a scraper reads, in both forms, and what it costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcr_daemon::metrics::{Exposition, Process, Snapshot, render};
use mcr_model::RelayState;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};
use mcr_model::status::{DaemonStatus, InterfaceStatus, Origin, OutputStatus, RelayStatus, Traffic};

fn traffic(packets: u64) -> Traffic {
    Traffic { packets, bytes: 1278 * packets, packets_per_second: None, bits_per_second: None }
}

fn relay(name: &str, state: RelayState, outputs: &[&str]) -> RelayStatus {
    let output = |(i, to): (usize, &&str)| OutputStatus {
        to: (*to).to_owned(),
        ok: true,
        reason: None,
        remedy: None,
        source: None,
        sent: traffic(1000 - i as u64),
        dropped_packets: i as u64,
        dropped: (0..i).map(|_| ("too_big".to_owned(), i as u64)).collect(),
    };
    RelayStatus {
        warnings: Vec::new(),
        seen_groups: None,
        left_to: Vec::new(),
        taken_from: Vec::new(),
        name: name.to_owned(),
        origin: Origin::Api,
        state,
        reason: String::new(),
        remedy: None,
        datapath: "packet".to_owned(),
        datapath_reason: None,
        from: "eth0:239.1.1.1:5001".to_owned(),
        lease: None,
        breaker: None,
        received: traffic(1000),
        last_packet_seconds: None,
        outputs: outputs.iter().enumerate().map(output).collect(),
        relay: RelaySpec {
            name: name.to_owned(),
            input: InputSpec::default(),
            output: vec![OutputSpec::default()],
            ..RelaySpec::default()
        },
    }
}

fn snapshot(relays: Vec<RelayStatus>) -> Snapshot {
    let interface = InterfaceStatus {
        name: "odd\"\\name".to_owned(),
        index: 2,
        up: true,
        carrier: true,
        multicast: true,
        mtu: 1500,
        mac: String::new(),
        addresses: Vec::new(),
        input_of: 1,
        output_of: 0,
        unattributed: Some(BTreeMap::from([("no_relay".to_owned(), 3), ("ring_full".to_owned(), 1)])),
    };
    let daemon = DaemonStatus {
        version: "1.2.3".to_owned(),
        pid: 42,
        uptime_seconds: 7.5,
        config: None,
        relays: BTreeMap::new(),
        keeper_pid: None,
        troubles: Vec::new(),
        confinement: None,
    };
    let process = Process {
        cpu_seconds: Some(1.75),
        resident_bytes: Some(8 << 20),
        virtual_bytes: Some(64 << 20),
        threads: Some(4),
        open_fds: None,
    };
    Snapshot { relays, interfaces: vec![interface], daemon, process }
}

#[test]
fn the_page_in_both_forms() {
    let relays = || {
        vec![
            relay("camera-3", RelayState::Degraded, &["eth1:239.2.2.2:6001", "eth2:10.0.2.7:6001,vlan=100"]),
            relay("idle", RelayState::Ready, &["eth1:239.2.2.3:6001"]),
        ]
    };
    insta::assert_snapshot!("open-metrics", render(snapshot(relays()), Exposition::OpenMetrics));
    insta::assert_snapshot!("plain-text", render(snapshot(relays()), Exposition::PlainText));
}

#[test]
fn the_form_is_negotiated() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, form) in [
        (prometheus, Exposition::OpenMetrics),
        ("text/plain", Exposition::PlainText),
        ("*/*", Exposition::PlainText),
        ("", Exposition::PlainText),
    ] {
        assert_eq!(Exposition::from_accept(accept), form, "{accept}");
    }
}

/// The bound is for an unoptimised build; `--nocapture` shows what it took.
#[test]
fn ten_thousand_relays_are_cheap() {
    let outputs = ["eth1:239.2.2.2:6001", "eth2:239.2.2.2:6001"];
    for form in [Exposition::OpenMetrics, Exposition::PlainText] {
        let relays = (0..10_000).map(|i| relay(&format!("relay-{i}"), RelayState::Flowing, &outputs)).collect();
        let snapshot = snapshot(relays);
        let start = Instant::now();
        let page = render(snapshot, form);
        let took = start.elapsed();
        println!("{form:?}: {} lines, {} bytes, {took:?}", page.lines().count(), page.len());
        assert!(took < Duration::from_secs(6), "{took:?}");
    }
}
