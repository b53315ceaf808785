//! The compiled programs, run by an interpreter of classic BPF over frames.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{FilterInstruction, MAX_INSTRUCTIONS, accept_all, drop_all};

fn compile(destinations: &[(Ipv4Addr, u16)]) -> Vec<FilterInstruction> {
    super::compile(&of_ipv4(destinations))
}

fn of_ipv4(destinations: &[(Ipv4Addr, u16)]) -> Vec<(std::net::IpAddr, u16)> {
    destinations.iter().map(|&(address, port)| (address.into(), port)).collect()
}

/// What the kernel's interpreter does (`net/core/filter.c`), for the instructions that are used.
/// Panics where the kernel's checker would refuse the program.
fn run(program: &[FilterInstruction], frame: &[u8]) -> u32 {
    let (mut a, mut x, mut memory, mut pc) = (0_u32, 0_u32, [None; 16], 0_usize);
    loop {
        let FilterInstruction { code, jt, jf, k } = program[pc];
        let code = u32::from(code);
        pc += 1;
        let load = |at: usize, bytes: usize| -> Option<u32> {
            let bytes = frame.get(at..at + bytes)?;
            Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
        };
        let size = match code & 0x18 {
            libc::BPF_W => 4,
            libc::BPF_H => 2,
            _ => 1,
        };
        let operand = if code & 0x08 == libc::BPF_X { x } else { k };
        match code & 0x07 {
            libc::BPF_RET => return k,
            libc::BPF_LDX if code & 0xe0 == libc::BPF_MEM => {
                x = memory[k as usize].expect("stored before it is loaded")
            }
            libc::BPF_LDX => x = k,
            libc::BPF_STX => memory[k as usize] = Some(x),
            libc::BPF_ST => memory[k as usize] = Some(a),
            libc::BPF_MISC if code & 0xf8 == libc::BPF_TAX => x = a,
            libc::BPF_MISC => a = x,
            libc::BPF_LD => match code & 0xe0 {
                libc::BPF_IMM => a = k,
                libc::BPF_LEN => a = frame.len() as u32,
                libc::BPF_MEM => a = memory[k as usize].expect("stored before it is loaded"),
                mode => {
                    let base = if mode == libc::BPF_IND { x as usize } else { 0 };
                    let Some(value) = load(base + k as usize, size) else { return 0 };
                    a = value;
                }
            },
            libc::BPF_ALU => match code & 0xf0 {
                libc::BPF_AND => a &= operand,
                libc::BPF_LSH => a <<= operand,
                libc::BPF_ADD => a = a.wrapping_add(operand),
                libc::BPF_SUB => a = a.wrapping_sub(operand),
                other => panic!("arithmetic {other:#x}"),
            },
            libc::BPF_JMP => {
                let taken = match code & 0xf0 {
                    libc::BPF_JA => {
                        pc += k as usize;
                        continue;
                    }
                    libc::BPF_JEQ => a == operand,
                    libc::BPF_JGE => a >= operand,
                    libc::BPF_JSET => a & operand != 0,
                    other => panic!("jump {other:#x}"),
                };
                pc += usize::from(if taken { jt } else { jf });
            }
            class => panic!("class {class}"),
        }
    }
}

/// Where and how a frame of [`frame`] differs from the plainest one.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    tag: Option<u16>,
    option_words: u8,
    fragment: u16,
    protocol: Option<u8>,
}

fn frame(address: Ipv4Addr, port: u16, shape: Shape) -> Vec<u8> {
    let mut frame = vec![0x02; 12];
    if let Some(protocol) = shape.tag {
        frame.extend(protocol.to_be_bytes());
        frame.extend([0x20, 0x64]);
    }
    let packet_bytes = 20 + shape.option_words * 4 + 16;
    frame.extend([0x08, 0x00, 0x45 + shape.option_words, 0, 0, packet_bytes, 0, 0]);
    frame.extend(shape.fragment.to_be_bytes());
    frame.extend([1, shape.protocol.unwrap_or(17), 0, 0, 192, 168, 168, 55]);
    frame.extend(address.octets());
    frame.extend(vec![1; usize::from(shape.option_words) * 4]);
    frame.extend([0x12, 0x34]);
    frame.extend(port.to_be_bytes());
    frame.extend([0; 12]);
    frame
}

fn accepts(program: &[FilterInstruction], address: Ipv4Addr, port: u16) -> bool {
    run(program, &frame(address, port, Shape::default())) != 0
}

/// `count` addresses spread over 239.0.0.0/8, each with a port of its own.
fn spread(count: u32) -> Vec<(Ipv4Addr, u16)> {
    (0..count)
        .map(|n| (Ipv4Addr::from(0xef00_0000 + (n.wrapping_mul(0x9e37_79b1) >> 8)), 1_024 + (n * 7 % 60_000) as u16))
        .collect()
}

#[test]
fn every_destination_passes_at_every_number_of_them() {
    for count in [1, 2, 100, 1_000, 20_000] {
        let destinations = spread(count);
        let program = compile(&destinations);
        assert!(program.len() <= MAX_INSTRUCTIONS, "{count}: {}", program.len());
        for &(address, port) in &destinations {
            assert!(accepts(&program, address, port), "{address}:{port} of {count}");
        }
        assert!(!accepts(&program, Ipv4Addr::new(10, 0, 0, 1), 5_001));
        assert!(!accepts(&program, Ipv4Addr::new(255, 255, 255, 255), 5_001));
    }
}

#[test]
fn nothing_else_passes_while_the_program_is_exact() {
    let destinations = spread(100);
    let program = compile(&destinations);
    let wanted: HashSet<_> = destinations.iter().copied().collect();
    for &(address, port) in &destinations {
        for near in [
            (address, port.wrapping_add(1)),
            (address, port - 1),
            (Ipv4Addr::from(u32::from(address) + 1), port),
            (Ipv4Addr::from(u32::from(address) - 1), port),
        ] {
            assert_eq!(accepts(&program, near.0, near.1), wanted.contains(&near), "{near:?}");
        }
    }
}

#[test]
fn a_thousand_groups_with_one_port_stay_exact() {
    let destinations: Vec<_> = spread(1_000).into_iter().map(|(address, _)| (address, 5_001)).collect();
    let program = compile(&destinations);
    for &(address, _) in &destinations {
        assert!(accepts(&program, address, 5_001));
        assert!(!accepts(&program, address, 5_002));
    }
}

#[test]
fn tags_options_and_fragments_are_read() {
    let (address, port) = (Ipv4Addr::new(239, 1, 1, 1), 5_001);
    let program = compile(&[(address, port)]);
    let passes = |port, shape| run(&program, &frame(address, port, shape)) != 0;
    for tag in [None, Some(0x8100), Some(0x88a8)] {
        for option_words in [0, 1, 10] {
            let shape = Shape { tag, option_words, ..Shape::default() };
            assert!(passes(port, shape), "{shape:?}");
            assert!(!passes(port + 1, shape), "{shape:?}");
            assert!(!passes(port, Shape { protocol: Some(6), ..shape }), "TCP, {shape:?}");
            // A first fragment has ports; later ones have none and pass by their address.
            assert!(passes(port, Shape { fragment: 0x2000, ..shape }), "{shape:?}");
            assert!(!passes(port + 1, Shape { fragment: 0x2000, ..shape }), "{shape:?}");
            assert!(passes(port + 1, Shape { fragment: 0x00b9, ..shape }), "{shape:?}");
        }
    }
    let elsewhere = frame(Ipv4Addr::new(239, 1, 1, 2), port, Shape { fragment: 1, ..Shape::default() });
    assert_eq!(run(&program, &elsewhere), 0);
}

#[test]
fn headers_without_a_readable_port_pass_by_their_address() {
    let (address, port) = (Ipv4Addr::new(239, 1, 1, 1), 5_001);
    let program = compile(&[(address, port)]);
    let elsewhere = compile(&[(Ipv4Addr::new(239, 1, 1, 2), port)]);
    let whole = frame(address, port + 1, Shape::default());
    assert_eq!(run(&program, &whole), 0);
    let changed = |at: usize, byte| {
        let mut frame = whole.clone();
        frame[14 + at] = byte;
        frame
    };
    let bad = [changed(0, 0x44), changed(0, 0x35), changed(0, 0x55), changed(3, 19), changed(3, 23)];
    let cut = (34..38).map(|length| whole[..length].to_vec());
    for frame in bad.into_iter().chain(cut) {
        assert_ne!(run(&program, &frame), 0, "{frame:02x?}");
        assert_eq!(run(&elsewhere, &frame), 0, "{frame:02x?}");
    }
}

#[test]
fn frames_without_an_address_and_other_protocols_are_refused() {
    let (address, port) = (Ipv4Addr::new(239, 1, 1, 1), 5_001);
    let program = compile(&[(address, port)]);
    let whole = frame(address, port, Shape::default());
    for length in 0..34 {
        assert_eq!(run(&program, &whole[..length]), 0, "{length} bytes");
    }
    for ethertype in [[0x86, 0xdd], [0x08, 0x06]] {
        let mut other = whole.clone();
        other[12..14].copy_from_slice(&ethertype);
        assert_eq!(run(&program, &other), 0);
    }
}

#[test]
fn no_destination_means_no_frame() {
    assert_eq!(compile(&[]), drop_all());
    assert_eq!(run(&drop_all(), &[0; 64]), 0);
    assert_ne!(run(&accept_all(), &[0; 64]), 0);
}

#[test]
fn ends_of_the_address_and_port_space() {
    let edges = [Ipv4Addr::new(0, 0, 0, 0), Ipv4Addr::new(255, 255, 255, 255)];
    let destinations: Vec<_> =
        edges.iter().flat_map(|&address| [0, 1, 65_534, 65_535].map(|port| (address, port))).collect();
    let program = compile(&destinations);
    for &(address, port) in &destinations {
        assert!(accepts(&program, address, port), "{address}:{port}");
        assert!(!accepts(&program, address, 2));
        assert_ne!(run(&program, &frame(address, 2, Shape { fragment: 1, ..Shape::default() })), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Few addresses and ports close together, so that stretches touch, join and repeat.
    #[test]
    fn exact_when_it_fits(destinations in prop::collection::vec((0_u32..40, 0_u16..20), 1..150)) {
        let destinations: Vec<_> =
            destinations.iter().map(|&(a, p)| (Ipv4Addr::from(0xefff_ffe0 + a), 65_516 + p)).collect();
        let wanted: HashSet<_> = destinations.iter().copied().collect();
        let program = compile(&destinations);
        prop_assert!(program.len() <= MAX_INSTRUCTIONS);
        for address in 0xefff_ffdf_u32..0xf000_000a {
            for port in 65_515..=65_535 {
                let destination = (Ipv4Addr::from(address), port);
                prop_assert_eq!(accepts(&program, destination.0, destination.1), wanted.contains(&destination));
            }
        }
    }

    #[test]
    fn never_refuses_a_wanted_one(
        destinations in prop::collection::vec((any::<u32>(), any::<u16>()), 1..400),
        limit in 0_usize..1_000,
    ) {
        let destinations: Vec<_> = destinations.into_iter().map(|(a, p)| (Ipv4Addr::from(a), p)).collect();
        let program = super::compile_within(&of_ipv4(&destinations), limit);
        prop_assert!(program.len() <= limit.max(128));
        for (address, port) in destinations {
            prop_assert!(accepts(&program, address, port));
        }
    }

    /// What mcr-wire would name, or relay, is never kept from it, and nothing else of UDP gets there.
    #[test]
    fn agrees_with_the_parser_on_damaged_frames(
        (destination, tag, option_words) in (0_u8..3, 0_usize..3, 0_u8..4),
        damage in prop::collection::vec((12_usize..50, any::<u8>()), 0..4),
        length in 14_usize..70,
    ) {
        let wanted = Ipv4Addr::new(239, 1, 1, 1);
        let program = compile(&[(wanted, 5_001)]);
        let shape = Shape { tag: [None, Some(0x8100), Some(0x88a8)][tag], option_words, ..Shape::default() };
        let mut frame = frame(Ipv4Addr::new(239, 1, 1, destination), 5_001, shape);
        for (at, byte) in damage {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.truncate(length);
        let ip_at = if matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]) { 18 } else { 14 };
        let address = frame.get(ip_at + 16..ip_at + 20).map(|octets| Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]));
        let is_wanted = match mcr_wire::parse(&frame, &mcr_wire::FrameMeta::PLAIN) {
            Ok(datagram) => datagram.destination.address == wanted && datagram.destination.port == 5_001,
            Err(mcr_wire::Reject::Drop { destination: Some(to), .. }) => to.address == wanted && to.port == 5_001,
            Err(mcr_wire::Reject::Drop { destination: None, .. }) => address == Some(wanted),
            Err(mcr_wire::Reject::NotOurs) => return Ok(()),
        };
        prop_assert_eq!(run(&program, &frame) != 0, is_wanted, "{:02x?}", frame);
    }
}

/// One frame of IPv6, with an extension header of this kind, or none.
fn ipv6_frame(address: Ipv6Addr, port: u16, tag: Option<u16>, extension: Option<(u8, [u8; 7])>) -> Vec<u8> {
    let mut frame = vec![0x02; 12];
    if let Some(protocol) = tag {
        frame.extend(protocol.to_be_bytes());
        frame.extend([0x20, 0x64]);
    }
    let payload_bytes = if extension.is_some() { 24 } else { 16 };
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, payload_bytes, extension.map_or(17, |(kind, _)| kind), 1]);
    frame.extend([0xfd; 16]);
    frame.extend(address.octets());
    if let Some((_, body)) = extension {
        frame.push(17);
        frame.extend(body);
    }
    frame.extend([0x12, 0x34]);
    frame.extend(port.to_be_bytes());
    frame.extend([0; 12]);
    frame
}

const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 1, 1);

#[test]
fn both_families_are_searched_apart() {
    let v4 = Ipv4Addr::new(239, 1, 1, 1);
    // The same last word as the other's.
    let v6 = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 0xef01, 0x0101);
    for tag in [None, Some(0x8100), Some(0x88a8)] {
        let shape = Shape { tag, ..Shape::default() };
        let passes = |destinations: &[_], frame: &[u8]| run(&super::compile(destinations), frame) != 0;
        let both = [(v4.into(), 5_001), (v6.into(), 5_002)];
        for (destinations, of_v4, of_v6) in
            [(&both[..], true, true), (&both[..1], true, false), (&both[1..], false, true)]
        {
            assert_eq!(passes(destinations, &frame(v4, 5_001, shape)), of_v4);
            assert_eq!(passes(destinations, &ipv6_frame(v6, 5_002, tag, None)), of_v6);
            assert!(!passes(destinations, &frame(v4, 5_002, shape)));
            assert!(!passes(destinations, &ipv6_frame(v6, 5_001, tag, None)));
            assert!(!passes(destinations, &ipv6_frame(GROUP6, 5_002, tag, None)));
        }
    }
}

#[test]
fn a_thousand_groups_of_each_family_pass() {
    let port = |n: u16| 1_024 + n * 7;
    let v6 = |n: u16| Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, n, n.wrapping_mul(0x9e37));
    let mut destinations = of_ipv4(&spread(1_000));
    destinations.extend((0..1_000).map(|n| (v6(n).into(), port(n))));
    let program = super::compile(&destinations);
    assert!(program.len() <= MAX_INSTRUCTIONS, "{}", program.len());
    for n in 0..1_000 {
        assert_ne!(run(&program, &ipv6_frame(v6(n), port(n), None, None)), 0);
    }
    for (address, port) in spread(1_000) {
        assert!(accepts(&program, address, port));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// As for IPv4.
    #[test]
    fn agrees_with_the_parser_on_damaged_frames_of_ipv6(
        (destination, tag) in (0_u16..3, 0_usize..3),
        extension in prop::option::of((prop::sample::select(vec![0_u8, 43, 44, 60]), any::<[u8; 7]>())),
        damage in prop::collection::vec((12_usize..80, prop_oneof![any::<u8>(), prop::sample::select(vec![0, 8, 17, 44, 60])]), 0..4),
        length in 14_usize..100,
    ) {
        let program = super::compile(&[(GROUP6.into(), 5_001)]);
        let tag = [None, Some(0x8100), Some(0x88a8)][tag];
        let to = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 1, destination);
        let mut frame = ipv6_frame(to, 5_001, tag, extension);
        for (at, byte) in damage {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.truncate(length);
        let ip_at = if matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]) { 18 } else { 14 };
        let is_group = |octets: Option<&[u8]>| octets == Some(&GROUP6.octets()[12..]);
        let is_near = |to: std::net::IpAddr| matches!(to, std::net::IpAddr::V6(to) if is_group(Some(&to.octets()[12..])));
        let is_wanted = match mcr_wire::parse(&frame, &mcr_wire::FrameMeta::PLAIN) {
            Ok(datagram) => is_near(datagram.destination.address) && datagram.destination.port == 5_001,
            Err(mcr_wire::Reject::Drop { destination: Some(to), .. }) => is_near(to.address) && to.port == 5_001,
            Err(mcr_wire::Reject::Drop { destination: None, .. }) => {
                frame.get(ip_at - 2..ip_at) == Some(&[0x86, 0xdd]) && is_group(frame.get(ip_at + 36..ip_at + 40))
            }
            Err(mcr_wire::Reject::NotOurs) => return Ok(()),
        };
        prop_assert_eq!(run(&program, &frame) != 0, is_wanted, "{:02x?}", frame);
    }
}
