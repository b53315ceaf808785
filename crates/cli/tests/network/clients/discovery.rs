//! Discovery, which works only with the sender's own address and TTL: mDNS (RFC 6762) between two avahi daemons, and SSDP
//! between minidlna and GSSDP.

use std::path::Path;
use std::time::Duration;

use mcr_testbed::{Process, RawReceiver, Seen, Topology};

use super::command_with_mounts;
use crate::service::{SOON, Service};

/// How long a discovery may take: both protocols wait before they ask and answer.
const DISCOVERED: Duration = Duration::from_secs(15);

const CAMERA_OF_AVAHI: &str = r#"<?xml version="1.0"?><!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group><name>Camera 3</name><service><type>_rtsp._tcp</type><port>8554</port>
<txt-record>path=/live</txt-record></service></service-group>
"#;

/// Two sources, so that the two directions are no cycle; nothing is rewritten.
const MDNS: &str = r#"
    [[relay]]
    name = "answers"
    link_local = true
    input = { interface = "dev0", group = "224.0.0.251", port = 5353, sources = ["192.168.168.55"] }
    output = [{ interface = "lan1", group = "224.0.0.251", port = 5353, source = "keep", ttl = "keep" }]
    [[relay]]
    name = "questions"
    link_local = true
    input = { interface = "lan1", group = "224.0.0.251", port = 5353, sources = ["10.0.1.2"] }
    output = [{ interface = "dev0", group = "224.0.0.251", port = 5353, source = "keep", ttl = "keep" }]
"#;

/// Writes what avahi reads, and gives the mounts by which it finds that at its fixed places.
fn avahi(folder: &Path, host: &str, dbus: &str, service: &str) -> String {
    std::fs::create_dir_all(folder.join("services")).expect("a folder of services");
    std::fs::write(folder.join("services/camera.service"), service).expect("write the service");
    let config = format!(
        "[server]\nhost-name={host}\nallow-interfaces=eth0\nuse-ipv6=no\nenable-dbus={dbus}\n\
         [publish]\npublish-hinfo=no\npublish-workstation=no\n"
    );
    std::fs::write(folder.join("avahi-daemon.conf"), config).expect("write the configuration");
    let folder = folder.display();
    format!(
        "mkdir -p /etc/avahi /run/avahi-daemon && mount --bind {folder} /etc/avahi && mount -t tmpfs none /run/avahi-daemon"
    )
}

const AVAHI: [&str; 4] = ["--no-drop-root", "--no-rlimits", "--no-chroot", "--no-proc-title"];

#[test]
fn avahi_finds_a_service_behind_the_relay_with_nothing_rewritten() {
    let net = Topology::device_relay_lan(1);
    let lan = net.lan(1);
    // Nothing is rewritten, so the receiver needs a way back.
    lan.host_side().add_route("192.168.168.55/32");
    net.device_interface().add_route("10.0.1.2/32");
    let service = Service::start(net.relay(), MDNS);
    service.wait_for_state("answers", "ready", SOON);
    service.wait_for_state("questions", "ready", SOON);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wire = RawReceiver::new(lan.host_side());

    let mounts = avahi(&folder.path().join("device"), "camera-3", "no", CAMERA_OF_AVAHI);
    let mut device = Process::start(command_with_mounts(net.device(), &mounts, "avahi-daemon").args(AVAHI));
    device.wait_for_line("successfully established", DISCOVERED);

    // A bus of its own, which both the daemon and the browser use.
    let mounts = avahi(&folder.path().join("lan"), "monitor", "yes", "<service-group/>");
    let bus = folder.path().join("bus");
    let config = folder.path().join("bus.conf");
    std::fs::write(&config, bus_config(&bus)).expect("write the bus configuration");
    let mut command = lan.namespace().command("dbus-daemon");
    command.arg("--config-file").arg(&config).args(["--nofork", "--nopidfile", "--print-address"]);
    let mut bus_daemon = Process::start(&mut command);
    bus_daemon.wait_for_line("unix:", SOON);
    let address = format!("unix:path={}", bus.display());
    let mut command = command_with_mounts(lan.namespace(), &mounts, "avahi-daemon");
    let mut monitor = Process::start(command.args(AVAHI).env("DBUS_SYSTEM_BUS_ADDRESS", &address));
    monitor.wait_for_line("Server startup complete", DISCOVERED);
    let mut command = lan.namespace().command("avahi-browse");
    command.args(["--resolve", "--parsable", "--no-db-lookup", "_rtsp._tcp"]).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let mut browser = Process::start(&mut command);
    let found = browser.wait_for_line("=;", DISCOVERED);
    assert_eq!(
        found, r#"=;eth0;IPv4;Camera\0323;_rtsp._tcp;local;camera-3.local;192.168.168.55;8554;"path=/live""#,
        "the device's own words"
    );
    let seen: Vec<Seen> = std::iter::from_fn(|| wire.try_next_udp(Duration::ZERO)).collect();
    let end = |text: &str| text.parse().expect("an address and port");
    assert!(!seen.is_empty());
    for packet in seen {
        assert_eq!(
            (packet.source, packet.destination, packet.ttl),
            (end("192.168.168.55:5353"), end("224.0.0.251:5353"), 255)
        );
    }
    let received = service.assert_balance();
    assert!(received["answers"] > 0 && received["questions"] > 0, "{received:?}");
}

/// A bus on which everybody may say and hear everything.
fn bus_config(socket: &Path) -> String {
    format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
         </policy></busconfig>",
        socket.display()
    )
}

/// What a control point prints of each device that it found. GSSDP has no program of its own that works without a display.
const CONTROL_POINT: &str = "
import gi
gi.require_version('GSSDP', '1.6')
from gi.repository import GSSDP, GLib
client = GSSDP.Client.new('eth0')
browser = GSSDP.ResourceBrowser.new(client, 'urn:schemas-upnp-org:device:MediaServer:1')
browser.connect('resource-available', lambda _, name, places: print('found', name, *places, flush=True))
browser.connect('resource-unavailable', lambda _, name: print('gone', name, flush=True))
browser.set_active(True)
print('looking', flush=True)
GLib.MainLoop().run()
";

const UUID: &str = "4d696e69-444c-164e-9d41-0123456789ab";

#[test]
fn gssdp_hears_minidlna_come_and_go() {
    let net = Topology::device_relay_lan(1);
    let lan = net.lan(1);
    lan.host_side().add_route("239.0.0.0/8");
    let service = Service::start(net.relay(), "");
    service.add("ssdp", "dev0:192.168.168.55@239.255.255.250:1900", &["lan1:239.255.255.250:1900,ttl=4"]);
    // Debian's own Python is the one that has the bindings.
    let mut command = lan.namespace().command("/usr/bin/python3");
    let mut control = Process::start(command.args(["-c", CONTROL_POINT]));
    control.wait_for_line("looking", SOON);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, config) = (folder.path().display(), folder.path().join("minidlna.conf"));
    let text = format!(
        "media_dir={path}\ndb_dir={path}\nlog_dir={path}\nnetwork_interface=eth0\nport=8200\nfriendly_name=Recorder\n\
         uuid={UUID}\ninotify=no\nnotify_interval=60\n"
    );
    std::fs::write(&config, text).expect("write the configuration");
    let mut command = net.device().command("minidlnad");
    command.arg("-S").arg("-f").arg(&config).arg("-P").arg(folder.path().join("pid"));
    let mut device = Process::start(&mut command);
    let found = control.wait_for_line("found", DISCOVERED);
    let name = format!("uuid:{UUID}::urn:schemas-upnp-org:device:MediaServer:1");
    assert_eq!(found, format!("found {name} http://192.168.168.55:8200/rootDesc.xml"));
    device.terminate(SOON);
    assert_eq!(control.wait_for_line("gone", DISCOVERED), format!("gone {name}"));
    service.assert_balance();
}
