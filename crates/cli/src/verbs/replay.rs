//! `mcr send --pcap`: a capture, sent again with its timing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mcr_model::{InterfaceName, Output};
use mcr_wire::{ChecksumState, FrameMeta, Reject};
use serde::Serialize;

use crate::args::Send;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::traffic::capture::{Packet, Reader};
use crate::traffic::map::Map;
use crate::traffic::outbox::{Outbox, Runs, Sent};
use crate::traffic::socket;
use crate::traffic::{frame, header_bytes};
use crate::verbs::send::{conclude, output, send_failure};
use crate::view::quantity::{bit_rate, bytes, packet_rate, packets, seconds};
use crate::view::screen::Screen;

/// Where the interface sends to is known only from the capture; this group decides its source address.
const ANY_GROUP: &str = "239.255.255.255:9";

/// What was asked, checked.
struct Plan {
    file: PathBuf,
    to: Output,
    /// All of it goes there.
    target: Option<SocketAddr>,
    map: Map,
    /// 0: without pauses.
    speed: f64,
    times: Option<u64>,
    count: Option<u64>,
}

/// How it goes out.
enum Way {
    /// New datagrams with the same payloads.
    Socket(Box<Outbox>),
    /// The frames themselves.
    Frames(File),
}

/// How it went, and what a script reads.
#[derive(Debug, Serialize)]
struct Summary {
    file: String,
    to: String,
    sent_packets: u64,
    sent_bytes: u64,
    refused_packets: u64,
    /// Packets of the capture that were not sent, by the reason.
    skipped_packets: BTreeMap<String, u64>,
    seconds: f64,
    packets_per_second: f64,
    bits_per_second: f64,
}

/// Sends a capture again, as often as was asked for.
pub(super) fn replay(args: Send) -> Result<(), Failure> {
    let (format, given, is_raw) = (args.output.format, args.to.clone(), args.raw);
    let plan = plan(args)?;
    let interrupt = Interrupt::watch()?;
    let screen = Screen::stdout();
    let way = match is_raw {
        true => Way::Frames(raw(&plan.to.interface)?),
        false => Way::Socket(Box::new(Outbox::new(socket::sending(&plan.to)?, Runs::Apart))),
    };
    let mut run = Run {
        plan: &plan,
        way,
        sent: Sent::default(),
        bytes: 0,
        skipped: BTreeMap::new(),
        began: Instant::now(),
        clock: None,
    };
    let mut turn = 0;
    while plan.times.is_none_or(|times| turn < times) && !run.is_over(&interrupt) {
        run.once(&interrupt, screen)?;
        turn += 1;
        if run.sent.packets == 0 {
            break;
        }
    }
    let summary = run.summary(given);
    conclude(screen, format, summary.sent_packets, &summary, text)
}

fn plan(args: Send) -> Result<Plan, Failure> {
    let Send { to: given, pcap, speed, times, map, ttl, source, count, .. } = args;
    let is_interface = given.parse::<InterfaceName>().is_ok() && !given.contains(':');
    let endpoint = if is_interface { format!("{given}:{ANY_GROUP}") } else { given.clone() };
    let to = output(&endpoint, ttl, source.as_deref())?;
    let target = (!is_interface).then(|| SocketAddr::new(to.target.ip(), to.port.get()));
    if target.is_some() && !map.is_empty() {
        return Err(Failure::usage(
            "--map is for groups of the capture; name the interface alone, as mcr send eth0 --pcap FILE --map …",
        ));
    }
    if target.is_some() && args.raw {
        return Err(Failure::usage(
            "--raw sends to where the frames say; name the interface alone, as mcr send eth0 --pcap FILE --raw",
        ));
    }
    let speed = match speed.parse::<f64>() {
        Ok(speed) if (0.001..=1e6).contains(&speed) => speed,
        _ if speed == "max" => 0.0,
        _ => return Err(Failure::usage(format!("--speed {speed:?} is no factor; write 2, 0.5 or max"))),
    };
    let map = Map::parse(&map).map_err(Failure::usage)?;
    Ok(Plan {
        file: pcap.unwrap_or_default(),
        to,
        target,
        map,
        speed,
        times: Some(times).filter(|times| *times > 0),
        count,
    })
}

/// A packet socket; what is written to it are frames.
fn raw(interface: &InterfaceName) -> Result<File, Failure> {
    let opened: io::Result<OwnedFd> = socket::index(interface).and_then(mcr_datapath::open_output);
    opened.map(File::from).map_err(|error| {
        Failure::failed(match error.kind() {
            io::ErrorKind::PermissionDenied => "--raw writes frames, which needs root (CAP_NET_RAW)".to_owned(),
            _ => format!("cannot write frames to {interface}: {error}; `ip link` lists the interfaces that there are"),
        })
    })
}

/// What is under way.
struct Run<'a> {
    plan: &'a Plan,
    way: Way,
    sent: Sent,
    /// Of IP packets, or of frames.
    bytes: u64,
    skipped: BTreeMap<String, u64>,
    began: Instant,
    /// The time of the first packet of this turn in the capture, and on our clock.
    clock: Option<(Duration, Instant)>,
}

impl Run<'_> {
    fn is_over(&self, interrupt: &Interrupt) -> bool {
        let waiting = if let Way::Socket(outbox) = &self.way { outbox.len() as u64 } else { 0 };
        let taken = self.sent.packets + self.sent.refused + waiting;
        interrupt.is_asked() || self.plan.count.is_some_and(|count| taken >= count)
    }

    /// The whole capture.
    fn once(&mut self, interrupt: &Interrupt, screen: Screen) -> Result<(), Failure> {
        let shown = self.plan.file.display();
        let wrong = |what: String| Failure::failed(format!("{shown}: {what}"));
        let file = File::open(&self.plan.file).map_err(|error| wrong(format!("cannot be opened: {error}")))?;
        let mut reader = Reader::open(BufReader::with_capacity(1 << 20, file)).map_err(wrong)?;
        self.clock = None;
        let mut next_line = Instant::now() + Duration::from_secs(1);
        while let Some(packet) = reader.next().map_err(wrong)? {
            self.wait(packet.time, interrupt)?;
            if self.is_over(interrupt) {
                break;
            }
            self.take(&packet)?;
            if Instant::now() >= next_line {
                screen.live_line(&self.line())?;
                next_line += Duration::from_secs(1);
            }
        }
        self.flush()
    }

    /// Until the packet is due. What waits is sent before.
    fn wait(&mut self, time: Duration, interrupt: &Interrupt) -> Result<(), Failure> {
        const GLANCE: Duration = Duration::from_millis(100);
        /// So many may wait for each other, when the capture has them at one time.
        const MOST_WAITING: usize = 64;
        let (first, started) = *self.clock.get_or_insert((time, Instant::now()));
        let since = time.saturating_sub(first);
        let due = if self.plan.speed > 0.0 { started + since.div_f64(self.plan.speed) } else { started };
        let left = || due.saturating_duration_since(Instant::now());
        let is_full = matches!(&self.way, Way::Socket(outbox) if outbox.len() >= MOST_WAITING);
        if is_full || !left().is_zero() {
            self.flush()?;
        }
        while !left().is_zero() && !interrupt.is_asked() {
            std::thread::sleep(left().min(GLANCE));
        }
        Ok(())
    }

    fn take(&mut self, packet: &Packet) -> Result<(), Failure> {
        let Some(frame) = frame::of(packet) else {
            self.skip("no Ethernet, IP or Linux cooked capture");
            return Ok(());
        };
        match &mut self.way {
            Way::Frames(socket) => {
                // Behind an empty `virtio_net_hdr`.
                let done = socket.write(&[&[0; 10][..], &frame].concat());
                self.count_frame(frame.len(), done)
            }
            Way::Socket(outbox) => {
                // What a host captured of its own has checksums that its interface was to finish.
                let beside = FrameMeta { checksum: ChecksumState::Valid, ..FrameMeta::PLAIN };
                let datagram = match mcr_wire::parse(&frame, &beside) {
                    Ok(datagram) => datagram,
                    Err(Reject::Drop { reason, .. }) => {
                        self.skip(reason.name());
                        return Ok(());
                    }
                    Err(Reject::NotOurs) => {
                        self.skip("no UDP");
                        return Ok(());
                    }
                };
                let destination = datagram.destination;
                let was = SocketAddr::new(destination.address, destination.port);
                match self.plan.target.or_else(|| self.plan.map.target(was)) {
                    Some(target) => {
                        let payload = datagram.payload;
                        outbox.put(Some(target), payload.len(), |bytes| bytes.copy_from_slice(payload));
                    }
                    None => self.skip("to a single host"),
                }
                Ok(())
            }
        }
    }

    fn count_frame(&mut self, length: usize, done: io::Result<usize>) -> Result<(), Failure> {
        match done {
            Ok(_) => {
                self.sent.packets += 1;
                self.bytes += length as u64;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.sent.refused += 1,
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.skip("longer than the interface takes"),
            Err(error) => return Err(send_failure(&self.plan.to, self.sent.packets, length, &error)),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let Way::Socket(outbox) = &mut self.way else { return Ok(()) };
        let done = outbox.send();
        let Sent { packets, payload_bytes, refused } =
            done.map_err(|(length, error)| send_failure(&self.plan.to, self.sent.packets, length, &error))?;
        self.sent.packets += packets;
        self.sent.refused += refused;
        self.bytes += payload_bytes + packets * header_bytes(self.plan.to.target.ip());
        Ok(())
    }

    fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_owned()).or_default() += 1;
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = packet_rate(self.sent.packets as f64 / seconds);
        format!("sent {}, {rate}, {}", packets(self.sent.packets), bit_rate(self.bytes as f64 * 8.0 / seconds))
    }

    fn summary(self, to: String) -> Summary {
        let seconds = self.began.elapsed().as_secs_f64();
        Summary {
            file: self.plan.file.display().to_string(),
            to,
            sent_packets: self.sent.packets,
            sent_bytes: self.bytes,
            refused_packets: self.sent.refused,
            skipped_packets: self.skipped,
            seconds,
            packets_per_second: self.sent.packets as f64 / seconds,
            bits_per_second: self.bytes as f64 * 8.0 / seconds,
        }
    }
}

fn text(summary: &Summary) -> String {
    let Summary { file, to, sent_packets, sent_bytes, refused_packets, skipped_packets, .. } = summary;
    let mut text = format!(
        "sent {} of {file} to {to}, {} in {}: {}, {}\n",
        packets(*sent_packets),
        bytes(*sent_bytes),
        seconds(summary.seconds),
        packet_rate(summary.packets_per_second),
        bit_rate(summary.bits_per_second)
    );
    if *refused_packets > 0 {
        text.push_str(&format!("{} could not be sent: the queue was full\n", packets(*refused_packets)));
    }
    for (reason, number) in skipped_packets {
        text.push_str(&format!("{} left out: {reason}\n", packets(*number)));
    }
    text
}
