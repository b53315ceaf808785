//! The policy: whose it is, what it forbids, and reading it again.

use super::*;

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
    let text = refused(&keeper.open_input(output, &geometry, 1).unwrap_err(), FailureKind::Policy);
    let wanted = "the keeper's policy does not allow out0 as an input (allowed: in*); \
         add it to `inputs` in the keeper's policy (/etc/mcr/policy.toml) and have it read again \
         (systemctl reload mcr-netd, or kill -HUP ";
    assert!(text.starts_with(wanted), "{text}");
    refused(&keeper.join(output, group(0), &[]).unwrap_err(), FailureKind::Policy);
    refused(&keeper.open_output(input).unwrap_err(), FailureKind::Policy);
    refused(&keeper.resolve(input, source(0)).unwrap_err(), FailureKind::Policy);
    assert_eq!(keeper.inventory().unwrap(), Held::default());
    keeper.open_input(input, &geometry, 1).unwrap();
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
    let (rings, _) = keeper.open_input(input, &RingGeometry::for_mtu(1_500), 1).unwrap();
    keeper.set_filter(input, &filter::compile(&[([239, 7, 0, 0].into(), 5_000)])).unwrap();
    keeper.join(input, group(0), &[]).unwrap();
    keeper.join(input, group(1), &[source(0)]).unwrap();
    let (sender, _) = keeper.open_output(output).unwrap();
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
    refused(&keeper.open_input(output, &RingGeometry::for_mtu(1_500), 1).unwrap_err(), FailureKind::Policy);

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
    assert_eq!(filter_of(&rings[0]), filter::drop_all().map(|FilterInstruction { code, jt, jf, k }| (code, jt, jf, k)));
    assert_eq!(send_frame(&sender), Err(Some(libc::ENXIO)));
    for error in [
        keeper.set_filter(input, &filter::drop_all()).unwrap_err(),
        keeper.join(input, group(0), &[]).unwrap_err(),
        keeper.open_output(output).unwrap_err(),
    ] {
        refused(&error, FailureKind::Policy);
    }

    // What is allowed stays as it is, with the same daemon.
    let (sender, _) = keeper.open_output(input).unwrap();
    process.signal(Signal::Hangup);
    wait_until(LIMIT, "the policy is read once more", || {
        process.output().matches("the policy is read again").count() == 2
    });
    assert_eq!(send_frame(&sender), Ok(64));
    assert_eq!(keeper.inventory().unwrap().outputs, [input]);
    process.terminate(LIMIT);
}
