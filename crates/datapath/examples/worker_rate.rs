//! How fast a worker is beside a plain loop of `recvmmsg` and `sendmmsg`, in one run: the CPU time for a packet in a backlog,
//! the highest rate without loss, what is left of it at four times that rate, and the time that a packet spends between
//! input and output.
//!
//! `cargo run --release -p mcr-datapath --example worker_rate -- [outputs…]`, as root; `PAYLOAD`, `RINGS` and `ROUNDS` change
//! what they say, `RELAYS=10000` has a worker beside one with so many more relays, which get nothing; `ONLY=cost` leaves out what other work on the machine disturbs, and `nice -n -10` in front puts it where the daemon runs. Frames come from a raw generator in bursts of 16; at the far ends an XDP program drops them, so that
//! the outputs are without segmentation offload, and the interface counts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mcr_datapath::counters::{InputCounters, OutputCounters};
use mcr_datapath::{
    InputTable, InputWorkers, OutputAction, OutputEntry, RelayEntry, RingGeometry, TxSocket, filter, open_inputs,
    open_output, set_filter,
};
use mcr_testbed::{Frame, Interface, Lan, Topology};
use mcr_wire::{CodePoint, Destination, Listing, MacAddr, Oversize, RateCap, Rewrite, TimeToLive};

const BURST: usize = 16;
const SEARCH: Duration = Duration::from_millis(250);
const CONFIRM: Duration = Duration::from_secs(1);
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 5001);
/// Where the payload begins.
const HEADER_BYTES: usize = 42;

fn main() {
    let mut outputs: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    if outputs.is_empty() {
        outputs = vec![1, 16];
    }
    println!(
        "CPU ns per packet in a backlog; loss-free kpps; share of it at four times the rate; added µs at 50 kpps, p50 / p99"
    );
    for outputs in outputs {
        let bench = Bench::new(outputs, number("PAYLOAD", 1_250));
        for _ in 0..number("ROUNDS", 2) {
            let plain = bench.measure("sockets", &Plain::start(&bench.net));
            let packet = bench.measure("packet", &Packet::start(&bench.net, number("RINGS", 1), 0));
            println!("1:{outputs:<3} packet is {:.2} of sockets", packet / plain);
            let others = number("RELAYS", 0);
            if others > 0 {
                let many = bench.measure("many", &Packet::start(&bench.net, number("RINGS", 1), others));
                println!("1:{outputs:<3} with {others} relays more packet is {:.2} of that with one", many / packet);
            }
        }
    }
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A way from the input to the lans, for as long as it lives.
trait Path {
    /// The source of the load.
    fn source(&self) -> &str {
        "192.168.168.55"
    }

    fn tell(&self) {}
}

struct Bench {
    net: Topology,
    payload: usize,
    generator: OwnedFd,
    _sinks: Vec<OwnedFd>,
}

impl Bench {
    fn new(outputs: usize, payload: usize) -> Bench {
        let net = Topology::device_relay_lan(outputs);
        for interface in ["all", "dev0"] {
            net.relay().sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
        }
        let generator = net.device().run(|| packet_socket(net.device_interface()));
        let sinks = net.lans().iter().map(|lan| lan.namespace().run(|| drop_all(lan.host_side().index()))).collect();
        Bench { net, payload, generator, _sinks: sinks }
    }

    /// The figure that paths are compared by, larger for better ones.
    fn measure(&self, name: &str, path: &impl Path) -> f64 {
        let ((cost, of_input), outputs) = (self.cost(path), self.net.lans().len());
        print!("1:{outputs:<3} {name:<8} {cost:>7.0} ns, {of_input:>5.0} ns at the input");
        if std::env::var("ONLY").is_ok_and(|only| only == "cost") {
            println!();
            return 1e9 / cost;
        }
        let rate = self.loss_free_rate(path).max(1.0);
        let (_, least, seconds) = self.trial(path, rate * 4.0, CONFIRM);
        let share = least as f64 / seconds / rate;
        let (p50, p99) = self.latency(path);
        let rate_in_thousands = rate / 1e3;
        println!(
            "1:{outputs:<3} {name:<8} {cost:>7.0} ns {rate_in_thousands:>7.0} kpps  {share:>5.2}  {p50:>6.1} / {p99:.1}"
        );
        path.tell();
        rate
    }

    /// CPU time for a packet, when some thousands are sent at a time: of the relaying threads, and of the generator with the
    /// soft interrupts of the input.
    fn cost(&self, path: &impl Path) -> (f64, f64) {
        const BACKLOG: usize = 4_096;
        let mut frame = self.frame(path);
        let (mut costs, mut of_input) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            let (before, cpu, own) = (self.received(), cpu_of_others(), cpu_of_this_thread());
            for _ in 0..BACKLOG / BURST {
                send(&self.generator, &mut frame, BURST);
            }
            of_input.push((cpu_of_this_thread() - own) / BACKLOG as f64);
            let begun = Instant::now();
            let all = |now: &[u64]| now.iter().zip(&before).all(|(is, was)| is - was >= BACKLOG as u64);
            while !all(&self.received()) && begun.elapsed() < Duration::from_millis(300) {
                std::thread::sleep(Duration::from_millis(1));
            }
            costs.push((cpu_of_others() - cpu) / BACKLOG as f64);
        }
        // The lower quarter: what else runs on the machine only adds.
        [costs, of_input]
            .map(|mut all| {
                all.sort_by(f64::total_cmp);
                all[all.len() / 4]
            })
            .into()
    }

    fn frame(&self, path: &impl Path) -> Vec<u8> {
        let frame = Frame::udp(&format!("{}:4000", path.source()), &GROUP.to_string(), vec![0x5a; self.payload]);
        frame.source_mac(self.net.device_interface().mac()).bytes()
    }

    /// Offers a rate; packets offered, fewest that an output got, and the seconds it took.
    fn trial(&self, path: &impl Path, rate: f64, time: Duration) -> (u64, u64, f64) {
        let before = self.received();
        let mut frame = self.frame(path);
        let (sent, seconds) = generate(&self.generator, &mut frame, rate, time);
        let mut received = self.received();
        loop {
            std::thread::sleep(Duration::from_millis(60));
            let now = self.received();
            if now == received {
                break;
            }
            received = now;
        }
        let least = received.iter().zip(before).map(|(is, was)| is - was).min().unwrap_or(0);
        (sent, least, seconds)
    }

    fn loss_free_rate(&self, path: &impl Path) -> f64 {
        let passes = |rate: f64, time| {
            (0..2).find_map(|_| {
                let (sent, least, seconds) = self.trial(path, rate, time);
                (least >= sent).then_some(sent as f64 / seconds)
            })
        };
        let (mut good, mut bad) = (0.0, f64::INFINITY);
        let mut rate = 20_000.0;
        while bad - good > 0.05 * bad.min(1e9) || bad.is_infinite() {
            match passes(rate, SEARCH) {
                Some(offered) if offered < rate * 0.95 => {
                    good = offered;
                    break;
                }
                Some(_) => good = rate,
                None => bad = rate,
            }
            rate = if bad.is_infinite() { rate * 2.0 } else { f64::midpoint(good, bad) };
            if rate < 1_000.0 {
                return 0.0;
            }
        }
        (0..20).map(|step| good * 0.95_f64.powi(step)).find_map(|rate| passes(rate, CONFIRM)).unwrap_or(0.0)
    }

    /// One packet at a time at 50,000 per second: how much later than at the input each is at the first lan.
    fn latency(&self, path: &impl Path) -> (f64, f64) {
        let (wire, behind) = (Stamps::new(self.net.relay_input()), Stamps::new(self.net.lan(1).relay_side()));
        let mut frame = self.frame(path);
        let begun = Instant::now();
        for number in 0..50_000_u64 {
            let due = Duration::from_micros(number * 20);
            while begun.elapsed() < due {
                std::hint::spin_loop();
            }
            frame[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&number.to_be_bytes());
            frame[40..42].fill(0);
            send(&self.generator, &mut frame, 1);
        }
        std::thread::sleep(Duration::from_millis(200));
        let on_wire: HashMap<u64, u64> = wire.take().into_iter().collect();
        let behind = behind.take().into_iter();
        let mut added: Vec<u64> = behind.filter_map(|(stamp, time)| time.checked_sub(*on_wire.get(&stamp)?)).collect();
        added.sort_unstable();
        let at = |share: f64| added.get((added.len() as f64 * share) as usize).map_or(f64::NAN, |ns| *ns as f64 / 1e3);
        (at(0.5), at(0.99))
    }

    fn received(&self) -> Vec<u64> {
        let read = |text: String| -> u64 {
            let line = text.lines().find(|line| line.trim().starts_with("eth0:")).expect("eth0").to_owned();
            line.split_whitespace().nth(2).expect("packets").parse().expect("a number")
        };
        let of = |lan: &Lan| {
            read(lan.namespace().run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).expect("dev"))
        };
        self.net.lans().iter().map(of).collect()
    }
}

/// A worker.
struct Packet {
    workers: InputWorkers,
    counters: InputCounters,
}

impl Packet {
    fn start(net: &Topology, rings: usize, others: usize) -> Packet {
        let (index, geometry) = (net.relay_input().index(), RingGeometry::for_mtu(1500));
        let rings = net.relay().run(|| open_inputs(index, &geometry, rings)).expect("rings");
        let (first, last) = (u32::from(*GROUP.ip()), u32::from(*GROUP.ip()) + others as u32);
        let groups = || (first..=last).map(|group| IpAddr::from(Ipv4Addr::from(group)));
        let program = filter::compile(&groups().map(|group| (group, GROUP.port())).collect::<Vec<_>>());
        let counters = InputCounters::default();
        let copies = rings.iter().map(|ring| ring.try_clone().expect("a descriptor"));
        let workers = InputWorkers::start("bench", copies, geometry, &counters).expect("workers");
        let outputs: Vec<OutputEntry> = net.lans().iter().map(output).collect();
        let relay = |group| RelayEntry {
            destination: Destination { vlan: None, address: group, port: GROUP.port() },
            sources: vec![],
            listing: Listing::Accepts,
            counters: Arc::default(),
            cap: RateCap::NONE,
            outputs: outputs.iter().map(|output| OutputEntry { counters: Arc::default(), ..output.clone() }).collect(),
        };
        let relays = groups().map(relay).collect();
        workers.install(&InputTable { relays, our_macs: vec![] }).expect("install");
        rings.iter().for_each(|ring| set_filter(ring.as_fd(), &program).expect("filter"));
        Packet { workers, counters }
    }
}

impl Path for Packet {
    fn tell(&self) {
        self.workers.poll_statistics();
        if self.workers.count() > 1 {
            println!("      frames by worker {:?}", self.counters.frames_by_worker());
        }
    }
}

fn output(lan: &Lan) -> OutputEntry {
    let index = lan.relay_side().index();
    let socket = lan.cable().near().namespace().run(|| open_output(index)).expect("an output");
    let [_, _, number, _] = lan.relay_address().octets();
    let group = IpAddr::from([239, 2, 2, number]);
    let rewrite = Rewrite {
        source_mac: MacAddr::new(lan.relay_side().mac().0),
        destination_mac: MacAddr::for_group(group),
        vlan: None,
        source: Some(lan.relay_address().into()),
        destination: SocketAddr::new(group, 6001),
        source_port: None,
        ttl: TimeToLive::Set(16),
        dscp: CodePoint::Keep,
        priority: None,
        oversize: Oversize::Drop,
    };
    let action = OutputAction::Send { socket: Arc::new(TxSocket::new(socket)), rewrite, mtu: 1500 };
    OutputEntry { counters: Arc::<OutputCounters>::default(), action, cap: RateCap::NONE }
}

/// A loop of `recvmmsg` and `sendmmsg`, 64 datagrams at a time.
struct Plain {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Plain {
    fn start(net: &Topology) -> Plain {
        let input = net.relay().run(|| UdpSocket::bind(GROUP)).expect("bind");
        input.join_multicast_v4(GROUP.ip(), &Ipv4Addr::new(10, 0, 0, 1)).expect("join");
        input.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        set(&input, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16_i32 << 20));
        let outputs = net.lans().iter().map(|lan| {
            let socket = net.relay().run(|| UdpSocket::bind((lan.relay_address(), 0))).expect("bind");
            let local = libc::in_addr { s_addr: u32::from(lan.relay_address()).to_be() };
            set(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &local);
            socket.connect((Ipv4Addr::new(239, 2, 2, lan.relay_address().octets()[2]), 6001)).expect("connect");
            socket
        });
        let (outputs, stop): (Vec<_>, _) = (outputs.collect(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || relay(&input, &outputs, &stopped));
        Plain { stop, thread: Some(thread) }
    }
}

impl Path for Plain {
    fn source(&self) -> &str {
        "10.0.0.55"
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn relay(input: &UdpSocket, outputs: &[UdpSocket], stop: &AtomicBool) {
    const LARGEST: usize = 9_000;
    let mut buffers = vec![[0_u8; LARGEST]; 64];
    let mut pieces: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: LARGEST })
        .collect();
    // SAFETY: all zeros is a valid mmsghdr.
    let mut messages: Vec<libc::mmsghdr> = (0..64).map(|_| unsafe { std::mem::zeroed() }).collect();
    for (message, piece) in messages.iter_mut().zip(&mut pieces) {
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
    }
    while !stop.load(Ordering::Relaxed) {
        pieces.iter_mut().for_each(|piece| piece.iov_len = LARGEST);
        let (all, none) = (messages.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the messages and what they point to outlive the call.
        let received = unsafe { libc::recvmmsg(input.as_raw_fd(), all, 64, libc::MSG_WAITFORONE, none) };
        let Ok(received) = usize::try_from(received) else { continue };
        for (message, piece) in messages.iter().zip(&mut pieces).take(received) {
            piece.iov_len = message.msg_len as usize;
        }
        for output in outputs {
            let mut sent = 0;
            while sent < received {
                let rest = &mut messages[sent..received];
                // SAFETY: as above.
                let taken = unsafe { libc::sendmmsg(output.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
                sent += usize::try_from(taken).unwrap_or(0).max(1);
            }
        }
    }
}

/// Receive (or, at an output, send) times of numbered packets at an interface.
struct Stamps(OwnedFd);

impl Stamps {
    fn new(interface: &Interface) -> Stamps {
        let socket = interface.namespace().run(|| packet_socket(interface));
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(256_i32 << 20));
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32);
        // SAFETY: all zeros is a valid sockaddr_ll, which is whole and outlives the call.
        unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = interface.index() as i32;
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32);
        }
        Stamps(socket)
    }

    fn take(&self) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| self.next()).flatten().collect()
    }

    fn next(&self) -> Option<Option<(u64, u64)>> {
        let (mut frame, mut control) = ([0_u8; 64], [0_u64; 8]);
        let mut piece = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all zeros is a valid msghdr; its pointers are to memory that outlives the call.
        let (length, time) = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut piece;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            let length = libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            let time = (!header.is_null() && (*header).cmsg_type == libc::SCM_TIMESTAMPNS)
                .then(|| libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned());
            (length, time)
        };
        if length < 0 {
            return None;
        }
        let number = u64::from_be_bytes(frame[HEADER_BYTES..HEADER_BYTES + 8].try_into().expect("eight bytes"));
        Some(time.map(|time| (number, time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)))
    }
}

fn generate(socket: &OwnedFd, frame: &mut [u8], rate: f64, time: Duration) -> (u64, f64) {
    let begun = Instant::now();
    let mut sent = 0_u64;
    loop {
        let due = Duration::from_secs_f64(sent as f64 / rate);
        let now = begun.elapsed();
        if due >= time || now > time.mul_f64(1.1) {
            return (sent, now.as_secs_f64());
        }
        match due.checked_sub(now) {
            Some(wait) if wait > Duration::from_micros(150) => std::thread::sleep(wait - Duration::from_micros(80)),
            Some(_) => std::hint::spin_loop(),
            None => sent += send(socket, frame, BURST),
        }
    }
}

fn send(socket: &OwnedFd, frame: &mut [u8], count: usize) -> u64 {
    let mut piece = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all zeros is a valid mmsghdr.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut piece;
    message.msg_hdr.msg_iovlen = 1;
    let mut messages = [message; BURST];
    // SAFETY: the messages point to memory that outlives the call.
    let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
    u64::try_from(taken).unwrap_or(0)
}

/// CPU nanoseconds of this process's other threads.
fn cpu_of_others() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("own threads").filter_map(Result::ok);
    let others = threads.filter(|thread| thread.file_name().to_str() != Some(&std::process::id().to_string()));
    let texts = others.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum()
}

fn cpu_of_this_thread() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn set<S: AsRawFd, T>(socket: &S, level: libc::c_int, name: libc::c_int, value: &T) {
    let length = size_of::<T>() as u32;
    // SAFETY: the pointer and the length describe `value`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    assert_eq!(result, 0, "option {name}: {}", std::io::Error::last_os_error());
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
