//! Daemon and keeper are killed while packets come: in the kernel they flow on, and whoever starts again goes on with what
//! is there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mcr_kernel_path::{Loaded, Maps, TableWriter, sys};
use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Namespace, Offload, Process, Switch, Topology, Veth, kernel, wait_until};

use crate::scale::pick;
use crate::service::{CAMERA, MCR, SOON, Service, run_command};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send_while};

for_each_in_the_kernel!(the_daemon_twenty_times, the_keeper_twenty_times, both_twenty_times);

/// More than are sent: which one a datagram is follows from its bytes.
const SERIES: Series = Series { count: 10_000_000, smallest: 100, largest: 1400 };
/// Datagrams a second, in every run and at full size.
const RATES: (u64, u64) = (20_000, 100_000);

/// What is pinned for a network namespace.
fn pinned(namespace: &Namespace) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let inode = namespace.run(|| std::fs::metadata("/proc/thread-self/ns/net").expect("a namespace").ino());
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/bpf/mcr").join(inode.to_string())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Kills a process; when this returns it holds nothing any more.
fn kill(pid: u32) {
    // SAFETY: a plain system call; the process is one that this test started, or the keeper that our daemon named.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
    let is_gone = || kernel::process_status(pid, "State").is_none_or(|state| state.starts_with('Z'));
    wait_until(SOON, "the process is gone", is_gone);
}

fn start_keeper(net: &Topology, service: &Service, state: &str) -> Process {
    let program = std::path::Path::new(MCR).with_file_name("mcr-netd");
    let socket = service.socket().with_file_name("netd.sock");
    let keeper = Process::start(net.relay().command(program).arg("--socket").arg(socket));
    wait_until(SOON, "the daemon has the new keeper", || {
        let status = service.http("GET", "/api/v1/status", "").1;
        status["keeper_pid"] == keeper.pid() && service.relay("camera")["state"] == state
    });
    keeper
}

/// Runs `faults` beside a flow: every packet of it arrives once, in order, and the relay has counted every one.
fn not_one_is_lost(datapath: Datapath, faults: impl FnOnce(&Topology, &mut Service)) {
    let net = Topology::device_relay_lan(1);
    net.lan(1).host_side().offload(Offload::Gather, Switch::On);
    let mut service = Service::start_on(datapath, net.relay(), CAMERA);
    service.ok(&["wait", "camera"]);
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Compare(SERIES));
    let (goes_on, rate) = (AtomicBool::new(true), pick(RATES.0, RATES.1));
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_while(&goes_on, net.device(), DEVICE, GROUP, SERIES, rate));
        wait_until(SOON, "packets flow", || receiver.count() > 0);
        let faults = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults(&net, &mut service)));
        goes_on.store(false, Ordering::Relaxed);
        faults.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sender.join().expect("the sender")
    });
    let report = receiver.finish(sent);
    assert_eq!((report.count, report.first_difference), (sent, None));
    assert_eq!(service.assert_balance()["camera"], sent, "it went on counting");
    assert_ne!(pinned(net.relay()), Vec::<PathBuf>::new());
    service.stop();
    assert_eq!(pinned(net.relay()), Vec::<PathBuf>::new(), "an orderly stop leaves nothing");
}

fn the_daemon_twenty_times(datapath: Datapath) {
    not_one_is_lost(datapath, |net, service| {
        for _ in 0..20 {
            service.restart_after_kill(net.relay());
            service.wait_for_state("camera", "flowing", SOON);
        }
    });
}

fn the_keeper_twenty_times(datapath: Datapath) {
    not_one_is_lost(datapath, |net, service| {
        kill(service.keeper_pid());
        let mut keeper = start_keeper(net, service, "flowing");
        for _ in 1..20 {
            kill(keeper.pid());
            drop(keeper);
            keeper = start_keeper(net, service, "flowing");
        }
        // The last of them is to end with the daemon, as the first would have.
        kill(keeper.pid());
        drop(keeper);
        service.restart_after_kill(net.relay());
    });
}

fn both_twenty_times(datapath: Datapath) {
    not_one_is_lost(datapath, |net, service| {
        for _ in 0..20 {
            kill(service.keeper_pid());
            service.restart_after_kill(net.relay());
            service.wait_for_state("camera", "flowing", SOON);
        }
    });
}

#[test]
fn what_the_remedy_says_brings_another_keeper() {
    let net = Topology::device_relay_lan(1);
    let service = Service::start_on(Datapath::Tcx, net.relay(), CAMERA);
    service.ok(&["wait", "camera"]);
    kill(service.keeper_pid());
    service.wait_for_state("camera", "failed", SOON);
    let relay = service.relay("camera");
    let remedy = relay["remedy"].as_str().expect("a remedy");
    let said = format!("`mcr-netd --socket {}`", service.socket().with_file_name("netd.sock").display());
    assert!(remedy.contains(&said), "{remedy}");
    assert!(service.log().contains(&said), "{}", service.log());
    let program = std::path::Path::new(MCR).with_file_name("mcr-netd");
    let mut words = said.trim_matches('`').split(' ').skip(1);
    let keeper = Process::start(net.relay().command(program).args(&mut words));
    service.ok(&["wait", "camera", "--for", "ready"]);
    wait_until(SOON, "the daemon has the new keeper", || {
        service.http("GET", "/api/v1/status", "").1["keeper_pid"] == keeper.pid()
    });
}

#[test]
fn without_a_bpffs_the_daemon_warns() {
    let net = Topology::device_relay_lan(1);
    let warning = "no bpffs is mounted at /sys/fs/bpf";
    let service = Service::start_on(Datapath::Tcx, net.relay(), CAMERA);
    assert!(!service.log().contains(warning), "{}", service.log());
    drop(service);
    let service = Service::start_without_bpffs(net.relay(), CAMERA);
    assert_eq!(service.log().matches(warning).count(), 1, "{}", service.log());
}

#[test]
fn what_changed_meanwhile_is_put_right() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start_on(Datapath::Tcx, net.relay(), CAMERA);
    service.ok(&["wait", "camera"]);
    let keeper = service.keeper_pid();
    service.kill();
    kill(keeper);
    service.configure(&CAMERA.replace("239.2.2.1", "239.2.2.9"));
    service.start_again(net.relay());
    service.ok(&["wait", "camera"]);
    let lan = net.lan(1);
    let series = Series::of(1000, 200);
    let receivers = ["239.2.2.1:6001", "239.2.2.9:6001"]
        .map(|on| Receiver::start(lan.namespace(), lan.host_address(), on.parse().unwrap(), Payloads::Count));
    crate::traffic::send(net.device(), DEVICE, GROUP, series, 10_000);
    let [old, new] = receivers;
    assert_eq!((old.finish(0).count, new.finish(1000).count), (0, 1000));
    assert_eq!(service.assert_balance()["camera"], 1000, "another definition counts from zero");
}

/// As after an upgrade to a version whose tables are laid out in another way.
#[test]
fn what_another_layout_left_is_replaced() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start_on(Datapath::Tcx, net.relay(), CAMERA);
    service.ok(&["wait", "camera"]);
    let keeper = service.keeper_pid();
    service.kill();
    kill(keeper);
    let layouts = || {
        let folders = pinned(net.relay()).into_iter().filter_map(|path| Some(path.parent()?.to_owned()));
        folders.collect::<std::collections::BTreeSet<PathBuf>>()
    };
    let layout = layouts().into_iter().next().expect("what the killed ones pinned");
    let other = layout.with_file_name("0123456789abcdef");
    std::fs::rename(&layout, &other).expect("rename a folder of the bpffs");
    service.start_again(net.relay());
    service.ok(&["wait", "camera"]);
    assert_eq!(layouts(), [layout].into());
    let lan = net.lan(1);
    let on = "239.2.2.1:6001".parse().unwrap();
    let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
    crate::traffic::send(net.device(), DEVICE, GROUP, Series::of(1_000, 200), 10_000);
    assert_eq!(receiver.finish(1_000).count, 1_000, "each packet once: the old program is gone");
    assert_eq!(service.assert_balance()["camera"], 1_000);
}

/// What is pinned for a namespace, opened by its names.
fn reopened(namespace: &Namespace) -> Loaded {
    let pins = pinned(namespace);
    let folder = pins.first().expect("something is pinned").parent().expect("a folder").to_owned();
    Loaded::reopen(|name| sys::open_pinned(&folder.join(name))).expect("all parts")
}

#[test]
fn what_nobody_wants_any_more_is_given_up_after_a_crash() {
    let net = Topology::device_relay_lan(2);
    net.lans().iter().for_each(|lan| lan.host_side().offload(Offload::Gather, Switch::On));
    let gone = Veth::between(net.device(), "eth9", net.relay(), "dev9");
    gone.far().add_address("10.0.9.1/24");
    let relay = |name: &str, input: &str, outputs: [u8; 2]| {
        let [first, second] = outputs;
        let output = |lan: u8, number: u8| {
            format!(r#"{{ interface = "lan{lan}", group = "239.{number}.{first}.{second}", port = 6001 }}"#)
        };
        let (one, other) = (output(first, 2), output(second, 3));
        format!(
            "[[relay]]\nname = \"{name}\"\ninput = {{ interface = \"{input}\", group = \"239.1.1.{}\", port = 5001 }}\noutput = [{one}, {other}]\n",
            first
        )
    };
    let stays = relay("camera", "dev0", [1, 2]);
    let config = format!("{stays}{}{}", relay("other", "dev0", [2, 1]), relay("departed", "dev9", [1, 1]));
    let mut service = Service::start_on(Datapath::Xdp, net.relay(), &config);
    for name in ["camera", "other", "departed"] {
        service.ok(&["wait", name]);
    }
    let fan_outs = || {
        let loaded = reopened(net.relay());
        let xdp = loaded.xdp().expect("XDP");
        (1..1024).filter(|number| xdp.has_fan_out(*number)).count()
    };
    assert_eq!(fan_outs(), 3);
    let keeper = service.keeper_pid();
    service.kill();
    kill(keeper);
    drop(gone);
    service.configure(&stays);
    service.start_again(net.relay());
    service.ok(&["wait", "camera"]);
    wait_until(SOON, "lists that nobody wants are given up", || fan_outs() == 1);
    let loaded = reopened(net.relay());
    let maps = loaded.maps().fds().map(|fd| fd.try_clone_to_owned().expect("a descriptor"));
    // Another writer does no harm as long as nothing changes.
    let tables = TableWriter::adopt(Maps::from_fds(maps.into()).expect("the maps")).expect("the tables");
    assert_eq!(tables.inputs(), [net.relay_input().index()]);
    drop(tables);

    // The daemon alone, and the keeper alone.
    service.kill();
    service.configure(&relay("camera", "dev0", [2, 1]));
    service.start_again(net.relay());
    service.ok(&["wait", "camera"]);
    wait_until(SOON, "the list of the relay before is given up", || fan_outs() == 1);
    kill(service.keeper_pid());
    let _keeper = start_keeper(&net, &service, "ready");
    wait_until(SOON, "the list of the keeper before is given up", || fan_outs() == 1);
}

#[test]
fn clean_removes_what_killed_ones_left() {
    let net = Topology::device_relay_lan(1);
    let mut service = Service::start_on(Datapath::Tcx, net.relay(), CAMERA);
    service.ok(&["wait", "camera"]);
    let refused = run_command(net.relay(), service.folder()).arg("--clean").output().expect("run mcr");
    assert_eq!(refused.status.code(), Some(1), "a daemon that runs is left alone");
    assert_ne!(pinned(net.relay()), Vec::<PathBuf>::new());

    let keeper = service.keeper_pid();
    service.kill();
    kill(keeper);
    std::thread::sleep(Duration::from_millis(50));
    assert_ne!(pinned(net.relay()), Vec::<PathBuf>::new());
    let cleaned = run_command(net.relay(), service.folder()).arg("--clean").output().expect("run mcr");
    assert!(cleaned.status.success(), "{}", crate::service::text(&cleaned.stderr));
    assert_eq!(pinned(net.relay()), Vec::<PathBuf>::new());
}
