//! Who may use a keeper, and what those who may not can do to it.

use super::*;

/// CAP_NET_ADMIN and CAP_NET_RAW, and for programs CAP_PERFMON and CAP_BPF.
const FOUR_CAPABILITIES: &str = "000000c000003000";
const NO_CAPABILITIES: &str = "0000000000000000";

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
fn exactly_four_capabilities() {
    let bed = Bed::new("capabilities");
    let process = bed.start(&[]);
    let private = bed.spawn(&SpawnMode::Private).unwrap();
    for pid in [process.pid(), private.pid().unwrap()] {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(kernel::process_status(pid, set).unwrap(), FOUR_CAPABILITIES, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(kernel::process_status(pid, set).unwrap(), NO_CAPABILITIES, "{set}");
        }
        assert_eq!(kernel::process_status(pid, "NoNewPrivs").unwrap(), "1");
        assert_eq!(kernel::process_status(pid, "Threads").unwrap(), "1");
    }
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
        command
            .args(["--ignored", "--exact", "strangers::daemon_of_another_user", "--nocapture"])
            .env("KEEPER", bed.socket());
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
