//! What the tests of the program stand on: the program loaded, an input, outputs that are listened to, single runs by
//! `BPF_PROG_TEST_RUN`, and what mcr-wire says should come of a frame.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcr_kernel_path::{
    Crossings, Exit, InputTable, Loaded, Maps, OutputAction, OutputEntry, OutputSnapshot, RelayEntry, RelaySnapshot,
    Sizes, TableWriter, load, not_at_driver,
};
use mcr_testbed::table::{self, Counts, MARK, OutputCounts};
pub(crate) use mcr_testbed::table::{Output, Relay};
use mcr_testbed::{Mac, RawReceiver, Topology};
use mcr_wire::{DropReason, FragmentKey, FrameMeta, MacAddr, RateCap, Refused, Reject, Rewrite, parse_following};

/// What the program answers when it leaves a frame alone, takes it, or hands it on.
pub(crate) const NEXT: i32 = -1;
pub(crate) const DROP: i32 = 2;

/// A loaded program and the network around it.
pub(crate) struct Stand {
    pub(crate) net: Topology,
    pub(crate) loaded: Loaded,
    pub(crate) writer: TableWriter,
    pub(crate) listeners: Vec<RawReceiver>,
    pub(crate) installed: Vec<RelayEntry>,
    pub(crate) relays: Vec<Relay>,
    pub(crate) our_macs: Vec<MacAddr>,
    /// Asked for once: each question costs a thread in the namespace.
    pub(crate) input: u32,
    mac: MacAddr,
    /// Of the first fragments that were relayed.
    ports: Ports,
    /// Attached at tcx ingress, for what the program at the driver passes on; none: frames go to the program at tcx ingress.
    behind_driver: Option<OwnedFd>,
    /// The lists of ports that fan-outs were made of; each is the fan-out of its place.
    fan_outs: Vec<Vec<u32>>,
}

pub(crate) fn small() -> Sizes {
    Sizes { relays: 256, outputs: 1024, sources: 256, inputs: 16, own_macs: 64, ports: 32, fan_outs: 256 }
}

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) verdict: i32,
    /// The frame as the program left it.
    pub(crate) frame: Vec<u8>,
}

/// What has not come by then does not come.
const LATE: Duration = Duration::from_millis(50);

impl Stand {
    pub(crate) fn new(lans: usize) -> Stand {
        let net = Topology::device_relay_lan(lans);
        let loaded = load(&small()).unwrap();
        let fds = loaded.maps().fds().map(|fd| fd.try_clone_to_owned().unwrap());
        let writer = TableWriter::adopt(Maps::from_fds(fds.into()).unwrap()).unwrap();
        let listeners = net.lans().iter().map(|lan| RawReceiver::new(lan.host_side())).collect();
        let (input, mac) = (net.relay_input().index(), MacAddr::new(net.relay_input().mac().0));
        for (port, lan) in (1..).zip(net.lans()) {
            loaded.ports().set(port, lan.relay_side().index()).unwrap();
        }
        let (installed, relays, our_macs, ports, behind_driver, fan_outs) = Default::default();
        Stand {
            net,
            loaded,
            writer,
            listeners,
            installed,
            relays,
            our_macs,
            input,
            mac,
            ports,
            behind_driver,
            fan_outs,
        }
    }

    /// A stand whose frames meet the program at the driver first, and behind it the one at tcx ingress.
    pub(crate) fn at_driver(lans: usize) -> Stand {
        let mut stand = Stand::new(lans);
        stand.behind_driver = Some(stand.attach());
        stand.open_ports();
        stand
    }

    /// Opens all ports at the driver, each proven.
    pub(crate) fn open_ports(&self) {
        for (port, lan) in (1..).zip(self.net.lans()) {
            let (ifindex, mac) = (lan.relay_side().index(), lan.relay_side().mac().0);
            let xdp = self.loaded.xdp().unwrap();
            self.net
                .relay()
                .run(|| xdp.open_port(port, ifindex, mac))
                .unwrap_or_else(|why| panic!("port {port}: {why}"));
        }
    }

    pub(crate) fn attach_at_driver(&self) -> OwnedFd {
        self.net.relay().run(|| self.loaded.xdp().unwrap().attach(self.input)).unwrap()
    }

    /// The exit of a relay with these outputs, with the fan-out that it needs.
    pub(crate) fn exit(&mut self, outputs: &[OutputEntry]) -> Exit {
        let ports: Vec<u32> = outputs.iter().filter_map(|output| output.action.port()).collect();
        if ports.len() == 1 {
            return Exit::Port;
        }
        let number = self.fan_outs.iter().position(|list| *list == ports).unwrap_or_else(|| {
            let number = self.fan_outs.len();
            let ifindexes: Vec<u32> =
                ports.iter().map(|&port| self.net.lan(port as usize).relay_side().index()).collect();
            let xdp = self.loaded.xdp().unwrap();
            self.net.relay().run(|| xdp.set_fan_out(number as u32, &ifindexes)).unwrap();
            self.fan_outs.push(ports);
            number
        });
        Exit::FanOut(number as u32)
    }

    pub(crate) fn attach(&self) -> OwnedFd {
        // An index is one of the caller's namespace.
        self.net.relay().run(|| self.loaded.attach(self.input)).unwrap()
    }

    /// Makes these the relays of the input, each with counters of its own.
    pub(crate) fn install(&mut self, relays: Vec<Relay>) {
        let mut entries = Vec::new();
        for relay in &relays {
            let mut outputs = Vec::new();
            for output in &relay.outputs {
                let action = match *output {
                    Output::Drop(reason) => OutputAction::Drop(reason),
                    Output::Send { lan, rewrite, mtu } => OutputAction::Send { port: lan as u32, rewrite, mtu },
                };
                outputs.push(OutputEntry {
                    counters: self.writer.output_counters(0).unwrap(),
                    action,
                    cap: RateCap::NONE,
                });
            }
            let counters = self.writer.relay_counters(0).unwrap();
            let (destination, sources, listing) = (relay.destination, relay.sources.clone(), relay.listing);
            entries.push(RelayEntry {
                destination,
                sources,
                listing,
                counters,
                outputs,
                exit: Exit::Tcx,
                cap: RateCap::NONE,
            });
        }
        if self.behind_driver.is_some() {
            self.set_exits(&mut entries);
        }
        let table = InputTable { relays: entries.clone(), our_macs: self.our_macs.clone() };
        let input = self.input;
        self.writer.install(input, table).unwrap();
        (self.installed, self.relays) = (entries, relays);
    }

    /// Has every relay that can be served at the driver be served there.
    fn set_exits(&mut self, entries: &mut [RelayEntry]) {
        self.fan_outs.clear();
        for place in 0..entries.len() {
            let here = entries[place].destination;
            let sharing: Vec<RelayEntry> = entries.iter().filter(|entry| entry.destination == here).cloned().collect();
            if not_at_driver(&sharing).is_none() {
                entries[place].exit = self.exit(&entries[place].outputs);
            }
        }
    }

    /// Has a frame come in at the driver of the input, and go wherever the programs say. Call inside the relay's namespace.
    pub(crate) fn run_live(&self, frame: &[u8]) {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        let context = [0, frame.len() as u32, 0, self.input, 0, 0];
        test_run(&mut TestRun {
            program: self.loaded.xdp().unwrap().program().as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: 1,
            ctx_size_in: size_of_val(&context) as u32,
            ctx_in: context.as_ptr() as u64,
            flags: 2, // BPF_F_TEST_XDP_LIVE_FRAMES
            ..TestRun::default()
        });
    }

    /// Runs the program at tcx ingress once on a frame at the input. Call inside the relay's namespace.
    pub(crate) fn run(&self, frame: &[u8], segment_bytes: u32) -> Run {
        let mut left = vec![0_u8; 4096];
        let mut context = Context { ifindex: self.input, ..Context::default() };
        if segment_bytes != 0 {
            (context.gso_size, context.gso_segs) = (segment_bytes, 2);
        }
        let mut attribute = TestRun {
            program: self.loaded.program().as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_size_out: left.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: left.as_mut_ptr() as u64,
            ctx_size_in: size_of::<Context>() as u32,
            ctx_in: std::ptr::from_ref(&context) as u64,
            ..TestRun::default()
        };
        test_run(&mut attribute);
        left.truncate(attribute.data_size_out as usize);
        Run { verdict: attribute.retval as i32, frame: left }
    }

    pub(crate) fn relays(&self) -> Vec<Relay> {
        self.relays.clone()
    }

    pub(crate) fn is_at_driver(&self) -> bool {
        self.behind_driver.is_some()
    }

    /// Datagrams that the program at the driver served, of the relays that are installed.
    pub(crate) fn served_at_driver(&self) -> u64 {
        self.installed.iter().map(|relay| relay.counters.snapshot().at_driver_packets).sum()
    }

    /// Copies that did not come to an output's driver and were not counted there, if none is on its way.
    pub(crate) fn lost(&self, relay: usize, output: usize) -> u64 {
        let RelayEntry { counters, outputs, .. } = &self.installed[relay];
        let outputs: Vec<_> = outputs.iter().map(|output| Arc::clone(&output.counters)).collect();
        let seen = Crossings::at_rest(counters, &outputs).snapshot(&outputs[output]);
        seen.dropped.total() - outputs[output].snapshot().dropped.total()
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            relays: self.installed.iter().map(|relay| relay.counters.snapshot()).collect(),
            outputs: self
                .installed
                .iter()
                .map(|relay| relay.outputs.iter().map(|output| output.counters.snapshot()).collect())
                .collect(),
        }
    }

    /// The next frame of ours at a lan.
    pub(crate) fn heard(&self, lan: usize, limit: Duration) -> Option<Vec<u8>> {
        let begun = Instant::now();
        loop {
            let frame = self.listeners[lan - 1].next_frame(limit.saturating_sub(begun.elapsed()))?;
            if frame.bytes.get(6..10) == Some(&MARK) {
                return Some(frame.bytes);
            }
        }
    }

    /// What is to come of a frame, by mcr-wire, behind those that were asked about before.
    pub(crate) fn expected(&mut self, frame: &[u8]) -> Expected {
        Expected::of(frame, &FrameMeta::PLAIN, &self.relays, &self.our_macs, self.mac, &mut self.ports)
    }

    /// Runs a frame and compares everything with what mcr-wire says: verdict, bytes of every copy, counters.
    pub(crate) fn agree(&mut self, what: &str, frame: &[u8]) -> Expected {
        let expected = self.expected(frame);
        let input = self.input;
        let input_counters = self.writer.input_counters(input).unwrap();
        let (before, input_before) = (self.totals(), input_counters.snapshot());
        let run = match self.behind_driver {
            None => Some(self.run(frame, 0)),
            Some(_) => {
                self.run_live(frame);
                None
            }
        };
        let (after, input_after) = (self.totals(), input_counters.snapshot());
        let context = || format!("{what}\nframe {frame:02x?}\nrelays {:#?}", self.relays);

        for (index, relay) in self.relays.iter().enumerate() {
            let charge = expected.charged.iter().find(|charge| charge.relay == index);
            let received = charge.map_or((0, 0), |charge| (charge.packets, charge.bytes));
            let (was, is) = (before.relays[index], after.relays[index]);
            let got = (is.received_packets - was.received_packets, is.received_bytes - was.received_bytes);
            assert_eq!(got, received, "received by relay {index}: {}", context());
            for output in 0..relay.outputs.len() {
                let outcome = charge.map(|charge| charge.outputs[output]);
                check_output(&before.outputs[index][output], &after.outputs[index][output], charge, outcome)
                    .unwrap_or_else(|error| {
                        let missing = self.lost(index, output);
                        let copies = std::iter::from_fn(|| {
                            (1..=self.listeners.len()).find_map(|lan| self.heard(lan, LATE).map(|_| lan))
                        });
                        let lans: Vec<usize> = copies.collect();
                        let what = context();
                        panic!(
                            "relay {index} output {output}: {error}, {missing} missing, heard on lans {lans:?}: {what}"
                        )
                    });
            }
        }
        for reason in DropReason::ALL {
            let got = input_after.dropped.get(reason) - input_before.dropped.get(reason);
            let wanted = u64::from(expected.on_input == Some(reason));
            assert_eq!(got, wanted, "{reason} on the input: {}", context());
        }
        if let Some(run) = &run {
            expected.assert_is_of(frame, run, context);
        }
        for (lan, copy) in &expected.copies {
            let heard = self.heard(*lan, Duration::from_secs(1));
            assert_eq!(heard.as_deref(), Some(&copy[..]), "copy on lan{lan}: {}", context());
        }
        expected
    }

    /// Asserts that nothing but what was expected came out.
    pub(crate) fn assert_silence(&self) {
        for lan in 1..=self.listeners.len() {
            assert_eq!(self.heard(lan, Duration::from_millis(50)), None, "on lan{lan}");
        }
    }
}

/// The table of frames over cables.
impl table::Datapath for Stand {
    fn net(&self) -> &Topology {
        &self.net
    }

    fn install(&mut self, relays: &[Relay], our_macs: &[Mac]) {
        self.our_macs = our_macs.iter().map(|mac| MacAddr::new(mac.0)).collect();
        Stand::install(self, relays.to_vec());
    }

    fn counts(&mut self) -> Counts {
        let Totals { relays, outputs } = self.totals();
        let received = relays.iter().map(|relay| (relay.received_packets, relay.received_bytes)).collect();
        let outputs = outputs.iter().map(|outputs| outputs.iter().map(output_counts).collect()).collect();
        let on_input = self.writer.input_counters(self.input).unwrap().snapshot().dropped.iter().collect();
        Counts { received, outputs, on_input }
    }
}

fn output_counts(output: &OutputSnapshot) -> OutputCounts {
    OutputCounts { sent: (output.sent_packets, output.sent_bytes), dropped: output.dropped.iter().collect() }
}

fn check_output(
    was: &OutputSnapshot,
    is: &OutputSnapshot,
    charge: Option<&Charge>,
    outcome: Option<Outcome>,
) -> Result<(), String> {
    let packets = charge.map_or(0, |charge| charge.packets);
    let sent = match outcome {
        Some(Outcome::Sent { bytes }) => (packets, bytes),
        Some(Outcome::Dropped(_)) | None => (0, 0),
    };
    let got = (is.sent_packets - was.sent_packets, is.sent_bytes - was.sent_bytes);
    if got != sent {
        let more = |(reason, count): (DropReason, u64)| (reason.name(), count - was.dropped.get(reason));
        let dropped: Vec<_> = is.dropped.iter().map(more).filter(|(_, more)| *more > 0).collect();
        return Err(format!("sent {got:?} instead of {sent:?}, dropped {dropped:?}"));
    }
    for reason in DropReason::ALL {
        let got = is.dropped.get(reason) - was.dropped.get(reason);
        let wanted = if outcome == Some(Outcome::Dropped(reason)) { packets } else { 0 };
        if got != wanted {
            return Err(format!("{reason} {got} times instead of {wanted}"));
        }
    }
    Ok(())
}

pub(crate) struct Totals {
    pub(crate) relays: Vec<RelaySnapshot>,
    pub(crate) outputs: Vec<Vec<OutputSnapshot>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Sent {
        /// Of the IP packets.
        bytes: u64,
    },
    Dropped(DropReason),
}

/// What a relay is charged with.
#[derive(Debug)]
pub(crate) struct Charge {
    pub(crate) relay: usize,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) outputs: Vec<Outcome>,
}

/// Destination ports of first fragments.
type Ports = HashMap<FragmentKey, u16>;

/// What should come of a frame, by mcr-wire.
#[derive(Debug)]
pub(crate) struct Expected {
    /// None: the frame goes on.
    pub(crate) charged: Vec<Charge>,
    /// Counted on the input.
    pub(crate) on_input: Option<DropReason>,
    /// Lans and frames, in the order in which they are sent.
    pub(crate) copies: Vec<(usize, Vec<u8>)>,
    /// Why it was refused, by any word.
    pub(crate) reason: Option<DropReason>,
}

impl Expected {
    /// Compares a run at tcx ingress: its verdict, and that what it does not relay goes on as it came.
    fn assert_is_of(&self, frame: &[u8], run: &Run, context: impl Fn() -> String) {
        let verdict = if self.charged.is_empty() { NEXT } else { DROP };
        assert_eq!(run.verdict, verdict, "verdict of {}", context());
        if self.copies.is_empty() {
            assert_eq!(run.frame, frame, "left untouched: {}", context());
        }
    }

    fn of(
        frame: &[u8],
        meta: &FrameMeta,
        relays: &[Relay],
        our_macs: &[MacAddr],
        mac: MacAddr,
        ports: &mut Ports,
    ) -> Expected {
        let mut expected = Expected { charged: Vec::new(), on_input: None, copies: Vec::new(), reason: None };
        let parsed = parse_following(frame, meta, |key| ports.get(key).copied());
        let address = address(frame);
        let is_watched = || relays.iter().any(|relay| Some(relay.destination.address) == address);
        if address.is_some_and(|address| is_foreign(frame, address, mac))
            && parsed != Err(Reject::Drop { reason: DropReason::BadIpHeader, destination: None })
        {
            return expected;
        }
        let (destination, source, packets, bytes) = match &parsed {
            Err(Reject::NotOurs) => return expected,
            &Err(Reject::Drop { reason, destination: None }) => {
                expected.reason = Some(reason);
                expected.on_input = Some(reason).filter(|_| is_watched());
                return expected;
            }
            &Err(Reject::Drop { reason, destination: Some(destination) }) => {
                let refused = Refused::of(frame, meta);
                expected.reason = Some(reason);
                (destination, refused.source.unwrap(), refused.packets, refused.ip_bytes)
            }
            Ok(datagram) => {
                let came_back = our_macs.iter().any(|mac| frame[6..12] == mac.octets());
                expected.reason = came_back.then_some(DropReason::Loop);
                (datagram.destination, datagram.source.ip(), datagram.packets(), datagram.ip_bytes())
            }
        };
        let mut listening = relays.iter().enumerate().filter(|(_, relay)| relay.destination == destination).peekable();
        if listening.peek().is_none() {
            return expected;
        }
        for (index, relay) in listening {
            if !relay.sources.is_empty() && !relay.listing.passes(relay.lists(source)) {
                continue;
            }
            let mut outputs = Vec::new();
            for output in &relay.outputs {
                outputs.push(match (expected.reason, output, &parsed) {
                    (Some(reason), _, _) => Outcome::Dropped(reason),
                    (None, Output::Drop(reason), _) => Outcome::Dropped(*reason),
                    (None, Output::Send { rewrite, .. }, Ok(datagram)) if rewrite.refusal(datagram).is_some() => {
                        Outcome::Dropped(rewrite.refusal(datagram).unwrap())
                    }
                    (None, Output::Send { rewrite, mtu, .. }, Ok(datagram))
                        if rewrite.bytes_before(datagram) + datagram.largest_payload_bytes() > *mtu as usize =>
                    {
                        Outcome::Dropped(DropReason::TooBig)
                    }
                    (None, Output::Send { lan, rewrite, .. }, Ok(datagram)) => {
                        for segment in datagram.segments() {
                            expected.copies.push((*lan, whole(rewrite, &segment)));
                        }
                        let headers = datagram.packets() * rewrite.bytes_before(datagram) as u64;
                        Outcome::Sent { bytes: headers + datagram.payload.len() as u64 }
                    }
                    (None, Output::Send { .. }, Err(_)) => unreachable!("refused without a reason"),
                });
            }
            expected.charged.push(Charge { relay: index, packets, bytes, outputs });
        }
        let passed = parsed.ok().filter(|_| expected.reason.is_none() && !expected.charged.is_empty());
        if let Some(key) = passed.and_then(|datagram| datagram.fragment_key()) {
            ports.insert(key, destination.port);
        }
        if expected.charged.is_empty() {
            expected.on_input = Some(expected.reason.unwrap_or(DropReason::SourceNotListed));
        }
        expected
    }
}

fn whole(rewrite: &Rewrite, datagram: &mcr_wire::Datagram<'_>) -> Vec<u8> {
    let mut frame = vec![0; 65_600];
    let length = rewrite.frame(datagram, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// Where a frame says it goes, believed or not.
fn address(frame: &[u8]) -> Option<IpAddr> {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    let ip = if is_tag(12) { 18 } else { 14 };
    if frame.get(ip - 2..ip) == Some(&[0x86, 0xdd]) {
        return frame.get(ip + 24..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into());
    }
    frame.get(ip + 16..)?.first_chunk::<4>().map(|octets| (*octets).into())
}

fn is_foreign(frame: &[u8], address: IpAddr, mac: MacAddr) -> bool {
    frame[0] & 1 == 0 && frame[..6] != mac.octets() && !address.is_multicast()
}

fn test_run(attribute: &mut TestRun) {
    let size = size_of::<TestRun>();
    // SAFETY: BPF_PROG_TEST_RUN reads the frame and the context and writes at most data_size_out bytes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, 10, &raw mut *attribute, size) };
    assert_eq!(result, 0, "{} bytes: {}", attribute.data_size_in, std::io::Error::last_os_error());
}

/// `struct { ... } test` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// `struct __sk_buff`; only fields that a test run may set are named.
#[repr(C)]
#[derive(Default)]
struct Context {
    before_ifindex: [u32; 10],
    ifindex: u32,
    between: [u32; 25],
    flow_keys: u64,
    tstamp: u64,
    wire_len: u32,
    gso_segs: u32,
    socket: u64,
    gso_size: u32,
    tail: u32,
    hwtstamp: u64,
}
