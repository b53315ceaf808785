//! The in-kernel datapath as the keeper has it: the program, loaded once, and where it is attached.
//!
//! Only descriptors of the tables leave the keeper; the program and its links do not, since whoever has a program may
//! attach it anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use mcr_kernel_path::{Loaded, Sizes, Unproven, Xdp, load};

use crate::interface;
use crate::pins::{Links, Pins};
use crate::privileges;
use crate::protocol::{Failure, FailureKind, Hook};

/// Whether the in-kernel datapath outlives this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pinning {
    /// In this bpffs.
    In(PathBuf),
    Off,
}

/// The program and its links.
#[derive(Debug, Default)]
pub(crate) struct KernelPath {
    /// Where it outlives this process; `None`: it does not.
    pins: Option<Pins>,
    sizes: Sizes,
    loaded: Option<Loaded>,
    /// Why it is not loaded, and not tried again.
    refused: Option<Failure>,
    links: Links,
    /// The numbers by which the tables name the interfaces that may be sent to.
    ports: BTreeMap<u32, u32>,
    /// Numbers go round, so that one is not soon another interface's.
    last_port: u32,
    /// The interfaces that were seen to take frames at the driver.
    proven: BTreeSet<u32>,
    /// Numbers of lists of interfaces that the program at the driver copies to. They go round as well.
    fan_outs: BTreeMap<Vec<u32>, u32>,
    last_fan_out: u32,
    /// Those that a keeper before this one made: relays may be sent by them still, to interfaces that nobody knows.
    inherited: BTreeSet<u32>,
    /// What the administrator should hear of.
    warnings: Vec<String>,
}

impl KernelPath {
    /// With the sizes of the tables; what a keeper before this one left pinned is gone on with.
    pub(crate) fn new(sizes: Sizes, pinning: Pinning) -> (Self, Result<(), io::Error>) {
        let path = Self { sizes, ..Self::default() };
        match pinning {
            Pinning::Off => (path, Ok(())),
            Pinning::In(bpffs) => match Pins::open(&bpffs, mcr_kernel_path::layout(&sizes)) {
                Ok(pins) => (path.with(pins), Ok(())),
                Err(error) => (path, Err(error)),
            },
        }
    }

    fn with(mut self, pins: Pins) -> Self {
        if let Some((loaded, links)) = pins.find() {
            let of = |port| loaded.ports().get(port).ok().flatten().map(|interface| (interface, port));
            self.ports = (1..loaded.ports().limit()).filter_map(of).collect();
            self.last_port = self.ports.values().copied().max().unwrap_or(0);
            let made_before = |xdp: &Xdp| (1..self.sizes.fan_outs).filter(|number| xdp.has_fan_out(*number)).collect();
            self.inherited = loaded.xdp().map(made_before).unwrap_or_default();
            self.links = links;
            self.loaded = Some(loaded);
        }
        self.pins = Some(pins);
        self
    }

    /// Loads the program unless it is loaded. What the kernel refuses once for good is not tried again.
    pub(crate) fn load(&mut self) -> Result<&Loaded, Failure> {
        if let Some(failure) = &self.refused {
            return Err(failure.clone());
        }
        if self.loaded.is_none() {
            let loaded = load(&self.sizes).map_err(|error| {
                let failure = not_loaded(&error);
                self.refused = error.is_final().then(|| failure.clone());
                failure
            })?;
            for (interface, port) in &self.ports {
                loaded.ports().set(*port, *interface).map_err(|error| port_refused(*interface, &error))?;
            }
            // Without pins it works as well, as long as this process does.
            if let Some(Err(error)) = self.pins.as_ref().map(|pins| pins.keep(&loaded)) {
                self.warnings
                    .push(format!("the in-kernel datapath can not be pinned and will end with this keeper: {error}"));
                self.pins = None;
            }
            self.loaded = Some(loaded);
        }
        Ok(self.loaded.as_ref().expect("loaded just now"))
    }

    /// The tables, once the program is loaded.
    pub(crate) fn tables(&self) -> Vec<BorrowedFd<'_>> {
        self.loaded.iter().flat_map(|loaded| loaded.maps().fds()).collect()
    }

    /// Attaches the program, unless it is there.
    pub(crate) fn attach(&mut self, interface: u32, hook: Hook) -> Result<(), Failure> {
        if self.links.contains_key(&(interface, hook)) {
            return Ok(());
        }
        let loaded = self.load()?;
        let link = match hook {
            Hook::Tcx => loaded.attach(interface).map_err(|error| not_attached(interface, &error))?,
            Hook::Xdp => at_driver(loaded)?.attach(interface).map_err(|error| unproven(interface, &error))?,
        };
        // As above.
        if let Some(Err(error)) = self.pins.as_ref().map(|pins| pins.keep_link(interface, hook, link.as_fd())) {
            let (hook, interface) = (hook.name(), interface::label(interface));
            self.warnings
                .push(format!("{hook} on {interface} can not be pinned and will end with this keeper: {error}"));
        }
        self.links.insert((interface, hook), link);
        Ok(())
    }

    /// Detaches it; says whether it was attached.
    pub(crate) fn detach(&mut self, interface: u32, hook: Hook) -> bool {
        if let Some(pins) = &self.pins {
            pins.drop_link(interface, hook);
        }
        self.links.remove(&(interface, hook)).is_some()
    }

    /// Lets the tables send to an interface; the number that they have for it.
    pub(crate) fn open_port(&mut self, interface: u32) -> Result<u32, Failure> {
        if let Some(port) = self.ports.get(&interface) {
            return Ok(*port);
        }
        let port = self.free_port().ok_or_else(|| too_many_ports(interface, self.sizes.ports))?;
        if let Some(loaded) = &self.loaded {
            loaded.ports().set(port, interface).map_err(|error| port_refused(interface, &error))?;
        }
        self.ports.insert(interface, port);
        self.last_port = port;
        Ok(port)
    }

    /// Lets them no longer: what they still send there is dropped as `output_missing`.
    pub(crate) fn close_port(&mut self, interface: u32) {
        let Some(port) = self.ports.remove(&interface) else { return };
        self.forget_fan_outs_to(interface);
        self.proven.remove(&interface);
        if let Some(loaded) = &self.loaded {
            // The numbers are of the tables: nothing can fail.
            let _ = loaded.ports().clear(port);
            let _ = loaded.xdp().map(|xdp| xdp.close_port(port));
        }
    }

    /// Sees whether a frame that is redirected to an open output at the driver leaves there.
    pub(crate) fn prove(&mut self, interface: u32, own_address: [u8; 6]) -> Result<(), Failure> {
        let port = *self.ports.get(&interface).ok_or_else(|| not_open(interface))?;
        self.proven.remove(&interface);
        let xdp = at_driver(self.load()?)?;
        match xdp.open_port(port, interface, own_address) {
            Ok(()) => {
                self.proven.insert(interface);
                Ok(())
            }
            Err(error) => {
                // It may have worked before.
                self.forget_fan_outs_to(interface);
                Err(unproven(interface, &error))
            }
        }
    }

    /// The number of the fan-out to these interfaces; all relays with the same outputs share one.
    pub(crate) fn fan_out(&mut self, interfaces: Vec<u32>) -> Result<u32, Failure> {
        if let Some(number) = self.fan_outs.get(&interfaces) {
            return Ok(*number);
        }
        if let Some(missing) = interfaces.iter().find(|interface| !self.proven.contains(interface)) {
            return Err(not_open(*missing));
        }
        let (limit, last) = (self.sizes.fan_outs, self.last_fan_out);
        let used: BTreeSet<u32> = self.fan_outs.values().copied().collect();
        let inherited = self.inherited.clone();
        let xdp = at_driver(self.load()?)?;
        let is_free = |number: &u32| !used.contains(number) && !inherited.contains(number);
        let number = (last + 1..limit).chain(1..=last).find(is_free).ok_or_else(|| too_many_fan_outs(limit))?;
        xdp.set_fan_out(number, &interfaces).map_err(|error| not_fanned(&error))?;
        self.fan_outs.insert(interfaces, number);
        self.last_fan_out = number;
        Ok(number)
    }

    fn forget_fan_outs_to(&mut self, interface: u32) {
        let gone: Vec<u32> = self.fan_outs.iter().filter(|(to, _)| to.contains(&interface)).map(|(_, n)| *n).collect();
        gone.into_iter().for_each(|number| self.forget_fan_out(number));
    }

    /// Gives up all fan-outs but these.
    pub(crate) fn keep_fan_outs(&mut self, numbers: &[u32]) {
        let kept: BTreeSet<u32> = numbers.iter().copied().collect();
        let all: BTreeSet<u32> = self.fan_outs.values().chain(&self.inherited).copied().collect();
        all.difference(&kept).for_each(|number| self.forget_fan_out(*number));
    }

    /// Gives up a fan-out: relays that name it are served at tcx ingress.
    fn forget_fan_out(&mut self, number: u32) {
        self.fan_outs.retain(|_, known| *known != number);
        self.inherited.remove(&number);
        if let Some(Ok(xdp)) = self.loaded.as_ref().map(Loaded::xdp) {
            // None of that number is no harm.
            let _ = xdp.clear_fan_out(number);
        }
    }

    fn free_port(&self) -> Option<u32> {
        let limit = self.sizes.ports;
        let used: BTreeSet<u32> = self.ports.values().copied().collect();
        (self.last_port + 1..limit).chain(1..=self.last_port).find(|port| !used.contains(port))
    }

    /// The interfaces that may be sent to.
    pub(crate) fn open_ports(&self) -> impl Iterator<Item = u32> {
        self.ports.keys().copied()
    }

    /// What went less well than it should since this was asked last.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Where it is attached.
    pub(crate) fn attached(&self) -> impl Iterator<Item = (u32, Hook)> {
        self.links.keys().copied()
    }

    /// Whether it is attached to that interface.
    pub(crate) fn is_on(&self, interface: u32) -> bool {
        Hook::ALL.iter().any(|hook| self.links.contains_key(&(interface, *hook)))
    }

    /// Detaches it everywhere and gives up the program and its tables.
    pub(crate) fn release(&mut self) {
        if let Some(pins) = &self.pins {
            pins.clear();
        }
        self.links.clear();
        self.ports.clear();
        self.proven.clear();
        self.fan_outs.clear();
        self.inherited.clear();
        self.loaded = None;
    }
}

/// The programs at the driver.
fn at_driver(loaded: &Loaded) -> Result<&Xdp, Failure> {
    loaded.xdp().map_err(|error| failure(None, format!("the programs for XDP can not be loaded: {error}"), USE_TCX))
}

const USE_TCX: &str = "mend that, or use datapath = \"tcx\" or \"auto\"";

fn failure(errno: Option<i32>, reason: String, remedy: &str) -> Failure {
    Failure { kind: FailureKind::System, errno, reason, remedy: remedy.to_owned() }
}

fn not_attached(interface: u32, error: &io::Error) -> Failure {
    let reason = format!("can not attach the in-kernel datapath to {}: {error}", interface::label(interface));
    failure(error.raw_os_error(), reason, "use Linux 6.6 or newer, or datapath = \"packet\"")
}

/// The text of the error is a clause about the interface, with what to do after a semicolon or in brackets.
fn unproven(interface: u32, error: &Unproven) -> Failure {
    failure(None, format!("{} can not be served at the driver: {error}", interface::label(interface)), USE_TCX)
}

fn not_open(interface: u32) -> Failure {
    let reason = format!("{} is not open for sending at the driver", interface::label(interface));
    failure(None, reason, "nothing: it is tried again")
}

fn too_many_fan_outs(limit: u32) -> Failure {
    let reason = format!("{} different lists of output interfaces are in use at the driver", limit.saturating_sub(1));
    failure(
        None,
        reason,
        "raise `fan_outs` under [tables] in the keeper's policy (/etc/mcr/policy.toml) and restart mcr-netd",
    )
}

fn not_fanned(error: &io::Error) -> Failure {
    failure(error.raw_os_error(), format!("a list of output interfaces can not be made: {error}"), USE_TCX)
}

fn port_refused(interface: u32, error: &io::Error) -> Failure {
    Failure {
        kind: FailureKind::System,
        errno: error.raw_os_error(),
        reason: format!("can not open {} for the in-kernel datapath: {error}", interface::label(interface)),
        remedy: "restart mcr-netd, and report this with its log".to_owned(),
    }
}

fn too_many_ports(interface: u32, limit: u32) -> Failure {
    let (most, interface) = (limit.saturating_sub(1), interface::label(interface));
    Failure {
        kind: FailureKind::System,
        errno: None,
        reason: format!("can not open {interface} for sending: {most} outputs are open already"),
        remedy: "use fewer interfaces, or start another keeper and daemon for the rest".to_owned(),
    }
}

fn not_loaded(error: &mcr_kernel_path::LoadError) -> Failure {
    let (reason, remedy) = if privileges::may_load_programs() {
        (
            format!("the in-kernel datapath can not be loaded: {error}"),
            "use Linux 6.6 or newer with BTF, or datapath = \"packet\"",
        )
    } else {
        (
            "the keeper may not load eBPF programs: it has no CAP_BPF and CAP_PERFMON".to_owned(),
            "start mcr-netd as root or with these capabilities, or use datapath = \"packet\"",
        )
    };
    Failure { kind: FailureKind::System, errno: None, reason, remedy: remedy.to_owned() }
}
