//! Random frames and random relays: mcr-wire and the program agree on verdict, bytes and counters.
//!
//! `MCR_FRAMES` says how many (10,000 unless told), `MCR_SEED` repeats a run, `MCR_FIRST` from shortly before a frame on.

mod stand;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mcr_testbed::table::rewrite;
use mcr_testbed::{Checksum, Frame, Mac, Tag};
use mcr_wire::{
    CodePoint, CodePointMap, Destination, DropReason, Listing, MacAddr, Prefix, Rewrite, TimeToLive, VlanId,
};
use stand::{Output, Relay, Stand};

/// Frames for each set of relays.
const FRAMES_PER_TABLE: u64 = 200;

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn word(&mut self) -> u16 {
        self.next() as u16
    }

    /// A number that is often at an end of its range.
    fn edgy(&mut self) -> u16 {
        match self.below(6) {
            0 => 0,
            1 => 0xffff,
            2 => self.below(64) as u16,
            _ => self.word(),
        }
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

fn family(random: &mut Random) -> Family {
    if random.one_in(3) { Family::V6 } else { Family::V4 }
}

/// Groups that differ in their last bits, and of IPv6 in their first.
fn group(random: &mut Random, family: Family) -> IpAddr {
    let number = 1 + random.below(3) as u8;
    match family {
        Family::V4 => [239, 1, 1, number].into(),
        Family::V6 => Ipv6Addr::new(0xff3e + u16::from(random.one_in(4)), 0, 0, 0, 0, 0, 1, number.into()).into(),
    }
}

/// Any address at all.
fn address(random: &mut Random, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(random.next() as u32).into(),
        Family::V6 => Ipv6Addr::from(u128::from(random.next()) << 64 | u128::from(random.next())).into(),
    }
}

fn port(random: &mut Random) -> u16 {
    5001 + random.below(2) as u16
}

fn source(random: &mut Random, family: Family) -> IpAddr {
    let (at_end, number) = (random.one_in(20), random.below(4) as u8);
    match family {
        Family::V4 if at_end => random.of(&[Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST]).into(),
        Family::V4 => [192, 168, 168, number].into(),
        Family::V6 if at_end => random.of(&[Ipv6Addr::UNSPECIFIED, Ipv6Addr::from(u128::MAX)]).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0xdead, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

fn vlan(random: &mut Random) -> Option<VlanId> {
    if random.one_in(2) { None } else { VlanId::new(100 + random.below(2) as u16) }
}

fn our_macs() -> Vec<MacAddr> {
    vec![MacAddr::new([2, 0x10, 0, 0, 0, 1]), MacAddr::new([2, 0x10, 0, 0, 0, 2])]
}

fn ttl(random: &mut Random) -> TimeToLive {
    let set = TimeToLive::Set(random.byte());
    random.of(&[set, set, TimeToLive::Keep, TimeToLive::Decrement])
}

fn code_point(random: &mut Random) -> CodePoint {
    let set = CodePoint::Set(random.byte() & 0x3f);
    let pairs = (0..random.below(9)).map(|_| (random.byte() & 0x3f, random.byte() & 0x3f)).collect::<Vec<_>>();
    let other = random.one_in(2).then(|| random.byte() & 0x3f);
    let mapped = CodePointMap::new(pairs, other).map_or(CodePoint::Keep, CodePoint::Map);
    random.of(&[CodePoint::Keep, CodePoint::Keep, set, mapped])
}

fn output(random: &mut Random, from: Family) -> Output {
    if random.one_in(8) {
        return Output::Drop(DropReason::ALL[random.below(DropReason::COUNT as u64) as usize]);
    }
    // Mostly within the family: only then is a relay for the driver.
    let family = if random.one_in(8) { family(random) } else { from };
    let target = if random.one_in(10) { address(random, family) } else { group(random, family) };
    let to = SocketAddr::new(target, random.edgy());
    let rewrite = Rewrite {
        vlan: if random.one_in(3) { VlanId::new(1 + random.below(4094) as u16) } else { None },
        source: match random.below(10) {
            0 => Some(address(random, family)),
            // What is kept is of the input's family.
            1 if family == from => None,
            _ => Some(source(random, family)),
        },
        source_port: random.one_in(2).then(|| random.edgy()),
        priority: random.one_in(3).then(|| random.byte() & 7),
        ttl: ttl(random),
        dscp: code_point(random),
        ..rewrite(&to.to_string())
    };
    let mtu = if random.one_in(4) { 28 + random.below(600) as u32 } else { 1500 };
    Output::Send { lan: 1 + random.below(2) as usize, rewrite, mtu }
}

/// A source, or a prefix that it is in.
fn listed(random: &mut Random, family: Family) -> Prefix {
    let length = match family {
        Family::V4 => random.of(&[32, 32, 31, 30, 24, 12, 1]),
        Family::V6 => random.of(&[128, 128, 127, 97, 96, 64, 33, 32, 1]),
    };
    Prefix::around(source(random, family), length)
}

fn relays(random: &mut Random) -> Vec<Relay> {
    let relay = |random: &mut Random| {
        let family = family(random);
        let destination = Destination { vlan: vlan(random), address: group(random, family), port: port(random) };
        let sources =
            if random.one_in(3) { (0..1 + random.below(4)).map(|_| listed(random, family)).collect() } else { vec![] };
        let most = if random.one_in(20) { 64 } else { 5 };
        let outputs = (0..random.below(most + 1)).map(|_| output(random, family)).collect();
        let listing = random.of(&[Listing::Accepts, Listing::Refuses]);
        Relay { destination, sources, listing, outputs }
    };
    (0..1 + random.below(40)).map(|_| relay(random)).collect()
}

fn frame(random: &mut Random) -> Vec<u8> {
    let bytes = match random.below(10) {
        0 => random.below(4),
        1 => 1440 + random.below(40),
        _ => random.below(1200),
    };
    let payload: Vec<u8> = match random.below(8) {
        0 => vec![0; bytes as usize],
        1 => vec![0xff; bytes as usize],
        _ => (0..bytes).map(|_| random.byte()).collect(),
    };
    let family = family(random);
    let from = SocketAddr::new(source(random, family), random.edgy());
    let to = SocketAddr::new(group(random, family), port(random));
    let mut frame = Frame::udp(&from.to_string(), &to.to_string(), payload)
        .ttl(random.byte())
        .traffic_class(random.byte())
        .flow_label(random.next() as u32)
        .identification(random.edgy())
        .flags_and_offset(random.of(&[0, 0x4000, 0x4000, 0x4000, 0x8000, 0xc000]));
    if random.one_in(2) {
        let control = random.word() & 0xf000 | random.of(&[0, 100, 100, 101, 101, 102, 4095]);
        frame = frame.tag(Tag { protocol: random.of(&[0x8100, 0x8100, 0x88a8]), control });
    }
    if random.one_in(4) {
        frame = frame.padding(random.below(64) as usize);
    }
    if random.one_in(30) {
        frame = frame.source_mac(Mac(random.of(&our_macs()).octets()));
    }
    match random.below(30) {
        0 => frame = frame.udp_checksum(Checksum::Wrong),
        1 | 2 => frame = frame.udp_checksum(Checksum::Zero),
        3 => frame = frame.ip_checksum(Checksum::Wrong),
        4 => frame = frame.udp_checksum(Checksum::Exactly(random.edgy())),
        5 => frame = frame.udp_length(random.edgy()),
        6 => frame = frame.total_length(random.edgy()),
        7 if family == Family::V4 => frame = frame.options(&vec![1; 4 * (1 + random.below(10) as usize)]),
        7 | 8 if family == Family::V6 => {
            let kind = random.of(&[0, 43, 44, 60]);
            let mut body = [0; 7].map(|_: u8| random.byte());
            body[0] = random.of(&[0, 0, 1, 9]);
            frame = frame.extension(kind, &body);
        }
        8 => frame = frame.flags_and_offset(random.word()),
        12..15 => frame = fragment(random, frame),
        9 => frame = frame.header_words(random.below(16) as u8),
        10 => frame = frame.version(random.below(16) as u8),
        11 => frame = frame.protocol(random.of(&[6, 2, 136])),
        _ => {}
    }
    damage(random, frame.bytes())
}

/// Of one of few datagrams, so that many follow another.
fn fragment(random: &mut Random, frame: Frame) -> Frame {
    let identification = random.below(6) as u32 * 0x1_0001;
    if random.one_in(3) {
        let udp_bytes = frame.datagram_bytes() as u16;
        let place = random.of(&[0x2000, 0x2000, 0x6000, 0xa000, 0]);
        return frame.fragment(identification, place).udp_length(udp_bytes.wrapping_add(random.below(300) as u16));
    }
    let flags = random.of(&[0, 0x2000, 0x2000, 0xe000]);
    frame.without_udp_header().fragment(identification, flags | (1 + random.below(0x1fff) as u16))
}

fn damage(random: &mut Random, mut frame: Vec<u8>) -> Vec<u8> {
    if random.one_in(15) {
        // The kernel runs nothing on less.
        let least = if frame[12..14] == [0x86, 0xdd] { 54 } else { 34 };
        frame.truncate(least + random.below(40) as usize);
    }
    if random.one_in(10) {
        for _ in 0..1 + random.below(3) {
            // Among the headers, mostly.
            let end = if random.one_in(4) { frame.len() } else { frame.len().min(84) };
            let at = random.below(end as u64) as usize;
            frame[at] ^= 1 << random.below(8);
        }
    }
    frame
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn random_frames_and_relays_agree_with_mcr_wire() {
    agree(Stand::new(2));
}

#[test]
fn and_so_they_do_with_the_program_at_the_driver_in_front() {
    agree(Stand::at_driver(2));
}

fn agree(mut stand: Stand) {
    let (frames, seed, first) = (number("MCR_FRAMES", 10_000), number("MCR_SEED", 1), number("MCR_FIRST", 0));
    println!("MCR_SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    stand.our_macs = our_macs();
    let is_at_driver = stand.is_at_driver();
    let (mut sent, mut dropped, mut at_driver) = (0, 0, 0);
    let relay = stand.net.relay().clone();
    relay.run(|| {
        for number in 0..frames {
            let is_drawn_only = number + FRAMES_PER_TABLE < first;
            if number % FRAMES_PER_TABLE == 0 {
                let relays = relays(&mut random);
                if !is_drawn_only {
                    at_driver += stand.served_at_driver();
                    stand.install(relays);
                }
            }
            let frame = frame(&mut random);
            if is_drawn_only {
                continue;
            }
            let expected = stand.agree(&format!("frame {number} of seed {seed}"), &frame);
            sent += u64::from(!expected.copies.is_empty());
            dropped += u64::from(expected.reason.is_some());
        }
        stand.assert_silence();
    });
    // A test that compares nothing agrees, too.
    let frames = frames - first.min(frames);
    println!("{frames} frames agree: {sent} were sent, {at_driver} of them at the driver; {dropped} dropped");
    assert!(sent > frames / 10 && dropped > frames / 50, "{sent} of {frames} were sent, {dropped} dropped");
    let least = if is_at_driver { frames / 100 } else { 0 };
    assert!(at_driver >= least, "{at_driver} of {frames} were served at the driver");
}
