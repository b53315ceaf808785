//! What daemon and keeper have given up while they relay, and one-way rules through the real binaries.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Namespace, RawReceiver, Topology, kernel};

use crate::service::{Service, text};
use crate::traffic::{Payloads, Receiver, Series, send};

for_each_datapath!(everything_that_is_not_needed_is_given_up, one_way_and_passive,);

/// CAP_NET_ADMIN and CAP_NET_RAW, and for programs CAP_PERFMON and CAP_BPF.
const KEEPER_CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
const SERIES: Series = Series { count: 2_000, smallest: 1, largest: 1400 };

/// Sends the series to the relay's group and sees that all of it arrives on the first LAN.
fn relay_a_series(net: &Topology, service: &Service) {
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(SERIES));
    send(net.device(), DEVICE, "239.1.1.1:5001".parse().unwrap(), SERIES, 20_000);
    let report = receiver.finish(SERIES.count);
    assert_eq!((report.count, report.first_difference), (SERIES.count, None));
    service.assert_balance();
}

/// Each thread's line of `/proc/<pid>/task/<tid>/status`.
fn of_each_thread(pid: u32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let statuses = threads.map(|thread| fs::read_to_string(thread.expect("a thread").path().join("status")));
    let line = |status: String| {
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        lines.next().expect("a line of that name").trim().to_owned()
    };
    statuses.map(|status| line(status.expect("a status"))).collect()
}

fn everything_that_is_not_needed_is_given_up(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(datapath, net.relay(), "");
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    relay_a_series(&net, &service);
    let (daemon, keeper) = (service.pid(), service.keeper_pid());
    for (pid, capabilities) in [(daemon, 0), (keeper, KEEPER_CAPABILITIES)] {
        for (field, wanted) in [("CapEff", capabilities), ("CapPrm", capabilities), ("CapInh", 0), ("CapAmb", 0)] {
            for found in of_each_thread(pid, field) {
                assert_eq!(u64::from_str_radix(&found, 16), Ok(wanted), "{field} of {pid}");
            }
        }
        for (field, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "3")] {
            for found in of_each_thread(pid, field) {
                assert_eq!(found, wanted, "{field} of {pid}");
            }
        }
    }
    assert!(of_each_thread(daemon, "Seccomp").len() > 3, "the threads of the daemon are covered, too");
    let (_, status) = service.http("GET", "/api/v1/status", "");
    assert_eq!(status["confinement"], serde_json::json!({"seccomp": true, "landlock": "full"}), "{status:#}");
}

/// The value of a key of a unit.
fn of_unit(name: &str, key: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd").join(name);
    let unit = fs::read_to_string(path).expect("the unit");
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name} has no {key}")).to_owned()
}

/// Keeper and daemon with the groups, masks and capabilities that their units give them, and no other; `nobody` stands for `mcr`.
#[test]
fn the_rights_of_the_units_are_enough() {
    let net = Topology::device_relay_lan(1);
    // The folder is as systemd makes the keeper's: its own, and its group's. The daemon's own files are there, too.
    const UNITS: &str = "folder=$(dirname \"$1\"); chgrp nogroup \"$folder\"; chmod 775 \"$folder\"; umask UMASK
        setpriv --regid nogroup --clear-groups --bounding-set=CAPABILITIES --no-new-privs --pdeathsig TERM \
            KEEPER --socket \"$folder/netd.sock\" --user nobody >/dev/null 2>&1 &
        until [ -S \"$folder/netd.sock\" ]; do sleep 0.02; done
        shift; exec setpriv --reuid nobody --regid nogroup --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"";
    // By number, which every setpriv knows.
    let number = |name: &str| match name {
        "CAP_NET_ADMIN" => 12,
        "CAP_NET_RAW" => 13,
        "CAP_PERFMON" => 38,
        "CAP_BPF" => 39,
        other => panic!("{other} is a capability that this test does not know"),
    };
    let capabilities: Vec<u32> = of_unit("mcr-netd.service", "CapabilityBoundingSet").split(' ').map(number).collect();
    assert_eq!(capabilities.iter().map(|number| 1_u64 << number).sum::<u64>(), KEEPER_CAPABILITIES);
    assert_eq!(of_unit("mcr-netd.service", "Group"), of_unit("mcr.service", "User"));
    assert_eq!(of_unit("mcr.service", "CapabilityBoundingSet"), "");
    let words: String = capabilities.iter().map(|number| format!(",+cap_{number}")).collect();
    let keeper = std::path::Path::new(crate::service::MCR).with_file_name("mcr-netd");
    let script = UNITS
        .replace("UMASK", &of_unit("mcr-netd.service", "UMask"))
        .replace("CAPABILITIES", &format!("-all{words}"))
        .replace("KEEPER", keeper.to_str().unwrap());
    let service = Service::start_with_script(net.relay(), "", &script);
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    let relay = service.relay("camera");
    assert_ne!(relay["datapath"], "packet", "programs are loaded: {relay:#}");
    relay_a_series(&net, &service);
    assert!(kernel::joined_groups(net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1)));
    for (pid, capabilities, user) in [(service.pid(), 0, 65_534), (service.keeper_pid(), KEEPER_CAPABILITIES, 0)] {
        for field in ["CapEff", "CapBnd"] {
            let found = of_each_thread(pid, field);
            assert!(found.iter().all(|found| u64::from_str_radix(found, 16) == Ok(capabilities)), "{field}: {found:?}");
        }
        assert!(of_each_thread(pid, "Uid")[0].starts_with(&format!("{user}\t")));
        assert!(of_each_thread(pid, "Gid")[0].starts_with("65534\t"));
    }
    let socket = fs::metadata(service.folder().join("netd.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid(), socket.gid()), (0o660, 0, 65_534));
}

/// A daemon whose keeper has that policy.
fn with_policy(namespace: &Namespace, datapath: Datapath, folder: &std::path::Path, policy: &str) -> Service {
    let (file, script) = (folder.join("policy.toml"), folder.join("keeper"));
    fs::write(&file, policy).unwrap();
    let program = std::path::Path::new(crate::service::MCR).with_file_name("mcr-netd");
    let line = format!("#!/bin/sh\nexec {} --policy {} \"$@\"\n", program.display(), file.display());
    fs::write(&script, line).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let options = ["--keeper", script.to_str().unwrap(), "--datapath", datapath.name()];
    Service::start_with(namespace, "", &options)
}

/// What may go goes, whatever moves it; nothing can be made that goes the other way, and nothing at all is sent on the input.
fn one_way_and_passive(datapath: Datapath) {
    let net = Topology::device_relay_lan(1);
    let folder = tempfile::tempdir().unwrap();
    let policy = "one_way = [{ from = 'dev0', to = ['lan*'] }]\npassive = ['dev0']\n";
    let service = with_policy(net.relay(), datapath, folder.path(), policy);
    let wire = RawReceiver::new(net.device_interface());
    service.add("camera", "dev0:239.1.1.1:5001", &["lan1:239.2.2.1:6001"]);
    assert_eq!(service.relay("camera")["datapath"], datapath.name());
    relay_a_series(&net, &service);
    assert!(!kernel::joined_groups(net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1)));

    let back = service.mcr(&["add", "back", "--from", "lan1:239.3.3.3:7001", "--to", "dev0:239.4.4.4:7002"]);
    assert_eq!(back.status.code(), Some(1), "{}", text(&back.stdout));
    let said = text(&back.stdout) + &text(&back.stderr);
    assert!(said.contains("the keeper's policy is one-way from dev0 to lan*: "), "{said}");
    let host = net.lan(1);
    send(host.namespace(), host.host_address(), "239.3.3.3:7001".parse().unwrap(), SERIES, 20_000);
    let sent = std::iter::from_fn(|| wire.next_frame(std::time::Duration::from_millis(100)));
    let sent: Vec<_> = sent.take(3).map(|frame| frame.bytes).collect();
    assert!(sent.is_empty(), "{sent:x?} was sent on the input");
}
