//! Files: what may be read and written at all, whoever owns it (Landlock, landlock(7)), and no TCP connection is made.
//!
//! It is done as far as the kernel goes: one without Landlock leaves things as they are, and [`Level`] says so.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::Reach;

/// How far this process has come: a [`Level`].
static REACHED: AtomicU8 = AtomicU8::new(Level::None as u8);

/// The newest rules that are asked for: files and their devices, TCP, signals (Linux 6.12).
const WANTED: ABI = ABI::V6;

/// What a process still needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// Files and folders that are read.
    pub read: Vec<PathBuf>,
    /// Folders in which files are made, written and removed.
    pub write: Vec<PathBuf>,
}

/// How far the kernel went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The kernel has none, or it is switched off there.
    None,
    /// The kernel has an older Landlock: a part of it.
    Partial,
    /// Everything that was asked for is in force.
    Full,
}

/// Why files could not be given up, by a kernel that has Landlock.
#[derive(Debug, thiserror::Error)]
#[error(
    "the files that are not needed can not be given up (Landlock): {0}; report this with the version of the kernel, or use --unconfined"
)]
pub struct FilesError(#[from] RulesetError);

/// Gives up all other files, TCP connections of one's own unless it reaches so far, and signals to other processes: for the
/// calling thread and those that it starts, so before any other is there.
///
/// # Errors
/// [`FilesError`]
pub fn give_up(paths: &Paths, reach: Reach) -> Result<Level, FilesError> {
    let connections = match reach {
        Reach::Host => AccessNet::from_all(WANTED),
        Reach::Network => AccessNet::BindTcp.into(),
    };
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(connections)?
        .scope(Scope::Signal)?
        .create()?;
    let ruleset = paths.read.iter().try_fold(ruleset, |rules, path| allow(rules, path, AccessFs::from_read(WANTED)))?;
    let ruleset = paths.write.iter().try_fold(ruleset, |rules, path| allow(rules, path, AccessFs::from_all(WANTED)))?;
    let status = ruleset.restrict_self()?;
    let level = match (status.landlock, status.ruleset) {
        (LandlockStatus::NotEnabled | LandlockStatus::NotImplemented, _) | (_, RulesetStatus::NotEnforced) => {
            Level::None
        }
        (_, RulesetStatus::PartiallyEnforced) => Level::Partial,
        (_, RulesetStatus::FullyEnforced) => Level::Full,
    };
    REACHED.store(level as u8, Ordering::Relaxed);
    Ok(level)
}

/// How far this process has given up files; the kernel does not tell.
#[must_use]
pub fn level() -> Level {
    let reached = REACHED.load(Ordering::Relaxed);
    [Level::None, Level::Partial, Level::Full].into_iter().find(|level| *level as u8 == reached).unwrap_or(Level::None)
}

/// The folder of a file, where another file may take its place, and the one that the file really lies in.
pub fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let real = file.canonicalize().ok();
    let folder = |file: PathBuf| match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    [Some(file.to_owned()), real].into_iter().flatten().filter_map(folder)
}

/// What is not there can't be allowed, and isn't needed.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
    ruleset.add_rule(PathBeneath::new(opened, access & !landlock::BitFlags::from(AccessFs::Execute)))
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        })
    }
}
