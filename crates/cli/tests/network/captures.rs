//! Payloads of real equipment arrive as they were sent: SHA-256 over the sequence, each with its length.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{Capture, DEVICE, Seen, Topology};
use sha2::{Digest, Sha256};

use crate::service::Service;
use crate::traffic::{Payloads, Receiver, send_payloads};

for_each_datapath!(st_2110_30_audio_of_two_legs, st_2110_40_ancillary_data,);

/// The captures are not part of the project; they stand beside its folder where they are to be had.
fn capture(name: &str) -> Option<Capture> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../../shared/captures").join(name);
    if path.exists() {
        return Some(Capture::open(&path));
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn digest(payloads: &[Vec<u8>]) -> String {
    let mut hash = Sha256::new();
    for payload in payloads {
        hash.update((payload.len() as u64).to_be_bytes());
        hash.update(payload);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn relayed_whole(datapath: Datapath, name: &str) {
    let Some(capture) = capture(name) else { return };
    let payloads: Vec<Vec<u8>> =
        capture.packets.iter().filter_map(|packet| Seen::read(&packet.bytes)).map(|seen| seen.payload).collect();
    assert!(payloads.len() > 10, "{name} has {} datagrams", payloads.len());
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("media", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let lan = net.lan(1);
    let on: SocketAddr = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Keep);
    let to: SocketAddr = "239.1.1.1:5001".parse().unwrap();
    send_payloads(net.device(), DEVICE, to, &payloads, Duration::from_micros(20));
    let report = receiver.finish(payloads.len() as u64);
    assert_eq!(report.count, payloads.len() as u64);
    assert_eq!(digest(&report.payloads), digest(&payloads));
    assert_eq!(service.assert_balance()["media"], report.count);
}

fn st_2110_30_audio_of_two_legs(datapath: Datapath) {
    relayed_whole(datapath, "st2022-7-audio-two-legs.pcap");
}

fn st_2110_40_ancillary_data(datapath: Datapath) {
    relayed_whole(datapath, "st2110-40-anc.pcap");
}
