//! A limit on the memory of processes: a control group, of version 2 or 1, or a limit on data where none can be made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// What shares the limit; `Drop` removes it.
#[derive(Debug)]
pub struct MemoryLimit {
    bytes: u64,
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    /// Where the largest use is told, if the kernel does.
    most: &'static str,
}

impl MemoryLimit {
    /// A limit of so many bytes.
    pub fn new(bytes: u64) -> MemoryLimit {
        MemoryLimit { bytes, group: Group::make(bytes) }
    }

    /// The words by which a shell, and what it becomes, is put under the limit.
    pub fn enter_this_shell(&self) -> String {
        match &self.group {
            Some(group) => format!("echo $$ >{}", group.folder.join("cgroup.procs").display()),
            None => format!("ulimit -d {}", self.bytes >> 10),
        }
    }

    /// How much was used at most, in words.
    pub fn most_used(&self) -> String {
        let most = self.group.as_ref().and_then(|group| fs::read_to_string(group.folder.join(group.most)).ok());
        let most = most.and_then(|text| text.trim().parse::<u64>().ok());
        let used = most.map_or_else(|| "an unknown part".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
        format!("{used} of {} KiB were used", self.bytes >> 10)
    }
}

impl Group {
    fn make(bytes: u64) -> Option<Group> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mcr-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let kinds = [
            (Path::new(CONTROL_GROUPS).join("memory"), "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            (PathBuf::from(CONTROL_GROUPS), "memory.max", "memory.peak"),
        ];
        kinds.into_iter().find_map(|(root, limit, most)| {
            let folder = root.join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Group { folder, most };
            // Swapping is no way out.
            let _ = fs::write(group.folder.join("memory.swap.max"), "0");
            fs::write(group.folder.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it has ended, or is about to: then the folder stays, empty.
        let _ = fs::remove_dir(&self.folder);
    }
}
