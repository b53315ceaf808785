//! `mcr discover`: what multicast is on this wire?

use std::io::{self, Write};
use std::time::{Duration, Instant};

use mcr_inspect::{Flows, Look};
use mcr_model::Prefix;
use mcr_model::flow::FlowReport;
use mcr_model::time::Timestamp;

use crate::args::{Discover, Format};
use crate::client::Client;
use crate::discover::draft::draft;
use crate::discover::eyes::{Eyes, Far, Own, Wish};
use crate::discover::scene::Scene;
use crate::failure::Failure;
use crate::import::Draft;
use crate::interrupt::Interrupt;
use crate::view::screen::Screen;

/// How long is looked where nobody can end it.
const UNWATCHED: Duration = Duration::from_secs(10);

/// How many flows are shown, to whom, and until when.
struct Show {
    screen: Screen,
    /// A person follows it on the terminal.
    is_live: bool,
    notice: String,
    hidden: Vec<String>,
    groups: Vec<Prefix>,
    interrupt: Interrupt,
    started: Instant,
    end: Option<Instant>,
}

/// Looks, shows what it sees while it looks, and ends with the result.
pub(crate) fn discover(args: Discover) -> Result<(), Failure> {
    let Discover { interfaces, duration, groups, probe_groups, to, daemon, output } = args;
    let screen = Screen::stdout();
    let is_live = screen.is_terminal() && output.format == Format::Text && to.is_none();
    let wish = Wish { interfaces, probe_groups };
    let eyes = Eyes::open(&wish, Client::new(daemon)?)?;
    let started = Instant::now();
    let show = Show {
        screen,
        is_live,
        notice: eyes.notice(),
        hidden: eyes.hidden(),
        groups,
        interrupt: Interrupt::watch()?,
        started,
        end: duration.or((!is_live).then_some(UNWATCHED)).map(|length| started + length),
    };
    if is_live {
        screen.print("\x1b[2J")?;
    } else {
        let _ = writeln!(io::stderr(), "{}", show.notice);
    }
    let report = match eyes {
        Eyes::Own(own) => look(own, &show)?,
        Eyes::OfDaemon(far) => ask(&far, &show)?,
    };
    let scene = Scene::of(report, show.hidden, &show.groups);
    match (to, output.format) {
        (Some(to), _) => print_draft(&draft(&scene.report, to.as_str()), screen),
        (None, Format::Json) => screen.print(&scene.json()),
        // It stands there already.
        (None, Format::Text) if is_live => Ok(()),
        (None, Format::Text) => screen.print(&scene.table(screen.ink())),
    }
}

impl Show {
    /// Whether it is over.
    fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end) || self.interrupt.is_asked()
    }

    fn draw(&self, report: FlowReport) -> Result<(), Failure> {
        let scene = Scene::of(report, self.hidden.clone(), &self.groups);
        self.screen.redraw(&cut(&format!("{}\n\n{}", self.notice, scene.table(self.screen.ink())), rows()))
    }
}

/// Lines of the terminal; some do not say.
fn rows() -> usize {
    let said = ratatui::crossterm::terminal::size().ok().map(|(_, rows)| usize::from(rows));
    said.filter(|rows| *rows > 0).unwrap_or(24)
}

/// What of `text` fits so many rows, and how much does not: what scrolls could not be replaced.
fn cut(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(2).max(1);
    if lines.len() <= room {
        return text.to_owned();
    }
    let more = lines.len() - room;
    format!("{}\n… {more} more lines; --groups PREFIX shows fewer flows\n", lines[..room].join("\n"))
}

fn print_draft(draft: &Draft, screen: Screen) -> Result<(), Failure> {
    screen.print(&draft.text())?;
    if draft.relays() == 0 {
        return Err(Failure::failed(
            "nothing came that could be relayed; look longer with --duration, or join with --probe-groups",
        ));
    }
    Ok(())
}

/// Looks with sockets of this process.
fn look(own: Own, show: &Show) -> Result<FlowReport, Failure> {
    const GLANCE: Duration = Duration::from_millis(100);
    let Own { mut gaze, links, _joined } = own;
    let names = links.iter().map(|link| (link.index, link.name.clone())).collect();
    let (mut flows, mut missed, began) = (Flows::default(), 0, Timestamp::now());
    let mut next = show.started + Duration::from_secs(1);
    loop {
        let now = Instant::now();
        let is_over = show.is_over(now);
        if is_over || now >= next {
            missed += gaze.missed();
            let mut report = flows.report(Look { names: &names, began, now: show.started.elapsed() });
            report.missed_packets = missed;
            if show.is_live {
                show.draw(report.clone())?;
            }
            if is_over {
                return Ok(report);
            }
            next = now + Duration::from_secs(1);
        }
        let glance = now + GLANCE;
        gaze.watch(show.end.map_or(glance, |end| end.min(glance)), |index, frame, beside| {
            flows.see(index, frame, beside, show.started.elapsed());
        });
    }
}

/// Has the daemon look, a while at a time, and shows what it has seen since.
fn ask(far: &Far, show: &Show) -> Result<FlowReport, Failure> {
    /// Ctrl-C is noticed between two of them.
    const LONGEST: Duration = Duration::from_secs(5);
    const SHORTEST: Duration = Duration::from_millis(100);
    loop {
        let left = show.end.map_or(LONGEST, |end| end.saturating_duration_since(Instant::now()));
        let step = if show.is_live { Duration::from_secs(1) } else { LONGEST };
        let mut report = far.look(left.clamp(SHORTEST, step))?;
        let seconds = show.started.elapsed().as_secs_f64();
        // The daemon remembers what others have looked at before.
        report.flows.retain(|flow| flow.last_packet_seconds <= seconds);
        if show.is_live {
            show.draw(report.clone())?;
        }
        if show.is_over(Instant::now()) {
            return Ok(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told() {
        assert_eq!(cut("a\nb\nc\n", 5), "a\nb\nc\n");
        assert_eq!(cut("a\nb\nc\n", 4), "a\nb\n… 1 more lines; --groups PREFIX shows fewer flows\n");
    }
}
