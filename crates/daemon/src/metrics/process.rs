//! What `/proc` says of this process, under the names that Prometheus uses for every process.

use std::fmt;
use std::fs;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::gauge;

/// One look at this process. What can't be read is absent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Process {
    /// Processor time, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
}

impl Process {
    /// This process now.
    pub fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds),
            resident_bytes: field(&status, "VmRSS:").map(|kibibytes| kibibytes << 10),
            virtual_bytes: field(&status, "VmSize:").map(|kibibytes| kibibytes << 10),
            threads: field(&status, "Threads:"),
            // One of them is the one that reads the directory.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
        }
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Self { cpu_seconds, resident_bytes, virtual_bytes, threads, open_fds } = *self;
        if let Some(seconds) = cpu_seconds {
            let help = "User and system processor time of the daemon.";
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        let gauges = [
            ("process_resident_memory", "Memory of the daemon that is in RAM.", Some(&Unit::Bytes), resident_bytes),
            ("process_virtual_memory", "Address space of the daemon.", Some(&Unit::Bytes), virtual_bytes),
            ("process_threads", "Threads of the daemon.", None, threads),
            ("process_open_fds", "Open file descriptors of the daemon.", None, open_fds),
        ];
        for (name, help, unit, value) in gauges {
            if let Some(value) = value {
                gauge(encoder, name, help, unit, value as i64)?;
            }
        }
        Ok(())
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The unit of times in `/proc/PID/stat`: `USER_HZ`, which is part of the ABI and 100 on all but extinct
/// architectures (`include/uapi/asm-generic/param.h`).
const TICKS_PER_SECOND: f64 = 100.0;

/// `utime` and `stime` of proc_pid_stat(5), the 14th and 15th field. The second, the command, may contain anything,
/// so they are counted from the parenthesis that closes it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut times = after_command.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_command() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 7 8 20 0 1 0 421838";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(cpu_seconds("42 (a"), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let Process { cpu_seconds, resident_bytes, virtual_bytes, threads, open_fds } = Process::look();
        assert!(cpu_seconds.is_some() && threads >= Some(1) && open_fds >= Some(3));
        assert!(resident_bytes > Some(100_000) && virtual_bytes >= resident_bytes);
    }
}
