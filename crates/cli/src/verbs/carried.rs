//! `mcr stats NAME --history`

use std::time::Duration;

use mcr_model::status::RelayHistory;
use mcr_model::{RelayName, duration};

use crate::args::{Format, Step};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::quantity::{bit_rate, packet_rate, seconds};
use crate::view::screen::{Ink, Screen, TROUBLE};
use crate::view::table::{Align, Cell, Table};

/// So many steps are shown unless somebody says otherwise.
const STEPS: u32 = 60;
/// A line has at most so many columns; more steps are gathered.
const COLUMNS: usize = 60;

/// Shows what a relay carried.
pub(crate) fn carried(
    client: &Client,
    name: &RelayName,
    step: Step,
    last: Option<Duration>,
    format: Format,
) -> Result<(), Failure> {
    let (word, length) = match step {
        Step::Second => ("1s", Duration::from_secs(1)),
        Step::Minute => ("1m", Duration::from_secs(60)),
    };
    let last = duration::text(last.unwrap_or(length * STEPS));
    let answer = client.get(&format!("relays/{name}/history?step={word}&last={last}"))?;
    let screen = Screen::stdout();
    match format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => screen.print(&text(&answer.read()?, screen.ink())),
    }
}

fn text(history: &RelayHistory, ink: Ink) -> String {
    let RelayHistory { relay, step_seconds, start, received_packets, received_bytes, dropped_packets } = history;
    let steps = received_packets.len();
    if steps == 0 {
        return format!("{relay} has carried nothing yet\n");
    }
    let per_second = |values: &[u64], factor: f64| -> Vec<f64> {
        values.iter().map(|value| *value as f64 * factor / *step_seconds as f64).collect()
    };
    let mut table = Table::new([
        ("", Align::Left),
        ("LEAST", Align::Right),
        ("MEAN", Align::Right),
        ("MOST", Align::Right),
        ("FROM OLDEST TO NEWEST", Align::Left),
    ]);
    table.push(row("received".into(), &per_second(received_packets, 1.0), packet_rate));
    table.push(row("".into(), &per_second(received_bytes, 8.0), bit_rate));
    let style = if dropped_packets.iter().any(|packets| *packets > 0) { TROUBLE } else { anstyle::Style::new() };
    table.push(row(Cell::styled("dropped", style), &per_second(dropped_packets, 1.0), packet_rate));
    let span = seconds((steps as u64 * step_seconds) as f64);
    format!("{relay}, {span} in steps of {step_seconds} s, from {start}\n{}", table.render(ink))
}

fn row(title: Cell, rates: &[f64], text: fn(f64) -> String) -> [Cell; 5] {
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    [title, text(least).into(), text(mean).into(), text(most).into(), sparkline(rates, most).into()]
}

/// Each rate as a bar; when there are more than fit, the mean of each few.
fn sparkline(rates: &[f64], most: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let few = rates.len().div_ceil(COLUMNS);
    let bar = |rates: &[f64]| {
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let height = if most > 0.0 { (mean / most * 7.0).round() as usize } else { 0 };
        BARS[height.min(7)]
    };
    rates.chunks(few).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_a_few_lines() {
        let history = RelayHistory {
            relay: "camera-3".into(),
            step_seconds: 1,
            start: "2026-11-27T04:31:00.000Z".into(),
            received_packets: vec![0, 5_000, 10_000, 10_000, 2_500],
            received_bytes: vec![0, 6_890_000, 13_780_000, 13_780_000, 3_445_000],
            dropped_packets: vec![0, 0, 0, 0, 0],
        };
        insta::assert_snapshot!(text(&history, Ink::Plain), @"
        camera-3, 5.0 s in steps of 1 s, from 2026-11-27T04:31:00.000Z
                    LEAST         MEAN        MOST  FROM OLDEST TO NEWEST
        received    0 pps    5.50 kpps   10.0 kpps  ▁▅██▃
                  0 bit/s  60.6 Mbit/s  110 Mbit/s  ▁▅██▃
        dropped     0 pps        0 pps       0 pps  ▁▁▁▁▁
        ");
        let long: Vec<f64> = (0..3600).map(f64::from).collect();
        assert_eq!(sparkline(&long, 3599.0).chars().count(), COLUMNS);
    }
}
