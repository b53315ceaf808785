//! A program under test: started in a namespace, its output kept, ended with the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::deadline::wait_for_state;

/// How long a program that is told to end by `Drop` may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Hangup,
    /// As by Ctrl-C.
    Interrupt,
    /// End in good order.
    Terminate,
    /// End, and leave everything to the next one.
    HandOver,
    /// End at once, without a chance to clean up.
    Kill,
    /// Stand still.
    Stop,
    /// Go on after [`Signal::Stop`].
    Continue,
}

impl Signal {
    pub(crate) fn number(self) -> libc::c_int {
        match self {
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
            Signal::HandOver => libc::SIGUSR1,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        }
    }
}

/// A running program. Its standard output and error are read into one buffer, line by line as they come; dropping it tells it to
/// end, kills it when it does not, and while a test fails prints that buffer.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`, as made by [`Namespace::command`](crate::Namespace::command) with arguments and environment added.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Process {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| keep_lines(pipe, output.clone())));
        readers.extend(child.stderr.take().map(|pipe| keep_lines(pipe, output.clone())));
        Process { name, child, output, readers }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, standard output and error together.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has printed a line that contains `text`, and hands back that line.
    ///
    /// # Panics
    /// After `limit`, or as soon as the program has ended without printing it; with all that it printed.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> String {
        let what = format!("a line with {text:?} from {}", self.name);
        let look = || {
            // In this order: what was printed before the end has been read when both readers have ended.
            let has_ended = self.readers.iter().all(JoinHandle::is_finished);
            (self.output(), has_ended)
        };
        let (output, _) = wait_for_state(limit, &what, look, |(output, has_ended)| *has_ended || output.contains(text));
        let line = output.lines().find(|line| line.contains(text)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{} ended without a line with {text:?}; it printed:\n{output}", self.name))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended already.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        if let Some(status) = self.ended() {
            panic!("{} has ended already ({status}); it printed:\n{}", self.name, self.output());
        }
        self.kill_with(signal);
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or(None)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After `limit`, with what it printed.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let (status, _) =
            wait_for_state(limit, &what, || (self.ended(), self.output()), |(status, _)| status.is_some());
        status.expect("waited for until it was there")
    }

    /// Asks it to end in good order and waits for that.
    ///
    /// # Panics
    /// When it takes longer than `limit`, or ends with anything but success.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) {
        self.signal(Signal::Terminate);
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}; it printed:\n{}", self.name, self.output());
    }

    /// The child has not been waited for, so that its number cannot have gone to another process.
    fn kill_with(&self, signal: Signal) {
        // SAFETY: kill takes two integers; the process is our own child, still there as a zombie at least.
        unsafe { libc::kill(self.pid().cast_signed(), signal.number()) };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill_with(Signal::Continue);
            self.kill_with(Signal::Terminate);
            let begun = std::time::Instant::now();
            while self.ended().is_none() && begun.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(2));
            }
            // Nothing to be done about a failure here: it has ended by itself then.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} (pid {}) printed:\n{}---", self.name, self.child.id(), self.output());
        }
    }
}

/// Reads on to the end: a program must not block on a full pipe. The thread is not joined, for a grandchild may hold the pipe open.
fn keep_lines(pipe: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            output.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// The path of one of the workspace's programs: what `CARGO_BIN_EXE_<name>` names, or else the file of that name beside the running
/// test's build (`target/<profile>`).
///
/// # Panics
/// When it has not been built.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(format!("CARGO_BIN_EXE_{name}")) {
        return path.into();
    }
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("cannot find the running test: {error}"));
    let built =
        test.ancestors().skip(1).take(2).map(|folder| folder.join(OsStr::new(name))).find(|path| path.is_file());
    built.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace` first"))
}
