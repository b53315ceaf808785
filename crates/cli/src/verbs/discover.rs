//! `mcr discover`: what multicast is on this wire?

use std::io::{self, Write};
use std::time::{Duration, Instant};

use mcr_diagnose::{Gaze, Link};
use mcr_inspect::Flows;

use crate::args::{Discover, Format};
use crate::discover::draft::draft;
use crate::discover::scene::Scene;
use crate::failure::Failure;
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
    let _ = writeln!(io::stderr(), "{}", notice(&links, probe_groups.is_empty()));
    let interrupt = Interrupt::watch()?;
    let mut scene = Scene::new(&links, groups);
    let end = duration.or((!is_live).then_some(UNWATCHED)).map(|length| scene.started() + length);
    if is_live {
        screen.print("\x1b[2J")?;
    }
    look(&mut gaze, &mut scene, end, &interrupt, |scene| match is_live {
        true => screen.redraw(&scene.table(screen.ink())),
        false => Ok(()),
    })?;
    screen.print(&match (to, output.format) {
        (Some(to), _) => draft(&scene, to.as_str()),
        (None, Format::Json) => scene.json(),
        (None, Format::Text) if is_live => String::new(),
        (None, Format::Text) => scene.table(screen.ink()),
    })
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
