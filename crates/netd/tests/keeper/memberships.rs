//! Memberships: the kernel's limits, sources, bounds, and joins that fail.

use super::*;

/// Lowers the limit on open files of a process, for good.
fn limit_descriptors(process: u32, most: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the pointer describes `limit`, which outlives the call; the old limit is not wanted.
    let set =
        unsafe { libc::prlimit(process.cast_signed(), libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
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
