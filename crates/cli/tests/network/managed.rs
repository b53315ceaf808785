//! Daemon and keeper as a service manager runs them: killed, restarted and upgraded while packets come. Groups stay
//! joined, and packets flow on.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mcr_model::Datapath;
use mcr_testbed::{DEVICE, Process, RawReceiver, ServiceManager, Signal, Topology, kernel, wait_until};

use crate::reports;
use crate::scale::pick;
use crate::service::{CAMERA, MCR, SOON, Service};
use crate::traffic::{GROUP, Payloads, Receiver, Series, send_while};

const SERIES: Series = Series { count: 100_000_000, smallest: 100, largest: 1400 };
/// About half of what `packet` relays without loss, as these tests are built.
const RATE: u64 = if cfg!(debug_assertions) { 20_000 } else { 60_000 };
/// What flows in the kernel, at full size.
const RATE_IN_THE_KERNEL: u64 = 100_000;
/// What each kill may cost in user space, a batch: packets that were in hand are lost, or come twice where they were sent
/// and not yet given back to the ring.
const LOST_BY_A_KILL: u64 = 64;

/// A keeper under a service manager, and a daemon that uses it.
struct Managed {
    net: Topology,
    manager: ServiceManager,
    folder: tempfile::TempDir,
    keeper: Option<Process>,
    service: Option<Service>,
    /// Datagrams a second beside the faults.
    rate: u64,
    /// What leaves the relay's host to the device, reports of memberships among it.
    wire: RawReceiver,
}

impl Managed {
    fn start(datapath: Datapath, config: &str) -> Managed {
        let net = Topology::device_relay_lan(1);
        net.lan(1).host_side().offload(mcr_testbed::Offload::Gather, mcr_testbed::Switch::On);
        let wire = RawReceiver::new(net.device_interface());
        let (manager, folder) = (ServiceManager::new(), tempfile::tempdir().expect("a folder"));
        let rate = if datapath == Datapath::Packet { RATE } else { pick(RATE, RATE_IN_THE_KERNEL) };
        let mut managed = Managed { net, manager, folder, keeper: None, service: None, rate, wire };
        managed.start_keeper(&keeper_program());
        let socket = managed.socket();
        let options = ["--datapath", datapath.name(), "--keeper-socket", socket.to_str().expect("UTF-8")];
        managed.service = Some(Service::start_with(managed.net.relay(), config, &options));
        managed.service().ok(&["wait", "camera"]);
        managed
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("netd.sock")
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("a daemon")
    }

    fn start_keeper(&mut self, program: &Path) {
        let mut command = self.manager.command(self.net.relay(), program);
        self.keeper = Some(Process::start(command.arg("--socket").arg(self.socket())));
        let socket = self.socket();
        wait_until(SOON, "the keeper listens", || socket.exists());
    }

    /// Hands over to a keeper that crashes at its start, and goes back to the one before.
    fn keeper_that_crashes(&mut self, program: &Path) {
        let mut before = self.keeper.take().expect("a keeper");
        before.signal(Signal::HandOver);
        before.wait(SOON);
        let status = self.manager.command(self.net.relay(), program).status().expect("start it");
        assert!(!status.success());
        self.start_keeper(&keeper_program());
    }

    /// Ends the keeper by a signal and starts another, until the daemon has found it.
    fn next_keeper(&mut self, signal: Signal, program: &Path) {
        let mut before = self.keeper.take().expect("a keeper");
        before.signal(signal);
        before.wait(SOON);
        self.start_keeper(program);
        let pid = self.keeper.as_ref().expect("a keeper").pid();
        wait_until(SOON, "the daemon has the new keeper", || {
            let status = self.service().http("GET", "/api/v1/status", "").1;
            status["keeper_pid"] == pid && self.service().relay("camera")["state"] == "flowing"
        });
    }

    /// Runs `faults` beside a flow: as many datagrams as are lost, less those that come twice.
    fn lost_by(&mut self, faults: impl FnOnce(&mut Managed)) -> i64 {
        let lan = self.net.lan(1);
        let on = "239.2.2.1:6001".parse().unwrap();
        let receiver = Receiver::start(lan.namespace(), lan.host_address(), on, Payloads::Count);
        let goes_on = AtomicBool::new(true);
        let (device, rate) = (self.net.device().clone(), self.rate);
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| send_while(&goes_on, &device, DEVICE, GROUP, SERIES, rate));
            wait_until(SOON, "packets flow", || receiver.count() > 0);
            let faults = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults(self)));
            goes_on.store(false, Ordering::Relaxed);
            faults.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sender.join().expect("the sender")
        });
        let arrived = receiver.finish(sent).count;
        self.service().assert_balance();
        let lost = sent.cast_signed() - arrived.cast_signed();
        println!("{lost} of {sent} datagrams were lost at {rate} pps");
        lost
    }

    /// How often it was reported on the wire that a group was left.
    fn leaves(&self) -> usize {
        let records = reports::all(&self.wire, Duration::from_millis(50));
        records.iter().filter(|record| record.is_leave()).count()
    }
}

fn keeper_program() -> PathBuf {
    Path::new(MCR).with_file_name("mcr-netd")
}

/// The same program with another version: each mention of it is another of the same length.
fn another_version(program: &Path, folder: &Path) -> PathBuf {
    let (version, next) = (env!("CARGO_PKG_VERSION").as_bytes(), "9.9.9");
    assert_eq!(version.len(), next.len());
    let mut bytes = std::fs::read(program).expect("read the program");
    let finder: Vec<usize> =
        bytes.windows(version.len()).enumerate().filter(|(_, window)| *window == version).map(|(at, _)| at).collect();
    finder.into_iter().for_each(|at| bytes[at..at + next.len()].copy_from_slice(next.as_bytes()));
    let copy = folder.join(program.file_name().expect("a name"));
    std::fs::write(&copy, bytes).expect("write the program");
    std::fs::set_permissions(&copy, std::fs::metadata(program).expect("the program").permissions()).expect("permit");
    copy
}

/// A program that crashes as soon as it is started.
fn crashing(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join("crashes");
    std::fs::write(&program, "#!/bin/sh\nkill -SEGV $$\n").expect("write a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("permit");
    program
}

fn killed_keepers_cost_few_packets_and_no_group(datapath: Datapath) {
    let mut managed = Managed::start(datapath, CAMERA);
    assert!(managed.leaves() == 0);
    let kills = pick(5, 20);
    let lost = managed.lost_by(|managed| {
        (0..kills).for_each(|_| managed.next_keeper(Signal::Kill, &keeper_program()));
    });
    assert!(lost.unsigned_abs() <= kills * LOST_BY_A_KILL, "{lost} lost by {kills} kills of the keeper");
    assert_eq!(managed.leaves(), 0, "a group was left");
    assert!(kernel::joined_groups(managed.net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1)));
    let stop = managed.service.take().expect("a daemon");
    stop.stop();
    wait_until(SOON, "the store has only lists", || {
        managed.manager.kept().iter().all(|name| name.starts_with("list-"))
    });
    assert!(!kernel::joined_groups(managed.net.relay(), "dev0").contains(&Ipv4Addr::new(239, 1, 1, 1)));
    // It is said again within a second (RFC 3376 section 5.1), at times before the wire has come to rest.
    let leaves = managed.leaves();
    assert!((1..=2).contains(&leaves), "an orderly stop leaves the group: {leaves}");
}

#[test]
fn killed_keepers_cost_few_packets_and_no_group_on_packet() {
    killed_keepers_cost_few_packets_and_no_group(Datapath::Packet);
}

#[test]
fn killed_keepers_cost_few_packets_and_no_group_on_tcx() {
    killed_keepers_cost_few_packets_and_no_group(Datapath::Tcx);
}

#[test]
fn killed_daemons_cost_few_packets_and_no_group_on_packet() {
    let mut managed = Managed::start(Datapath::Packet, CAMERA);
    let kills = pick(5, 20);
    let relay = managed.net.relay().clone();
    let lost = managed.lost_by(|managed| {
        let service = managed.service.as_mut().expect("a daemon");
        for _ in 0..kills {
            service.restart_after_kill(&relay);
            service.wait_for_state("camera", "flowing", SOON);
        }
    });
    assert!(lost.unsigned_abs() <= kills * LOST_BY_A_KILL, "{lost} lost by {kills} kills of the daemon");
    assert_eq!(managed.leaves(), 0, "a group was left");
}

/// To the next version and back, of both programs; some of the new ones crash at their start, and are given up for the
/// old one.
#[test]
fn upgrades_and_their_failures_cost_no_packet() {
    let mut managed = Managed::start(Datapath::Tcx, CAMERA);
    let folder = tempfile::tempdir().expect("a folder");
    let daemons = [PathBuf::from(MCR), another_version(Path::new(MCR), folder.path())];
    let keepers = [keeper_program(), another_version(&keeper_program(), folder.path())];
    let crashing = crashing(folder.path());
    let relay = managed.net.relay().clone();
    let upgrades = pick(5, 50);
    let lost = managed.lost_by(|managed| {
        for number in 1..=upgrades {
            let next = number % 2;
            if number % 5 == 1 {
                managed.keeper_that_crashes(&crashing);
            }
            managed.next_keeper(Signal::HandOver, &keepers[next]);
            let service = managed.service.as_mut().expect("a daemon");
            service.hand_over();
            if number % 5 == 0 {
                service.start_as(&crashing, &relay);
                assert!(!service.wait().success());
            }
            service.start_as(&daemons[next], &relay);
            service.wait_for_answer();
            service.wait_for_state("camera", "flowing", SOON);
            let version = &service.http("GET", "/api/v1/status", "").1["version"];
            assert_eq!(version, ["0.1.0", "9.9.9"][next]);
        }
    });
    assert_eq!(lost, 0);
    assert_eq!(managed.leaves(), 0, "a group was left");
}

#[test]
fn two_thousand_groups_outlive_their_keeper() {
    use std::fmt::Write;
    let mut config = CAMERA.to_owned();
    for number in 0..pick(300, 2_000) {
        let (high, low) = (number / 250, number % 250);
        let input = format!("{{ interface = \"dev0\", group = \"239.3.{high}.{low}\", port = 5001 }}");
        let output = format!("{{ interface = \"lan1\", group = \"239.4.{high}.{low}\", port = 6001 }}");
        writeln!(config, "[[relay]]\nname = \"r{number}\"\ninput = {input}\noutput = [{output}]").unwrap();
    }
    let mut managed = Managed::start(Datapath::Tcx, &config);
    let joined = || kernel::joined_groups(managed.net.relay(), "dev0").len();
    let all = joined();
    assert!(all > pick(300, 2_000));
    // What changed last is stored a moment later.
    wait_until(SOON, "the store has the memberships", || managed.manager.kept().len() >= all.div_ceil(20) + 2);
    let mut keeper = managed.keeper.take().expect("a keeper");
    keeper.signal(Signal::Kill);
    keeper.wait(SOON);
    assert_eq!(joined(), all, "the service manager has the sockets");
    managed.start_keeper(&keeper_program());
    managed.service().wait_for_state("camera", "ready", SOON);
    assert_eq!(kernel::joined_groups(managed.net.relay(), "dev0").len(), all);
    assert_eq!(managed.leaves(), 0, "a group was left");
}
