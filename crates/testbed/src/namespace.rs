//! A host of its own: one network namespace, made by the test and removed with the last handle to it, or when the test is killed.
//!
//! `/proc/sys/net` and `/proc/thread-self/net` follow the calling thread into the namespace; `/sys/class/net` does not (it belongs
//! to the mount), so ask netlink or [`Interface`](crate::Interface) instead.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::guard;
use crate::requirement;

/// A network namespace. Clones are handles to the same one; the last handle removes it, and with it its interfaces.
#[derive(Debug, Clone)]
pub struct Namespace {
    inner: Arc<Mounted>,
}

#[derive(Debug)]
struct Mounted {
    name: String,
    file: File,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// Makes a namespace named `mcr-<pid>-<n>-<name>` with `lo` up and IPv6 off (router solicitations and MLD reports would
    /// turn up between the frames of a test; a test of IPv6 sets `net/ipv6/conf/all/disable_ipv6` to 0).
    ///
    /// # Panics
    /// When not root, or without `ip`.
    #[track_caller]
    pub fn new(name: &str) -> Namespace {
        requirement::check();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("mcr-{}-", std::process::id());
        guard::watch(&prefix);
        let name = format!("{prefix}{number}-{name}");
        run_to_end(Command::new("ip").args(["netns", "add", &name]), "");
        let path = PathBuf::from("/run/netns").join(&name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        let namespace = Namespace { inner: Arc::new(Mounted { name, file }) };
        namespace.run(|| {
            for scope in ["all", "default"] {
                // A kernel without IPv6 has no such file, and nothing to switch off.
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
            }
        });
        namespace.ip("link set dev lo up");
        namespace
    }

    /// The name under `/run/netns`, as `ip netns` prints it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `body` on a thread inside the namespace and hands back what it returns; a panic in it goes on here. Sockets
    /// opened by `body` stay in the namespace.
    #[track_caller]
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter().unwrap_or_else(|error| panic!("cannot enter namespace {}: {error}", self.name()));
                    body()
                })
                .join()
        });
        inside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A command that will start inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let inside = self.clone();
        // SAFETY: between fork and exec the closure makes one system call, on a descriptor that its own handle keeps open; it
        // takes no lock and allocates nothing (`last_os_error` only reads errno).
        unsafe { command.pre_exec(move || inside.enter()) };
        command
    }

    /// Writes a `/proc/sys` value, the path as `net/ipv4/ip_forward`.
    #[track_caller]
    pub fn sysctl(&self, path: &str, value: &str) {
        let written = self.run(|| fs::write(format!("/proc/sys/{path}"), value));
        written.unwrap_or_else(|error| panic!("cannot set {path} to {value} in {}: {error}", self.name()));
    }

    /// Reads a `/proc/sys` value.
    #[track_caller]
    pub fn sysctl_value(&self, path: &str) -> String {
        let read = self.run(|| fs::read_to_string(format!("/proc/sys/{path}")));
        read.unwrap_or_else(|error| panic!("cannot read {path} in {}: {error}", self.name())).trim().to_owned()
    }

    /// Runs `ip` commands in the namespace, one a line, without the leading `ip`; all in one process.
    ///
    /// # Panics
    /// When one of them fails, with what `ip` said.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        run_to_end(Command::new("ip").args(["-netns", self.name(), "-batch", "-"]), lines);
    }

    /// Runs a program in the namespace to its end and hands back its standard output.
    ///
    /// # Panics
    /// When it fails, with what it printed.
    #[track_caller]
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        run_to_end(self.command(program).args(arguments), "")
    }

    fn enter(&self) -> io::Result<()> {
        // SAFETY: setns takes a descriptor and a flag, and changes only the calling thread.
        match unsafe { libc::setns(self.inner.file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A panic here, perhaps while another unwinds, would abort the run and hide the first one.
        match Command::new("ip").args(["netns", "delete", &self.name]).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("namespace {} is left behind: ip netns delete: {other:?}", self.name),
        }
    }
}

/// Runs `command` with `input` on its standard input; its output, or a panic that quotes its errors.
#[track_caller]
pub(crate) fn run_to_end(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
    // A command that does not read its input ends with the pipe closed; its exit status tells whether that was wrong.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait for {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed ({}): {}{}{input}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        if input.is_empty() { "" } else { "input was:\n" },
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
