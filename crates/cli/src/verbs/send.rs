//! `mcr send`

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mcr_model::Output;
use mcr_model::header::TtlSpec;
use mcr_model::spec::OutputSpec;
use serde::Serialize;

use crate::args::{Format, Send};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::traffic::outbox::{Outbox, Runs, Sent};
use crate::traffic::pace::{Pace, Schedule};
use crate::traffic::payload::{self, Pattern, Stamp, mix};
use crate::traffic::{MAX_PAYLOAD_BYTES, groups, header_bytes, socket};
use crate::verbs::replay;
use crate::view::json;
use crate::view::quantity::{bit_rate, bytes, packet_rate, packets, seconds};
use crate::view::screen::Screen;

/// What was asked, checked.
struct Plan {
    /// As it was typed.
    given: String,
    /// Each group; alike in all else.
    to: Vec<Output>,
    pace: Pace,
    count: Option<u64>,
    payload_bytes: RangeInclusive<usize>,
    pattern: Pattern,
}

/// How it went, and what a script reads.
#[derive(Debug, Serialize)]
struct Summary {
    to: String,
    groups: usize,
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
    if args.pcap.is_some() {
        return replay::replay(args);
    }
    let format = args.output.format;
    let plan = plan(args)?;
    let first = plan.to.first().ok_or_else(|| Failure::usage("there is no group to send to"))?;
    let runs = if plan.pace == Pace::Fastest { Runs::Together } else { Runs::Apart };
    let outbox = Outbox::new(socket::sending(first)?, runs);
    let interrupt = Interrupt::watch()?;
    let screen = Screen::stdout();
    let summary = Run::new(&plan).go(outbox, &interrupt, screen)?;
    conclude(screen, format, summary.sent_packets, &summary, text)
}

/// Ends the live line and shows what a run came to; one that has sent nothing has failed.
pub(super) fn conclude<S: Serialize>(
    screen: Screen,
    format: Format,
    sent_packets: u64,
    summary: &S,
    text: fn(&S) -> String,
) -> Result<(), Failure> {
    screen.end_live_line()?;
    screen.print(&match format {
        Format::Json => json::line(summary),
        Format::Text => text(summary),
    })?;
    if sent_packets == 0 { Err(Failure::Silent) } else { Ok(()) }
}

fn plan(args: Send) -> Result<Plan, Failure> {
    let Send { to: given, rate, count, size, pattern, ttl, source, .. } = args;
    let endpoints = groups::expand(&given).map_err(Failure::usage)?;
    let to = endpoints.iter().map(|endpoint| output(endpoint, ttl, source.as_deref())).collect::<Result<_, _>>()?;
    let pace = Pace::parse(&rate).map_err(Failure::usage)?;
    let payload_bytes = parse_size(&size).map_err(Failure::usage)?;
    let pattern = Pattern::parse(&pattern).map_err(|error| Failure::usage(format!("--pattern {error}")))?;
    Ok(Plan { given, to, pace, count, payload_bytes, pattern })
}

/// Where an endpoint with these options sends to, and how.
pub(super) fn output(endpoint: &str, ttl: Option<i64>, source: Option<&str>) -> Result<Output, Failure> {
    let mut spec = OutputSpec::from_endpoint(endpoint).map_err(|error| Failure::usage(error.to_string()))?;
    spec.ttl = ttl.map(TtlSpec::Number).or(spec.ttl);
    spec.source = source.map(str::to_owned).or(spec.source);
    spec.check("endpoint").map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::usage(errors.join("\nmcr: "))
    })
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

/// A run of the sender: a stream to each group, all with the same numbers.
struct Run<'a> {
    plan: &'a Plan,
    /// Of the first group; the others follow.
    stream: u32,
    sequence: u64,
    sent: Sent,
    started: Instant,
}

impl<'a> Run<'a> {
    /// So many datagrams are made before they are sent; more would only age.
    const BATCH: usize = 256;

    fn new(plan: &'a Plan) -> Self {
        // Distinct from other runs is enough: time and process id make it so.
        let stream = mix(nanoseconds_since_1970() ^ u64::from(std::process::id())) as u32;
        Self { plan, stream, sequence: 0, sent: Sent::default(), started: Instant::now() }
    }

    fn go(mut self, mut outbox: Outbox, interrupt: &Interrupt, screen: Screen) -> Result<Summary, Failure> {
        const GLANCE: Duration = Duration::from_millis(100);
        let rounds = (Self::BATCH / self.plan.to.len()).max(1) as u64;
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
            let left = self.plan.count.map_or(rounds, |count| count - self.sequence);
            let due = schedule.take(now, rounds.min(left));
            self.send_rounds(&mut outbox, due)?;
        }
        Ok(self.summary())
    }

    /// So many datagrams to each group. One group after the other: equal ones that follow each other can go as one.
    fn send_rounds(&mut self, outbox: &mut Outbox, rounds: u64) -> Result<(), Failure> {
        let Plan { to, payload_bytes, pattern, .. } = self.plan;
        let spread = (payload_bytes.end() - payload_bytes.start() + 1) as u64;
        for (number, output) in to.iter().enumerate() {
            // The socket is connected to the only one, so that a host that does not listen is noticed.
            let target = (to.len() > 1).then(|| SocketAddr::new(output.target.ip(), output.port.get()));
            for sequence in self.sequence..self.sequence + rounds {
                let length = payload_bytes.start() + (mix(sequence) % spread) as usize;
                let stream = self.stream.wrapping_add(number as u32);
                let stamp = Stamp { stream, sequence, sent_nanoseconds: nanoseconds_since_1970() };
                outbox.put(target, length, |payload| payload::emit(stamp, pattern, payload));
            }
        }
        let Sent { packets, payload_bytes, refused } =
            outbox.send().map_err(|(length, error)| self.send_failure(length, &error))?;
        self.sent.packets += packets;
        self.sent.payload_bytes += payload_bytes;
        self.sent.refused += refused;
        self.sequence += rounds;
        Ok(())
    }

    fn send_failure(&self, payload_bytes: usize, error: &io::Error) -> Failure {
        send_failure(&self.plan.to[0], self.sent.packets, payload_bytes, error)
    }

    fn sent_bytes(&self) -> u64 {
        self.sent.payload_bytes + self.sent.packets * header_bytes(self.plan.to[0].target.ip())
    }

    fn line(&self, now: Instant) -> String {
        let seconds = now.duration_since(self.started).as_secs_f64();
        let rate = packet_rate(self.sent.packets as f64 / seconds);
        format!("sent {}, {rate}, {}", packets(self.sent.packets), bit_rate(self.sent_bytes() as f64 * 8.0 / seconds))
    }

    fn summary(&self) -> Summary {
        let seconds = self.started.elapsed().as_secs_f64();
        Summary {
            to: self.plan.given.clone(),
            groups: self.plan.to.len(),
            stream: self.stream,
            sent_packets: self.sent.packets,
            sent_bytes: self.sent_bytes(),
            refused_packets: self.sent.refused,
            seconds,
            packets_per_second: self.sent.packets as f64 / seconds,
            bits_per_second: self.sent_bytes() as f64 * 8.0 / seconds,
        }
    }
}

/// Why a datagram could not be sent, after so many that could.
pub(super) fn send_failure(to: &Output, sent_packets: u64, payload_bytes: usize, error: &io::Error) -> Failure {
    let Output { interface, target, .. } = to;
    let sent = packets(sent_packets);
    Failure::failed(match error.raw_os_error() {
        Some(libc::EMSGSIZE) => format!(
            "{payload_bytes} bytes do not fit the MTU of {interface} in one packet; use a smaller --size, or add ,fragment=true to send fragments"
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
