//! Whether each path carries what it should: the right bytes, once, to each output, of both kinds of sender, in each family
//! that it can.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mcr_testbed::{ChecksumStatus, Offload, RawReceiver, Seen, Switch, Topology};

use crate::families::Families;
use crate::generate::{Generator, Ingress, Load, Spacing, Stamp, TTL, payload};
use crate::measure::Setup;
use crate::path::{OUTPUT_PORT, Path, ROUTABLE, Running};

const OUTPUTS: usize = 2;
const PACKETS: usize = 64;
const PAYLOAD_BYTES: usize = 1_250;

/// Checks these paths, or all; what can't be started here is told, and is no failure.
///
/// # Panics
/// When one carries something else.
pub(crate) fn check(only: &[Path]) {
    let net = Topology::device_relay_lan(OUTPUTS).with_ipv6();
    net.device().ip(&format!("address add {ROUTABLE}/24 dev eth0"));
    for lan in net.lans() {
        lan.relay_side().offload(Offload::SegmentUdp, Switch::Off);
    }
    let mut generator = Generator::new(net.device_interface());
    for path in Path::ALL.into_iter().filter(|path| only.is_empty() || only.contains(path)) {
        for families in Families::ALL.into_iter().filter(|families| families.can_go_by(path)) {
            let (name, of) = (path.name(), families.name());
            match path.start(&net, families, OUTPUTS, 1) {
                Ok(running) => {
                    for ingress in [Ingress::Raw, Ingress::Socket] {
                        carries(
                            &net,
                            &mut generator,
                            Setup { families, ..Setup::plain(path, ingress, OUTPUTS, PAYLOAD_BYTES) },
                        );
                    }
                    println!("{name}: carries {of} to {OUTPUTS} outputs{}", by(&running));
                }
                Err(why) => println!("{name}: {of} not here: {why}"),
            }
        }
    }
}

fn by(running: &Running) -> String {
    running.served_by.as_ref().map_or_else(String::new, |datapath| format!(" ({datapath})"))
}

fn carries(net: &Topology, generator: &mut Generator, setup: Setup) {
    let Setup { path, families, ingress, .. } = setup;
    let receivers: Vec<RawReceiver> = net.lans().iter().map(|lan| RawReceiver::new(lan.host_side())).collect();
    let load = |packets: usize| Load {
        ingress,
        source: families.source(path),
        group: families.group(),
        payload_bytes: PAYLOAD_BYTES,
        rate: 10_000,
        time: Duration::from_micros(packets as u64 * 100),
        spacing: Spacing::Bursts,
        stamp: Stamp::Zero,
    };
    let begun = Instant::now();
    for receiver in &receivers {
        while receiver.try_next_udp(Duration::from_millis(20)).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(5), "{} relays nothing", path.name());
            generator.send(load(16));
        }
    }
    for receiver in &receivers {
        while receiver.try_next_udp(Duration::from_millis(50)).is_some() {}
    }
    let sent = generator.send(load(PACKETS)).packets;
    for (receiver, output) in receivers.iter().zip(1..) {
        let mut came = 0u64;
        // What comes twice comes soon.
        let patience = |came: u64| Duration::from_millis(if came < sent { 1_000 } else { 20 });
        while let Some(frame) = receiver.next_frame(patience(came)) {
            let Some(seen) = Seen::read(&frame.bytes) else { continue };
            let what =
                format!("{}: {} from a {} sender, output {output}", path.name(), families.name(), ingress.name());
            // What only redirects leaves a checksum as unfinished as it was.
            let is_open =
                frame.checksum == ChecksumStatus::Unfinished || path == Path::Redirect && ingress == Ingress::Socket;
            assert!(is_open || seen.udp_checksum_is_right, "{what}: the checksum is wrong");
            assert_eq!(
                (seen.source, seen.destination, seen.ttl),
                expected(path, families, output, seen.source.port()),
                "{what}"
            );
            assert!(seen.payload == payload(PAYLOAD_BYTES), "{what}: the payload is another");
            came += 1;
        }
        assert_eq!(
            came,
            sent,
            "{}: {} from a {} sender, output {output}",
            path.name(),
            families.name(),
            ingress.name()
        );
    }
}

/// Source, destination and TTL behind the relay; the source port may be any.
fn expected(path: Path, families: Families, output: usize, source_port: u16) -> (SocketAddr, SocketAddr, u8) {
    let source = |source: IpAddr| SocketAddr::new(source, source_port);
    let as_sent = |ttl| (source(families.source(path)), families.group(), ttl);
    match path {
        Path::Redirect => as_sent(TTL),
        Path::Smcroute => as_sent(TTL - 1),
        Path::Xdp | Path::Tcx | Path::Packet | Path::Auto | Path::Nftables | Path::Sockets | Path::Socat => {
            (source(families.output_source(output)), SocketAddr::new(families.output_group(output), OUTPUT_PORT), 16)
        }
    }
}
