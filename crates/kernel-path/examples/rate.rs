//! What a packet costs on each path, and which path it is that costs: the programs beside a program that only redirects, and
//! beside nftables, interleaved in one run.
//!
//! `cargo run --release --example rate -- [payload bytes] [outputs…]`, as root. Frames come from an XDP program that is run on
//! live frames in bursts of 16, flat out (`ONLY` names a part of the paths' names); at the far ends an XDP program drops them, and the interface counts. The whole way is
//! done by the sending thread, so its CPU time is the price of a packet, and its inverse the rate of one core.

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use mcr_kernel_path::{Exit, InputTable, Loaded, Maps, OutputAction, OutputEntry, RelayEntry, Sizes};
use mcr_kernel_path::{TableWriter, load};
use mcr_testbed::{Frame, Interface, Topology};
use mcr_wire::{CodePoint, Destination, Listing, MacAddr, Oversize, RateCap, Rewrite, TimeToLive};

const BURST: u32 = 16;
const ROUNDS: usize = 7;
const FRAMES: u32 = 480_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// Nothing but a redirect: the limit, and for one output only.
    Redirect,
    Xdp {
        relays: u16,
    },
    Tcx {
        relays: u16,
    },
    Nftables,
}

const PATHS: [Path; 6] = [
    Path::Redirect,
    Path::Xdp { relays: 1 },
    Path::Xdp { relays: 10_000 },
    Path::Tcx { relays: 1 },
    Path::Tcx { relays: 10_000 },
    Path::Nftables,
];

impl Path {
    /// Whether a part of its name is this.
    fn is_named(self, part: &str) -> bool {
        format!("{self:?}").contains(part)
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let payload = numbers.next().unwrap_or(1358);
    let outputs: Vec<usize> = numbers.collect();
    let only = std::env::var("ONLY").ok();
    println!("payload {payload} bytes; CPU ns per packet, median and range of {ROUNDS} rounds; worst loss");
    for outputs in if outputs.is_empty() { vec![1, 4, 16] } else { outputs } {
        let bench = Bench::new(outputs, payload);
        let mut results = vec![Vec::new(); PATHS.len()];
        let mut losses = [0.0_f64; PATHS.len()];
        for _ in 0..ROUNDS {
            for (place, &path) in PATHS.iter().enumerate() {
                if (path == Path::Redirect && outputs > 1) || !only.as_ref().is_none_or(|only| path.is_named(only)) {
                    continue;
                }
                let (nanoseconds, loss) = bench.trial(path);
                results[place].push(nanoseconds);
                losses[place] = losses[place].max(loss);
            }
        }
        for ((path, mut rounds), loss) in
            PATHS.iter().zip(results).zip(losses).filter(|((_, rounds), _)| !rounds.is_empty())
        {
            rounds.sort_by(f64::total_cmp);
            let (least, median, most) = (rounds[0], rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
            println!("1:{outputs:<3} {median:>7.0} ({least:.0} to {most:.0})  lost {:.3} %  {path:?}", loss * 100.0);
        }
    }
}

struct Bench {
    net: Topology,
    /// What the device sends, and the program that sends it.
    frame: Vec<u8>,
    generator: OwnedFd,
    /// What a program does that only redirects.
    redirect: OwnedFd,
    _sinks: Vec<OwnedFd>,
}

/// What is to live while a path is measured.
#[allow(dead_code, reason = "held for its Drop")]
enum Held {
    Link(OwnedFd),
    Relay(Box<(Vec<OwnedFd>, TableWriter, Loaded)>),
    Rules,
}

impl Bench {
    fn new(outputs: usize, payload: usize) -> Bench {
        let net = Topology::device_relay_lan(outputs);
        let frame = Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", vec![0x5a; payload])
            .source_mac(net.device_interface().mac())
            .bytes();
        // An XDP program at the near end: what comes in there is taken from frames, not from socket buffers.
        let generator = net.device().run(|| load_xdp(&generator(&frame, net.device_interface().index())));
        let redirect = net.relay().run(|| load_xdp(&redirect(net.lan(1).relay_side().index())));
        let sink = |lan: &mcr_testbed::Lan| lan.namespace().run(|| attach_xdp(&load_xdp(&drop_all()), lan.host_side()));
        let sinks = net.lans().iter().map(sink).collect();
        Bench { net, frame, generator, redirect, _sinks: sinks }
    }

    fn start(&self, path: Path) -> Held {
        match path {
            Path::Redirect => Held::Link(self.net.relay().run(|| attach_xdp(&self.redirect, self.net.relay_input()))),
            Path::Xdp { relays } => self.relay(relays, true),
            Path::Tcx { relays } => self.relay(relays, false),
            Path::Nftables => {
                self.nftables(&self.rules());
                Held::Rules
            }
        }
    }

    fn relay(&self, relays: u16, at_driver: bool) -> Held {
        let loaded = load(&Sizes { relays: 16_384, ..Sizes::default() }).expect("load");
        let fds = loaded.maps().fds().map(|fd| fd.try_clone_to_owned().expect("a descriptor"));
        let mut writer = TableWriter::adopt(Maps::from_fds(fds.into()).expect("our maps")).expect("adopt");
        let mut exit = Exit::Tcx;
        for (port, lan) in (0..).zip(self.net.lans()) {
            let (ifindex, mac) = (lan.relay_side().index(), lan.relay_side().mac().0);
            loaded.ports().set(port, ifindex).expect("a port");
            if at_driver {
                self.net.relay().run(|| loaded.xdp().expect("xdp").open_port(port, ifindex, mac)).expect("proven");
                exit = Exit::Port;
            }
        }
        if at_driver && self.net.lans().len() > 1 {
            let ifindexes: Vec<u32> = self.net.lans().iter().map(|lan| lan.relay_side().index()).collect();
            self.net.relay().run(|| loaded.xdp().expect("xdp").set_fan_out(0, &ifindexes)).expect("a fan-out");
            exit = Exit::FanOut(0);
        }
        let outputs = (0..).zip(self.net.lans()).map(|(port, lan)| {
            let group = [239, 2, 2, port as u8].into();
            let rewrite = Rewrite {
                source_mac: MacAddr::new(lan.relay_side().mac().0),
                destination_mac: MacAddr::for_group(group),
                vlan: None,
                source: Some(lan.relay_address().into()),
                destination: std::net::SocketAddr::new(group, 6001),
                source_port: None,
                ttl: TimeToLive::Set(16),
                dscp: CodePoint::Keep,
                priority: None,
                oversize: Oversize::Drop,
            };
            let action = OutputAction::Send { port, rewrite, mtu: 1500 };
            OutputEntry { counters: writer.output_counters(0).expect("counters"), action, cap: RateCap::NONE }
        });
        let outputs: Vec<OutputEntry> = outputs.collect();
        let input = self.net.relay_input().index();
        let entries = (0..relays).map(|number| RelayEntry {
            destination: Destination {
                vlan: None,
                address: std::net::Ipv4Addr::from(0xef01_0101 + u32::from(number)).into(),
                port: 5001,
            },
            sources: vec![],
            listing: Listing::Accepts,
            counters: writer.relay_counters(0).expect("counters"),
            outputs: if number == 0 { outputs.clone() } else { vec![] },
            exit: if number == 0 { exit } else { Exit::Tcx },
            cap: RateCap::NONE,
        });
        let relays = entries.collect();
        writer.install(input, InputTable { relays, our_macs: vec![MacAddr::new([2; 6])] }).expect("install");
        let mut links = vec![self.net.relay().run(|| loaded.attach(input)).expect("attach")];
        if at_driver {
            links.push(self.net.relay().run(|| loaded.xdp().expect("xdp").attach(input)).expect("attach"));
        }
        Held::Relay(Box::new((links, writer, loaded)))
    }

    /// CPU nanoseconds of each packet, and the share that was lost.
    fn trial(&self, path: Path) -> (f64, f64) {
        let held = self.start(path);
        let frames = FRAMES / self.net.lans().len() as u32;
        self.net.device().run(|| generate(&self.generator, &self.frame, frames / 8));
        let before = self.received();
        let nanoseconds = self.net.device().run(|| {
            let begun = cpu_of_thread();
            generate(&self.generator, &self.frame, frames);
            (cpu_of_thread() - begun) / f64::from(frames)
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        let least = self.received().iter().zip(before).map(|(is, was)| is - was).min().unwrap_or(0);
        if matches!(held, Held::Rules) {
            self.nftables("delete table netdev rate\n");
        }
        (nanoseconds, 1.0 - least as f64 / f64::from(frames))
    }

    fn received(&self) -> Vec<u64> {
        let read = |text: String| -> u64 {
            let line = text.lines().find(|line| line.trim().starts_with("eth0:")).expect("eth0").to_owned();
            line.split_whitespace().nth(2).expect("packets").parse().expect("a number")
        };
        let of = |lan: &mcr_testbed::Lan| {
            read(lan.namespace().run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).expect("net/dev"))
        };
        self.net.lans().iter().map(of).collect()
    }

    fn rules(&self) -> String {
        let outputs = self.net.lans().len();
        let copies: String = (1..)
            .zip(self.net.lans())
            .map(|(number, lan)| {
                format!(
                    "ip saddr set {} ip daddr set 239.2.2.{number} ether saddr set {} ether daddr set 01:00:5e:02:02:{number:02x} {} to \"{}\"; ",
                    lan.relay_address(),
                    lan.relay_side().mac(),
                    if number < outputs { "dup" } else { "fwd" },
                    lan.relay_side().name(),
                )
            })
            .collect();
        let device = self.net.relay_input().name();
        format!(
            "table netdev rate {{ chain copies {{ {copies}}}
             chain input {{ type filter hook ingress device \"{device}\" priority 0; \
             ip daddr 239.1.1.1 udp dport 5001 ip ttl set 16 udp dport set 6001 goto copies; }}\n}}\n"
        )
    }

    fn nftables(&self, rules: &str) {
        let mut command: Command = self.net.relay().command("nft");
        let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is installed");
        child.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads");
        assert!(child.wait().expect("nft ends").success());
    }
}

fn cpu_of_thread() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Runs the generator on so many live frames, in bursts.
fn generate(program: &OwnedFd, frame: &[u8], frames: u32) {
    // union bpf_attr, `test`: 20 words.
    let mut words = [0_u32; 20];
    words[0] = program.as_raw_fd() as u32;
    words[2] = frame.len() as u32;
    (words[4], words[5]) = (frame.as_ptr() as u64 as u32, (frame.as_ptr() as u64 >> 32) as u32);
    (words[8], words[16], words[18]) = (frames, 1 << 1 /* BPF_F_TEST_XDP_LIVE_FRAMES */, BURST);
    // SAFETY: BPF_PROG_TEST_RUN reads the frame, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, 10, words.as_ptr(), size_of_val(&words)) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// One instruction of eBPF.
const fn op(code: u8, dst: u64, src: u64, offset: i16, immediate: u32) -> u64 {
    code as u64 | dst << 8 | src << 12 | (offset as u16 as u64) << 16 | (immediate as u64) << 32
}

const EXIT: u64 = op(0x95, 0, 0, 0, 0);

/// `return XDP_DROP`.
fn drop_all() -> Vec<u64> {
    vec![op(0xb7, 0, 0, 0, 1), EXIT]
}

/// `return bpf_redirect(ifindex, 0)`.
fn redirect(ifindex: u32) -> Vec<u64> {
    vec![op(0xb7, 1, 0, 0, ifindex), op(0xb7, 2, 0, 0, 0), op(0x85, 0, 0, 0, 23), EXIT]
}

/// Writes the first 48 bytes anew, since the kernel uses its pages again as the relay left them, and redirects.
fn generator(frame: &[u8], ifindex: u32) -> Vec<u64> {
    let mut program = vec![op(0x61, 2, 1, 0, 0), op(0x61, 3, 1, 4, 0), op(0xbf, 4, 2, 0, 0), op(0x07, 4, 0, 0, 48)];
    let (words, _) = frame.as_chunks::<8>();
    // Past the end: to the redirect.
    program.push(op(0x2d, 4, 3, 3 * 6, 0));
    for (at, word) in (0_i16..).step_by(8).zip(&words[..6]) {
        let word = u64::from_ne_bytes(*word);
        program.extend([op(0x18, 5, 0, 0, word as u32), op(0, 0, 0, 0, (word >> 32) as u32), op(0x7b, 2, 5, at, 0)]);
    }
    program.extend(redirect(ifindex));
    program
}

fn load_xdp(instructions: &[u64]) -> OwnedFd {
    let license = c"GPL";
    let mut load = [0_u64; 18];
    load[0] = 6 | (instructions.len() as u64) << 32; // BPF_PROG_TYPE_XDP
    load[1] = instructions.as_ptr() as u64;
    load[2] = license.as_ptr() as u64;
    // SAFETY: BPF_PROG_LOAD (5) with attributes that are whole and outlive the call; the descriptor is new.
    unsafe {
        let program = libc::syscall(libc::SYS_bpf, 5, load.as_ptr(), size_of_val(&load));
        assert!(program >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(program as i32)
    }
}

/// Call in the interface's namespace.
fn attach_xdp(program: &OwnedFd, interface: &Interface) -> OwnedFd {
    let link = [program.as_raw_fd() as u32, interface.index(), 37 /* BPF_XDP */, 4 /* native */];
    // SAFETY: BPF_LINK_CREATE (28) with attributes that are whole and outlive the call; the descriptor is new.
    unsafe {
        let link = libc::syscall(libc::SYS_bpf, 28, link.as_ptr(), size_of_val(&link));
        assert!(link >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(link as i32)
    }
}
