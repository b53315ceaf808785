//! The real binaries as a service in a namespace: a daemon with its keeper, and the verbs against it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mcr_model::{Datapath, DatapathChoice};
use mcr_testbed::{Namespace, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const MCR: &str = env!("CARGO_BIN_EXE_mcr");

/// How long anything that should happen at once may take on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// One relay, from 239.1.1.1:5001 to the first LAN.
pub(crate) const CAMERA: &str = r#"
    [[relay]]
    name = "camera"
    input = { interface = "dev0", group = "239.1.1.1", port = 5001 }
    output = [{ interface = "lan1", group = "239.2.2.1", port = 6001 }]
"#;

/// A daemon in a namespace. `Drop` ends it and its keeper.
pub(crate) struct Service {
    folder: TempDir,
    datapath: DatapathChoice,
    /// What `mcr run` is started from.
    program: PathBuf,
    child: Child,
    options: Vec<String>,
}

impl Service {
    /// Starts the daemon with this configuration and waits until it answers.
    #[track_caller]
    pub(crate) fn start(namespace: &Namespace, config: &str) -> Service {
        Service::start_with(namespace, config, &[])
    }

    /// As [`Service::start`], with more options for `mcr run`.
    #[track_caller]
    pub(crate) fn start_with(namespace: &Namespace, config: &str, options: &[&str]) -> Service {
        Service::start_by(DatapathChoice::Auto, namespace, config, options)
    }

    /// As [`Service::start`], with relays that are served by this datapath and no other.
    #[track_caller]
    pub(crate) fn start_on(datapath: Datapath, namespace: &Namespace, config: &str) -> Service {
        let options = ["--datapath", datapath.name()];
        Service::start_by(DatapathChoice::Only(datapath), namespace, config, &options)
    }

    #[track_caller]
    fn start_by(datapath: DatapathChoice, namespace: &Namespace, config: &str, options: &[&str]) -> Service {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("mcr.toml"), config).expect("write the configuration");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let program = PathBuf::from(MCR);
        let child = spawn(&program, namespace, folder.path(), &options);
        let service = Service { folder, datapath, program, child, options };
        service.wait_for_answer();
        service
    }

    /// Starts the daemon with its state on a file system of its own with room for so many KiB, which only it sees and
    /// which goes with it.
    #[track_caller]
    pub(crate) fn start_with_small_state(namespace: &Namespace, config: &str, kib: u32) -> Service {
        const MOUNT: &str =
            "mkdir \"$1.state\" && mount -t tmpfs -o size=KIBk none \"$1.state\" && shift && exec \"$@\"";
        Service::start_with_script(namespace, config, &MOUNT.replace("KIB", &kib.to_string()))
    }

    /// Starts the daemon where there is no bpffs and nobody may mount one.
    #[track_caller]
    pub(crate) fn start_without_bpffs(namespace: &Namespace, config: &str) -> Service {
        const HIDE: &str = "mount -t tmpfs none /sys/fs/bpf && shift && exec setpriv --bounding-set=-sys_admin \"$@\"";
        Service::start_with_script(namespace, config, HIDE)
    }

    /// As [`Service::start`], with these variables in the daemon's environment.
    #[cfg(feature = "otlp")]
    #[track_caller]
    pub(crate) fn start_with_variables(namespace: &Namespace, config: &str, variables: &[(&str, &str)]) -> Service {
        let exports: String = variables.iter().map(|(name, value)| format!("export {name}='{value}' && ")).collect();
        Service::start_with_script(namespace, config, &format!("{exports}shift && exec \"$@\""))
    }

    /// Starts the daemon where its state can't be kept: a file stands where the folder should.
    #[track_caller]
    pub(crate) fn start_without_state(namespace: &Namespace, config: &str) -> Service {
        const BLOCK: &str = "touch \"$1.state\" && shift && exec \"$@\"";
        Service::start_with_script(namespace, config, BLOCK)
    }

    /// Starts the daemon by a script, which may change mounts that only it sees. The first argument of the script is the
    /// path of the daemon's files without their endings, the others are the command.
    #[track_caller]
    pub(crate) fn start_with_script(namespace: &Namespace, config: &str, script: &str) -> Service {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("mcr.toml"), config).expect("write the configuration");
        let inner = run_command(namespace, folder.path());
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(folder.path().join("mcr"));
        command.arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?)))).stdin(Stdio::null());
        let child = command.stderr(log_file(folder.path())).spawn().expect("start mcr run");
        let program = PathBuf::from(MCR);
        let service = Service { folder, datapath: DatapathChoice::Auto, program, child, options: Vec::new() };
        service.wait_for_answer();
        service
    }

    /// The state folder as the daemon sees it.
    pub(crate) fn state(&self) -> PathBuf {
        let folder = self.folder.path().join("mcr.state");
        let below_root = folder.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.pid().to_string()).join("root").join(below_root)
    }

    /// Kills the daemon (its keeper lives on) and starts it again.
    pub(crate) fn restart_after_kill(&mut self, namespace: &Namespace) {
        self.kill();
        self.start_again(namespace);
    }

    /// Kills the daemon.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill the daemon");
        self.child.wait().expect("wait for the daemon");
    }

    /// Starts a daemon that was killed again.
    #[track_caller]
    pub(crate) fn start_again(&mut self, namespace: &Namespace) {
        self.child = spawn(&self.program, namespace, self.folder.path(), &self.options);
        self.wait_for_answer();
    }

    /// Starts another program in the place of a daemon that has ended, without waiting for it to answer.
    pub(crate) fn start_as(&mut self, program: &Path, namespace: &Namespace) {
        self.program = program.to_owned();
        self.child = spawn(&self.program, namespace, self.folder.path(), &self.options);
    }

    /// Ends the daemon so that the next one goes on with what it has, as a restart by the service manager does.
    #[track_caller]
    pub(crate) fn hand_over(&mut self) {
        self.signal(libc::SIGUSR1);
        let ended = self.wait();
        assert!(ended.success(), "mcr run ended with {ended}:\n{}", self.log());
    }

    /// Waits for the end of what was started.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("wait for the daemon")
    }

    #[track_caller]
    pub(crate) fn wait_for_answer(&self) {
        let deadline = Instant::now() + SOON * 2;
        while !self.mcr(&["list"]).status.success() {
            assert!(Instant::now() < deadline, "mcr run does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many threads of the daemon have a name that begins so.
    pub(crate) fn threads(&self, name: &str) -> usize {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the daemon's threads");
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        names.filter(|found| found.starts_with(name)).count()
    }

    /// Runs a verb against this daemon.
    pub(crate) fn mcr(&self, arguments: &[&str]) -> Output {
        Command::new(MCR).args(arguments).env("MCR_SOCKET", self.socket()).output().expect("run mcr")
    }

    /// Runs a verb that has to succeed; its output.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.mcr(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "mcr {arguments:?}: {err}\n{out}\n{}", self.log());
        out
    }

    /// Runs a verb that has to fail; what it said.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.mcr(arguments);
        assert_eq!(output.status.code(), Some(1), "mcr {arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Adds a relay and waits until it is ready.
    #[track_caller]
    pub(crate) fn add(&self, name: &str, from: &str, to: &[&str]) {
        let mut arguments = vec!["add", name, "--from", from];
        to.iter().for_each(|to| arguments.extend(["--to", to]));
        self.ok(&arguments);
        self.ok(&["wait", name, "--for", "ready"]);
        let serving = self.relay(name);
        assert!(self.datapath == DatapathChoice::Auto || serving["datapath"] == self.datapath.name(), "{serving:#}");
    }

    /// The status of a relay, as the API answers it.
    #[track_caller]
    pub(crate) fn relay(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["show", name, "-o", "json"])).expect("JSON")
    }

    /// Waits until the relay is in this state.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, name: &str, state: &str, limit: Duration) {
        wait_until(limit, &format!("{name} is {state}"), || self.relay(name)["state"] == state);
    }

    /// Waits until nothing is on its way any more, then asserts `received = sent + Σ dropped` for every output of
    /// every relay. What was received, by relay name.
    #[track_caller]
    pub(crate) fn assert_balance(&self) -> std::collections::BTreeMap<String, u64> {
        let relays = self.settled_relays();
        let check = |relay: &Value| {
            let received = relay["received"]["packets"].as_u64().expect("a number");
            for output in relay["outputs"].as_array().expect("outputs") {
                let sent = output["sent"]["packets"].as_u64().expect("a number");
                let reasons = output["dropped"].as_object().expect("reasons");
                let dropped: u64 = reasons.values().filter_map(Value::as_u64).sum();
                assert_eq!(received, sent + dropped, "the ledger of {relay:#} does not balance");
                assert_eq!(output["dropped_packets"], dropped);
            }
            (relay["name"].as_str().expect("a name").to_owned(), received)
        };
        relays.iter().map(check).collect()
    }

    /// All relays, once two looks agree on what was received.
    fn settled_relays(&self) -> Vec<Value> {
        let look = || -> Vec<Value> {
            let list: Value = serde_json::from_str(&self.ok(&["list", "-o", "json"])).expect("JSON");
            list["relays"].as_array().expect("relays").clone()
        };
        let mut before = look();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = look();
            let received = |relays: &[Value]| -> Vec<Value> {
                relays.iter().map(|relay| relay["received"]["packets"].clone()).collect()
            };
            if received(&before) == received(&now) {
                return now;
            }
            before = now;
        }
    }

    /// Rewrites the configuration, at once as editors do, and has the daemon read it again.
    pub(crate) fn reload(&self, config: &str) {
        self.configure(config);
        self.signal(libc::SIGHUP);
    }

    /// Rewrites the configuration, at once as editors do.
    pub(crate) fn configure(&self, config: &str) {
        let (new, file) = (self.folder.path().join("mcr.toml.new"), self.folder.path().join("mcr.toml"));
        std::fs::write(&new, config).expect("write the configuration");
        std::fs::rename(new, file).expect("replace the configuration");
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0, "the daemon is gone:\n{}", self.log());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn keeper_pid(&self) -> u32 {
        let status = self.http("GET", "/api/v1/status", "");
        status.1["keeper_pid"].as_u64().expect("the keeper's id") as u32
    }

    /// Where everything of this service is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("mcr.sock")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// One request to the API with curl, as a script makes it; status and body.
    #[track_caller]
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.http_text(method, path, body);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// As [`Service::http`], with the body as text.
    #[track_caller]
    pub(crate) fn http_text(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-X", method, "-w", "\n%{http_code}", "--unix-socket"]).arg(self.socket());
        if !body.is_empty() {
            curl.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let output = curl.arg(format!("http://mcr{path}")).output().expect("run curl");
        let answer = text(&output.stdout);
        let (body, status) = answer.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), body.to_owned())
    }

    /// Ends the daemon in order and waits for it.
    pub(crate) fn stop(mut self) -> String {
        self.signal(libc::SIGTERM);
        let ended = self.child.wait().expect("wait for the daemon");
        let log = self.log();
        assert!(ended.success(), "mcr run ended with {ended}:\n{log}");
        log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        if std::thread::panicking() {
            let list = text(&self.mcr(&["stats"]).stdout);
            let interfaces = self.http_text("GET", "/api/v1/interfaces", "").1;
            eprintln!("--- the daemon's log\n{}\n--- its relays\n{list}\n--- its interfaces\n{interfaces}", self.log());
        }
        // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
        unsafe { libc::kill(self.pid() as i32, libc::SIGTERM) };
        let deadline = Instant::now() + SOON;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `mcr run` in that namespace with everything in that folder.
pub(crate) fn run_command(namespace: &Namespace, folder: &Path) -> Command {
    run_command_of(Path::new(MCR), namespace, folder)
}

fn run_command_of(program: &Path, namespace: &Namespace, folder: &Path) -> Command {
    let mut command = namespace.command(program);
    command.arg("run").arg("--config").arg(folder.join("mcr.toml"));
    command.env("MCR_SOCKET", folder.join("mcr.sock")).env("MCR_KEEPER_SOCKET", folder.join("netd.sock"));
    command.stdin(Stdio::null());
    command
}

fn spawn(program: &Path, namespace: &Namespace, folder: &Path, options: &[String]) -> Child {
    run_command_of(program, namespace, folder).args(options).stderr(log_file(folder)).spawn().expect("start mcr run")
}

fn log_file(folder: &Path) -> std::fs::File {
    std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log file")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
