//! `mcr listen`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use mcr_model::Input;
use mcr_model::spec::InputSpec;
use serde::Serialize;

use crate::args::{Format, Listen};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::traffic::ears::{Ears, Heed};
use crate::traffic::foreign::{Account, Told};
use crate::traffic::spread::SpreadSeconds;
use crate::traffic::tally::Tally;
use crate::traffic::{groups, reverse_path};
use crate::view::json;
use crate::view::quantity::{bit_rate, bytes, count, packet_rate, packets, seconds};
use crate::view::screen::{Screen, TROUBLE};
use crate::view::table::{Align, Cell, Table};

/// When to end, besides when somebody asks for it.
#[derive(Debug, Clone, Copy)]
struct Ends {
    count: Option<u64>,
    duration: Option<Duration>,
    silence: Option<Duration>,
}

/// Packets that reached this host and were dropped by it.
#[derive(Debug, Clone, Copy)]
struct HostDrops {
    own_buffer: Option<u64>,
    reverse_path: Option<u64>,
}

/// What came, and what a script reads.
#[derive(Debug, Serialize)]
struct Summary {
    from: String,
    complete: bool,
    received_packets: u64,
    received_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_packets: Option<u64>,
    lost_packets: u64,
    duplicate_packets: u64,
    reordered_packets: u64,
    corrupt_packets: u64,
    foreign_packets: u64,
    /// Of the lost, those that arrived while this socket's buffer was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_buffer_dropped_packets: Option<u64>,
    /// What the reverse-path check of this network namespace dropped meanwhile, of this traffic or of other.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse_path_dropped_packets: Option<u64>,
    streams: usize,
    sources: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_seconds: Option<SpreadSeconds>,
    /// The change of latency from packet to packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_seconds: Option<SpreadSeconds>,
    /// Senders of packets that are no test packets, and what their headers say.
    foreign: Vec<Account>,
    /// The same of each group, when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Summary>,
}

/// Listens, counts, and fails unless everything came.
pub(crate) fn listen(args: Listen) -> Result<(), Failure> {
    let Listen { from, count, duration, timeout, output } = args;
    let inputs = inputs(&from)?;
    let reverse_path_before = reverse_path::dropped();
    let what = from.join(", ");
    let joined = match inputs.iter().filter(|input| input.target.is_group()).count() {
        0 => "",
        1 => "; the group is joined",
        _ => "; the groups are joined",
    };
    let mut ears = Ears::open(inputs)?;
    let interrupt = Interrupt::watch()?;
    // For whoever starts a sender next. Whether anybody reads it makes no difference to the count.
    let _ = writeln!(io::stderr(), "listening on {what}{joined}");
    let screen = Screen::stdout();
    receive(&mut ears, Ends { count, duration, silence: timeout }, &interrupt, screen)?;
    screen.end_live_line()?;
    let reverse_path = reverse_path::dropped().zip(reverse_path_before).map(|(now, before)| now.saturating_sub(before));
    let summary = summaries(&what, &ears, count, reverse_path);
    screen.print(&match output.format {
        Format::Json => json::line(&summary),
        Format::Text => text(&summary, screen),
    })?;
    if summary.complete { Ok(()) } else { Err(Failure::Silent) }
}

/// Each group is an input of its own.
fn inputs(from: &[String]) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for given in from {
        for endpoint in groups::expand(given).map_err(Failure::usage)? {
            let spec = InputSpec::from_endpoint(&endpoint).map_err(|error| Failure::usage(error.to_string()))?;
            inputs.push(spec.check("endpoint").map_err(|errors| {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Failure::usage(errors.join("\nmcr: "))
            })?);
        }
    }
    Ok(inputs)
}

fn receive(ears: &mut Ears, ends: Ends, interrupt: &Interrupt, screen: Screen) -> Result<(), Failure> {
    // How long Ctrl-C and the ends may go unnoticed on a silent wire.
    const GLANCE: Duration = Duration::from_millis(100);
    let started = Instant::now();
    let mut last_arrival = started;
    let mut line = LiveLine { shown: started, packets: 0, bytes: 0 };
    loop {
        // Not more than were asked for, although more may have come already.
        let left = ends.count.map_or(u64::MAX, |count| count.saturating_sub(ears.total().good()).max(1));
        let heed = ears.listen(GLANCE, left)?;
        let (now, tally) = (Instant::now(), ears.total());
        if heed == Heed::Something {
            last_arrival = now;
        }
        line.show(tally, now, screen)?;
        let is_over = ends.count.is_some_and(|count| tally.packets() >= count && tally.good() >= count)
            || ends.duration.is_some_and(|duration| now.duration_since(started) >= duration)
            || ends.silence.is_some_and(|silence| now.duration_since(last_arrival) >= silence);
        if is_over || interrupt.is_asked() {
            return Ok(());
        }
    }
}

/// The line that is renewed each second while a person looks.
struct LiveLine {
    shown: Instant,
    packets: u64,
    bytes: u64,
}

impl LiveLine {
    fn show(&mut self, tally: &Tally, now: Instant, screen: Screen) -> Result<(), Failure> {
        let seconds = now.duration_since(self.shown).as_secs_f64();
        if seconds < 1.0 || !screen.is_terminal() {
            return Ok(());
        }
        let (new_packets, new_bytes) = (tally.packets() - self.packets, tally.bytes() - self.bytes);
        *self = Self { shown: now, packets: tally.packets(), bytes: tally.bytes() };
        screen.live_line(&format!(
            "{}, {}; received {}, lost {}, duplicate {}, reordered {}, corrupt {}",
            packet_rate(new_packets as f64 / seconds),
            bit_rate(new_bytes as f64 * 8.0 / seconds),
            count(tally.packets()),
            count(tally.lost()),
            count(tally.duplicates()),
            count(tally.reordered()),
            count(tally.corrupt()),
        ))
    }
}

/// Of the whole, and of each group when there are several.
fn summaries(from: &str, ears: &Ears, expected: Option<u64>, reverse_path: Option<u64>) -> Summary {
    let each: Vec<_> = ears.each().collect();
    let drops = each.iter().filter_map(|(_, _, drops)| *drops).reduce(|sum, drops| sum + drops);
    let mut whole = summary(from, ears.total(), expected, HostDrops { own_buffer: drops, reverse_path });
    if each.len() > 1 {
        let of_one = |(input, tally, own_buffer): &(&Input, &Tally, Option<u64>)| {
            summary(&input.to_string(), tally, None, HostDrops { own_buffer: *own_buffer, reverse_path: None })
        };
        whole.groups = each.iter().map(of_one).collect();
        whole.complete &= whole.groups.iter().all(|group| group.complete);
    }
    whole
}

fn summary(from: &str, tally: &Tally, expected: Option<u64>, host: HostDrops) -> Summary {
    let rates = tally.rates();
    Summary {
        from: from.to_owned(),
        complete: tally.good() > 0
            && tally.lost() == 0
            && tally.corrupt() == 0
            && tally.continuity_errors() == 0
            && expected.is_none_or(|expected| tally.good() >= expected),
        received_packets: tally.packets(),
        received_bytes: tally.bytes(),
        expected_packets: expected,
        lost_packets: tally.lost(),
        duplicate_packets: tally.duplicates(),
        reordered_packets: tally.reordered(),
        corrupt_packets: tally.corrupt(),
        foreign_packets: tally.foreign(),
        own_buffer_dropped_packets: host.own_buffer,
        reverse_path_dropped_packets: host.reverse_path,
        streams: tally.streams(),
        sources: tally.sources().iter().map(|(source, packets)| (source.to_string(), *packets)).collect(),
        seconds: tally.span().map(|span| span.as_secs_f64()),
        packets_per_second: rates.map(|(packets, _)| packets),
        bits_per_second: rates.map(|(_, bits)| bits),
        latency_seconds: tally.latency(),
        jitter_seconds: tally.jitter(),
        foreign: tally.foreign_accounts().collect(),
        groups: Vec::new(),
    }
}

fn text(summary: &Summary, screen: Screen) -> String {
    let Summary { from, complete, received_packets, expected_packets, groups, .. } = summary;
    if *received_packets == 0 {
        return nothing_came(summary);
    }
    let verdict = match (complete, expected_packets) {
        (true, None) if summary.foreign.iter().any(|account| account.told == Told::default()) => {
            "not only test packets; those without numbers are only counted".to_owned()
        }
        (true, _) => "all came".to_owned(),
        (false, Some(expected)) => format!("not all of {} came", packets(*expected)),
        (false, None) => "not all came".to_owned(),
    };
    let mut lines = vec![format!("{from}: {verdict}"), received_line(summary), lost_line(summary)];
    lines.extend(summary.own_buffer_dropped_packets.filter(|drops| *drops > 0).map(|drops| {
        format!(
            "           {} arrived but found this listener's buffer full: it was too slow, so send at a lower rate",
            packets(drops)
        )
    }));
    lines.extend(summary.latency_seconds.map(|latency| format!("  latency  {}", spread(latency))));
    lines.extend(summary.jitter_seconds.map(|jitter| format!("  jitter   {}", spread(jitter))));
    if groups.is_empty() {
        let sources = summary.sources.iter();
        lines.extend(sources.map(|(source, number)| format!("  source   {source}: {}", packets(*number))));
        lines.extend(summary.foreign.iter().map(foreign_line));
        return lines.join("\n") + "\n";
    }
    lines.join("\n") + "\n\n" + &group_table(groups).render(screen.ink())
}

/// A line for each group; what wants attention is marked.
fn group_table(groups: &[Summary]) -> Table<8> {
    let mut table = Table::new([
        ("GROUP", Align::Left),
        ("PACKETS", Align::Right),
        ("RATE", Align::Right),
        ("BIT RATE", Align::Right),
        ("LOST", Align::Right),
        ("DUPLICATE", Align::Right),
        ("REORDERED", Align::Right),
        ("CORRUPT", Align::Right),
    ]);
    let bad = |number: u64| Cell::styled(count(number), if number > 0 { TROUBLE } else { anstyle::Style::new() });
    for group in groups {
        let style = if group.received_packets == 0 { TROUBLE } else { anstyle::Style::new() };
        table.push([
            group.from.as_str().into(),
            Cell::styled(count(group.received_packets), style),
            group.packets_per_second.map_or_else(|| "-".to_owned(), packet_rate).into(),
            group.bits_per_second.map_or_else(|| "-".to_owned(), bit_rate).into(),
            bad(group.lost_packets),
            count(group.duplicate_packets).into(),
            count(group.reordered_packets).into(),
            bad(group.corrupt_packets),
        ]);
    }
    table
}

fn spread(SpreadSeconds { least, mean, p50, p99, p999, most }: SpreadSeconds) -> String {
    let [least, mean, p50, p99, p999, most] = [least, mean, p50, p99, p999, most].map(seconds);
    format!("{least} least, {mean} mean, {p50} half, {p99} 99 %, {p999} 99.9 %, {most} most")
}

fn foreign_line(account: &Account) -> String {
    let Account { source, kind, detail, packets: number, told } = account;
    let mut line = format!("  foreign  {source}: {}, {kind}", packets(*number));
    if !detail.is_empty() {
        line.push_str(&format!(" ({detail})"));
    }
    let numbers =
        [("lost", told.lost_packets), ("duplicate", told.duplicate_packets), ("reordered", told.reordered_packets)];
    let numbers = numbers.into_iter().chain([("continuity errors", told.continuity_errors)]);
    numbers.filter_map(|(what, number)| Some((what, number?))).for_each(|(what, number)| {
        line.push_str(&format!(", {what} {}", count(number)));
    });
    line
}

fn nothing_came(summary: &Summary) -> String {
    let from = &summary.from;
    match summary.reverse_path_dropped_packets {
        Some(dropped) if dropped > 0 => format!(
            "{from}: nothing came to this socket, but the reverse-path check of this host dropped {} meanwhile: it has no \
             route back to their source. A relay takes them before that check: mcr relay {from} OUTPUT\n",
            packets(dropped)
        ),
        Some(_) | None => format!(
            "{from}: nothing came. Is the sender sending, is the relay ready (`mcr list`), does the TTL reach here?\n"
        ),
    }
}

fn received_line(summary: &Summary) -> String {
    let mut line = format!("  received {}, {}", packets(summary.received_packets), bytes(summary.received_bytes));
    line.extend(summary.seconds.map(|span| format!(" in {}", seconds(span))));
    if let (Some(packets), Some(bits)) = (summary.packets_per_second, summary.bits_per_second) {
        line.push_str(&format!(": {}, {}", packet_rate(packets), bit_rate(bits)));
    }
    line
}

fn lost_line(summary: &Summary) -> String {
    let Summary { lost_packets, duplicate_packets, reordered_packets, corrupt_packets, foreign_packets, .. } = summary;
    let mut line = format!(
        "  lost     {}; duplicate {}, reordered {}, corrupt {}",
        count(*lost_packets),
        count(*duplicate_packets),
        count(*reordered_packets),
        count(*corrupt_packets)
    );
    if *foreign_packets > 0 {
        line.push_str(&format!(", no test packets {}", count(*foreign_packets)));
    }
    line
}
