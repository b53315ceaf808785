//! Whatever arrives, decoding answers; and what one side writes, the other reads.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn geometries() -> impl Strategy<Value = RingGeometry> {
    (any::<u32>(), any::<u32>()).prop_map(|(slot_bytes, slots)| RingGeometry { slot_bytes, slots })
}

fn instructions() -> impl Strategy<Value = Vec<FilterInstruction>> {
    let one = (any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>());
    vec(one.prop_map(|(code, jt, jf, k)| FilterInstruction { code, jt, jf, k }), 0..40)
}

fn requests() -> impl Strategy<Value = Request> {
    let interface = any::<u32>;
    let address = any::<IpAddr>;
    prop_oneof![
        any::<u16>().prop_map(|version| Request::Hello { version }),
        any::<u32>().prop_map(|start| Request::Inventory { start }),
        (interface(), geometries(), any::<u8>()).prop_map(|(interface, geometry, rings)| Request::OpenInput {
            interface,
            geometry,
            rings
        }),
        (interface(), instructions())
            .prop_map(|(interface, instructions)| Request::SetFilter { interface, instructions }),
        interface().prop_map(|interface| Request::CloseInput { interface }),
        interface().prop_map(|interface| Request::OpenOutput { interface }),
        interface().prop_map(|interface| Request::CloseOutput { interface }),
        (interface(), address(), vec(address(), 0..20)).prop_map(|(interface, group, sources)| Request::Join {
            interface,
            group,
            sources
        }),
        (interface(), address()).prop_map(|(interface, group)| Request::Leave { interface, group }),
        (interface(), address()).prop_map(|(interface, address)| Request::Resolve { interface, address }),
        (interface(), address()).prop_map(|(interface, address)| Request::Forget { interface, address }),
        Just(Request::Release),
        Just(Request::Tables),
        Just(Request::Queriers),
        (interface(), proptest::sample::select(vec![Family::V4, Family::V6]))
            .prop_map(|(interface, family)| Request::Ask { interface, family }),
        (interface(), address()).prop_map(|(interface, group)| Request::AskFor { interface, group }),
        interface().prop_map(|interface| Request::OpenEar { interface }),
        interface().prop_map(|interface| Request::CloseEar { interface }),
        (interface(), address()).prop_map(|(interface, address)| Request::AddAddress { interface, address }),
        (interface(), address()).prop_map(|(interface, address)| Request::RemoveAddress { interface, address }),
        (interface(), vec(address(), 0..20)).prop_map(|(interface, groups)| Request::Report { interface, groups }),
        interface().prop_map(|interface| Request::Attach { interface, hook: Hook::Tcx }),
        (interface(), any::<[u8; 6]>()).prop_map(|(interface, own_address)| Request::Prove { interface, own_address }),
        vec(interface(), 0..64).prop_map(|interfaces| Request::FanOut { interfaces }),
        proptest::collection::vec(any::<u32>(), 0..20).prop_map(|numbers| Request::KeepFanOuts { numbers }),
        interface().prop_map(|interface| Request::Detach { interface, hook: Hook::Tcx }),
    ]
}

fn items() -> impl Strategy<Value = Item> {
    let interface = any::<u32>;
    let address = any::<IpAddr>;
    prop_oneof![
        (interface(), geometries()).prop_map(|(interface, geometry)| Item::Input { interface, geometry }),
        interface().prop_map(|interface| Item::Output { interface }),
        (interface(), address(), vec(address(), 0..20)).prop_map(|(interface, group, sources)| Item::Membership {
            interface,
            group,
            sources
        }),
        (interface(), address()).prop_map(|(interface, address)| Item::Neighbour { interface, address }),
        interface().prop_map(|interface| Item::Attached { interface, hook: Hook::Xdp }),
        (interface(), address()).prop_map(|(interface, address)| Item::Address { interface, address }),
    ]
}

fn replies() -> impl Strategy<Value = Reply> {
    let kind = proptest::sample::select(FailureKind::ALL.to_vec());
    prop_oneof![
        Just(Reply::Done),
        Just(Reply::Checking),
        any::<u32>().prop_map(|port| Reply::Sending { port }),
        any::<u32>().prop_map(|number| Reply::Fanned { number }),
        (any::<u16>(), any::<u32>()).prop_map(|(version, process)| Reply::Welcome { version, process }),
        geometries().prop_map(|geometry| Reply::Opened { geometry }),
        (any::<u32>(), vec(items(), 0..20)).prop_map(|(next, items)| Reply::Held { next, items }),
        (kind, any::<i32>(), "\\PC{0,80}", "\\PC{0,80}").prop_map(|(kind, errno, reason, remedy)| {
            let errno = Some(errno).filter(|errno| *errno != 0);
            Reply::Failed(Failure { kind, errno, reason, remedy })
        }),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Request::decode(&bytes);
        let _ = Reply::decode(&bytes);
    }

    #[test]
    fn any_body_of_any_kind_is_answered(kind in any::<u8>(), body in vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![1, 0, 0, 0, kind];
        bytes.extend(body);
        let _ = Request::decode(&bytes);
        let _ = Reply::decode(&bytes);
    }

    #[test]
    fn requests_survive_the_wire(request in requests(), sequence in any::<u32>()) {
        let bytes = request.encode(sequence);
        prop_assert_eq!(Request::decode(&bytes), Ok(Numbered { sequence, message: request }));
        for end in 0..bytes.len() {
            prop_assert!(Request::decode(&bytes[..end]).is_err(), "a prefix of {end} bytes is taken");
        }
    }

    #[test]
    fn replies_survive_the_wire(reply in replies(), sequence in any::<u32>()) {
        let bytes = reply.encode(sequence);
        prop_assert_eq!(Reply::decode(&bytes), Ok(Numbered { sequence, message: reply }));
        for end in 0..bytes.len() {
            prop_assert!(Reply::decode(&bytes[..end]).is_err(), "a prefix of {end} bytes is taken");
        }
    }

    #[test]
    fn nothing_may_follow(request in requests(), extra in 1..9usize) {
        let mut bytes = request.encode(7);
        bytes.extend(std::iter::repeat_n(0, extra));
        prop_assert!(Request::decode(&bytes).is_err());
    }
}

#[test]
fn the_kinds_of_failure_have_their_codes() {
    for (index, kind) in FailureKind::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(kind.code()), index);
    }
}

#[test]
fn the_longest_messages_fit() {
    let address: IpAddr = "ff3e::1".parse().unwrap();
    let membership = Item::Membership { interface: 1, group: address, sources: vec![address; MAX_SOURCES] };
    let items = vec![membership; 9];
    let mut start = 0;
    let mut seen = 0;
    loop {
        let reply = Reply::held_from(&items, start);
        assert!(reply.encode(1).len() <= MAX_MESSAGE_BYTES);
        let Reply::Held { next, items } = reply else { unreachable!() };
        assert!(!items.is_empty());
        seen += items.len();
        if next == 0 {
            break;
        }
        start = next;
    }
    assert_eq!(seen, items.len());
    let instruction = FilterInstruction { code: 0, jt: 0, jf: 0, k: 0 };
    let filter = Request::SetFilter { interface: 1, instructions: vec![instruction; MAX_FILTER_INSTRUCTIONS] };
    assert!(filter.encode(1).len() <= MAX_MESSAGE_BYTES);
}

#[test]
fn a_long_sentence_is_cut_between_characters() {
    let failure = Failure { kind: FailureKind::System, errno: None, reason: "é".repeat(5_000), remedy: String::new() };
    let Reply::Failed(read) = Reply::decode(&Reply::Failed(failure).encode(1)).expect("a failure").message else {
        unreachable!()
    };
    assert_eq!(read.reason, "é".repeat(MAX_TEXT_BYTES / 2));
}
