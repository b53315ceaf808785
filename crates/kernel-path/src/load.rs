//! Loading and attaching: what needs privileges.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};

use crate::maps::{Maps, NotOurMaps};
use crate::ports::Ports;
use crate::sys;
use crate::xdp::Xdp;

pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs.bpf.o"));

/// How much the tables can hold; memory is taken when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Relays, all inputs together.
    pub relays: u32,
    /// Outputs, all relays together. About 250 bytes each, and 24 more for each CPU.
    pub outputs: u32,
    /// Listed sources, all relays together.
    pub sources: u32,
    /// Input interfaces.
    pub inputs: u32,
    /// Link-layer addresses of our own, counted for each input.
    pub own_macs: u32,
    /// Output interfaces.
    pub ports: u32,
    /// Different lists of output interfaces that the program at the driver copies to.
    pub fan_outs: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            relays: 16_384,
            outputs: 32_768,
            sources: 16_384,
            inputs: 1024,
            own_macs: 16_384,
            ports: 256,
            fan_outs: 1024,
        }
    }
}

impl Sizes {
    /// Records beyond those in use: a change writes new ones before the old are free again.
    fn spare(size: u32) -> u32 {
        (size / 4).clamp(256, 4096)
    }

    /// Entries of each map, by its name in the programs.
    fn entries(&self, cpus: u32) -> [(&'static str, Option<u32>); Maps::COUNT + 7] {
        let records = |size: u32| size.checked_add(Self::spare(size) + 1);
        [
            ("destinations", Some(self.relays)),
            ("relays", records(self.relays)),
            ("outputs", records(self.outputs)),
            ("sources", records(self.sources)),
            ("own_macs", Some(self.own_macs)),
            ("watched", Some(self.relays)),
            ("received", self.relays.checked_mul(cpus)),
            ("sent", self.outputs.checked_mul(cpus)),
            ("dropped", Some(self.outputs)),
            ("input_dropped", Some(self.inputs)),
            ("state", Some(1)),
            ("buckets", self.relays.checked_add(self.outputs)),
            (Ports::NAME, Some(self.ports)),
            ("exits", Some(self.ports)),
            ("turns", Some(self.ports)),
            ("fan_outs", Some(self.fan_outs)),
            ("fragments", Some(mcr_wire::FragmentKey::MOST_REMEMBERED as u32)),
            ("cuttings", Some(cpus)),
            ("identifications", Some(self.ports)),
        ]
    }
}

/// Why the program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A size of zero, or more than the kernel can count.
    #[error(
        "table `{table}` can not be made: its size is zero or too large; correct the sizes of the in-kernel datapath"
    )]
    Size {
        /// The map's name.
        table: &'static str,
    },
    /// The number of CPUs is not told.
    #[error("the number of CPUs can not be read from {what}: {error}")]
    Cpus {
        /// The file.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The kernel refuses the tables or the program's relocations.
    #[error(
        "the tables of the in-kernel datapath can not be made: {0}; it needs Linux 6.6 with BTF, CAP_BPF and the memory for its sizes"
    )]
    Tables(#[from] aya::EbpfError),
    /// The kernel refuses the program.
    #[error("the kernel refuses the program: {}; it needs Linux 6.6, CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", in_short(.0))]
    Program(#[from] ProgramError),
    /// The maps are not what was asked for.
    #[error(transparent)]
    Maps(#[from] NotOurMaps),
    /// The kernel does not tell what drivers took.
    #[error("tracepoint `{name}` can not be listened to: {error}; it needs CAP_PERFMON")]
    Tracepoint {
        /// Its name.
        name: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A descriptor can not be duplicated.
    #[error("no descriptor is left: {0}")]
    Descriptor(io::Error),
    /// The object lacks a part: the build is broken.
    #[error("the compiled program has no `{0}`")]
    Missing(&'static str),
}

impl LoadError {
    /// Whether it would be the same the next time: this kernel refuses this program, which takes the verifier seconds to say.
    #[must_use]
    pub fn is_final(&self) -> bool {
        const TRANSIENT: [i32; 4] = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE];
        match self {
            Self::Program(ProgramError::LoadError { io_error, .. }) => {
                io_error.raw_os_error().is_none_or(|errno| !TRANSIENT.contains(&errno))
            }
            _ => false,
        }
    }
}

/// Without the verifier's account of its way, of which the end says what it did not like.
fn in_short(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return error.to_string() };
    let log = verifier_log.to_string();
    let is_verdict = |line: &&str| !line.is_empty() && !line.starts_with("processed ");
    match log.trim_end_matches('\0').lines().rev().map(str::trim).find(is_verdict) {
        Some(verdict) => format!("{io_error}, and its verifier says: {verdict}"),
        None => io_error.to_string(),
    }
}

/// The programs and their tables, in the kernel.
#[derive(Debug)]
pub struct Loaded {
    program: OwnedFd,
    maps: Maps,
    ports: Ports,
    xdp: Result<Xdp, LoadError>,
}

/// Makes the tables and loads the programs. The one at tcx ingress has to load; those at the driver need not.
///
/// # Errors
/// [`LoadError`]; nothing is left in the kernel then.
pub fn load(sizes: &Sizes) -> Result<Loaded, LoadError> {
    let cpus = aya::util::nr_cpus().map_err(|(what, error)| LoadError::Cpus { what, error })?;
    let mut loader = EbpfLoader::new();
    loader.override_global("RELAY_SLOTS", &sizes.relays, true);
    loader.override_global("OUTPUT_SLOTS", &sizes.outputs, true);
    let first_identification = first_identification();
    loader.override_global("FIRST_IDENTIFICATION", &first_identification, true);
    for (table, entries) in sizes.entries(cpus as u32) {
        let entries = entries.filter(|&entries| entries != 0).ok_or(LoadError::Size { table })?;
        loader.map_max_entries(table, entries);
    }
    let mut loaded = loader.load(OBJECT)?;
    let classifier = loaded.program_mut("mcr_tcx").ok_or(LoadError::Missing("program"))?;
    let classifier: &mut SchedClassifier = classifier.try_into()?;
    classifier.load()?;
    let program = classifier.fd()?.as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)?;
    // Before any map is taken: a program is loaded with the numbers of the descriptors that aya made.
    let xdp = Xdp::load(&mut loaded);
    let ports = Ports::from_fd(take(&mut loaded, Ports::NAME)?)?;
    Ok(Loaded { program, maps: maps(&mut loaded)?, ports, xdp })
}

/// Of datagrams that are cut: not those of the programs that were loaded before.
fn first_identification() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u32)
}

fn maps(loaded: &mut Ebpf) -> Result<Maps, LoadError> {
    let mut fds = Vec::with_capacity(Maps::COUNT);
    for name in Maps::NAMES {
        fds.push(take(loaded, name)?);
    }
    Ok(Maps::from_fds(fds)?)
}

pub(crate) fn take(loaded: &mut Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    use aya::maps::Map;
    let map = loaded.take_map(name).ok_or(LoadError::Missing(name))?;
    let (Map::HashMap(data) | Map::Array(data) | Map::DevMap(data) | Map::ArrayOfMaps(data)) = map else {
        return Err(LoadError::Missing(name));
    };
    data.fd().as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)
}

impl Loaded {
    pub(crate) fn from_parts(program: OwnedFd, maps: Maps, ports: Ports, xdp: Result<Xdp, LoadError>) -> Self {
        Self { program, maps, ports, xdp }
    }

    /// Attaches the program at the tcx ingress of an interface of the caller's network namespace, behind the programs that are there. It runs as long as the
    /// link that is handed back is open or pinned.
    ///
    /// # Errors
    /// What bpf(2) says of `BPF_LINK_CREATE`.
    pub fn attach(&self, ifindex: u32) -> io::Result<OwnedFd> {
        sys::attach_at_ingress(self.program.as_fd(), ifindex)
    }

    /// The program's descriptor.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The tables.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The programs at the driver, for the keeper alone; or why there are none.
    ///
    /// # Errors
    /// What the kernel said of them when they were loaded.
    pub fn xdp(&self) -> Result<&Xdp, &LoadError> {
        self.xdp.as_ref()
    }

    /// The interfaces that may be sent to; for the keeper alone.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }
}
