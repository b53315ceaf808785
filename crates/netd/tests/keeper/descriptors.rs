//! What is handed over, and requests that make no sense.

use super::*;

#[test]
fn nonsense_is_refused() {
    let bed = Bed::new("nonsense");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let interface = bed.input.index();
    for (slot_bytes, slots) in [(0, 0), (u32::MAX, 1), (1_600, u32::MAX), (1_601, 64), (1_600, 0), (128 << 10, 4_096)] {
        let geometry = RingGeometry { slot_bytes, slots };
        refused(&keeper.open_input(interface, &geometry, 1).unwrap_err(), FailureKind::Invalid);
    }
    refused(&keeper.join(interface, source(0), &[]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.join(interface, group(0), &[group(1)]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.join(interface, group(0), &["::1".parse().unwrap()]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.join(interface, group(0), &vec![source(0); 2_000]).unwrap_err(), FailureKind::Invalid);
    refused(&keeper.set_filter(interface, &filter::drop_all()).unwrap_err(), FailureKind::Invalid);
    keeper.open_input(interface, &RingGeometry::for_mtu(1_500), 1).unwrap();
    let bad = FilterInstruction { code: 0xffff, jt: 0, jf: 0, k: 0 };
    refused(&keeper.set_filter(interface, &[bad]).unwrap_err(), FailureKind::System);
    refused(&keeper.set_filter(interface, &[bad; 5_000]).unwrap_err(), FailureKind::Invalid);
    keeper.set_filter(interface, &filter::compile(&[([239, 7, 0, 0].into(), 5_000)])).unwrap();
    refused(&keeper.open_output(9_999).unwrap_err(), FailureKind::NoInterface);
}

#[test]
fn what_is_open_is_handed_over_again() {
    let bed = Bed::new("ensure");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let (input, output) = (bed.input.index(), bed.output.index());
    let (geometry, other) = (RingGeometry::for_mtu(1_500), RingGeometry::for_mtu(9_000));
    let (ring, opened) = keeper.open_input(input, &geometry, 1).unwrap();
    let (again, held) = keeper.open_input(input, &other, 1).unwrap();
    assert_eq!((opened, held), (geometry, geometry));
    assert_eq!(identity(&ring[0]), identity(&again[0]));
    let (sender, _) = keeper.open_output(output).unwrap();
    assert_eq!(identity(&sender), identity(&keeper.open_output(output).unwrap().0));
    assert_eq!(bed.packet_sockets(), 2);
    keeper.close_input(input).unwrap();
    keeper.close_output(output).unwrap();
    drop((ring, again, sender));
    wait_until(LIMIT, "the packet sockets are gone", || bed.packet_sockets() == 0);
    let (_, held) = keeper.open_input(input, &other, 1).unwrap();
    assert_eq!(held, other);
}

#[test]
fn all_rings_of_an_input_are_handed_over_and_again() {
    let bed = Bed::new("rings");
    let _process = bed.start(&[]);
    let mut keeper = bed.connect();
    let (input, geometry) = (bed.input.index(), RingGeometry::for_mtu(1_500));
    let (rings, _) = keeper.open_input(input, &geometry, 3).unwrap();
    let identities = |rings: &[std::os::fd::OwnedFd]| rings.iter().map(identity).collect::<Vec<_>>();
    let mut different = identities(&rings);
    different.sort();
    different.dedup();
    assert_eq!((different.len(), bed.packet_sockets()), (3, 3));
    let (again, _) = keeper.open_input(input, &geometry, 1).unwrap();
    assert_eq!(identities(&again), identities(&rings), "as they were opened first");
    keeper.set_filter(input, &filter::compile(&[([239, 7, 0, 0].into(), 5_000)])).unwrap();
    keeper.close_input(input).unwrap();
    drop((rings, again));
    wait_until(LIMIT, "the packet sockets are gone", || bed.packet_sockets() == 0);
    let (least, _) = keeper.open_input(input, &geometry, 0).unwrap();
    assert_eq!(least.len(), 1);
    keeper.close_input(input).unwrap();
    let (most, _) = keeper.open_input(input, &geometry, 255).unwrap();
    assert_eq!(most.len(), 16, "what one message carries");
}
