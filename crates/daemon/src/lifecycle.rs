//! Start, reload and stop: of the daemon, and of one relay in the foreground.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mcr_confine::Confinement;
use mcr_engine::Refusal;
use mcr_model::relay::Relay;
use mcr_model::status::RelayStatus;
use mcr_model::{Datapath, DatapathChoice, Grant, Role, WaitFor};
use mcr_netd::{Keeper, KeeperError, KeeperWatch, SpawnMode, memory, privileges};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::access::Gate;
use crate::config::Configuration;
use crate::control::{Control, Start};
use crate::datapath::workers::Workers;
use crate::store::Store;
use crate::troubles::Troubles;
use crate::{api, config, confinement, doors, log, notify, serve, state};

/// Which keeper to use.
#[derive(Debug, Clone)]
pub struct KeeperChoice {
    /// Where it listens.
    pub socket: PathBuf,
    /// The program to start when none listens there; `None`: the `mcr-netd` beside this program, or in the path.
    pub program: Option<PathBuf>,
}

/// What `mcr run` was asked for.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The configuration file; `None`: no file.
    pub config: Option<PathBuf>,
    /// Where the API listens.
    pub socket: PathBuf,
    /// Who may use the API and where the network is served; `None`: no file, the Unix socket only.
    pub access: Option<PathBuf>,
    /// Where what outlives the daemon is kept; `None`: the usual folder (`StateDirectory`, `/var/lib/mcr`).
    pub state: Option<PathBuf>,
    /// The keeper.
    pub keeper: KeeperChoice,
    /// What moves the packets of relays that do not say.
    pub datapath: DatapathChoice,
    /// The user to become; `None`: stay who we are.
    pub user: Option<String>,
    /// How many threads move the packets of an input, where the daemon does.
    pub workers: Workers,
    /// How to log.
    pub log: log::LogOptions,
    /// Whether it gives up what it does not need.
    pub confinement: Confinement,
}

/// What `mcr relay` was asked for.
#[derive(Debug, Clone)]
pub struct ForegroundOptions {
    /// The relay.
    pub relay: Relay,
    /// The program of the keeper, as in [`KeeperChoice::program`].
    pub keeper_program: Option<PathBuf>,
    /// Whether it gives up what it does not need.
    pub confinement: Confinement,
}

/// The daemon, until SIGTERM or SIGINT; SIGHUP reads the configuration again. SIGUSR1 ends it too, but leaves what it
/// opened and joined to the next daemon: packets that the kernel relays flow on.
///
/// # Errors
/// A sentence that says what to do; nothing is left behind then.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    memory::keep_one_arena();
    log::init(&options.log)?;
    // It starts no thread, so it may be made while there are privileges to be given up.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything is made that has to be given back: a signal that comes now is obeyed when all of it is there.
    let signals = runtime.block_on(async { Signals::take() })?;
    let file = options.config.as_deref().map(config::read_checked).transpose()?;
    // The listener comes first: when another daemon has the socket, nothing of it may be disturbed.
    let listener = serve::listen(&options.socket)?;
    // While the listener is there, so that the socket is surely ours.
    let (doors, control) = prepare(&options).inspect_err(|_| serve::remove(&options.socket))?;
    runtime.block_on(serve_until_told(options, signals, listener, doors, control, file))
}

/// What is behind the listener: who may use it, and what does the work.
fn prepare(options: &RunOptions) -> anyhow::Result<(doors::Prepared, Control)> {
    let doors = doors::prepare(options.access.as_deref(), &options.socket)?;
    let troubles = Troubles::default();
    let store = state::open(options.state.as_deref(), &options.socket, &troubles)?;
    let keeper = keeper(&options.keeper)?;
    warn_of_no_pins(options.datapath);
    put_packets_first();
    privileges::drop_all_capabilities(options.user.as_deref()).context("can not give up privileges")?;
    let read = confinement::read_again(options.config.as_deref(), options.access.as_deref(), &doors.rules());
    let write = [state::folder(options.state.as_deref(), &options.socket), folder_of(&options.socket)];
    confinement::give_up_files(options.confinement, read, write.to_vec())?;
    let control = Control::start(Start {
        keeper,
        keeper_socket: Some(options.keeper.socket.clone()),
        config: options.config.clone(),
        datapath: options.datapath,
        store,
        troubles,
        workers: options.workers,
    })?;
    Ok((doors, control))
}

fn folder_of(socket: &Path) -> PathBuf {
    socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Removes what a daemon or a keeper that was killed left in the kernel: programs, tables, groups. A daemon that runs
/// is left alone.
///
/// # Errors
/// When a daemon runs, or there is neither a keeper nor the right to start one.
pub fn clean(choice: &KeeperChoice) -> anyhow::Result<()> {
    Ok(keeper(choice)?.release()?)
}

/// What the daemon is told while it runs.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    hand_over: Signal,
}

/// What becomes of what the daemon holds when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Release,
    HandOver,
}

impl Signals {
    fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            hand_over: signal(SignalKind::user_defined1())?,
        })
    }
}

async fn serve_until_told(
    options: RunOptions,
    mut signals: Signals,
    listener: serve::Listener,
    doors: doors::Prepared,
    control: Control,
    file: Option<Configuration>,
) -> anyhow::Result<()> {
    // Everything is open that ever will be.
    if let Err(error) = confinement::give_up_calls(options.confinement) {
        control.shutdown().await;
        serve::remove(&options.socket);
        return Err(error);
    }
    if let Err(refusals) = control.begin(file).await {
        control.shutdown().await;
        serve::remove(&options.socket);
        bail!(refused(&refusals));
    }
    #[cfg(feature = "otlp")]
    let telemetry = crate::otlp::Telemetry::start(&control)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let until_stop = async { drop(stopped.await) };
    let gate = Gate::new(doors.rules(), control.store().clone())?;
    let router = api::router(control.clone(), gate.clone());
    let server = tokio::spawn(serve::serve_until(listener, router.clone(), until_stop));
    let mut doors = doors.open(gate, router);
    tokio::spawn(notify::watchdog(control.clone()));
    notify::ready();
    if options.config.is_none() {
        tracing::info!("no configuration file: relays come from the API only");
    }
    tracing::info!(socket = %options.socket.display(), "serving");
    memory::give_back();
    let ending = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ending::Release,
            _ = signals.interrupt.recv() => break Ending::Release,
            _ = signals.hand_over.recv() => break Ending::HandOver,
            _ = signals.hangup.recv() => {
                reload(options.config.as_deref(), &control).await;
                doors.reload();
                memory::give_back();
            }
        }
    };
    notify::stopping();
    drop(stop);
    // Who hears of events would hear of them for ever: such an answer has no end of its own.
    control.events().close();
    doors.end().await;
    server.await.context("the API ended by a panic")?;
    // Its last look is one at the relays, so they have to be there.
    #[cfg(feature = "otlp")]
    tokio::task::spawn_blocking(move || telemetry.end()).await.context("OTLP ended by a panic")?;
    match ending {
        Ending::Release => drop(control.shutdown().await),
        Ending::HandOver => control.hand_over().await,
    }
    serve::remove(&options.socket);
    tracing::info!("stopped");
    Ok(())
}

/// Applies the file as a difference; a file that is wrong changes nothing.
async fn reload(path: Option<&Path>, control: &Control) {
    notify::reloading();
    match path.map(config::read_checked).transpose() {
        Err(error) => {
            tracing::error!(error = %error.plain(), "the configuration is wrong; the one in force stays");
            control.configuration_refused(error.plain());
        }
        Ok(None) => tracing::info!("there is no configuration file to read again"),
        Ok(Some(file)) => match control.reload(file).await {
            Ok(difference) => tracing::info!(
                added = difference.added.len(),
                changed = difference.changed.len(),
                removed = difference.removed.len(),
                unchanged = difference.unchanged.len(),
                "the configuration is read again"
            ),
            Err(error) => {
                tracing::error!(%error, "the configuration does not fit; the one in force stays");
                control.configuration_refused(error.to_string());
            }
        },
    }
    notify::ready();
}

fn refused(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n")
}

/// The keeper that listens, or one that is started now. One that was killed just now may still listen and never answer:
/// it is waited for.
fn keeper(choice: &KeeperChoice) -> anyhow::Result<Keeper> {
    const DYING: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(10);
    let start = Instant::now();
    let mut connected = Keeper::connect(&choice.socket);
    while connected.as_ref().is_err_and(KeeperError::has_ended) && start.elapsed() < DYING {
        std::thread::sleep(PAUSE);
        connected = Keeper::connect(&choice.socket);
    }
    match connected {
        Ok(keeper) => Ok(keeper),
        Err(error) if error.is_nobody_there() => {
            check_root()?;
            let mode = SpawnMode::Listening { path: choice.socket.clone() };
            Ok(Keeper::spawn(&mode, choice.program.as_deref())?)
        }
        Err(error) => Err(error.into()),
    }
}

/// A keeper mounts what is missing where it may, so this is asked once there is one.
fn warn_of_no_pins(datapath: DatapathChoice) {
    if datapath != DatapathChoice::Only(Datapath::Packet) && !mcr_netd::is_bpffs(Path::new(mcr_netd::BPFFS)) {
        tracing::warn!(
            remedy = "mount -t bpf bpf /sys/fs/bpf, and restart mcr-netd and the daemon",
            "no bpffs is mounted at /sys/fs/bpf: relays in the kernel end with the keeper when it is killed"
        );
    }
}

/// The keeper was started before: it moves no packets and needs no precedence.
fn put_packets_first() {
    if let Err(error) = privileges::put_packets_first() {
        tracing::debug!(%error, "runs at ordinary priority; Nice=-10 in its unit would help under load");
    }
}

fn check_root() -> anyhow::Result<()> {
    if privileges::may_open_packet_sockets() {
        return Ok(());
    }
    bail!(
        "no keeper is running and this user may not start one: packet sockets need CAP_NET_RAW and CAP_NET_ADMIN; \
         start `mcr-netd` as a service (systemctl start mcr-netd), or run this command as root"
    )
}

/// One relay without an API: made by [`foreground`], gone when it is dropped.
#[derive(Debug)]
pub struct Foreground {
    control: Control,
    runtime: tokio::runtime::Runtime,
    name: mcr_model::RelayName,
    /// `None`: it can't be watched.
    keeper: Option<KeeperWatch>,
}

/// Starts one relay with a keeper of its own, which goes when this process goes.
///
/// # Errors
/// A sentence that says what to do; nothing is left behind then.
pub fn foreground(options: ForegroundOptions) -> anyhow::Result<Foreground> {
    memory::keep_one_arena();
    check_root()?;
    let keeper = Keeper::spawn(&SpawnMode::Private, options.keeper_program.as_deref())?;
    let watch = keeper.watch().ok();
    put_packets_first();
    privileges::drop_all_capabilities(None).context("can not give up privileges")?;
    confinement::give_up_files(options.confinement, Vec::new(), Vec::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control = Control::start(Start {
        keeper,
        keeper_socket: None,
        config: None,
        datapath: DatapathChoice::Auto,
        store: Store::in_memory(),
        troubles: Troubles::default(),
        workers: Workers::Automatic,
    })?;
    confinement::give_up_calls(options.confinement)?;
    let name = options.relay.name().clone();
    runtime.block_on(control.create(options.relay, None))?;
    Ok(Foreground { control, runtime, name, keeper: watch })
}

impl Foreground {
    /// Whether its keeper is gone. This process has no privilege any more to start another.
    pub fn has_lost_keeper(&self) -> bool {
        self.keeper.as_ref().is_some_and(KeeperWatch::has_ended)
    }

    /// How the relay does.
    pub fn status(&self) -> RelayStatus {
        let status = self.runtime.block_on(self.control.relay(&self.name));
        status.expect("the relay of a foreground is removed by nobody")
    }

    /// Waits at most `timeout` for the relay to listen.
    pub fn wait_ready(&self, timeout: Duration) -> RelayStatus {
        let waited = self.control.wait(self.name.clone(), WaitFor::Ready, timeout, Grant::unlimited(Role::Viewer));
        match self.runtime.block_on(waited) {
            crate::Waited::Reached(status) | crate::Waited::TimedOut(status) => status,
            crate::Waited::NotFound => self.status(),
        }
    }

    /// Stops the relay; its final counters.
    pub fn stop(self) -> RelayStatus {
        let last = self.runtime.block_on(self.control.shutdown());
        last.into_iter().next().expect("the relay of a foreground is removed by nobody")
    }
}
