//! A device, a relay host with a worker of ours, and lans whose hosts check what they get.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcr_datapath::counters::{InputCounters, OutputCounters, OutputSnapshot, RelayCounters};
use mcr_datapath::{
    InputTable, InputWorkers, OutputAction, OutputEntry, RelayEntry, RingGeometry, TxSocket, filter, open_inputs,
    open_output, set_filter,
};
use mcr_testbed::payload::{self, Content};
use mcr_testbed::{DEVICE, Interface, Lan, Namespace, Topology};
use mcr_wire::{CodePoint, Destination, DropReason, Listing, MacAddr, Oversize, RateCap, Rewrite, TimeToLive, VlanId};

pub const GROUP_IN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 5001);
pub const GROUP_OUT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 2, 2, 2), 6001);
pub const TTL: u8 = 9;
/// Anything takes at most this long, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An output and its books.
#[derive(Clone)]
pub struct Output {
    pub socket: Arc<TxSocket>,
    pub counters: Arc<OutputCounters>,
    pub rewrite: Rewrite,
    pub mtu: u32,
}

impl Output {
    pub fn open(lan: &Lan) -> Output {
        let side = lan.relay_side();
        let socket = lan.cable().near().namespace().run(|| open_output(side.index())).expect("an output opens");
        Output {
            socket: Arc::new(TxSocket::new(socket)),
            counters: Arc::default(),
            rewrite: Rewrite {
                source_mac: MacAddr::new(side.mac().0),
                destination_mac: MacAddr::for_group((*GROUP_OUT.ip()).into()),
                vlan: None,
                source: Some(lan.relay_address().into()),
                destination: GROUP_OUT.into(),
                source_port: None,
                ttl: TimeToLive::Set(TTL),
                dscp: CodePoint::Set(34),
                priority: None,
                oversize: Oversize::Drop,
            },
            mtu: 1500,
        }
    }

    pub fn entry(&self) -> OutputEntry {
        OutputEntry {
            counters: Arc::clone(&self.counters),
            action: OutputAction::Send { socket: Arc::clone(&self.socket), rewrite: self.rewrite, mtu: self.mtu },
            cap: RateCap::NONE,
        }
    }
}

/// One relay.
#[derive(Clone)]
pub struct Relay {
    pub destination: Destination,
    pub sources: Vec<IpAddr>,
    pub counters: Arc<RelayCounters>,
    pub outputs: Vec<Output>,
}

impl Relay {
    pub fn new(destination: SocketAddrV4, outputs: Vec<Output>) -> Relay {
        Relay { destination: to(destination, None), sources: Vec::new(), counters: Arc::default(), outputs }
    }

    pub fn entry(&self) -> RelayEntry {
        RelayEntry {
            destination: self.destination,
            sources: self.sources.iter().copied().map(Into::into).collect(),
            listing: Listing::Accepts,
            counters: Arc::clone(&self.counters),
            outputs: self.outputs.iter().map(Output::entry).collect(),
            cap: RateCap::NONE,
        }
    }

    /// The rule of every test: what came in went out or was dropped by name, on each output. Arrivals
    /// are counted before the round's sends, so it is true once the worker has come to rest.
    #[track_caller]
    pub fn assert_balanced(&self) {
        for (number, output) in self.outputs.iter().enumerate() {
            let books = || {
                let OutputSnapshot { sent_packets, dropped, .. } = output.counters.snapshot();
                (self.received(), sent_packets, dropped.iter().collect::<Vec<_>>(), dropped.total())
            };
            let balanced = |&(received, sent, _, dropped): &(u64, u64, Vec<_>, u64)| received == sent + dropped;
            mcr_testbed::wait_for_state(PATIENCE, &format!("balance of output {number}"), books, balanced);
        }
    }

    pub fn received(&self) -> u64 {
        self.counters.snapshot().received_packets
    }
}

pub fn to(destination: SocketAddrV4, vlan: Option<VlanId>) -> Destination {
    Destination { vlan, address: (*destination.ip()).into(), port: destination.port() }
}

/// The input of the relay host: rings, their workers, books.
pub struct Input {
    pub rings: Vec<OwnedFd>,
    pub geometry: RingGeometry,
    pub counters: Arc<InputCounters>,
    pub worker: Option<InputWorkers>,
}

impl Input {
    pub fn open(interface: &Interface, geometry: RingGeometry) -> Input {
        Input::with_rings(interface, geometry, 1)
    }

    pub fn with_rings(interface: &Interface, geometry: RingGeometry, rings: usize) -> Input {
        let index = interface.index();
        let rings = interface.namespace().run(|| open_inputs(index, &geometry, rings)).expect("an input opens");
        let mut input = Input { rings, geometry, counters: Arc::default(), worker: None };
        input.start();
        input
    }

    /// Starts workers on the rings, which may have had others.
    pub fn start(&mut self) {
        let rings = self.rings.iter().map(|ring| ring.try_clone().expect("a descriptor"));
        let worker = InputWorkers::start("mcr-test", rings, self.geometry, &self.counters);
        self.worker = Some(worker.expect("a worker starts"));
    }

    pub fn worker(&self) -> &InputWorkers {
        self.worker.as_ref().expect("there is a worker")
    }

    pub fn install(&self, relays: &[&Relay]) {
        self.install_entries(relays.iter().map(|relay| relay.entry()).collect(), Vec::new());
    }

    pub fn install_entries(&self, relays: Vec<RelayEntry>, our_macs: Vec<MacAddr>) {
        let destinations: Vec<_> =
            relays.iter().map(|relay| (relay.destination.address, relay.destination.port)).collect();
        self.worker().install(&InputTable { relays, our_macs }).expect("the worker runs");
        let program = filter::compile(&destinations);
        for ring in &self.rings {
            set_filter(ring.as_fd(), &program).expect("the filter is set");
        }
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.worker().poll_statistics();
        self.counters.snapshot().dropped.get(reason)
    }
}

/// What a sender does.
#[derive(Clone, Copy)]
pub struct Traffic {
    pub count: u64,
    pub packets_per_second: u64,
    /// Payload bytes of a datagram, by its number.
    pub size: fn(u64) -> usize,
    /// Datagrams in one segmented send of the sender's; 1: ordinary sends.
    pub segments: usize,
}

/// Sends from the device's unroutable address.
pub fn send(topology: &Topology, traffic: Traffic) {
    let socket = topology.device().run(|| {
        let socket = UdpSocket::bind((DEVICE, 40_000)).expect("the device's address");
        socket.set_multicast_ttl_v4(1).expect("a ttl");
        socket
    });
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 4 << 20);
    let begun = Instant::now();
    let mut sequence = 0;
    let mut buffer = vec![0; 65_536];
    while sequence < traffic.count {
        let size = (traffic.size)(sequence);
        let mut length = 0;
        let first = sequence;
        while sequence < traffic.count && sequence - first < traffic.segments as u64 {
            payload::fill(&mut buffer[length..length + size], 1, sequence);
            length += size;
            sequence += 1;
        }
        if traffic.segments > 1 {
            set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, size as libc::c_int);
        }
        socket.send_to(&buffer[..length], GROUP_IN).expect("the device sends");
        let due = Duration::from_nanos(sequence * 1_000_000_000 / traffic.packets_per_second);
        if let Some(early) = due.checked_sub(begun.elapsed())
            && early > Duration::from_micros(200)
        {
            std::thread::sleep(early);
        }
    }
}

/// What a listener got.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    pub intact: u64,
    pub corrupt: u64,
    /// Datagrams that came after a later one, or twice.
    pub out_of_order: u64,
    pub next: u64,
    pub foreign_source: u64,
}

/// A plain socket in a lan, on a thread of its own.
pub struct Listener {
    stop: Arc<AtomicBool>,
    heard: Arc<std::sync::Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn join(lan: &Lan) -> Listener {
        Self::join_at(lan.namespace(), lan.host_address(), lan.relay_address(), GROUP_OUT)
    }

    pub fn join_at(at: &Namespace, own: Ipv4Addr, expected: Ipv4Addr, group: SocketAddrV4) -> Listener {
        let socket = at.run(|| {
            let socket = UdpSocket::bind(group).expect("a listener");
            socket.join_multicast_v4(group.ip(), &own).expect("the group");
            socket
        });
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 256 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(std::sync::Mutex::new(Heard::default()));
        let thread = std::thread::spawn({
            let (stop, heard) = (Arc::clone(&stop), Arc::clone(&heard));
            move || listen(&socket, &stop, &heard, expected)
        });
        Listener { stop, heard, thread: Some(thread) }
    }

    pub fn heard(&self) -> Heard {
        self.heard.lock().expect("no panic in the listener").clone()
    }

    /// Waits until all of `count` datagrams came, intact and in order.
    #[track_caller]
    pub fn expect_all(&self, count: u64) {
        let all = Heard { intact: count, next: count, ..Heard::default() };
        mcr_testbed::wait_for_state(
            PATIENCE,
            "every datagram, intact and in order",
            || self.heard(),
            |heard| *heard == all,
        );
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the listener panicked");
    }
}

fn listen(socket: &UdpSocket, stop: &AtomicBool, heard: &std::sync::Mutex<Heard>, expected: Ipv4Addr) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let mut heard = heard.lock().expect("nobody panics with it");
        if from.ip() != std::net::IpAddr::V4(expected) {
            heard.foreign_source += 1;
        }
        match payload::check(&buffer[..length]) {
            Content::Intact { sequence, .. } => {
                heard.intact += 1;
                if sequence < heard.next {
                    heard.out_of_order += 1;
                }
                heard.next = heard.next.max(sequence + 1);
            }
            Content::Corrupt => heard.corrupt += 1,
        }
    }
}

fn set<S: AsRawFd>(socket: &S, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    // SAFETY: the pointer and the length describe `value`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size_of_val(&value) as u32)
    };
    assert_eq!(result, 0, "option {name}: {}", io::Error::last_os_error());
}
