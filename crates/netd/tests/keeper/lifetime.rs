//! Who starts a keeper, who ends it, and what it outlives.

use super::*;

/// A keeper that no process of this test is the parent of; it ends when it is released, also when the test fails.
struct ReleasedAtEnd(PathBuf);

impl Drop for ReleasedAtEnd {
    fn drop(&mut self) {
        let _ = Keeper::connect(&self.0).and_then(|mut keeper| keeper.release());
    }
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
fn one_that_ends_when_it_is_released_waits_for_its_first_daemon() {
    let bed = Bed::new("awaited");
    let mut process = Process::start(&mut bed.command(&["--end-on-release"]));
    wait_until(LIMIT, "the keeper listens", || bed.socket().exists());
    // Whatever else wakes it up meanwhile: rules and interfaces that change.
    for round in 0..5 {
        bed.namespace.output("nft", &[&format!("add table ip awaited{round}")]);
        bed.input.down();
        bed.input.up();
    }
    assert_eq!(process.ended(), None);
    let mut keeper = bed.connect();
    assert_eq!(process.ended(), None);
    keeper.release().unwrap();
    assert!(process.wait(LIMIT).success());
}

#[test]
fn a_daemon_that_is_killed_finds_everything_again() {
    let bed = Bed::new("killed");
    let process = bed.start(&[]);
    let mut daemon = Process::start(
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "lifetime::daemon_to_be_killed", "--nocapture"])
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
    let (same, _) = keeper.open_input(input, &geometry, 1).unwrap();
    assert!(ring.ends_with(&format!("ring {}", identity(&same[0]).display())), "{ring}");
    let (same, _) = keeper.open_output(output).unwrap();
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
    let (sender, _) = keeper.open_output(output).unwrap();
    let (rings, _) = keeper.open_input(input, &RingGeometry::for_mtu(1_500), 1).unwrap();
    eprintln!("sender {}", identity(&sender).display());
    eprintln!("ring {}", identity(&rings[0]).display());
    std::thread::sleep(LIMIT * 2);
}

#[test]
fn a_private_keeper_ends_with_its_daemon() {
    let bed = Bed::new("private");
    let mut keeper = bed.spawn(&SpawnMode::Private).unwrap();
    let process = keeper.pid().unwrap();
    keeper.join(bed.input.index(), group(0), &[]).unwrap();
    keeper.open_input(bed.input.index(), &RingGeometry::for_mtu(1_500), 1).unwrap();
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
    command.args(["--ignored", "--exact", "lifetime::daemon_with_a_keeper_of_its_own", "--nocapture"]);
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
fn an_input_that_was_opened_anew_is_the_one_that_the_next_keeper_has() {
    let bed = Bed::new("anew");
    let (manager, interface) = (ServiceManager::new(), bed.input.index());
    let start = || {
        let mut command = manager.command(&bed.namespace, program("mcr-netd"));
        let process = Process::start(command.arg("--socket").arg(bed.socket()));
        wait_until(LIMIT, "the keeper listens", || Keeper::connect(&bed.socket()).is_ok());
        process
    };
    let rings = || {
        let kept = manager.kept().into_iter();
        kept.filter(|name| name.starts_with("ring-")).collect::<Vec<_>>()
    };
    let geometry = RingGeometry::for_mtu(1_500);
    let mut process = start();
    let mut keeper = bed.connect();
    keeper.open_input(interface, &geometry, 2).unwrap();
    wait_until(LIMIT, "both rings are kept", || rings().len() == 2);
    let before = rings();
    // Sooner than anything is stored.
    keeper.close_input(interface).unwrap();
    let (opened, _) = keeper.open_input(interface, &geometry, 2).unwrap();
    wait_until(LIMIT, "the other rings are kept", || {
        rings().len() == 2 && rings().iter().all(|name| !before.contains(name))
    });
    process.signal(Signal::HandOver);
    process.wait(LIMIT);
    let _process = start();
    let mut keeper = bed.connect();
    let (found, _) = keeper.open_input(interface, &geometry, 2).unwrap();
    let sorted = |rings: &[OwnedFd]| {
        let mut identities: Vec<PathBuf> = rings.iter().map(identity).collect();
        identities.sort();
        identities
    };
    assert_eq!(sorted(&found), sorted(&opened));
}
