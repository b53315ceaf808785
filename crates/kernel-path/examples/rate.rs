//! How fast the program is: the highest rate without loss, and the CPU time that it adds to a packet.
//!
//! `cargo run --release --example rate -- [payload bytes] [outputs…]`, as root. Frames come from a raw generator in bursts of
//! 16; at the far ends an XDP program drops them, and the interface counts.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mcr_kernel_path::{
    Exit, InputTable, LastCopy, Maps, OutputAction, OutputEntry, RelayEntry, Sizes, TableWriter, load,
};
use mcr_testbed::{Frame, Interface, Topology};
use mcr_wire::{Destination, MacAddr, Rewrite};

const BURST: usize = 16;
const TRIAL: Duration = Duration::from_secs(1);

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let payload = numbers.next().unwrap_or(1358);
    let outputs: Vec<usize> = numbers.collect();
    println!("payload {payload} bytes; loss-free kpps, CPU ns per packet more than dropping it in XDP at the input");
    for outputs in if outputs.is_empty() { vec![1, 4, 16] } else { outputs } {
        let bench = Bench::new(outputs, payload);
        let dropping = bench.net.relay().run(|| drop_all(bench.net.relay_input().index()));
        let bare = bench.cpu();
        drop(dropping);
        let link = bench.relay();
        let rate = bench.loss_free_rate();
        let loaded = bench.cpu();
        println!("1:{outputs:<3} {:>6.0} kpps  {:>6.0} ns", rate / 1e3, loaded - bare);
        drop(link);
    }
}

struct Bench {
    net: Topology,
    frame: Vec<u8>,
    generator: OwnedFd,
    _sinks: Vec<OwnedFd>,
}

impl Bench {
    fn new(outputs: usize, payload: usize) -> Bench {
        let net = Topology::device_relay_lan(outputs);
        let frame = Frame::udp("192.168.168.55:4000", "239.1.1.1:5001", vec![0x5a; payload])
            .source_mac(net.device_interface().mac())
            .bytes();
        let generator = net.device().run(|| packet_socket(net.device_interface()));
        let sinks = net.lans().iter().map(|lan| lan.namespace().run(|| drop_all(lan.host_side().index()))).collect();
        Bench { net, frame, generator, _sinks: sinks }
    }

    /// Loads the program and tells it to relay; it does for as long as what is handed back lives.
    fn relay(&self) -> (OwnedFd, TableWriter) {
        let loaded = load(&Sizes::default(), LastCopy::Redirected).expect("load");
        let fds = loaded.maps().fds().map(|fd| fd.try_clone_to_owned().expect("a descriptor"));
        let mut writer = TableWriter::adopt(Maps::from_fds(fds.into()).expect("our maps")).expect("adopt");
        let outputs = self.net.lans().iter().enumerate().map(|(number, lan)| {
            loaded.ports().set(number as u32, lan.relay_side().index()).expect("a port");
            let group = [239, 2, 2, number as u8].into();
            let rewrite = Rewrite {
                source_mac: MacAddr::new(lan.relay_side().mac().0),
                destination_mac: MacAddr::for_group(group),
                vlan: None,
                source: lan.relay_address(),
                destination: std::net::SocketAddrV4::new(group, 6001),
                source_port: None,
                ttl: 16,
                dscp: None,
            };
            let action = OutputAction::Send { port: number as u32, rewrite, mtu: 1500 };
            OutputEntry { counters: writer.output_counters(0).expect("counters"), action }
        });
        let outputs = outputs.collect();
        let destination = Destination { vlan: None, address: [239, 1, 1, 1].into(), port: 5001 };
        let counters = writer.relay_counters(0).expect("counters");
        let relays = vec![RelayEntry { destination, sources: vec![], counters, outputs, exit: Exit::Tcx }];
        let input = self.net.relay_input().index();
        writer.install(input, InputTable { relays, our_macs: vec![] }).expect("install");
        let link = self.net.relay().run(|| loaded.attach(input)).expect("attach");
        (link, writer)
    }

    /// Offers a rate; packets offered and fewest received, and the seconds it took.
    fn trial(&self, rate: f64) -> (u64, u64, f64) {
        let before: Vec<u64> = self.received();
        let begun = Instant::now();
        let sent = self.net.device().run(|| generate(&self.generator, &self.frame, rate));
        let seconds = begun.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_millis(100));
        let least = self.received().iter().zip(before).map(|(is, was)| is - was).min().unwrap_or(0);
        (sent, least, seconds)
    }

    fn loss_free_rate(&self) -> f64 {
        let passes = |rate: f64| {
            (0..2).find_map(|_| {
                let (sent, least, seconds) = self.trial(rate);
                (least >= sent).then_some(sent as f64 / seconds)
            })
        };
        let (mut good, mut bad) = (0.0, f64::INFINITY);
        let mut rate = 20_000.0;
        while bad - good > 0.04 * bad.min(1e9) || bad.is_infinite() {
            match passes(rate) {
                Some(offered) if offered < rate * 0.95 => return offered,
                Some(_) => good = rate,
                None => bad = rate,
            }
            rate = if bad.is_infinite() { rate * 2.0 } else { f64::midpoint(good, bad) };
        }
        good
    }

    /// CPU nanoseconds of the sending thread per packet, flat out: sending, and all that the wire and the relay do in its time.
    fn cpu(&self) -> f64 {
        let mut rounds: Vec<f64> = (0..5)
            .map(|_| {
                self.net.device().run(|| {
                    let begun = cpu_of_thread();
                    let sent = generate(&self.generator, &self.frame, 10e6);
                    (cpu_of_thread() - begun) / sent as f64
                })
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
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
}

fn cpu_of_thread() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn packet_socket(interface: &Interface) -> OwnedFd {
    // SAFETY: plain system calls; the address is whole and lives until bind is over.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = interface.index() as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0);
        let on = 1_i32;
        libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, (&raw const on).cast(), 4);
        OwnedFd::from_raw_fd(fd)
    }
}

fn generate(socket: &OwnedFd, frame: &[u8], rate: f64) -> u64 {
    let mut piece = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
    // SAFETY: all zeros is a valid mmsghdr.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut piece;
    message.msg_hdr.msg_iovlen = 1;
    let mut messages = [message; BURST];
    let begun = Instant::now();
    let mut sent = 0_u64;
    loop {
        let due = Duration::from_secs_f64(sent as f64 / rate);
        let now = begun.elapsed();
        if due >= TRIAL || now > TRIAL * 2 {
            return sent;
        }
        match due.checked_sub(now) {
            Some(wait) if wait > Duration::from_micros(150) => std::thread::sleep(wait - Duration::from_micros(80)),
            Some(_) => std::hint::spin_loop(),
            None => {
                // SAFETY: the messages point to memory that outlives the call.
                let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BURST as u32, 0) };
                sent += u64::try_from(taken).unwrap_or(0);
            }
        }
    }
}

/// Drops every frame at an interface, in XDP: `return XDP_DROP`.
fn drop_all(ifindex: u32) -> OwnedFd {
    let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let license = c"GPL";
    let mut load = [0_u64; 18];
    load[0] = 6 | 2 << 32; // BPF_PROG_TYPE_XDP, two instructions
    load[1] = instructions.as_ptr() as u64;
    load[2] = license.as_ptr() as u64;
    // SAFETY: BPF_PROG_LOAD (5) and BPF_LINK_CREATE (28) with attributes that are whole and outlive the calls.
    unsafe {
        let program = libc::syscall(libc::SYS_bpf, 5, load.as_ptr(), size_of_val(&load));
        assert!(program >= 0, "{}", std::io::Error::last_os_error());
        let link: [u32; 4] = [program as u32, ifindex, 37 /* BPF_XDP */, 4 /* native */];
        let link = libc::syscall(libc::SYS_bpf, 28, link.as_ptr(), size_of_val(&link));
        assert!(link >= 0, "{}", std::io::Error::last_os_error());
        libc::close(program as i32);
        OwnedFd::from_raw_fd(link as i32)
    }
}
