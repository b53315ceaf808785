//! What keepers leave in the kernel that nobody goes on with: the next keeper cleans up behind them, and behind no others.

use super::*;

/// A program that is the keeper with that policy.
fn keeper_with(bed: &Bed, policy: &str) -> PathBuf {
    let (file, script) = (bed.folder.path().join("policy.toml"), bed.folder.path().join("keeper"));
    fs::write(&file, policy).unwrap();
    let (program, file) = (program("mcr-netd").display().to_string(), file.display());
    fs::write(&script, format!("#!/bin/sh\nexec {program} --policy {file} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn kill(process: u32) {
    // SAFETY: a plain system call; the process is the keeper that this test started.
    assert_eq!(unsafe { libc::kill(process.cast_signed(), libc::SIGKILL) }, 0);
    wait_until(LIMIT, "the keeper is gone", || !is_running(process));
}

fn addresses(bed: &Bed) -> String {
    bed.namespace.output("ip", &["-oneline", "address", "show", "dev", "out0"])
}

fn tables(bed: &Bed) -> usize {
    bed.namespace.output("nft", &["list", "tables"]).matches("mcr_one_way").count()
}

/// Asks until it is added.
fn add(keeper: &mut Keeper, bed: &Bed, address: &str) {
    let (interface, address) = (bed.output.index(), address.parse().unwrap());
    wait_until(LIMIT, "the address is added", || keeper.add_address(interface, address).unwrap() == Added::InPlace);
}

#[test]
fn a_private_keeper_and_its_daemon_that_are_killed_leave_nothing_to_the_next_keeper() {
    let bed = Bed::new("abandoned");
    let policy = "one_way = [{ from = 'in0', to = ['it0'] }]\n[source_addresses]\nout0 = ['10.9.0.64/26']\n";
    let program = keeper_with(&bed, policy);
    let mut keeper = bed.namespace.run(|| Keeper::spawn(&SpawnMode::Private, Some(&program))).unwrap();
    add(&mut keeper, &bed, "10.9.0.77");
    assert_eq!(keeper.inventory().unwrap().addresses, [(bed.output.index(), "10.9.0.77".parse().unwrap())]);
    keeper.open_output(bed.output.index()).unwrap();
    assert_eq!(tables(&bed), 1);
    kill(keeper.pid().unwrap());

    // Its daemon may hold its sockets still: what is closed to them stays closed.
    drop(bed.start(&[]));
    assert_eq!(tables(&bed), 1);
    assert!(addresses(&bed).contains("10.9.0.77/32"), "{}", addresses(&bed));
    drop(keeper);
    drop(bed.start(&[]));
    assert_eq!(tables(&bed), 0);
    assert!(!addresses(&bed).contains("10.9.0.77"), "{}", addresses(&bed));
    assert!(addresses(&bed).contains("10.9.0.1/24"));
}

#[test]
fn keepers_of_other_paths_leave_each_others_addresses_alone() {
    let bed = Bed::new("others");
    let program = keeper_with(&bed, "[source_addresses]\nout0 = ['10.9.0.64/26']\n");
    let listening = |name: &str| SpawnMode::Listening { path: bed.folder.path().join(name) };
    let spawn = |name: &str| bed.namespace.run(|| Keeper::spawn(&listening(name), Some(&program))).unwrap();
    let (mut one, mut other) = (spawn("one.sock"), spawn("other.sock"));
    add(&mut one, &bed, "10.9.0.70");
    add(&mut other, &bed, "10.9.0.71");
    // One that is another's is used, and not removed.
    add(&mut other, &bed, "10.9.0.70");
    other.release().unwrap();
    wait_until(LIMIT, "its own is removed", || !addresses(&bed).contains("10.9.0.71"));
    assert!(addresses(&bed).contains("10.9.0.70"));
    kill(one.pid().unwrap());
    drop(one);
    let mut next = spawn("other.sock");
    assert_eq!(next.inventory().unwrap().addresses, []);
    next.release().unwrap();
    let mut next = spawn("one.sock");
    assert_eq!(next.inventory().unwrap().addresses, [(bed.output.index(), "10.9.0.70".parse().unwrap())]);
    next.release().unwrap();
    wait_until(LIMIT, "it is given back", || !addresses(&bed).contains("10.9.0.70"));
}
