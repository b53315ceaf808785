//! One-way rules against a daemon that does whatever it can with what it is given.

use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;

use mcr_kernel_path::{Exit, InputTable, Maps, OutputAction, OutputEntry, RelayEntry, TableWriter};
use mcr_testbed::{Frame, RawReceiver, RawSender};
use mcr_wire::{Destination, Listing, MacAddr, RateCap, Rewrite};

use super::*;

const POLICY: &str = "one_way = [{ from = 'ot*', to = ['it0'] }]\n";
/// How many frames the daemon tries to send in each way.
const FLOOD: usize = 200;
/// Ethertype for local experiments, by which its frames are told.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 7, 0, 1);

/// A host between a plant network at `ot0` and an office network at `it0`.
struct Border {
    bed: Bed,
    plant: Interface,
    office: Interface,
    ot0: Interface,
    it0: Interface,
}

impl Border {
    fn new(name: &str) -> Self {
        let bed = Bed::new(name);
        let (plant, office) = (Namespace::new(&format!("{name}-ot")), Namespace::new(&format!("{name}-it")));
        let plant = Veth::between(&bed.namespace, "ot0", &plant, "dev0");
        let office = Veth::between(&bed.namespace, "it0", &office, "host0");
        let (ot0, it0) = (plant.near().clone(), office.near().clone());
        let (plant, office) = (plant.far().clone(), office.far().clone());
        Self { bed, plant, office, ot0, it0 }
    }

    fn start(&self, policy: &str) -> (Process, Keeper) {
        let path = self.bed.folder.path().join("policy.toml");
        fs::write(&path, policy).unwrap();
        let process = self.bed.start(&["--policy", path.to_str().unwrap()]);
        (process, self.bed.connect())
    }

    /// Has the keeper read another policy.
    fn submit(&self, process: &mut Process, keeper: &mut Keeper, policy: &str) {
        fs::write(self.bed.folder.path().join("policy.toml"), policy).unwrap();
        process.signal(Signal::Hangup);
        // Signals come before requests.
        keeper.inventory().unwrap();
    }
}

/// Whether a frame of [`flood`] arrives.
fn hears_flood(wire: &RawReceiver) -> bool {
    let begun = Instant::now();
    while let Some(frame) = wire.next_frame(Duration::from_millis(300)) {
        if frame.bytes[12..14] == EXPERIMENT {
            return true;
        }
        assert!(begun.elapsed() < LIMIT, "the wire does not come to rest");
    }
    false
}

/// Sends frames on `interface` in every way that a packet socket has, without any capability; how many the kernel took.
fn flood(socket: &OwnedFd, interface: u32) -> usize {
    const VIRTIO_HEADER_BYTES: usize = 10;
    let mut bytes = [0_u8; VIRTIO_HEADER_BYTES + 60];
    bytes[VIRTIO_HEADER_BYTES + 12..][..2].copy_from_slice(&EXPERIMENT);
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut there: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    there.sll_family = libc::AF_PACKET as u16;
    there.sll_ifindex = interface.cast_signed();
    let (address, length) = ((&raw const there).cast::<libc::sockaddr>(), size_of_val(&there) as libc::socklen_t);
    let (fd, one): (_, libc::c_int) = (socket.as_raw_fd(), 1);
    let send = |to: *const libc::sockaddr, length| {
        // SAFETY: both pointers describe values that outlive the call.
        unsafe { libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT, to, length) }
    };
    let mut taken = 0;
    for bypass in [0, one] {
        // SAFETY: the pointer describes `bypass`.
        let set =
            unsafe { libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, (&raw const bypass).cast(), 4) };
        assert_eq!(set, 0);
        // Naming the interface with each frame, then bound to it.
        taken += (0..FLOOD).filter(|_| send(address, length) > 0).count();
        // SAFETY: pointer and length describe `there`. One of several rings can not be bound anew, but its own is ot0.
        unsafe { libc::bind(fd, address, length) };
        taken += (0..FLOOD).filter(|_| send(std::ptr::null(), 0) > 0).count();
    }
    taken
}

/// Runs `body` on a thread that has no capability, as the daemon has none.
fn without_capabilities<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let header = [0x2008_0522_u32, 0];
            let none = [0_u32; 6];
            // SAFETY: version 3 reads one header and two data structures, which outlive the call.
            assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }, 0);
            body()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Takes everything that a keeper gives, and floods `ot0` through each descriptor; how many frames the kernel took.
fn misuse(border: &Border, keeper: &mut Keeper) -> usize {
    let geometry = RingGeometry::for_mtu(1_500);
    let (rings, _) = keeper.open_input(border.ot0.index(), &geometry, 2).unwrap();
    let (sender, _) = keeper.open_output(border.it0.index()).unwrap();
    let gaze = keeper.open_gaze(border.ot0.index()).unwrap();
    without_capabilities(|| {
        for socket in rings.iter().chain([&sender, &gaze]) {
            let mark: libc::c_int = 0;
            // SAFETY: the pointer describes `mark`.
            let unmarked = unsafe {
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, (&raw const mark).cast(), 4)
            };
            assert_eq!(unmarked, -1, "a mark is the keeper's to change");
        }
        rings.iter().chain([&sender, &gaze]).map(|socket| flood(socket, border.ot0.index())).sum()
    })
}

#[test]
fn sockets_that_were_handed_over_send_nothing_the_other_way() {
    let border = Border::new("oneway");
    let wire = RawReceiver::new(&border.plant);
    let (process, mut keeper) = border.start("");
    assert_eq!(misuse(&border, &mut keeper), 4 * 4 * FLOOD, "the ways that are tried are ways");
    assert!(hears_flood(&wire), "without a rule they lead out");
    drop((keeper, process));

    let wire = RawReceiver::new(&border.plant);
    let (mut process, mut keeper) = border.start(POLICY);
    misuse(&border, &mut keeper);
    assert!(!hears_flood(&wire));
    let chain = border.bed.namespace.output("nft", &["list", "ruleset"]);
    assert!(chain.contains("hook egress device \"ot0\""), "{chain}");

    // One that comes later, under a name of the rule, and one of the keeper that is gone.
    let (ring, _) = keeper.open_input(border.ot0.index(), &RingGeometry::for_mtu(1_500), 1).unwrap();
    let late = Veth::between(&border.bed.namespace, "late", border.plant.namespace(), "dev1");
    late.near().rename("ot1");
    wait_until(LIMIT, "the interface that came is closed", || {
        border.bed.namespace.output("nft", &["list", "ruleset"]).contains("\"ot1\"")
    });
    process.signal(Signal::Kill);
    process.wait(LIMIT);
    let wires = [RawReceiver::new(&border.plant), RawReceiver::new(late.far())];
    for (wire, interface) in wires.iter().zip([border.ot0.index(), late.near().index()]) {
        without_capabilities(|| flood(&ring[0], interface));
        assert!(!hears_flood(wire));
    }
}

#[test]
fn a_rule_that_comes_later_holds_for_sockets_that_were_to_be_closed() {
    let border = Border::new("kept");
    let (mut process, mut keeper) = border.start("");
    let (sender, _) = keeper.open_output(border.it0.index()).unwrap();
    keeper.close_output(border.it0.index()).unwrap();
    let send = || without_capabilities(|| flood(&sender, border.ot0.index()));
    let wire = RawReceiver::new(&border.plant);
    send();
    assert!(hears_flood(&wire), "without a rule it leads out");
    border.submit(&mut process, &mut keeper, POLICY);
    let wire = RawReceiver::new(&border.plant);
    send();
    assert!(!hears_flood(&wire));
    // A reload closes again what somebody else has opened.
    border.bed.namespace.output("nft", &["flush", "ruleset"]);
    border.submit(&mut process, &mut keeper, POLICY);
    let wire = RawReceiver::new(&border.plant);
    send();
    assert!(!hears_flood(&wire));
}

/// All rules of the host, only those within the table, the table, and all once more.
#[test]
fn rules_that_somebody_takes_away_are_made_anew_at_once() {
    let border = Border::new("flushed");
    let (mut process, mut keeper) = border.start(POLICY);
    let (sender, _) = keeper.open_output(border.it0.index()).unwrap();
    let namespace = &border.bed.namespace;
    let rules = || namespace.output("nft", &["list", "ruleset"]);
    let whole = rules();
    let table = whole.split_whitespace().find(|word| word.starts_with("mcr_one_way")).expect("a table").to_owned();
    let empty = ["flush", "table", "netdev", &table];
    let destroy = ["delete", "table", "netdev", &table];
    for (attempt, tampering) in [&["flush", "ruleset"][..], &empty, &destroy, &["flush", "ruleset"]].iter().enumerate()
    {
        namespace.output("nft", tampering);
        wait_until(LIMIT, "the rules are as they were", || rules() == whole);
        let said = "somebody has changed or removed the one-way rules of the policy: they are made anew";
        wait_until(LIMIT, "it is told", || process.output().matches(said).count() == attempt + 1);
    }
    // Tables of others are no business of the keeper.
    namespace.output("nft", &["add", "table", "netdev", "other"]);
    namespace.output("nft", &["delete", "table", "netdev", "other"]);
    let wire = RawReceiver::new(&border.plant);
    without_capabilities(|| flood(&sender, border.ot0.index()));
    assert!(!hears_flood(&wire));
    assert_eq!(process.output().matches("made anew").count(), 4);
    process.signal(Signal::Kill);
}

/// Two that relay in the foreground on the same host.
#[test]
fn private_keepers_leave_each_others_rules_alone() {
    let border = Border::new("two");
    let path = border.bed.folder.path().join("policy.toml");
    fs::write(&path, POLICY).unwrap();
    let tables = || {
        let listed = border.bed.namespace.output("nft", &["list", "tables"]);
        listed.lines().filter(|line| line.contains("mcr_one_way")).map(str::to_owned).collect::<Vec<_>>()
    };
    let under_policy = border.bed.folder.path().join("mcr-netd");
    let script = format!("#!/bin/sh\nexec {:?} --policy {path:?} \"$@\"\n", program("mcr-netd"));
    fs::write(&under_policy, script).unwrap();
    fs::set_permissions(&under_policy, fs::Permissions::from_mode(0o755)).unwrap();
    let start = || border.bed.namespace.run(|| Keeper::spawn(&SpawnMode::Private, Some(&under_policy)));
    let (one, two) = (start().unwrap(), start().unwrap());
    let both = tables();
    assert_eq!(both.len(), 2, "{both:?}");
    // A monitor of the rules hears nobody make them anew.
    let command = ["-c", "timeout 1 nft monitor; true"];
    assert_eq!(border.bed.namespace.output("sh", &command), "");
    assert_eq!(tables(), both);
    drop(one);
    wait_until(LIMIT, "its rules go with it", || tables().len() == 1);
    drop(two);
    wait_until(LIMIT, "none is left", || tables().is_empty());
}

#[test]
fn what_an_end_lies_on_is_closed_as_well() {
    let border = Border::new("below");
    let namespace = &border.bed.namespace;
    namespace.ip("link add br0 type bridge");
    namespace.ip("link set br0 up");
    let (mut process, mut keeper) = border.start("one_way = [{ from = 'br0', to = ['it0'] }]\n");
    let ot0 = border.ot0.index();
    let (sender, _) = keeper.open_output(border.it0.index()).unwrap();
    keeper.open_output(ot0).unwrap();
    let closed = || namespace.output("nft", &["list", "ruleset"]);
    assert!(closed().contains("\"br0\"") && !closed().contains("\"ot0\""));

    namespace.ip("link set ot0 master br0");
    process.wait_for_line("ot0 is taken away as an output: a one-way rule of the policy holds for it now", LIMIT);
    assert!(closed().contains("\"ot0\""), "{}", closed());
    let text = refused(&keeper.open_output(ot0).unwrap_err(), FailureKind::Policy);
    assert!(text.contains("ot0, which shares a wire with br0, can not be an output; "), "{text}");
    let wire = RawReceiver::new(&border.plant);
    without_capabilities(|| flood(&sender, ot0));
    assert!(!hears_flood(&wire));

    namespace.ip("link set ot0 nomaster");
    wait_until(LIMIT, "the port is free", || keeper.open_output(ot0).is_ok());
    assert!(!closed().contains("\"ot0\""));
}

#[test]
fn many_interfaces_are_closed_at_once() {
    // With two rules each, more than a socket's buffer holds by default.
    const MANY: usize = 450;
    let border = Border::new("many");
    let make = "for i in $(seq 1 $0); do echo \"link add ot$i type bridge\"; done | ip -batch -";
    border.bed.namespace.output("sh", &["-c", make, &MANY.to_string()]);
    let path = border.bed.folder.path().join("policy.toml");
    fs::write(&path, POLICY).unwrap();
    let _process = border.bed.start(&["--policy", path.to_str().unwrap(), "--user", "nobody"]);
    let mut keeper = border.bed.connect();
    keeper.open_output(border.it0.index()).unwrap();
    let chains = border.bed.namespace.output("nft", &["list", "ruleset"]).matches("hook egress").count();
    assert_eq!(chains, MANY + 1);
}

#[test]
fn each_end_is_used_for_one_thing() {
    let border = Border::new("ends");
    let (mut process, mut keeper) = border.start(POLICY);
    let (ot0, it0) = (border.ot0.index(), border.it0.index());
    let text = refused(&keeper.open_output(ot0).unwrap_err(), FailureKind::Policy);
    let wanted = "the keeper's policy is one-way from ot* to it0: ot0 can not be an output; \
                  turn the relay round, or change `one_way` in the keeper's policy";
    assert!(text.starts_with(wanted), "{text}");
    for error in [
        keeper.resolve(ot0, source(0)).unwrap_err(),
        keeper.prove(ot0, [2, 0, 0, 0, 0, 1]).unwrap_err(),
        keeper.open_input(it0, &RingGeometry::for_mtu(1_500), 1).unwrap_err(),
        keeper.attach(it0, mcr_netd::Hook::Tcx).unwrap_err(),
        keeper.attach(it0, mcr_netd::Hook::Xdp).unwrap_err(),
        keeper.join(it0, group(0), &[]).unwrap_err(),
        keeper.open_gaze(it0).unwrap_err(),
    ] {
        refused(&error, FailureKind::Policy);
    }
    assert!(keeper.fan_out(&[ot0]).is_err());
    // What lies on it sends through it.
    border.bed.namespace.ip("link add link ot0 name upper type macvlan");
    border.bed.namespace.ip("link set upper up");
    let upper = Interface::of(&border.bed.namespace, "upper").index();
    let text = refused(&keeper.open_output(upper).unwrap_err(), FailureKind::Policy);
    assert!(text.contains("upper, which shares a wire with ot0, can not be an output; "), "{text}");
    keeper.open_input(upper, &RingGeometry::for_mtu(1_500), 1).unwrap();

    // What a policy that is read again turns round is taken away.
    keeper.attach(ot0, mcr_netd::Hook::Tcx).unwrap();
    keeper.join(ot0, group(0), &[]).unwrap();
    keeper.open_output(it0).unwrap();
    fs::write(border.bed.folder.path().join("policy.toml"), "one_way = [{ from = 'it0', to = ['ot0'] }]\n").unwrap();
    process.signal(Signal::Hangup);
    process.wait_for_line("ot0 is taken away as an input: the policy forbids it", LIMIT);
    process.wait_for_line("it0 is taken away as an output: the policy forbids it", LIMIT);
    wait_until(LIMIT, "nothing is held", || keeper.inventory().unwrap() == Held::default());
}

#[test]
fn tables_that_were_handed_over_send_nothing_the_other_way() {
    let border = Border::new("tables");
    let (_process, mut keeper) = border.start(POLICY);
    let (ot0, it0) = (border.ot0.index(), border.it0.index());
    let maps = Maps::from_fds(keeper.tables().unwrap()).unwrap();
    let (_, port) = keeper.open_output(it0).unwrap();
    keeper.attach(ot0, mcr_netd::Hook::Tcx).unwrap();
    let mut writer = TableWriter::adopt(maps).unwrap();
    // A relay to every port there is, of what comes in at either side.
    let rewrite = Rewrite {
        source_mac: MacAddr::new([2, 0, 0, 0, 0, 9]),
        destination_mac: MacAddr::for_group(GROUP.into()),
        vlan: None,
        source: Some([10, 0, 0, 1].into()),
        destination: SocketAddrV4::new(GROUP, 6001).into(),
        source_port: None,
        ttl: mcr_wire::TimeToLive::Set(8),
        dscp: mcr_wire::CodePoint::Keep,
        priority: None,
        oversize: mcr_wire::Oversize::Drop,
    };
    for (input, base) in [(ot0, 5_000), (it0, 6_000)] {
        let relays = (0..4).map(|chunk| RelayEntry {
            destination: Destination { vlan: None, address: GROUP.into(), port: base + chunk },
            sources: Vec::new(),
            listing: Listing::Accepts,
            counters: writer.relay_counters(u64::from(base + chunk)).unwrap(),
            exit: Exit::Tcx,
            cap: RateCap::NONE,
            outputs: (u32::from(chunk) * 64..u32::from(chunk + 1) * 64)
                .map(|port| OutputEntry {
                    counters: writer.output_counters(u64::from(base) << 32 | u64::from(port)).unwrap(),
                    action: OutputAction::Send { port, rewrite, mtu: 1500 },
                    cap: RateCap::NONE,
                })
                .collect(),
        });
        let relays = relays.collect();
        writer.install(input, InputTable { relays, our_macs: Vec::new() }).unwrap();
    }
    let (plant, office) = (RawReceiver::new(&border.plant), RawReceiver::new(&border.office));
    let (from_plant, from_office) = (RawSender::new(&border.plant), RawSender::new(&border.office));
    for port in [5_000, 5_001, 5_002, 5_003, 6_000, 6_001, 6_002, 6_003] {
        let frame = Frame::udp("192.168.168.55:4000", &format!("{GROUP}:{port}"), b"one way");
        from_plant.send(&frame);
        from_office.send(&frame);
    }
    let arrived = office.next_udp(LIMIT);
    assert_eq!(arrived.destination.port(), 6001, "port {port} leads to it0");
    assert!(office.try_next_udp(Duration::from_millis(300)).is_none(), "once, of all that were named");
    assert!(plant.try_next_udp(Duration::from_millis(300)).is_none());
}

#[test]
fn a_passive_input_joins_nothing() {
    let border = Border::new("passive");
    let (mut process, mut keeper) = border.start("passive = ['ot0']\n");
    let wire = RawReceiver::new(&border.plant);
    let ot0 = border.ot0.index();
    keeper.open_input(ot0, &RingGeometry::for_mtu(1_500), 1).unwrap();
    keeper.join(ot0, group(0), &[source(0)]).unwrap();
    let is_open = || border.bed.namespace.output("ip", &["-d", "link", "show", "ot0"]).contains("allmulti 1");
    assert!(is_open());
    assert_eq!(keeper.inventory().unwrap().memberships.len(), 1);
    assert!(!kernel::joined_groups(&border.bed.namespace, "ot0").contains(&Ipv4Addr::new(239, 7, 0, 0)));
    // The policy makes it an ordinary one, and passive again.
    let policy = border.bed.folder.path().join("policy.toml");
    assert!(wire.next_frame(Duration::from_millis(300)).is_none(), "a passive input sends nothing");
    fs::write(&policy, "").unwrap();
    process.signal(Signal::Hangup);
    wait_until(LIMIT, "it is joined", || !kernel::joined_sources(&border.bed.namespace).is_empty());
    assert!(!is_open());
    fs::write(&policy, "passive = ['ot0']\n").unwrap();
    process.signal(Signal::Hangup);
    wait_until(LIMIT, "it is left", is_open);
    assert_eq!(kernel::joined_sources(&border.bed.namespace), []);
    keeper.leave(ot0, group(0)).unwrap();
    assert!(!is_open());
}

#[test]
fn groups_of_passive_inputs_are_bounded_as_well() {
    let border = Border::new("bounded");
    let (_process, mut keeper) = border.start("passive = ['ot0']\n");
    let (ot0, it0) = (border.ot0.index(), border.it0.index());
    let most: Vec<IpAddr> = (0..1_024).map(source).collect();
    keeper.join(it0, group(0), &most[..24]).unwrap();
    for number in 0..15 {
        keeper.join(ot0, group(number), &most).unwrap();
    }
    keeper.join(ot0, group(15), &most[24..]).unwrap();
    for interface in [ot0, it0] {
        let text = refused(&keeper.join(interface, group(16), &[]).unwrap_err(), FailureKind::System);
        assert!(text.contains(": 16384 memberships are held at most; "), "{text}");
    }
    keeper.join(ot0, group(15), &most[25..]).unwrap();
    keeper.join(it0, group(16), &[]).unwrap();
}
