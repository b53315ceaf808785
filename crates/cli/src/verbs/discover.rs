//! `mcr discover`: what multicast is on this wire?

use std::io::{self, Write};
use std::time::{Duration, Instant};

use mcr_diagnose::{Gaze, Link};
use mcr_inspect::Flows;

use crate::args::{Discover, Format};
use crate::discover::draft::draft;
use crate::discover::scene::Scene;
use crate::failure::Failure;
use crate::import::Draft;
use crate::interrupt::Interrupt;
use crate::traffic::socket;
use crate::view::screen::Screen;

/// How long is looked where nobody can end it.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Looks, shows what it sees while it looks, and ends with the result.
pub(crate) fn discover(args: Discover) -> Result<(), Failure> {
    let Discover { interfaces, duration, groups, probe_groups, to, output } = args;
    let screen = Screen::stdout();
    let is_live = screen.is_terminal() && output.format == Format::Text && to.is_none();
    let links = chosen(&interfaces)?;
    let indexes: Vec<u32> = links.iter().map(|link| link.index).collect();
    let mut gaze =
        Gaze::open(&indexes).map_err(|blind| Failure::failed(format!("{}; {}", blind.reason, blind.remedy)))?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    // Held until the end of the look.
    let _joined = socket::probing(&names, &probe_groups)?;
    let notice = notice(&links, probe_groups.is_empty());
    if !is_live {
        let _ = writeln!(io::stderr(), "{notice}");
    }
    let interrupt = Interrupt::watch()?;
    let mut scene = Scene::new(&links, groups);
    let end = duration.or((!is_live).then_some(UNWATCHED)).map(|length| scene.started() + length);
    if is_live {
        screen.print("\x1b[2J")?;
    }
    look(&mut gaze, &mut scene, end, &interrupt, |scene| match is_live {
        true => screen.redraw(&cut(&format!("{notice}\n\n{}", scene.table(screen.ink())), rows())),
        false => Ok(()),
    })?;
    match (to, output.format) {
        (Some(to), _) => print_draft(&draft(&scene, to.as_str()), screen),
        (None, Format::Json) => screen.print(&scene.json()),
        // It stands there already.
        (None, Format::Text) if is_live => Ok(()),
        (None, Format::Text) => screen.print(&scene.table(screen.ink())),
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

/// Looks until `end` or until somebody asks; `show` is called each second.
fn look(
    gaze: &mut Gaze,
    scene: &mut Scene,
    end: Option<Instant>,
    interrupt: &Interrupt,
    mut show: impl FnMut(&Scene) -> Result<(), Failure>,
) -> Result<(), Failure> {
    const GLANCE: Duration = Duration::from_millis(100);
    let mut next = scene.started() + Duration::from_secs(1);
    loop {
        let now = Instant::now();
        let is_over = end.is_some_and(|end| now >= end) || interrupt.is_asked();
        if is_over || now >= next {
            scene.missed += gaze.missed();
            show(scene)?;
            next = now + Duration::from_secs(1);
        }
        if is_over {
            return Ok(());
        }
        let glance = now + GLANCE;
        let started = scene.started();
        let flows: &mut Flows = &mut scene.flows;
        gaze.watch(end.map_or(glance, |end| end.min(glance)), |index, frame, beside| {
            flows.see(index, frame, beside, started.elapsed());
        });
    }
}

/// The interfaces that were named, or all that are up and could carry it. Of a bridge or bond its ports are not looked at, nor a
/// VLAN's interface beside the one that it is on: each packet is seen once.
fn chosen(named: &[String]) -> Result<Vec<Link>, Failure> {
    let links = mcr_diagnose::links()
        .map_err(|error| Failure::failed(format!("the interfaces can not be listed: {error}; report this")))?;
    if named.is_empty() {
        let is_looked_at = |link: &&Link| {
            link.up && link.multicast && link.name != "lo" && link.master.is_none() && link.kind != "vlan"
        };
        let found: Vec<Link> = links.iter().filter(is_looked_at).cloned().collect();
        let none = "no interface is up; `ip link set INTERFACE up` takes one up";
        return if found.is_empty() { Err(Failure::failed(none)) } else { Ok(found) };
    }
    let find = |name: &String| match links.iter().find(|link| link.name == *name) {
        Some(link) if link.up => Ok(link.clone()),
        Some(_) => Err(Failure::failed(format!("{name} is down; `ip link set {name} up` takes it up"))),
        None => Err(Failure::failed(format!("there is no interface {name}; `ip link` lists those that there are"))),
    };
    let mut found: Vec<Link> = named.iter().map(find).collect::<Result<_, _>>()?;
    found.sort_by_key(|link| link.index);
    found.dedup_by_key(|link| link.index);
    Ok(found)
}

fn notice(links: &[Link], nothing_joined: bool) -> String {
    let names = |is_named: fn(&&Link) -> bool| {
        links.iter().filter(is_named).map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let switch = match nothing_joined {
        true => "a switch that snoops sends here only what somebody here has joined, or floods",
        false => "the groups to probe are joined",
    };
    let mut notice = format!("looking at {} (promiscuous meanwhile); {switch}", names(|_| true));
    let taken = names(|link| link.xdp);
    if !taken.is_empty() {
        notice.push_str(&format!("\nnot seen is what an XDP program takes before anybody sees it, on {taken}"));
    }
    notice
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
