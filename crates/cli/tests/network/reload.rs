//! A file with a thousand relays is read again with one of them changed, while another carries a flow.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Topology, kernel, wait_until};

use crate::service::{SOON, Service};
use crate::traffic::{Payloads, Receiver, Series, send_while};

const RELAYS: u32 = 1_000;
const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 1, 0, 0)), 5001);
const SERIES: Series = Series { count: 100_000_000, smallest: 100, largest: 1400 };
/// What the daemon may take for a thousand relays, in KiB.
const MEMORY_KIB: u64 = 64 << 10;

/// All relays, the one of this number with another TTL.
fn config(changed: Option<u32>) -> String {
    let mut config = String::new();
    for number in 0..RELAYS {
        let (high, low) = (number / 250, number % 250);
        let ttl = if changed == Some(number) { 9 } else { 8 };
        let input = format!("{{ interface = \"dev0\", group = \"239.1.{high}.{low}\", port = 5001 }}");
        let output = format!("{{ interface = \"lan1\", group = \"239.2.{high}.{low}\", port = 6001, ttl = {ttl} }}");
        writeln!(config, "[[relay]]\nname = \"r{number}\"\ninput = {input}\noutput = [{output}]").unwrap();
    }
    config
}

/// The memory of a process, in KiB.
pub(crate) fn memory_kib(pid: u32) -> u64 {
    let resident = kernel::process_status(pid, "VmRSS").expect("a living process");
    resident.trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn of_a_thousand_relays_only_the_changed_one_is_touched() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(Datapath::Tcx, net.relay(), &config(None));
    service.ok(&["wait", "r999", "--for", "ready"]);
    let lan = net.lan(1);
    let on = "239.2.0.0:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(SERIES));
    let goes_on = AtomicBool::new(true);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_while(&goes_on, net.device(), DEVICE, GROUP, SERIES, 20_000));
        wait_until(SOON, "packets flow", || receiver.count() > 1_000);
        for changed in [Some(500), None] {
            let told = || service.log().matches("the configuration is read again").count();
            let before = told();
            service.reload(&config(changed));
            wait_until(SOON * 2, "the file is read again", || told() > before);
        }
        goes_on.store(false, Ordering::Relaxed);
        sender.join().expect("the sender")
    });
    let report = receiver.finish(sent);
    assert_eq!((report.count, report.first_difference), (sent, None));
    assert_eq!(service.assert_balance()["r0"], sent, "its counters went on");
    let events = service.ok(&["events"]);
    let changes: Vec<&str> = events.lines().filter(|line| line.contains("relay-changed")).collect();
    assert!(changes.len() == 2 && changes.iter().all(|line| line.contains("r500")), "{changes:?}");
    assert_eq!(events.matches("999 as before").count(), 2, "the others are as before");
    let memory = memory_kib(service.pid());
    println!("{memory} KiB for {RELAYS} relays");
    assert!(memory < MEMORY_KIB, "{memory} KiB");
}
