//! Interfaces that go and come back, and neighbours on them.

use super::*;

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

/// Stops a process (SIGSTOP) and lets it go on (SIGCONT).
fn pause(process: u32, signal: libc::c_int) {
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::kill(process.cast_signed(), signal) }, 0, "{}", std::io::Error::last_os_error());
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
    keeper.open_input(input, &RingGeometry::for_mtu(1_500), 1).unwrap();
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
        let (rings, _) = keeper.open_input(input, &RingGeometry::for_mtu(1_500), 1).unwrap();
        let (sender, _) = keeper.open_output(input).unwrap();
        keeper.join(input, group(0), &[]).unwrap();
        keeper.join(input, group(1), &[source(0)]).unwrap();
        assert_eq!([bound_to(&rings[0]), bound_to(&sender)], [input.cast_signed(); 2]);
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
fn what_the_kernel_said_in_vain_is_found_out() {
    let bed = Bed::new("overflow");
    let process = bed.start(&[]);
    let mut keeper = bed.connect();
    let (input, output) = (bed.input.index(), bed.output.index());
    keeper.open_input(input, &RingGeometry::for_mtu(1_500), 1).unwrap();
    keeper.join(input, group(0), &[]).unwrap();
    bed.namespace
        .ip("link add extra type veth peer name other\n link set extra up\n address add 10.9.2.1/24 dev extra");
    let extra = Interface::of(&bed.namespace, "extra").index();
    keeper.open_input(extra, &RingGeometry::for_mtu(1_500), 1).unwrap();
    keeper.join(extra, group(1), &[]).unwrap();

    pause(process.pid(), libc::SIGSTOP);
    // More than the keeper's queue takes, so that it is not told of what happens then.
    bed.namespace.ip(&"link set extra alias one\n link set extra alias two\n".repeat(4_000));
    bed.namespace.ip(&format!(
        "link delete in0\n link add in0 index {input} type veth peer name out0 index {output}\n link set in0 up"
    ));
    pause(process.pid(), libc::SIGCONT);
    let held = keeper.inventory().unwrap();
    assert_eq!(held.inputs.iter().map(|input| input.interface).collect::<Vec<_>>(), [extra]);
    assert_eq!(held.memberships, [HeldMembership { interface: extra, group: group(1), sources: Vec::new() }]);
    assert_eq!(kernel::joined_groups(&bed.namespace, "extra"), [group(1)]);
}
