//! `mcr send`

use std::io;
use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mcr_model::Output;
use mcr_model::header::TtlSpec;
use mcr_model::spec::OutputSpec;
use serde::Serialize;

use crate::args::{Format, Send};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::traffic::pace::{Pace, Schedule};
use crate::traffic::payload::{self, Stamp, mix};
use crate::traffic::{HEADER_BYTES, MAX_PAYLOAD_BYTES, socket};
use crate::view::quantity::{bit_rate, bytes, packet_rate, packets, seconds};
use crate::view::screen::Screen;

/// What was asked, checked.
struct Plan {
    to: Output,
    pace: Pace,
    count: Option<u64>,
    payload_bytes: RangeInclusive<usize>,
}

/// How it went, and what a script reads.
#[derive(Debug, Serialize)]
struct Summary {
    to: String,
    stream: u32,
    sent_packets: u64,
    sent_bytes: u64,
    refused_packets: u64,
    seconds: f64,
    packets_per_second: f64,
    bits_per_second: f64,
}

/// Sends until the count is reached or somebody ends it.
pub(crate) fn send(args: Send) -> Result<(), Failure> {
    let format = args.output.format;
    let plan = plan(args)?;
    let socket = socket::sending(&plan.to)?;
    let interrupt = Interrupt::watch()?;
    let screen = Screen::stdout();
    let summary = Run::new(&plan).go(&socket, &interrupt, screen)?;
    screen.end_live_line()?;
    screen.print(&match format {
        Format::Json => serde_json::to_string(&summary).unwrap_or_default() + "\n",
        Format::Text => text(&summary),
    })?;
    if summary.sent_packets == 0 { Err(Failure::Silent) } else { Ok(()) }
}

fn plan(args: Send) -> Result<Plan, Failure> {
    let Send { to, rate, count, size, ttl, source, output: _ } = args;
    let mut spec = OutputSpec::from_endpoint(&to).map_err(|error| Failure::usage(error.to_string()))?;
    spec.ttl = ttl.map(TtlSpec::Number).or(spec.ttl);
    spec.source = source.or(spec.source);
    let to = spec.check("endpoint").map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::usage(errors.join("\nmcr: "))
    })?;
    let pace = Pace::parse(&rate).map_err(Failure::usage)?;
    Ok(Plan { to, pace, count, payload_bytes: parse_size(&size).map_err(Failure::usage)? })
}

fn parse_size(given: &str) -> Result<RangeInclusive<usize>, String> {
    const LEAST: usize = payload::HEADER_BYTES;
    let (least, most) = given.split_once('-').unwrap_or((given, given));
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if LEAST <= least && least <= most && most <= MAX_PAYLOAD_BYTES => Ok(least..=most),
        (Ok(least), Ok(most)) if least <= most => Err(format!(
            "--size {given}: a test packet has {LEAST} to {MAX_PAYLOAD_BYTES} bytes; the sequence number and time stamp need the first {LEAST}"
        )),
        _ => Err(format!("--size {given:?} is no size; write bytes as 1250 or 32-1400")),
    }
}

/// A run of the sender: one stream.
struct Run<'a> {
    plan: &'a Plan,
    stream: u32,
    sequence: u64,
    sent_packets: u64,
    sent_bytes: u64,
    refused_packets: u64,
    started: Instant,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        // Distinct from other runs is enough: time and process id make it so.
        let stream = mix(nanoseconds_since_1970() ^ u64::from(std::process::id())) as u32;
        Self { plan, stream, sequence: 0, sent_packets: 0, sent_bytes: 0, refused_packets: 0, started: Instant::now() }
    }

    fn go(mut self, socket: &UdpSocket, interrupt: &Interrupt, screen: Screen) -> Result<Summary, Failure> {
        const GLANCE: Duration = Duration::from_millis(100);
        let mut payload = vec![0; *self.plan.payload_bytes.end()];
        let mut schedule = Schedule::new(self.plan.pace, self.started);
        let mut next_line = self.started + Duration::from_secs(1);
        while !interrupt.is_asked() && self.plan.count.is_none_or(|count| self.sequence < count) {
            let now = Instant::now();
            if now >= next_line {
                screen.live_line(&self.line(now))?;
                next_line = now + Duration::from_secs(1);
            }
            if let Some(wait) = schedule.wait(now) {
                std::thread::sleep(wait.min(GLANCE));
                continue;
            }
            self.send_one(socket, &mut payload)?;
            schedule.sent(now);
        }
        Ok(self.summary())
    }

    fn send_one(&mut self, socket: &UdpSocket, buffer: &mut [u8]) -> Result<(), Failure> {
        let range = &self.plan.payload_bytes;
        let spread = (range.end() - range.start() + 1) as u64;
        let payload_bytes = range.start() + (mix(self.sequence) % spread) as usize;
        let payload = &mut buffer[..payload_bytes];
        let sent_nanoseconds = nanoseconds_since_1970();
        payload::emit(Stamp { stream: self.stream, sequence: self.sequence, sent_nanoseconds }, payload);
        match socket.send(payload) {
            Ok(_) => {
                self.sent_packets += 1;
                self.sent_bytes += payload_bytes as u64 + HEADER_BYTES;
            }
            // Full queues and receivers of unicast that are not there yet: the packet is lost, the run goes on.
            Err(error)
                if error.raw_os_error() == Some(libc::ENOBUFS) || error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                self.refused_packets += 1;
            }
            Err(error) => return Err(self.send_failure(payload_bytes, &error)),
        }
        self.sequence += 1;
        Ok(())
    }

    fn send_failure(&self, payload_bytes: usize, error: &io::Error) -> Failure {
        let Output { interface, target, .. } = &self.plan.to;
        let sent = packets(self.sent_packets);
        Failure::failed(match error.raw_os_error() {
            Some(libc::EMSGSIZE) => format!(
                "{payload_bytes} bytes do not fit the MTU of {interface} in one packet, and a relay drops fragments; use a smaller --size"
            ),
            Some(libc::ENETDOWN) => {
                format!("{interface} is down, after {sent}; `ip link set {interface} up`")
            }
            Some(libc::ENETUNREACH) => format!(
                "there is no route to {target} on {interface}; does it have an IPv4 address? `ip address show {interface}`"
            ),
            _ => format!("cannot send to {target} on {interface}, after {sent}: {error}"),
        })
    }

    fn line(&self, now: Instant) -> String {
        let seconds = now.duration_since(self.started).as_secs_f64();
        let rate = packet_rate(self.sent_packets as f64 / seconds);
        format!("sent {}, {rate}, {}", packets(self.sent_packets), bit_rate(self.sent_bytes as f64 * 8.0 / seconds))
    }

    fn summary(&self) -> Summary {
        let seconds = self.started.elapsed().as_secs_f64();
        Summary {
            to: self.plan.to.to_string(),
            stream: self.stream,
            sent_packets: self.sent_packets,
            sent_bytes: self.sent_bytes,
            refused_packets: self.refused_packets,
            seconds,
            packets_per_second: self.sent_packets as f64 / seconds,
            bits_per_second: self.sent_bytes as f64 * 8.0 / seconds,
        }
    }
}

fn text(summary: &Summary) -> String {
    let Summary { to, sent_packets, sent_bytes, refused_packets, packets_per_second, bits_per_second, .. } = summary;
    let mut text = format!(
        "sent {} to {to}, {} in {}: {}, {}\n",
        packets(*sent_packets),
        bytes(*sent_bytes),
        seconds(summary.seconds),
        packet_rate(*packets_per_second),
        bit_rate(*bits_per_second)
    );
    if *refused_packets > 0 {
        text.push_str(&format!(
            "{} could not be sent: the queue was full or nobody listens there\n",
            packets(*refused_packets)
        ));
    }
    text
}

/// The time of the payload; before 1970 it is 0.
fn nanoseconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("1250"), Ok(1250..=1250));
        assert_eq!(parse_size("32-1400"), Ok(32..=1400));
        for bad in ["", "31", "0-100", "1400-32", "65508", "a", "1-", "-1", "1-2-3"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
