//! The keeper as a program, in namespaces of its own: what it holds, for whom, and how it lets go.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mcr_datapath::{FilterInstruction, RingGeometry, filter};
use mcr_netd::{FailureKind, Held, HeldInput, HeldMembership, Keeper, KeeperError, KeeperErrorKind, SpawnMode};
use mcr_testbed::{Interface, Namespace, Process, Signal, Veth, kernel, program, wait_for_state, wait_until};

const LIMIT: Duration = Duration::from_secs(5);
/// CAP_NET_ADMIN and CAP_NET_RAW.
const TWO_CAPABILITIES: &str = "0000000000003000";
const NO_CAPABILITIES: &str = "0000000000000000";

/// A namespace with two interfaces, `in0` and `out0`, the ends of one veth pair.
struct Bed {
    namespace: Namespace,
    input: Interface,
    output: Interface,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new(name: &str) -> Self {
        let namespace = Namespace::new(name);
        let veth = Veth::between(&namespace, "in0", &namespace, "out0");
        let (input, output) = (veth.near().clone(), veth.far().clone());
        input.up();
        output.up();
        output.add_address("10.9.0.1/24");
        Self { namespace, input, output, folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("netd.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(program("mcr-netd"));
        command.arg("--socket").arg(self.socket()).args(arguments);
        command
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let process = Process::start(&mut self.command(arguments));
        wait_until(LIMIT, "the keeper listens", || match Keeper::connect(&self.socket()) {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_nobody_there(), "{error}");
                false
            }
        });
        process
    }

    fn connect(&self) -> Keeper {
        connect(&self.socket())
    }

    fn spawn(&self, mode: &SpawnMode) -> Result<Keeper, KeeperError> {
        self.namespace.run(|| Keeper::spawn(mode, Some(&program("mcr-netd"))))
    }

    fn listening(&self) -> SpawnMode {
        SpawnMode::Listening { path: self.socket() }
    }

    fn groups(&self) -> Vec<Ipv4Addr> {
        let mut groups = kernel::joined_groups(&self.namespace, "in0");
        groups.sort();
        groups
    }

    fn packet_sockets(&self) -> usize {
        let table = self.namespace.run(|| fs::read_to_string("/proc/thread-self/net/packet")).unwrap();
        table.lines().count() - 1
    }

    fn neighbours(&self) -> String {
        self.namespace.output("ip", &["neighbour", "show", "dev", "out0"])
    }
}

/// The keeper notices within a moment that the daemon before is gone.
fn connect(path: &Path) -> Keeper {
    let connected = wait_for_state(LIMIT, "the keeper is free", || Keeper::connect(path), Result::is_ok);
    connected.unwrap()
}

fn group(number: usize) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(239, 7, 0, 0)) + number as u32).into()
}

fn source(number: usize) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 8, 0, 1)) + number as u32).into()
}

/// A keeper that no process of this test is the parent of; it ends when it is released, also when the test fails.
struct ReleasedAtEnd(PathBuf);

impl Drop for ReleasedAtEnd {
    fn drop(&mut self) {
        let _ = Keeper::connect(&self.0).and_then(|mut keeper| keeper.release());
    }
}

/// Tells apart sockets; the same for every descriptor of one.
fn identity(socket: &OwnedFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap()
}

/// The index of the interface that a packet socket is bound to.
fn bound_to(socket: &OwnedFd) -> i32 {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointers describe `address` and `length`, which outlive the call.
    let asked = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    assert_eq!(asked, 0);
    address.sll_ifindex
}

/// Sends 64 bytes; hands back how many were taken, or the error's number.
fn send_frame(socket: &OwnedFd) -> Result<isize, Option<i32>> {
    const VIRTIO_HEADER_BYTES: isize = 10;
    let mut frame = [0_u8; 74];
    frame[10..16].fill(0xff);
    // SAFETY: pointer and length describe `frame`, which outlives the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    if sent < 0 { Err(std::io::Error::last_os_error().raw_os_error()) } else { Ok(sent - VIRTIO_HEADER_BYTES) }
}

/// The filter that is in force: code, jumps and constant of each instruction.
fn filter_of(socket: &OwnedFd) -> Vec<(u16, u8, u8, u32)> {
    // SAFETY: all-zero bytes are a valid sock_filter.
    let mut instructions: [libc::sock_filter; 64] = unsafe { std::mem::zeroed() };
    // The kernel counts instructions here, not bytes (`net/core/filter.c: sk_get_filter`).
    let mut length = instructions.len() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the pointers describe `instructions` and `length`, which outlive the call.
    let asked = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, instructions.as_mut_ptr().cast(), &raw mut length)
    };
    assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    instructions[..length as usize].iter().map(|one| (one.code, one.jt, one.jf, one.k)).collect()
}

/// Lowers the limit on open files of a process, for good.
fn limit_descriptors(process: u32, most: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the pointer describes `limit`, which outlives the call; the old limit is not wanted.
    let set =
        unsafe { libc::prlimit(process.cast_signed(), libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

fn refused(error: &KeeperError, kind: FailureKind) -> String {
    assert_eq!(error.kind(), KeeperErrorKind::Refused(kind), "{error}");
    assert_eq!(error.to_string(), format!("{}; {}", error.reason(), error.remedy()));
    error.to_string()
}

fn is_running(process: u32) -> bool {
    kernel::process_status(process, "State").is_some_and(|state| !state.starts_with('Z'))
}

#[test]
fn a_thousand_groups_with_the_default_limits() {
    let bed = Bed::new("thousand");
    assert_eq!(bed.namespace.sysctl_value("net/ipv4/igmp_max_memberships"), "20");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();

    let begun = Instant::now();
    for number in 0..1_000 {
        keeper.join(interface, group(number), &[]).unwrap();
    }
    let taken = begun.elapsed();
    eprintln!("1,000 joins took {taken:?}");
    assert_eq!(bed.groups(), (0..1_000).map(group).collect::<Vec<_>>());
    assert!(taken < Duration::from_millis(200), "1,000 joins took {taken:?}");

    let held = keeper.inventory().unwrap();
    assert_eq!(held.memberships.len(), 1_000);
    // The room that is left behind is used again, and nothing is joined twice.
    for number in (0..1_000).step_by(2) {
        keeper.leave(interface, group(number)).unwrap();
        keeper.leave(interface, group(number)).unwrap();
    }
    assert_eq!(bed.groups().len(), 500);
    for number in 0..1_000 {
        keeper.join(interface, group(number), &[]).unwrap();
    }
    assert_eq!(bed.groups().len(), 1_000);
    for number in 0..1_000 {
        keeper.leave(interface, group(number)).unwrap();
    }
    assert_eq!(bed.groups(), Vec::<Ipv4Addr>::new());
    assert_eq!(keeper.inventory().unwrap(), Held::default());
}

#[test]
fn sources_change_without_leaving_the_group() {
    let bed = Bed::new("sources");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();
    let in_kernel = || {
        let mut sources: Vec<IpAddr> =
            kernel::joined_sources(&bed.namespace).into_iter().map(|(_, _, source)| source.into()).collect();
        sources.sort();
        sources
    };
    // More than `igmp_max_msf` lets one socket have.
    let many: Vec<IpAddr> = (0..25).map(source).collect();
    keeper.join(interface, group(0), &many).unwrap();
    assert_eq!(in_kernel(), many);
    let membership = |sources: &[IpAddr]| HeldMembership { interface, group: group(0), sources: sources.to_vec() };
    assert_eq!(keeper.inventory().unwrap().memberships, [membership(&many)]);

    let others: Vec<IpAddr> = (20..40).map(source).collect();
    keeper.join(interface, group(0), &others).unwrap();
    assert_eq!(in_kernel(), others);
    keeper.join(interface, group(0), &[]).unwrap();
    assert_eq!(in_kernel(), Vec::<IpAddr>::new());
    assert_eq!(bed.groups(), [group(0)]);
    keeper.join(interface, group(0), &others[..1]).unwrap();
    assert_eq!(in_kernel(), others[..1]);
    keeper.leave(interface, group(0)).unwrap();
    assert_eq!(in_kernel(), Vec::<IpAddr>::new());
    assert_eq!(bed.groups(), Vec::<Ipv4Addr>::new());
}

#[test]
fn a_join_that_fails_changes_nothing() {
    let bed = Bed::new("failure");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();
    keeper.join(interface, group(0), &[source(0)]).unwrap();
    bed.namespace.sysctl("net/ipv4/igmp_max_memberships", "0");
    let error = keeper.join(interface, group(1), &[]).unwrap_err();
    let text = refused(&error, FailureKind::System);
    assert!(text.starts_with("can not join 239.7.0.1 on in0: "), "{text}");
    assert!(text.contains("; raise net.ipv4.igmp_max_memberships"), "{text}");
    keeper.join(interface, group(0), &[]).unwrap_err();
    assert_eq!(bed.groups(), [group(0)]);
    assert_eq!(kernel::joined_sources(&bed.namespace).len(), 1);
    assert_eq!(keeper.inventory().unwrap().memberships[0].sources, [source(0)]);
}

#[test]
fn what_is_held_is_bounded() {
    let bed = Bed::new("bounds");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();
    let most: Vec<IpAddr> = (0..1_024).map(source).collect();
    let begun = Instant::now();
    for number in 0..16 {
        keeper.join(interface, group(number), &most).unwrap();
    }
    eprintln!("16 x 1,024 sources took {:?}", begun.elapsed());
    assert_eq!(
        refused(&keeper.join(interface, group(16), &[]).unwrap_err(), FailureKind::System),
        "can not join 239.7.0.16 on in0: 16384 memberships are held at most; \
         relay fewer groups, or list fewer sources (each counts as one)"
    );
    // What is there already may change, and what is left makes room.
    keeper.join(interface, group(0), &most).unwrap();
    keeper.join(interface, group(0), &most[1..]).unwrap();
    keeper.join(interface, group(16), &[]).unwrap();
    refused(&keeper.join(interface, group(17), &[]).unwrap_err(), FailureKind::System);
    keeper.leave(interface, group(1)).unwrap();
    keeper.join(interface, group(17), &[]).unwrap();
    keeper.release().unwrap();
    assert_eq!(kernel::joined_sources(&bed.namespace), []);

    let pair = |number: u32| {
        let (one, other) = (1_000 + 2 * number, 1_001 + 2 * number);
        format!("link add v{one} index {one} type veth peer name v{other} index {other}\n")
    };
    bed.namespace.ip(&(0..65).map(pair).collect::<String>());
    for number in 0..128 {
        keeper.open_output(1_000 + number).unwrap();
    }
    assert_eq!(
        refused(&keeper.open_output(1_128).unwrap_err(), FailureKind::System),
        "can not use v1128: 128 interfaces are in use already; \
         use fewer interfaces, or start another keeper and daemon for the rest"
    );
    keeper.open_output(1_000).unwrap();
    // An interface that is gone is in use no more.
    bed.namespace.ip("link delete v1006");
    keeper.open_output(1_128).unwrap();
    assert_eq!(keeper.inventory().unwrap().outputs.len(), 127);
    let begun = Instant::now();
    keeper.release().unwrap();
    eprintln!("releasing 127 outputs took {:?}", begun.elapsed());
}

#[test]
fn a_join_that_fails_half_way_leaves_nothing_behind() {
    let bed = Bed::new("halfway");
    let process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();
    keeper.join(interface, group(0), &[]).unwrap();

    // Option memory of a socket, in bytes: 48 for a group, 64 for a list of sources (`struct ip_mc_socklist`,
    // `ip_sf_socklist`). The group fits the socket that is there, its first source does not; then both fit no socket.
    let most = bed.namespace.sysctl_value("net/core/optmem_max");
    bed.namespace.sysctl("net/core/optmem_max", "140");
    keeper.join(interface, group(1), &[source(0)]).unwrap();
    assert_eq!(bed.groups(), [group(0), group(1)]);
    keeper.leave(interface, group(1)).unwrap();
    assert_eq!(bed.groups(), [group(0)]);
    bed.namespace.sysctl("net/core/optmem_max", "112");
    let error = keeper.join(interface, group(1), &[source(0)]).unwrap_err();
    assert!(refused(&error, FailureKind::System).contains("net.core.optmem_max"), "{error}");
    assert_eq!(bed.groups(), [group(0)]);
    bed.namespace.sysctl("net/core/optmem_max", &most);

    // Two sockets with ten sources each are had, the third is not.
    let folder = PathBuf::from(format!("/proc/{}/fd", process.pid()));
    let descriptors = || fs::read_dir(&folder).unwrap().count();
    let before = descriptors();
    let free = (0..).find(|number| !folder.join(number.to_string()).is_symlink()).unwrap();
    limit_descriptors(process.pid(), free + 1);
    let many: Vec<IpAddr> = (0..25).map(source).collect();
    let error = keeper.join(interface, group(1), &many).unwrap_err();
    assert!(refused(&error, FailureKind::System).contains("LimitNOFILE"), "{error}");
    assert_eq!(bed.groups(), [group(0)]);
    assert_eq!(kernel::joined_sources(&bed.namespace), []);
    assert_eq!(keeper.inventory().unwrap().memberships.len(), 1);
    assert_eq!(descriptors(), before);
    // The socket that was there is not taken for a full one.
    keeper.join(interface, group(2), &[]).unwrap();
    assert_eq!(descriptors(), before);
}

#[test]
fn a_policy_of_others_is_refused() {
    let bed = Bed::new("trust");
    let policy = bed.folder.path().join("policy.toml");
    fs::write(&policy, "inputs = ['in*']\n").unwrap();
    let refusal = || {
        let mut process = Process::start(&mut bed.command(&["--policy", policy.to_str().unwrap()]));
        let line = process.wait_for_line("mcr-netd: ", LIMIT);
        assert!(!process.wait(LIMIT).success());
        assert!(!bed.socket().exists());
        line
    };
    let shown = policy.display();
    std::os::unix::fs::chown(&policy, Some(65_534), None).unwrap();
    assert_eq!(
        refusal(),
        format!(
            "mcr-netd: the policy {shown} belongs to the user with id 65534, not to root or the user of mcr-netd; \
             run `chown root {shown}`"
        )
    );
    std::os::unix::fs::chown(&policy, Some(0), None).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(
        refusal(),
        format!("mcr-netd: the policy {shown} may be written by others than its owner; run `chmod go-w {shown}`")
    );
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    bed.start(&["--policy", policy.to_str().unwrap()]);
}

#[test]
fn the_policy_is_kept() {
    let bed = Bed::new("policy");
    let _process = bed.start(&["--allow-input", "in*", "--allow-output", "out0"]);
    let mut keeper = bed.connect();
    let (input, output) = (bed.input.index(), bed.output.index());
    let geometry = RingGeometry::for_mtu(1_500);
    let text = refused(&keeper.open_input(output, &geometry).unwrap_err(), FailureKind::Policy);
    assert_eq!(
        text,
        "the keeper's policy does not allow out0 as an input (allowed: in*); \
         add it to `inputs` in the policy of mcr-netd and reload it (systemctl reload mcr-netd)"
    );
    refused(&keeper.join(output, group(0), &[]).unwrap_err(), FailureKind::Policy);
    refused(&keeper.open_output(input).unwrap_err(), FailureKind::Policy);
    refused(&keeper.resolve(input, source(0)).unwrap_err(), FailureKind::Policy);
    assert_eq!(keeper.inventory().unwrap(), Held::default());
    keeper.open_input(input, &geometry).unwrap();
    keeper.open_output(output).unwrap();
}

#[test]
fn a_policy_that_is_read_again_takes_away_what_it_forbids() {
    let bed = Bed::new("reload");
    let policy = bed.folder.path().join("policy.toml");
    fs::write(&policy, "inputs = ['in*']\n").unwrap();
    let mut process = bed.start(&["--policy", policy.to_str().unwrap()]);
    let mut keeper = bed.connect();
    let (input, output) = (bed.input.index(), bed.output.index());
    let (ring, _) = keeper.open_input(input, &RingGeometry::for_mtu(1_500)).unwrap();
    keeper.set_filter(input, &filter::compile(&[(Ipv4Addr::new(239, 7, 0, 0), 5_000)])).unwrap();
    keeper.join(input, group(0), &[]).unwrap();
    keeper.join(input, group(1), &[source(0)]).unwrap();
    let sender = keeper.open_output(output).unwrap();
    keeper.resolve(output, "10.9.0.77".parse().unwrap()).unwrap();
    assert_eq!(send_frame(&sender), Ok(64));
    let held = keeper.inventory().unwrap();

    // A wrong file, and one of somebody else, change nothing.
    fs::write(&policy, "input = []\n").unwrap();
    process.signal(Signal::Hangup);
    process.wait_for_line("unknown field `input`", LIMIT);
    process.wait_for_line(&format!("the policy that was read before stays: the policy {}", policy.display()), LIMIT);
    fs::write(&policy, "inputs = []\n").unwrap();
    std::os::unix::fs::chown(&policy, Some(65_534), None).unwrap();
    process.signal(Signal::Hangup);
    process.wait_for_line("belongs to the user with id 65534", LIMIT);
    assert_eq!(keeper.inventory().unwrap(), held);
    assert_eq!(bed.groups(), [group(0), group(1)]);
    refused(&keeper.open_input(output, &RingGeometry::for_mtu(1_500)).unwrap_err(), FailureKind::Policy);

    // The other way round now: in0 may send and out0 receive.
    std::os::unix::fs::chown(&policy, Some(0), None).unwrap();
    fs::write(&policy, "inputs = ['out0']\noutputs = ['in0']\n").unwrap();
    process.signal(Signal::Hangup);
    process.wait_for_line("the policy is read again: inputs out0; outputs in0", LIMIT);
    process.wait_for_line("in0 is taken away as an input: the policy forbids it", LIMIT);
    process.wait_for_line("out0 is taken away as an output: the policy forbids it", LIMIT);
    assert_eq!(keeper.inventory().unwrap(), Held::default());
    assert_eq!(bed.groups(), Vec::<Ipv4Addr>::new());
    assert_eq!(kernel::joined_sources(&bed.namespace), []);
    assert!(!bed.neighbours().contains("managed"), "{}", bed.neighbours());
    // The daemon's own descriptors are of no use any more.
    assert_eq!(filter_of(&ring), filter::drop_all().map(|FilterInstruction { code, jt, jf, k }| (code, jt, jf, k)));
    assert_eq!(send_frame(&sender), Err(Some(libc::ENXIO)));
    for error in [
        keeper.set_filter(input, &filter::drop_all()).unwrap_err(),
        keeper.join(input, group(0), &[]).unwrap_err(),
        keeper.open_output(output).unwrap_err(),
    ] {
        refused(&error, FailureKind::Policy);
    }

    // What is allowed stays as it is, with the same daemon.
    let sender = keeper.open_output(input).unwrap();
    process.signal(Signal::Hangup);
    wait_until(LIMIT, "the policy is read once more", || {
        process.output().matches("the policy is read again").count() == 2
    });
    assert_eq!(send_frame(&sender), Ok(64));
    assert_eq!(keeper.inventory().unwrap().outputs, [input]);
    process.terminate(LIMIT);
}

#[test]
fn nonsense_is_refused() {
    let bed = Bed::new("nonsense");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();
    for (slot_bytes, slots) in [(0, 0), (u32::MAX, 1), (1_600, u32::MAX), (1_601, 64), (1_600, 0), (128 << 10, 4_096)] {
        let geometry = RingGeometry { slot_bytes, slots };
        refused(&keeper.open_input(interface, &geometry).unwrap_err(), FailureKind::Invalid);
    }
    refused(&keeper.join(interface, source(0), &[]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.join(interface, group(0), &[group(1)]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.join(interface, group(0), &["::1".parse().unwrap()]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.join(interface, group(0), &vec![source(0); 2_000]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.set_filter(interface, &filter::drop_all()).unwrap_err(), FailureKind::Invalid);
    keeper.open_input(interface, &RingGeometry::for_mtu(1_500)).unwrap();
    let bad = FilterInstruction { code: 0xffff, jt: 0, jf: 0, k: 0 };
    refused(&keeper.set_filter(interface, &[bad]).unwrap_err(), FailureKind::System);
    refused(&keeper.set_filter(interface, &[bad; 5_000]).unwrap_err(), FailureKind::Invalid);
    keeper.set_filter(interface, &filter::compile(&[(Ipv4Addr::new(239, 7, 0, 0), 5_000)])).unwrap();
    refused(&keeper.open_output(9_999).unwrap_err(), FailureKind::NoInterface);
}

#[test]
fn what_is_open_is_handed_over_again() {
    let bed = Bed::new("ensure");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let (input, output) = (bed.input.index(), bed.output.index());
    let (geometry, other) = (RingGeometry::for_mtu(1_500), RingGeometry::for_mtu(9_000));
    let (ring, opened) = keeper.open_input(input, &geometry).unwrap();
    let (again, held) = keeper.open_input(input, &other).unwrap();
    assert_eq!((opened, held), (geometry, geometry));
    assert_eq!(identity(&ring), identity(&again));
    let sender = keeper.open_output(output).unwrap();
    assert_eq!(identity(&sender), identity(&keeper.open_output(output).unwrap()));
    assert_eq!(bed.packet_sockets(), 2);
    keeper.close_input(input).unwrap();
    keeper.close_output(output).unwrap();
    drop((ring, again, sender));
    wait_until(LIMIT, "the packet sockets are gone", || bed.packet_sockets() == 0);
    let (_, held) = keeper.open_input(input, &other).unwrap();
    assert_eq!(held, other);
}

#[test]
fn one_daemon_at_a_time() {
    let bed = Bed::new("second");
    let _process = bed.start(&[]);
    let first = bed.connect();
    let error = Keeper::connect(&bed.socket()).unwrap_err();
    let text = refused(&error, FailureKind::Busy);
    let expected = format!("the keeper serves another daemon (process {}); ", std::process::id());
    assert!(text.starts_with(&expected), "{text}");
    drop(first);
    bed.connect();
}

#[test]
fn one_keeper_at_a_path_and_none_in_the_way_of_a_file() {
    let bed = Bed::new("stale");
    let mut process = bed.start(&[]);
    let mut second = Process::start(&mut bed.command(&[]));
    assert!(!second.wait(LIMIT).success());
    let socket = bed.socket();
    let expected = format!("a keeper listens on {} already; ", socket.display());
    wait_until(LIMIT, "the second keeper says why", || second.output().contains(&expected));
    // The same through a connection that is handed over.
    let error = bed.spawn(&bed.listening()).unwrap_err();
    let text = refused(&error, FailureKind::Startup);
    assert!(text.starts_with(&expected), "{text}");

    process.signal(Signal::Kill);
    process.wait(LIMIT);
    assert!(socket.exists(), "the file of a killed keeper stays");
    assert!(Keeper::connect(&socket).unwrap_err().is_nobody_there());
    let mut process = bed.start(&[]);
    process.terminate(LIMIT);
    assert!(!socket.exists());
    assert!(Keeper::connect(&socket).unwrap_err().is_nobody_there());

    fs::write(&socket, "a file of somebody").unwrap();
    let error = bed.spawn(&bed.listening()).unwrap_err();
    assert!(error.reason().ends_with("is there and is not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a file of somebody");
}

#[test]
fn a_daemon_that_is_killed_finds_everything_again() {
    let bed = Bed::new("killed");
    let process = bed.start(&[]);
    let mut daemon = Process::start(
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "daemon_to_be_killed", "--nocapture"])
            .env("KEEPER", bed.socket())
            .env("INPUT", bed.input.index().to_string())
            .env("OUTPUT", bed.output.index().to_string()),
    );
    let ring = daemon.wait_for_line("ring ", LIMIT);
    let sender = daemon.wait_for_line("sender ", LIMIT);
    daemon.signal(Signal::Kill);
    daemon.wait(LIMIT);

    let mut keeper = bed.connect();
    assert_eq!(keeper.pid(), Some(process.pid()));
    let (input, output) = (bed.input.index(), bed.output.index());
    let geometry = RingGeometry::for_mtu(1_500);
    let held = keeper.inventory().unwrap();
    let mut groups: Vec<IpAddr> = held.memberships.iter().map(|membership| membership.group).collect();
    groups.sort();
    assert_eq!(groups, (0..50).map(group).collect::<Vec<_>>());
    assert_eq!(bed.groups(), groups);
    assert_eq!(held.inputs, [HeldInput { interface: input, geometry }]);
    assert_eq!(held.outputs, [output]);
    assert_eq!(held.neighbours, [(output, "10.9.0.77".parse().unwrap())]);
    let (same, _) = keeper.open_input(input, &geometry).unwrap();
    assert!(ring.ends_with(&format!("ring {}", identity(&same).display())), "{ring}");
    let same = keeper.open_output(output).unwrap();
    assert!(sender.ends_with(&format!("sender {}", identity(&same).display())), "{sender}");

    keeper.release().unwrap();
    assert_eq!(keeper.inventory().unwrap(), Held::default());
    assert_eq!(bed.groups(), Vec::<Ipv4Addr>::new());
    assert!(is_running(process.pid()), "a service outlives what it held");
}

#[test]
#[ignore = "the other process of a_daemon_that_is_killed_finds_everything_again"]
fn daemon_to_be_killed() {
    let index = |name| std::env::var(name).unwrap().parse().unwrap();
    let mut keeper = connect(Path::new(&std::env::var_os("KEEPER").unwrap()));
    let (input, output) = (index("INPUT"), index("OUTPUT"));
    for number in 0..50 {
        keeper.join(input, group(number), &[]).unwrap();
    }
    keeper.resolve(output, "10.9.0.77".parse().unwrap()).unwrap();
    let sender = keeper.open_output(output).unwrap();
    let (ring, _) = keeper.open_input(input, &RingGeometry::for_mtu(1_500)).unwrap();
    eprintln!("sender {}", identity(&sender).display());
    eprintln!("ring {}", identity(&ring).display());
    std::thread::sleep(LIMIT * 2);
}

#[test]
fn a_private_keeper_ends_with_its_daemon() {
    let bed = Bed::new("private");
    let mut keeper = bed.spawn(&SpawnMode::Private).unwrap();
    let process = keeper.pid().unwrap();
    keeper.join(bed.input.index(), group(0), &[]).unwrap();
    keeper.open_input(bed.input.index(), &RingGeometry::for_mtu(1_500)).unwrap();
    keeper.resolve(bed.output.index(), "10.9.0.77".parse().unwrap()).unwrap();
    assert_eq!(bed.groups(), [group(0)]);
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::getsid(process.cast_signed()) }, process.cast_signed(), "its own session");
    drop(keeper);
    assert!(!is_running(process), "dropping the connection waits for the end");
    assert_eq!(bed.groups(), Vec::<Ipv4Addr>::new());
    assert_eq!(bed.packet_sockets(), 0);
    assert!(!bed.neighbours().contains("managed"), "{}", bed.neighbours());
}

#[test]
fn a_keeper_that_the_daemon_started_outlives_a_crash_and_ends_on_release() {
    let bed = Bed::new("spawned");
    let mut keeper = bed.spawn(&bed.listening()).unwrap();
    let process = keeper.pid().unwrap();
    keeper.join(bed.input.index(), group(0), &[]).unwrap();
    drop(keeper);
    let mut keeper = bed.connect();
    assert_eq!(keeper.pid(), Some(process));
    assert_eq!(bed.groups(), [group(0)]);
    keeper.release().unwrap();
    wait_until(LIMIT, "the keeper ends", || !is_running(process));
    assert!(Keeper::connect(&bed.socket()).unwrap_err().is_nobody_there());
    let error = keeper.join(bed.input.index(), group(0), &[]).unwrap_err();
    assert_eq!(error.kind(), KeeperErrorKind::Lost, "{error}");

    // One that holds nothing has nothing to wait for.
    let keeper = bed.spawn(&bed.listening()).unwrap();
    let process = keeper.pid().unwrap();
    drop(keeper);
    wait_until(LIMIT, "the keeper ends", || !is_running(process));
}

#[test]
fn a_spawned_keeper_holds_no_pipe_of_its_daemon() {
    let bed = Bed::new("pipe");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (inherited, socket) = (writer.as_raw_fd(), bed.socket());
    let mut command = bed.namespace.command(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "daemon_with_a_keeper_of_its_own", "--nocapture"]);
    command.env("KEEPER", &socket).env("INPUT", bed.input.index().to_string());
    command.stdout(writer.try_clone().unwrap()).stderr(writer.try_clone().unwrap());
    // Any other descriptor that the daemon was started with, say by a shell.
    // SAFETY: the closure makes one system call that takes no pointers.
    unsafe {
        command.pre_exec(move || match libc::fcntl(inherited, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let mut daemon = command.spawn().unwrap();
    drop((command, writer));
    let _end = ReleasedAtEnd(bed.socket());
    wait_until(LIMIT, "the daemon has joined", || bed.groups() == [group(0)]);
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let read = std::thread::spawn(move || std::io::read_to_string(&mut reader));
    wait_until(LIMIT, "whoever reads what the daemon prints sees its end", || read.is_finished());
    read.join().unwrap().unwrap();
    let mut keeper = bed.connect();
    let process = keeper.pid().unwrap();
    for stream in 0..=2 {
        let leads_to = fs::read_link(format!("/proc/{process}/fd/{stream}")).unwrap();
        assert_eq!(leads_to, Path::new("/dev/null"));
    }
    assert_eq!(bed.groups(), [group(0)], "the keeper holds on");
    keeper.release().unwrap();
    wait_until(LIMIT, "the keeper ends", || !is_running(process));
}

#[test]
#[ignore = "the other process of a_spawned_keeper_holds_no_pipe_of_its_daemon"]
fn daemon_with_a_keeper_of_its_own() {
    let path = PathBuf::from(std::env::var_os("KEEPER").unwrap());
    let mut keeper = Keeper::spawn(&SpawnMode::Listening { path }, Some(&program("mcr-netd"))).unwrap();
    keeper.join(std::env::var("INPUT").unwrap().parse().unwrap(), group(0), &[]).unwrap();
    std::thread::sleep(LIMIT * 2);
}

#[test]
fn a_missing_program_is_named() {
    let error = Keeper::spawn(&SpawnMode::Private, Some(Path::new("/nowhere/mcr-netd"))).unwrap_err();
    assert_eq!(error.kind(), KeeperErrorKind::NotStarted);
    assert!(error.reason().starts_with("can not start the keeper /nowhere/mcr-netd: "), "{error}");
}

#[test]
fn exactly_two_capabilities() {
    let bed = Bed::new("capabilities");
    let process = bed.start(&[]);
    let private = bed.spawn(&SpawnMode::Private).unwrap();
    for pid in [process.pid(), private.pid().unwrap()] {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(kernel::process_status(pid, set).unwrap(), TWO_CAPABILITIES, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(kernel::process_status(pid, set).unwrap(), NO_CAPABILITIES, "{set}");
        }
        assert_eq!(kernel::process_status(pid, "NoNewPrivs").unwrap(), "1");
        assert_eq!(kernel::process_status(pid, "Threads").unwrap(), "1");
    }
}

#[test]
fn neighbours_are_kept_by_the_kernel_and_permanent_ones_left_alone() {
    let bed = Bed::new("neighbours");
    let mut process = bed.start(&[]);
    let mut keeper = bed.connect();
    let output = bed.output.index();
    let [wanted, fixed]: [Ipv4Addr; 2] = ["10.9.0.77".parse().unwrap(), "10.9.0.78".parse().unwrap()];
    bed.output.add_neighbour(fixed, bed.input.mac());
    keeper.resolve(output, wanted.into()).unwrap();
    keeper.resolve(output, wanted.into()).unwrap();
    keeper.resolve(output, fixed.into()).unwrap();
    let line = |address: Ipv4Addr| {
        let shown = bed.neighbours();
        let line = shown.lines().find(|line| line.starts_with(&format!("{address} "))).unwrap_or_default();
        line.to_owned()
    };
    assert!(line(wanted).contains(" managed "), "{}", line(wanted));
    assert!(line(fixed).contains("PERMANENT"), "{}", line(fixed));
    keeper.forget(output, wanted.into()).unwrap();
    keeper.forget(output, fixed.into()).unwrap();
    keeper.forget(output, fixed.into()).unwrap();
    assert!(!line(wanted).contains("managed"), "{}", line(wanted));
    assert!(line(fixed).contains("PERMANENT"), "{}", line(fixed));
    assert_eq!(keeper.inventory().unwrap(), Held::default());

    keeper.resolve(output, wanted.into()).unwrap();
    keeper.join(bed.input.index(), group(0), &[]).unwrap();
    process.terminate(LIMIT);
    assert!(!line(wanted).contains("managed"), "{}", line(wanted));
    assert_eq!(bed.groups(), Vec::<Ipv4Addr>::new());
    assert!(!bed.socket().exists());
}

#[test]
fn an_interface_that_is_gone_takes_its_things_with_it() {
    let bed = Bed::new("gone");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let (input, output) = (bed.input.index(), bed.output.index());
    keeper.join(input, group(0), &[source(0), source(1)]).unwrap();
    keeper.join(input, group(1), &[]).unwrap();
    keeper.open_input(input, &RingGeometry::for_mtu(1_500)).unwrap();
    keeper.open_output(output).unwrap();
    keeper.resolve(output, "10.9.0.77".parse().unwrap()).unwrap();
    bed.input.clone().delete();
    keeper.leave(input, group(0)).unwrap();
    keeper.forget(output, "10.9.0.77".parse().unwrap()).unwrap();
    refused(&keeper.join(input, group(0), &[]).unwrap_err(), FailureKind::NoInterface);
    assert_eq!(keeper.inventory().unwrap(), Held::default());
}

/// The kernel dropped the groups of the first and unbound its packet sockets; its index says nothing of that.
#[test]
fn an_interface_with_the_index_of_another_gets_things_of_its_own() {
    let bed = Bed::new("again");
    let _process = bed.start(&[]);
    let input = bed.input.index();
    let elsewhere = Namespace::new("elsewhere");
    let hold = |keeper: &mut Keeper| {
        let (ring, _) = keeper.open_input(input, &RingGeometry::for_mtu(1_500)).unwrap();
        let sender = keeper.open_output(input).unwrap();
        keeper.join(input, group(0), &[]).unwrap();
        keeper.join(input, group(1), &[source(0)]).unwrap();
        assert_eq!([bound_to(&ring), bound_to(&sender)], [input.cast_signed(); 2]);
        assert_eq!(bed.groups(), [group(0), group(1)]);
    };
    hold(&mut bed.connect());

    // Made anew while no daemon is connected.
    bed.namespace.ip(&format!(
        "link delete in0\n link add in0 index {input} type veth peer name out0\n link set in0 up\n \
         address add 10.9.1.1/24 dev in0"
    ));
    let mut keeper = bed.connect();
    assert_eq!(keeper.inventory().unwrap(), Held::default());
    hold(&mut keeper);

    // Away and back while one is, which asks before it looks.
    bed.namespace.ip(&format!("link set in0 netns {}", elsewhere.name()));
    elsewhere.ip(&format!("link set in0 netns {}", bed.namespace.name()));
    bed.namespace.ip("link set in0 up\n address add 10.9.1.1/24 dev in0");
    assert_eq!(bed.input.index(), input);
    hold(&mut keeper);
    assert_eq!(keeper.inventory().unwrap().memberships.len(), 2);
}

#[test]
fn strangers_and_garbage_do_no_harm() {
    let bed = Bed::new("strangers");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    keeper.join(bed.input.index(), group(0), &[]).unwrap();
    let raw = |bytes: &[u8]| {
        let address = socket2::SockAddr::unix(bed.socket()).unwrap();
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
        socket.connect(&address).unwrap();
        if !bytes.is_empty() {
            socket.send(bytes).unwrap();
        }
        socket
    };
    // More silent ones than the keeper has seats for, then some that talk nonsense.
    let silent: Vec<_> = (0..20).map(|_| raw(&[])).collect();
    for nonsense in [&[0_u8][..], &[1, 0, 0, 0, 12], &[0xff; 70_000], &[1, 0, 0, 0, 200, 1, 2, 3]] {
        let socket = raw(nonsense);
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let end = std::io::Read::read(&mut &socket, &mut [0; 16]);
        assert!(matches!(end, Ok(0)), "{nonsense:.3?} is answered by {end:?}");
    }
    drop(silent);
    assert_eq!(keeper.inventory().unwrap().memberships.len(), 1);
}

#[test]
fn other_users_are_refused_unless_named() {
    let bed = Bed::new("users");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bed.folder.path(), open).unwrap();
    // The test's own program may lie where only root looks.
    let client = bed.folder.path().join("client");
    fs::copy(std::env::current_exe().unwrap(), &client).unwrap();
    let attempt = || {
        let mut command = Command::new(&client);
        command.args(["--ignored", "--exact", "daemon_of_another_user", "--nocapture"]).env("KEEPER", bed.socket());
        let mut process = Process::start(command.current_dir("/").uid(65_534).gid(65_534));
        process.wait_for_line("outcome: ", LIMIT)
    };
    let mut process = bed.start(&[]);
    assert_eq!(fs::metadata(bed.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    let line = attempt();
    assert!(line.contains("this user may not use the keeper on"), "{line}");
    // Even when somebody opens the file to all.
    fs::set_permissions(bed.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let line = attempt();
    assert!(line.contains("the user with id 65534 may not use the keeper; "), "{line}");
    process.terminate(LIMIT);
    let _process = bed.start(&["--user", "nobody"]);
    let line = attempt();
    assert!(line.contains("outcome: served"), "{line}");
}

#[test]
#[ignore = "the other process of other_users_are_refused_unless_named"]
fn daemon_of_another_user() {
    match Keeper::connect(Path::new(&std::env::var_os("KEEPER").unwrap())) {
        Ok(_) => eprintln!("outcome: served"),
        Err(error) => eprintln!("outcome: {error}"),
    }
}
