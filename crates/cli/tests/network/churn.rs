//! Ten thousand changes to other relays, and the flow beside them does not notice.

use std::sync::atomic::{AtomicBool, Ordering};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Topology, wait_until};

use crate::api::Api;
use crate::service::{SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send_while};

const SERIES: Series = Series::of(10_000_000, 64);
const CHANGES: u32 = 10_000;

/// Adds, changes and removes relays beside the one that flows, on its group too.
fn change(api: &mut Api, number: u32) {
    let name = format!("r{}", number / 3 % 500);
    let last = number / 3 % 250;
    let relay = |ttl: u32| {
        format!(
            r#"{{"name": "{name}", "input": {{"interface": "dev0", "group": "239.1.{}.{last}", "port": 5002}},
                "output": [{{"interface": "lan1", "group": "239.2.9.{last}", "port": 6009, "ttl": {ttl}}}]}}"#,
            number / 3 / 250 % 2 + 1,
        )
    };
    let path = format!("/api/v1/relays/{name}");
    let ((status, _), expected) = match number % 3 {
        0 => (api.ask("POST", "/api/v1/relays", &relay(8)), 201),
        1 => (api.ask("PUT", &path, &relay(9)), 200),
        _ => (api.ask("DELETE", &path, ""), 204),
    };
    assert_eq!(status, expected, "change {number}");
}

#[test]
fn ten_thousand_changes_beside_a_flow() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(Datapath::Tcx, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(SERIES));
    let goes_on = AtomicBool::new(true);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_while(&goes_on, net.device(), DEVICE, GROUP, SERIES, 100_000));
        wait_until(SOON, "packets flow", || receiver.count() > 0);
        let mut api = Api::of(&service);
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..CHANGES).for_each(|number| change(&mut api, number));
        }));
        goes_on.store(false, Ordering::Relaxed);
        changes.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sender.join().expect("the sender")
    });
    let report = receiver.finish(sent);
    assert_eq!((report.count, report.first_difference), (sent, None));
    assert_eq!(service.assert_balance()["camera"], sent);
    println!("{CHANGES} changes beside {sent} packets");
}
